"""What an error answer states → the class of the error, and how far it reaches.

Structure decides: codes, the parameter at fault, the status. Codes come before the status, which gateways change. Words
count only within the provider's own message, because bodies quote the user's texts and the model's answers; a new
wording then costs a row or a retry, and never the run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from llmlab import errors
from llmlab.client.error_body import ErrorBody
from llmlab.errors import OF_ONE_TRIAL, AttemptError, Ends

# What codes say, whatever the status.
_CREDIT_CODES = (
    r"insufficient_(quota|credit|balance|fund)|credit_(balance|limit)|billing|arrear|payment_required|budget_exceeded|"
    r"exceeded_current_quota|no_credit|out_of_credit|overdue"
)
_RATE_CODES = r"rate_limit|too_many_requests|throttl|resource_exhausted|^requests$|^tokens$|slow_down|concurren"
_AUTH_CODES = r"api_key|permission|authenticat|unauthori|unauthenticat|invalid_token|token_expired|access_denied"
_MODEL_CODES = (
    r"model_?(id_)?(is_)?(not_(found|exist|available|supported|allowed|open)|decommission|unavailable|deprecat|retired|"
    r"unknown|invalid|access)|(unknown|invalid|unsupported|deprecated|no_such)_model|deployment_not_found|tier_not_allowed"
)
_TOO_LONG_CODES = (
    r"context_(length|size|window)|too_(large|long|big)|above_max_length|exceed\w*_(context|length|token)|"
    r"max_(prompt|input|context)_|(input|prompt)_(length|tokens?)_(limit|exceed)"
)
_MODERATION_CODES = (
    r"content_(filter|policy|management|moderat)|moderat|responsible_ai|policy_violation|flagged|prohibited|"
    r"data_inspection|sensitive|unsafe|guardrail|jailbreak"
)
_DAY_CODES = r"per_?(day|month|week)|daily|monthly|(^|_)(tpd|rpd)($|_)"
_MODELS_FAULT_CODES = r"failed_generation|json_validate_failed|tool_use_failed|(output|generation)_(parse|parsing)_fail"
_REGION = r"country|region|territory"
# What the provider's own words say where its codes are silent.
_TOO_LONG_WORDS = (
    r"context (length|size|window)|maximum (context|model|prompt|input|sequence) length|"
    r"(maximum|allowed|max) (number of )?(input )?tokens|token (count|limit)|too many (input )?tokens|"
    r"(exceed|longer than)[^.]{0,60}(token|context|length|maximum|limit)|reduce (the|your) (length|prompt|input)|"
    r"(prompt|input|request|message|text|content|payload|body)s? (\w+ ){0,4}too (long|large|big)|string above max|"
    r"too large for|(?<![a-z])(inputs?|prompt)[^a-z]{0,3}(length|tokens?|must have)|超长|过长"
)
_CONTEXT_WORDS = r"context (length|size|window)|maximum (context|model|prompt|input) length"
_MODERATED_WORDS = (
    r"content[ _-]?(filter|management|policy|moderation)|moderation|\bflagged\b|prohibited (content|use)|"
    r"safety (system|filter|reason|check|polic)|blocked (by|due|for)|(usage|acceptable use) polic|inappropriate|"
    r"(content|usage|community|safety) guideline|violat\w*[^.]{0,60}(polic|guideline|terms)|(?<!case[ -])sensitive|"
    r"敏感|违规"
)
_KEY_WORDS = (
    r"\bapi[ -]?(secret )?keys?\b|not authenticated|unauthori[sz]ed|authentication|invalid token|no auth|secret key|"
    r"(access|auth\w*|bearer|id) token[^.]{0,30}(invalid|expired|not valid)|log ?in (failed|fail|required)"
)
_MODEL_WORDS = (
    r"\bmodel\b[^.]{0,80}(not exist|not found|(not |un)available|not supported|decommissioned|deprecated|retired)|"
    r"model (id|identifier|name)\b[^.]{0,40}invalid|not a valid model|"
    r"no endpoints found|(unknown|invalid|unsupported|no such) model|deployment [^.]{0,40}not exist"
)
_CREDIT_WORDS = (
    r"credit balance|insufficient (credit|balance|fund|quota)|(exceeded|over) your (current |monthly )?(quota|spend)|"
    r"spend(ing)? limit|key limit exceeded|payment required|(billing|account) is not active|"
    r"(out of|not enough|add more|purchase) credits?|not have (\w+ ){0,2}(credits?|balance|funds)|"
    r"(credits?|balance|funds) [^.]{0,30}(insufficient|exhausted|depleted|too low|used up)|余额|欠费"
)
_DAY_WORDS = r"per[ -](day|month|week)|\b(tpd|rpd)\b|\bdaily\b|\bmonthly\b"
_RATE_WORDS = r"rate.?limit|too many requests|request limit|\bqps\b|throttl"
_MINUTE_WORDS = r"per[ -](min|minute|sec|second|hour)\b|\b(tpm|rpm|rps)\b"
_SETTING_WORDS = (
    r"requested parameters|extra (inputs|fields)|does not support|is not supported|unsupported (value|parameter)|"
    r"invalid param|invalid (json )?schema|unrecognized request argument|cannot find field"
)
_LOADING_WORDS = (
    r"\bmodel\b[^.]{0,60}\b((is|still|currently)( \w+)? (loading|starting|warming|not ready)|being loaded)|"
    r"(?<!error )(loading|starting|warming up) (the )?model|cold start"
)
# Parameters about lengths: the prompt and the answer together may be too long.
_ABOUT_LENGTH = {"max_tokens", "max_completion_tokens", "max_new_tokens"}

_BY_STATUS: dict[int, type[AttemptError]] = {
    401: errors.AuthenticationError,
    402: errors.CreditError,
    403: errors.AuthenticationError,
    404: errors.ConfigError,
    405: errors.ConfigError,
    407: errors.ConfigError,
    408: errors.TimeoutError,
    409: errors.OverloadedError,
    413: errors.TooLongError,
    425: errors.OverloadedError,
    429: errors.RateLimitError,
    498: errors.OverloadedError,
    499: errors.ConnectionError,
    524: errors.TimeoutError,
}


class Verdict(NamedTuple):
    """What an error answer means.

    Attributes
    ----------
    kind : type of AttemptError
    ends, ends_once_answered : {"attempt", "trial", "model", "run"} or None
        As in `AttemptError`, where they differ from the class's own.
    away : bool
        As there, whatever the status.
    """

    kind: type[AttemptError]
    ends: Ends | None = None
    ends_once_answered: Ends | None = None
    away: bool = False


@dataclass(frozen=True, slots=True)
class _Refusal:
    """An error answer, as the rules look at it."""

    status: int | None
    body: ErrorBody
    words: str
    hint_s: float | None

    def codes(self, pattern: str) -> bool:
        """Whether one of the provider's codes matches."""
        return any(re.search(pattern, code) for code in self.body.codes)

    def says(self, pattern: str) -> bool:
        """Whether the provider's own words match."""
        return re.search(pattern, self.words) is not None


