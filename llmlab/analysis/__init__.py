"""What the frames say: totals, agreement, scores. Frames in, frames out."""

from llmlab.analysis.agreement import agreement, consensus, majorities, nullable, wide
from llmlab.analysis.comparison import compare
from llmlab.analysis.scoring import Gold, Score, score
from llmlab.analysis.totals import Total, by_group, costs, may_be_billed, unknown

__all__ = [
    "Gold",
    "Score",
    "Total",
    "agreement",
    "by_group",
    "compare",
    "consensus",
    "costs",
    "majorities",
    "may_be_billed",
    "nullable",
    "score",
    "unknown",
    "wide",
]
