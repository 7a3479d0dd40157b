"""The colours, once, for the panel, the summary and the charts: each means the same everywhere.

Okabe and Ito's, which colour-blind readers can tell apart, on light and on dark pages.

References
----------
Okabe, M., & Ito, K. (2008), "Color Universal Design".
"""

from llmlab.records import ATTEMPT_STATUSES

ANSWERED, UNREADABLE, FAILED = "#009e73", "#e69f00", "#d55e00"
WAITED, IN_FLIGHT = "#0072b2", "#56b4e9"
NOTICE = UNREADABLE
LABEL = IN_FLIGHT
GREY = "#808080"
INK = "#797979"
"""As far from white as from the dark pages' black: text in it reads on both."""
PALE = "rgba(128,128,128,0.3)"
OUTCOMES = dict(zip(ATTEMPT_STATUSES, (ANSWERED, UNREADABLE, FAILED), strict=True))
AGREEMENT = ("#8c3b6b", "#cc79a7", "#e3b3cd", "#f3dbe7", "#d9d9d9")
GROUPS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Groups of units or models, in this order; at most so many are told apart by colour."""
