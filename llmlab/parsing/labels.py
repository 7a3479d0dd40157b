"""Text of an answer → one of the categories; a label that would have to be guessed is refused."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from numbers import Real
from typing import Any

from llmlab.errors import InputError, InvalidLabelError, ParseError, TruncatedError
from llmlab.finish_reasons import Ended
from llmlab.json_text import BLANK, ZERO_WIDTH, read_json, short
from llmlab.parsing.alone import check_stands_alone
from llmlab.parsing.base import Parser, Read
from llmlab.parsing.marks import answer_in

_SHORT, _MOST_KNOWN = 200, 1000
_LABEL_KEYS = ("label", "category")
# Terminal colours, control characters and halves of surrogate pairs: nobody meant them as part of a label.
_UNPRINTABLE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_WRAPS = {'"': '"', "'": "'", "`": "`", "*": "*", "_": "_", "“": "”", "‘": "’", "„": "“", "«": "»", "(": ")", "[": "]"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryParser(Parser):
    """Reads one of the categories.

    Attributes
    ----------
    exact : dict
        Category by the label that the model sees.
    normalised : dict
        Category by the label without regard to case, spaces, hyphens and punctuation around it.
    choices : str
        What an error message says about the labels to choose from.
    max_chars : int
        Longer texts are no label; to normalise a megabyte of combining marks would take minutes.
    known : dict
        What short texts were read as: models say the same few again and again.
    """

    exact: dict[str, object]
    normalised: dict[str, object]
    choices: str
    max_chars: int
    known: dict[tuple[str, Ended], Read] = field(default_factory=dict, compare=False, repr=False)

    def _read(self, text: str, how: Ended) -> Read:
        read = self.known.get((text, how))
        if read is None:
            read = self._read_anew(text, how)
            if len(text) <= _SHORT and len(self.known) < _MOST_KNOWN:
                self.known[text, how] = read
        return read

    def _read_anew(self, text: str, how: Ended) -> Read:
        answer = text if self._match(text) is not None else answer_in(text)
        bare = how is Ended.UNKNOWN and self._match(answer)
        if bare:
            if self._begins_another(answer):
                raise TruncatedError(f"{short(answer)} may be the beginning of another category.{self.choices}")
            return bare[0], (*bare[1], "bare")
        found = read_json(answer, how is not Ended.WHOLE)
        if not found.is_json and self._match(found.value) is None:
            raise ParseError(f"The answer is neither JSON nor just a category: {short(found.value)}.{self.choices}")
        value, notes = self._category(found.value)
        if found.is_json:
            check_stands_alone(found, self._others(value, found.after))
        return value, tuple(dict.fromkeys(found.notes + notes))

    def written(self, value: object) -> str:
        match = self._match(value)
        if match is None:
            raise InputError(f"{value!r} is not one of the categories.{self.choices}")
        label = next(label for label, one in self.exact.items() if one is match[0])
        return _form(match[0] if label == json.dumps(match[0]) else label)

    def _begins_another(self, answer: str) -> bool:
        begun = _normal(answer.strip(BLANK))
        return any(key.startswith(begun) and key != begun for key in self.normalised)

    def _others(self, value: object, text: str) -> re.Pattern[str] | None:
        """What finds the names of the other categories in a text that is not blank."""
        names = (
            [re.escape(label) for label, other in self.exact.items() if other is not value] if text.strip(BLANK) else []
        )
        return re.compile(rf"(?<!\w)(?:{'|'.join(names)})(?!\w)", re.IGNORECASE) if names else None

    def _category(self, answer: object, depth: int = 0) -> Read:
        if not isinstance(answer, dict):
            match = self._match(answer)
            if match is None:
                raise InvalidLabelError(f"{short(answer)} is not one of the categories.{self.choices}")
            return match[0], match[1] if depth else (*match[1], "bare")
        named = {key: item for key, item in answer.items() if key.strip(BLANK).casefold() in _LABEL_KEYS}
        notes = ("normalised",) * any(key not in _LABEL_KEYS for key in named) + ("nested",) * depth
        if not named and depth == 0 and len(answer) == 1:
            named = answer
        found = [self._category(item, depth + 1) for item in named.values()] if depth < 2 else []
        # {"label": "a", "final_label": "b"} says two things.
        for key, item in answer.items():
            match = self._match(item) if re.search("label|categor", key, re.IGNORECASE) else None
            if match is not None and found and match[0] is not found[0][0]:
                found.append(match)
        if not found or any(value is not found[0][0] for value, _ in found):
            raise InvalidLabelError(f"The answer has {len(found) or 'no'} labels: {short(answer)}.{self.choices}")
        return found[0][0], notes + found[0][1]

    def _match(self, label: object) -> Read | None:
        if isinstance(label, int | float):
            if is_ordered([label]) and is_ordered(self.exact.values()):
                return next(((one, ()) for one in self.exact.values() if one == label), None)
            # 4 and true are spelled like the categories "4" and "true".
            label = json.dumps(label)
        elif isinstance(label, str) and label in self.exact:
            return self.exact[label], ()
        if not isinstance(label, str):
            return None
        label = label.strip(BLANK)
        key = _normal(label) if len(label) <= self.max_chars else None
        return (self.normalised[key], ("normalised",)) if key in self.normalised else None


def category_parser(categories: object) -> Parser:
    """The parser of these categories.

    Raises
    ------
    InputError
        There are none, one is neither text nor a number, or two cannot be told apart in an answer.
    """
    exact = _labels(categories)
    definitions = _definitions(categories, exact)
    seen: dict[str, str] = {}
    for label in exact:
        other = seen.setdefault(_normal(label), label)
        if other is not label:
            raise InputError(
                f"The categories {other!r} and {label!r} cannot be told apart in an answer: case, spaces, hyphens "
                "and punctuation around them do not count. Rename one."
            )
    numbers = all(is_ordered([value]) and label == json.dumps(value) for label, value in exact.items())
    written = list(exact.values()) if numbers else list(exact)
    listed = ", ".join(json.dumps(label, ensure_ascii=False) for label in written)
    # Each answer is written out: small models copy what they are shown, a placeholder too.
    forms = [_form(label) for label in written]
    either = " or ".join([", ".join(forms[:-1]), forms[-1]] if len(forms) > 1 else forms)
    whole = all(isinstance(label, int) for label in written)
    kind = {"type": "string"} if not numbers else {"type": "integer" if whole else "number"}
    meaning = "\n".join(f"- {label}: {text}" for label, text in definitions.items())
    schema = {
        "type": "object",
        "properties": {"label": {**kind, "enum": written, **({"description": meaning} if meaning else {})}},
        "required": ["label"],
        "additionalProperties": False,
    }
    return CategoryParser(
        # Servers often keep the schema from the model: the definitions stand in the message whatever the form.
        instruction=(f"The categories:\n{meaning}\n\n" if meaning else "") + f"Answer with JSON only: {either}.",
        schema={"name": "category", "strict": True, "schema": schema},
        categories=tuple(exact.values()),
        definitions=definitions,
        exact=exact,
        normalised={key: exact[label] for key, label in seen.items()},
        choices=f" Choose one of: {listed if len(listed) <= 500 else listed[:500] + '…'}.",
        max_chars=100 + 2 * max(map(len, exact)),
    )


def _form(label: object) -> str:
    return json.dumps({"label": label}, ensure_ascii=False)


def is_ordered(categories: Iterable[object]) -> bool:
    """Whether the categories stand in an order: numbers do."""
    return all(isinstance(one, Real) and not isinstance(one, bool) and math.isfinite(one) for one in categories)


def _labels(categories: Any) -> dict[str, object]:
    """Label that the model sees → the caller's own object; numbers in their order."""
    if isinstance(categories, type) and issubclass(categories, Enum):
        pairs = [(item.value if isinstance(item.value, str) else item.name, item.value) for item in categories]
    else:
        values = getattr(getattr(categories, "dtype", categories), "categories", categories)  # of a categorical
        if isinstance(values, set | frozenset):
            values = sorted(values, key=str)
        elif isinstance(values, Mapping):
            values = list(values)
        elif hasattr(values, "tolist") and getattr(values, "ndim", 0) == 1:  # Series, Index, array
            values = values.tolist()
        if not isinstance(values, list | tuple):
            raise InputError(
                f"categories is {short(values)}, but must be a list of str or of numbers, a mapping of labels to their "
                "definitions, or an Enum class."
            )
        if values and is_ordered(values):
            # 3.0 of a column with gaps is the 3 that a person means.
            values = [int(one) if one == int(one) else float(one) for one in sorted(values)]
            pairs: list[tuple[Any, Any]] = [(json.dumps(item), item) for item in values]
        else:
            pairs = [(item, item) for item in values]
    if not pairs:
        raise InputError("categories is empty: give the labels that an answer may have.")
    for label, _ in pairs:
        if not isinstance(label, str) or not label.strip(BLANK):
            raise InputError(
                f"The category {label!r} ({type(label).__name__}) must be a str that is not blank; "
                "or all of them must be numbers."
            )
    labels = dict(pairs)
    if len(labels) < len(pairs):
        double = next(label for index, (label, _) in enumerate(pairs) if label in dict(pairs[:index]))
        raise InputError(f"The category {double!r} is given twice. Of a column of labels pass `column.unique()`.")
    return labels


