"""How sure a model is of its label: the probability of the label's own tokens, or the share of the runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from llmlab.analysis.votes import BY_LOGPROBS, BY_RUNS, nullable, voted
from llmlab.pandas_versions import text_array
from llmlab.records import SaidToken


def label_logprob(tokens: Sequence[SaidToken], label: object) -> float | None:
    """Natural logarithm of the probability of the whole label.

    Parameters
    ----------
    tokens : sequence of SaidToken
        The answer's tokens, in order.
    label : object
        What was read from the answer.

    Returns
    -------
    float or None
        The sum over the tokens that the label is made of, where it stands last in the answer. For each of them the
        alternatives that differ only in case and blanks count, too: they spell the same label. `None` if the label's
        text does not stand in the answer.

    Notes
    -----
    The first token alone says little: labels share beginnings.
    """
    text = "".join(token.text for token in tokens)
    wanted = str(label)
    begin = text.rfind(wanted) if wanted else -1
    if begin < 0:
        begin = text.casefold().rfind(wanted.casefold()) if wanted else -1
    if begin < 0:
        return None
    end, at, total = begin + len(wanted), 0, 0.0
    for token in tokens:
        if at < end and at + len(token.text) > begin:
            total += _of_all_spellings(token)
        at += len(token.text)
    return min(0.0, total)


def _of_all_spellings(token: SaidToken) -> float:
    spelling = token.text.strip().casefold()
    same = {other: logprob for other, logprob in token.others if other.strip().casefold() == spelling}
    same[token.text] = token.logprob
    return math.log(math.fsum(math.exp(logprob) for logprob in same.values()) or math.exp(-745.0))


def confidence(predictions: pd.DataFrame, logprob: np.ndarray) -> dict[str, Any]:
    """How sure each answer is: the columns `confidence` and `confidence_from` of `predictions`.

    Parameters
    ----------
    predictions : DataFrame
        With the key, `prediction` and `status`.
    logprob : ndarray of float
        Natural logarithm of the probability of each label; NaN where nobody told it.
    """
    pair, codes, labels = voted(predictions)
    several = np.bincount(pair[codes >= 0], minlength=pair.max(initial=-1) + 1)
    kind = pair * max(1, len(labels)) + codes
    at, times = np.unique(kind[codes >= 0], return_inverse=True, return_counts=True)[1:]
    share = np.full(len(predictions), np.nan)
    share[codes >= 0] = times[at] / several[pair[codes >= 0]]
    share[several[pair] < 2] = np.nan
    told = ~np.isnan(logprob) & (codes >= 0)
    found = np.where(told, np.exp(np.where(told, logprob, 0.0)), share)
    source = np.where(told, BY_LOGPROBS, BY_RUNS).astype(object)
    source[np.isnan(found)] = None
    return {"confidence": nullable(found), "confidence_from": text_array(source)}
