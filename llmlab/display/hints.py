"""What to do about an error, and how to go on."""

from __future__ import annotations

from collections.abc import Collection

RERUN = "results = await results.rerun_failed()"
WAIT = "it is still running: results = await experiment"
HINTS: dict[str, str] = {
    "CancelledError": "it was in flight at the end of the run: ask it again",
    "RateLimitError": "lower requests_per_minute or tokens_per_minute, or set it to 'auto'",
    "OverloadedError": "the provider has no capacity: ask again later, or lower max_concurrent",
    "TimeoutError": "raise timeout, or lower max_concurrent or max_tokens",
    "ConnectionError": "check the network and base_url, lower max_concurrent; then ask again",
    "BadResponseError": "base_url may not be a chat completions endpoint, or a proxy stands between",
    "TooLongError": "shorten these units, take a model with more context, or raise tokens_per_minute",
    "ModerationError": "a content filter refuses these units: leave them out or ask another model",
    "EmptyInputError": "these units have no text: drop or fill them",
    "RequestError": "the message names what the provider refuses in these requests",
    "AuthenticationError": "check api_key, or OPENROUTER_API_KEY and OPENAI_API_KEY, and that it fits base_url",
    "CreditError": "add credit or raise the key's spending limit at the provider",
    "QuotaError": "wait until the quota is renewed, or use another key or model",
    "ModelNotFoundError": "check the model's name at this endpoint, and that the key may use it",
    "ConfigError": "check base_url, and the parameters and schema that the message names",
    "EmptyAnswerError": "raise max_tokens: reasoning may have used them all; or lower reasoning_effort",
    "TruncatedError": "raise max_tokens, ask for shorter answers, or lower reasoning_effort",
    "InvalidLabelError": "look at attempts.content; add the category, or mend the prompt",
    "ValidationError": "look at attempts.content; loosen the response_model or describe its fields",
    "RefusalError": "the model declines: reword the prompt or ask another model",
    "ParseError": "look at attempts.content; say in the prompt how to answer",
}


NEVER_ANSWERED = frozenset({"EmptyInputError"})
"""Errors that end a trial for good: to ask it again would not even send a request."""
CAPPED = "max_cost_usd="
"""How the reason begins that a run stopped at its cap, which a rerun keeps."""
OF_THE_SETTINGS = frozenset({"AuthenticationError", "ModelNotFoundError", "ConfigError"})
"""Errors that stay as long as the settings do, which a rerun keeps."""


def how_to_go_on(unanswered: Collection[str], stopped: str, errors: Collection[str], *, can_rerun: bool) -> str:
    """What asks the trials that have no answer: code, a sentence, or nothing if that would be of no use.

    Parameters
    ----------
    unanswered : collection of str
        Types of the errors of the trials that have no answer; "" for those without one.
    stopped : str
        Why the run ended early; empty if it did not.
    errors : collection of str
        Types of the errors of all attempts.
    can_rerun : bool
        Whether the results know their experiment; those that were loaded or copied do not.
    """
    if set(unanswered) <= NEVER_ANSWERED:
        return ""
    if stopped and OF_THE_SETTINGS & set(errors):
        return "mend what the error says, then run the experiment again"
    if stopped.startswith(CAPPED):
        return "raise max_cost_usd, then run the experiment again; with journal= only what is missing is asked"
    if can_rerun:
        return RERUN
    return "run the experiment again with the same journal: only what is missing is asked"
