"""What the frames say: totals, agreement, scores, what took the time. Frames in, frames out."""

from llmlab.analysis.agreement import agreement, consensus, label_codes, majorities, nullable, wide
from llmlab.analysis.bottleneck import bottleneck
from llmlab.analysis.comparison import compare
from llmlab.analysis.distribution import distribution
from llmlab.analysis.scoring import Gold, Score, score
from llmlab.analysis.totals import Total, by_group, costs, may_be_billed, unknown

__all__ = [
    "Gold",
    "Score",
    "Total",
    "agreement",
    "bottleneck",
    "by_group",
    "compare",
    "consensus",
    "costs",
    "distribution",
    "label_codes",
    "majorities",
    "may_be_billed",
    "nullable",
    "score",
    "unknown",
    "wide",
]