def _own_words(message: str) -> str:
    """The message in lower case without what it quotes: passages in quotation marks that are more than a name."""
    # An apostrophe is no quotation mark: "doesn't" … "isn't".
    message = re.sub(r"(?<=\w)['’](?=\w)", "", re.sub(r"n['’]t\b", " not", message))
    return re.sub(r"([\"'`“‘«])(?=[^\"'`”’»]*\s)[^\"'`”’»]{12,}[\"'`”’»]", " ", message).casefold()[:2000]


def verdict(status: int | None, said: ErrorBody, *, is_page: bool, hint_s: float | None) -> Verdict:
    """What an error answer means.

    Parameters
    ----------
    status : int or None
        The HTTP status, or the code inside a 200.
    said : ErrorBody
    is_page : bool
        Whether the body is a web page, which only a gateway sends.
    hint_s : float or None
        The wait in seconds that the provider asks for.
    """
    refusal = _Refusal(status, said, _own_words(said.message), hint_s)
    if status is not None and 300 <= status < 400:
        return Verdict(errors.ConfigError)
    if is_page:
        # The sender of a 403 page is a firewall in front of the provider, which dislikes this text. Some send 405, or
        # 404: at an address that has answered before it is the text, too.
        kind = errors.RequestError if status == 403 else _by_status(status)
        return Verdict(kind, "run", "trial") if kind is errors.ConfigError else Verdict(kind)
    if status == 408:
        return Verdict(errors.TimeoutError)
    by_code = _by_codes(refusal)
    if by_code is not None:
        return Verdict(by_code)
    if refusal.says(_LOADING_WORDS) or (_states_a_wait(refusal) and status not in (401, 402, 403, 429)):
        return Verdict(errors.OverloadedError, away=True)
    if status == 429:
        return Verdict(_of_429(refusal))
    if status == 402:
        return Verdict(errors.CreditError if refusal.hint_s is None else errors.OverloadedError)
    if status == 403:
        return _of_403(refusal)
    if status == 404:
        if refusal.says(rf"{_MODEL_WORDS}|\bmodel\b|endpoints"):
            return Verdict(errors.ModelNotFoundError)
        # The address is wrong, unless it has answered for another model.
        return Verdict(errors.ConfigError, "run", "model")
    if status in (400, 422, None):
        return _of_400(refusal)
    if status == 500 and refusal.says(_CONTEXT_WORDS):
        return Verdict(errors.TooLongError)
    return Verdict(_by_status(status))


