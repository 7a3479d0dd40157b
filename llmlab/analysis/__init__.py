"""What the frames say: totals, agreement, scores, what took the time. Frames in, frames out."""

from llmlab.analysis.agreement import Humans, agreement
from llmlab.analysis.bottleneck import bottleneck
from llmlab.analysis.calibration import Calibration, calibration
from llmlab.analysis.changes import changes
from llmlab.analysis.comparison import compare
from llmlab.analysis.confidence import confidence, label_logprob
from llmlab.analysis.distribution import distribution
from llmlab.analysis.fields import field_value, known_fields, listed_fields, main_field, one_field
from llmlab.analysis.gold import Gold, raters_in, without_examples
from llmlab.analysis.reliability import Measure
from llmlab.analysis.scoring import Score, score
from llmlab.analysis.shares import corrected, shares
from llmlab.analysis.sheet import draw_sheet, read_sheet
from llmlab.analysis.side_by_side import side_by_side
from llmlab.analysis.totals import Total, by_group, costs, may_be_billed, unknown
from llmlab.analysis.votes import consensus, label_codes, majorities, nullable, wide

__all__ = [
    "Calibration",
    "Gold",
    "Humans",
    "Measure",
    "Score",
    "Total",
    "agreement",
    "bottleneck",
    "by_group",
    "calibration",
    "changes",
    "compare",
    "confidence",
    "consensus",
    "corrected",
    "costs",
    "distribution",
    "draw_sheet",
    "field_value",
    "known_fields",
    "label_codes",
    "label_logprob",
    "listed_fields",
    "main_field",
    "majorities",
    "may_be_billed",
    "nullable",
    "one_field",
    "raters_in",
    "read_sheet",
    "score",
    "shares",
    "side_by_side",
    "unknown",
    "wide",
    "without_examples",
]