def _definitions(categories: Any, exact: Mapping[str, object]) -> dict[str, str]:
    """What each label means, in one line, if the caller said."""
    if not isinstance(categories, Mapping):
        return {}
    meaning = {label: categories[value] for label, value in exact.items()}
    wrong = next((label for label, text in meaning.items() if not isinstance(text, str) or not text.strip(BLANK)), None)
    if wrong is not None:
        raise InputError(
            f"The category {wrong!r} is defined as {short(meaning[wrong])}, but a definition must be a text that is "
            "not blank. Without definitions pass a list of labels."
        )
    return {label: " ".join(text.split()) for label, text in meaning.items()}


def _normal(label: str) -> str:
    """Return the form in which labels are compared when they are not equal as they are."""
    text = (
        unicodedata.normalize("NFKC", _UNPRINTABLE.sub("", label))
        .casefold()
        .translate(dict.fromkeys(map(ord, ZERO_WIDTH)))
    )
    text = re.sub(r"(?<=[^\W_])[\s_\-‐‑–—]+(?=[^\W_])", " ", text).strip()
    while True:
        bare = text.rstrip(".,;:!。 ")
        if len(bare) > 1 and _WRAPS.get(bare[0]) == bare[-1]:  # in pairs only: a lone quote is the sign of a cut
            bare = bare[1:-1].strip()
        if not bare or bare == text:
            return text
        text = bare
