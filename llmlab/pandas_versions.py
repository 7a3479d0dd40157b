"""What differs between pandas 2 and 3: the type of texts, and who owns the cells of a copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

TEXT = "str" if isinstance(pd.api.types.pandas_dtype("str"), pd.StringDtype) else "object"
"""The type of columns of text: before pandas 3 that of objects, since `str` would make a missing text "None"."""


def text_array(texts: Sequence[str | None] | np.ndarray) -> Any:
    """An array of texts, in which `None` is missing.

    Raises
    ------
    UnicodeEncodeError
        One holds half a surrogate pair, which is no text.
    """
    cells = np.empty(len(texts), object)
    cells[:] = texts
    if TEXT == "str":
        return pd.array(cells, dtype="str")
    for text in texts:
        if isinstance(text, str) and not text.isascii():
            text.encode()
    return cells


def own_copy(frame: pd.DataFrame) -> pd.DataFrame:
    """A copy that can be changed without changing `frame`; since pandas 3 the cells are shared until then."""
    return frame.copy(deep=_CHANGES_ARE_SHARED)


_CHANGES_ARE_SHARED = int(pd.__version__.partition(".")[0]) < 3
