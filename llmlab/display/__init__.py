"""What a person sees: live progress, the summary, the charts."""

from llmlab.display import charts
from llmlab.display.hints import CAPPED, RERUN
from llmlab.display.methods import MethodsText, methods
from llmlab.display.progress import Silent, View, make_view
from llmlab.display.summary import Origin, Summary
from llmlab.display.summary_page import summary_html
from llmlab.display.tally import Outlook, QueuedBatch, Tally

__all__ = [
    "CAPPED",
    "RERUN",
    "MethodsText",
    "Origin",
    "Outlook",
    "QueuedBatch",
    "Silent",
    "Summary",
    "Tally",
    "View",
    "charts",
    "make_view",
    "methods",
    "summary_html",
]
