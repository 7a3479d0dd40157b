"""The body of an error answer, in whatever shape → the provider's own words and what it states as structure.

Providers and gateways put the same few things in different places: a message, codes (`code`, `type`, `status`,
`reason`), the parameter that is wrong, a wait. Only the fields in which a provider speaks are read: what it quotes of
the user's text or of the model's answer stands in others.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# Fields with what a provider says, best first; names are compared without case and punctuation. Those that begin with
# the name of a list may hold several complaints.
_CONTAINERS = ("error", "errors", "fault", "baseresp", "exception", "innererror", "response", "body")
_MESSAGES = ("message", "messages", "msg", "errormessage", "errormsg", "statusmsg", "statusmessage", "faultstring",
             "errordescription", "description", "reason", "title", "text", "info")  # fmt: skip
_LISTS = ("detail", "details", "errors", "validation", "violations", "issues", "fieldviolations", "invalidparams")
_CODES = ("code", "type", "status", "reason", "errorcode", "errortype", "statuscode", "quotaid", "quotametric", "kind")
_PLACES = ("param", "parameter", "path", "field", "loc", "location", "property", "instancepath")
_WAITS = (
    "retrydelay",
    "retryafter",
    "retryafterseconds",
    "retryafterms",
    "estimatedtime",
    "waitseconds",
    "resetsat",
    "resetat",
)
_DEEPEST = 8
_MOST_COMPLAINTS = 5
_OF_PYDANTIC = ("body",)
# Fields whose presence says more than their content.
_TELLING = {"flaggedinput": "moderation", "failedgeneration": "failed_generation"}
# A wrong parameter that a message names without giving it a field of its own.
_NAMED_PARAM = re.compile(
    r"(?:unknown|unrecogni[sz]ed|unsupported|unexpected|invalid|extra)\s+(?:request\s+)?"
    r"(?:name|parameter|argument|field|key|property|keyword|option|input|value)s?(?:\s+(?:supplied|provided|for|argument))*"
    r"\W{1,4}(?:['\"`](?P<quoted>[\w.\-]+)['\"`]|(?P<plain>[a-z]+_\w+))",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """What an error answer says.

    Attributes
    ----------
    message : str
        The provider's own words; empty if there are none.
    codes : frozenset of str
        Everything it states as a code, in snake_case.
    param : str or None
        The parameter of the request that it complains about.
    waits : tuple of (str, value)
        Waits that it states, by the name of the field.
    status : int or None
        The HTTP status that it states, which may differ from the real one.
    """

    message: str = ""
    codes: frozenset[str] = frozenset()
    param: str | None = None
    waits: tuple[tuple[str, Any], ...] = ()
    status: int | None = None

    @property
    def says_something(self) -> bool:
        """Whether it is an error at all: gateways send an empty one along with a good answer."""
        return bool(self.message or self.codes or self.status)


def read_error_body(body: object) -> ErrorBody:
    """What the body of an error answer says; never raises.

    Parameters
    ----------
    body : object
        Parsed JSON, or the text.
    """
    try:
        nodes = list(_nodes(body, 0))
        message = _message(body, 0)
    except RecursionError:
        return ErrorBody("the body is nested too deeply")
    codes, waits, places, status = set(), [], [], None
    for node in nodes:
        for name, value in node.items():
            plain = _plain(name)
            if plain in _CODES or plain == "@type" or plain.endswith("errorcode"):
                codes.update(_codes(value))
                status = status or _http_status(value)
            elif plain in _PLACES and not (plain == "path" and str(value).startswith("/")):
                places += [place] if (place := _place(value)) else []
            elif plain in _WAITS:
                waits.append((plain, value))
            if plain in _TELLING and value:
                codes.add(_TELLING[plain])
    named = _NAMED_PARAM.search(message)
    if named and not places:
        places = [named["quoted"] or named["plain"]]
    return ErrorBody(message, frozenset(codes), places[0] if places else None, tuple(waits), status)


def _plain(name: object) -> str:
    return re.sub(r"[^a-z@]", "", str(name).casefold())


def _parsed(value: object) -> object:
    """JSON that stands in a string, as gateways pass on what the provider sent; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(value)
    return value


