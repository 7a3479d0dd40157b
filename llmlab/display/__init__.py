"""What a person sees: live progress, the summary, the charts."""

from llmlab.display import charts
from llmlab.display.progress import Silent, Tally, View, make_view
from llmlab.display.summary import summary_html

__all__ = ["Silent", "Tally", "View", "charts", "make_view", "summary_html"]