def _by_codes(refusal: _Refusal) -> type[AttemptError] | None:
    """The class that the provider's codes name, whatever the status."""
    status = refusal.status
    if refusal.codes(_MODELS_FAULT_CODES):
        # The model wrote what its own API then refused; the next attempt may write something else.
        return errors.BadResponseError
    rated = status == 429 or refusal.codes(_RATE_CODES)
    if refusal.codes(_DAY_CODES) and (rated or status in (402, 403, None)):
        return errors.QuotaError
    if refusal.codes(_CREDIT_CODES) and not refusal.codes(r"rate_limit"):
        return errors.CreditError
    if refusal.codes(_TOO_LONG_CODES):
        return errors.TooLongError
    if refusal.codes(_MODERATION_CODES):
        return errors.ModerationError
    if refusal.codes(_MODEL_CODES):
        return errors.ModelNotFoundError
    if refusal.codes(_REGION) and status in (400, 403, None):
        return errors.ConfigError
    if refusal.codes(_AUTH_CODES) and status in (400, 401, 403, None):
        return errors.AuthenticationError
    if refusal.codes(_RATE_CODES) and status in (400, 403, None):
        return errors.RateLimitError
    return None


def _states_a_wait(refusal: _Refusal) -> bool:
    """Whether the body has a field that says when to come back: then it is no final word, whatever the status."""
    return bool(refusal.body.waits) and refusal.hint_s is not None


def _of_429(refusal: _Refusal) -> type[AttemptError]:
    if refusal.says(r"request too large|too large for") or _never_fits(refusal.words):
        return errors.TooLongError
    day, minute = (re.search(pattern, refusal.words) for pattern in (_DAY_WORDS, _MINUTE_WORDS))
    # The limit that was met is named first; what follows is what a higher tier would give.
    if day is not None and (minute is None or day.start() < minute.start()):
        return errors.QuotaError
    if refusal.says(_CREDIT_WORDS) and refusal.hint_s is None and not refusal.codes(_RATE_CODES):
        return errors.CreditError
    return errors.RateLimitError


def _never_fits(words: str) -> bool:
    """Whether the message says that one request alone is larger than the whole limit."""
    found = re.search(r"limit:? (\d+)\b.{0,60}requested:? (\d+)", words)
    return found is not None and int(found[2]) > int(found[1])


def _of_403(refusal: _Refusal) -> Verdict:
    if refusal.says(_RATE_WORDS):
        return Verdict(_of_429(refusal))
    if refusal.codes(r"quota"):
        return Verdict(errors.QuotaError)
    for pattern, kind in (
        (_DAY_WORDS, errors.QuotaError),
        (_CREDIT_WORDS, errors.CreditError),
        (r"\bquota\b", errors.QuotaError),
        (_MODERATED_WORDS, errors.ModerationError),
        (_MODEL_WORDS, errors.ModelNotFoundError),
        (_REGION, errors.ConfigError),
        (_KEY_WORDS, errors.AuthenticationError),
    ):
        if refusal.says(pattern):
            return Verdict(kind)
    # Without a reason that anybody knows it may be about this text, also if it is the first one.
    return Verdict(errors.ModelNotFoundError if refusal.says(r"\bmodel\b") else errors.AuthenticationError, "trial")


def _of_400(refusal: _Refusal) -> Verdict:
    """A request that is refused: for its settings, which ends the model, or for its text, which ends the trial."""
    top = re.split(r"[.\[]", refusal.body.param)[0] if refusal.body.param else None
    if top in _ABOUT_LENGTH and refusal.says(_CONTEXT_WORDS):
        return Verdict(errors.TooLongError)
    if top == "model":
        return Verdict(errors.ModelNotFoundError)
    if top is not None and top not in OF_ONE_TRIAL:
        return Verdict(errors.ConfigError, "model")
    if refusal.says(_RATE_WORDS):
        return Verdict(_of_429(refusal))
    for pattern, kind in (
        (_CREDIT_WORDS, errors.CreditError),
        (_KEY_WORDS, errors.AuthenticationError),
        (_MODEL_WORDS, errors.ModelNotFoundError),
        (_TOO_LONG_WORDS, errors.TooLongError),
        (_MODERATED_WORDS, errors.ModerationError),
    ):
        if refusal.says(pattern):
            return Verdict(kind)
    if refusal.says(_SETTING_WORDS):
        return Verdict(errors.ConfigError, "model")
    return Verdict(errors.BadResponseError if refusal.status is None else errors.RequestError)


def _by_status(status: int | None) -> type[AttemptError]:
    if status is None or status < 300:
        return errors.BadResponseError
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return errors.OverloadedError if status >= 500 else errors.RequestError