def _nodes(body: object, depth: int) -> Iterator[Mapping[str, Any]]:
    """The body's own objects: errors, lists of them, and errors of a provider behind a gateway."""
    body = _parsed(body)
    if isinstance(body, list):
        for item in body[:_MOST_COMPLAINTS]:
            yield from _nodes(item, depth + 1)
    elif isinstance(body, Mapping) and depth <= _DEEPEST:
        inner = [
            value
            for name, value in body.items()
            if _plain(name) in (*_CONTAINERS, *_LISTS, "metadata", "raw", "message")
        ]
        # The innermost error is the most precise one.
        for value in inner:
            if isinstance(_parsed(value), (Mapping, list)):
                yield from _nodes(value, depth + 1)
        yield body


def _message(body: object, depth: int) -> str:
    """The provider's words in any shape of body."""
    body = _parsed(body)
    if isinstance(body, str):
        return body.strip()
    if isinstance(body, list):
        found = [_message(item, depth + 1) for item in body[:_MOST_COMPLAINTS]]
        return "; ".join(dict.fromkeys(text for text in found if text))
    if not isinstance(body, Mapping) or depth > _DEEPEST:
        return ""
    fields = {_plain(name): value for name, value in body.items() if value}
    said = [_message(fields[name], depth + 1) for name in _CONTAINERS if name in fields and name not in _LISTS]
    said += [_message(value, depth + 1) for value in _spoken(fields)][:1]
    complaints = [_message(fields[name], depth + 1) for name in _LISTS if name in fields]
    metadata = fields.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, Mapping) else None
    texts = list(dict.fromkeys(text for text in (*said, *complaints, _message(raw, depth + 1)) if text))
    if not texts:
        return ""
    place = next((_place(fields[name]) for name in _PLACES if name in fields), None) if depth else None
    joined = ": ".join(text for text in texts if not any(text != other and text in other for other in texts))
    return f"{place}: {joined}" if place and place not in joined else joined


def _spoken(fields: Mapping[str, Any]) -> list[Any]:
    """The values of the fields that hold a message, best first."""
    known = [fields[name] for name in _MESSAGES if name in fields]
    others = [value for name, value in fields.items() if name not in _MESSAGES and name.endswith(("message", "msg"))]
    return [value for value in (*known, *others) if isinstance(_parsed(value), (str, list, Mapping))]


def _codes(value: object) -> Iterator[str]:
    """One or several codes in snake_case: `AccessDenied`, `type.googleapis.com/google.rpc.QuotaFailure`, `429`."""
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, bool) or not isinstance(one, (str, int)) or (isinstance(one, str) and len(one) > 120):
            continue
        # Words in a sentence are no code.
        if str(one).count(" ") > 3:
            continue
        text = re.sub(r"(?<=[a-z\d])(?=[A-Z])", "_", str(one).rpartition("/")[2].rpartition("#")[2])
        if code := re.sub(r"[^a-z0-9]+", "_", text.casefold()).strip("_"):
            yield code


def _place(value: object) -> str | None:
    """A parameter's name, from `temperature`, `body.temperature`, `/temperature` or ["body", "temperature"]."""
    parts = value if isinstance(value, list) else re.split(r"[./]", value) if isinstance(value, str) else []
    named = [str(part) for part in parts if str(part) and str(part) not in _OF_PYDANTIC]
    # Some put a sentence there.
    return None if any(" " in part for part in named) else ".".join(named) or None


def _http_status(value: object) -> int | None:
    try:
        number = int(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else 0
    except ValueError:
        return None
    return number if 300 <= number < 600 else None
