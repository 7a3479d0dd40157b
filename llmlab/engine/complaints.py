"""Whether trials of a model fail one after the other in the same way, so that all others will, too."""

from __future__ import annotations

from llmlab.errors import AttemptError, FatalError, RequestError

SETTINGS_STOP, UNEXPLAINED_STOP = 5, 20


class Complaints:
    """Counts the same error of a model's trials in a row.

    What the provider says of a setting, all trials of the model have in common. A refusal without a reason may be about
    the key or about the text; texts that stand together may be refused together, so it takes more of these.
    """

    def __init__(self) -> None:
        self._answered: set[str] = set()
        # Of each model: the last error, and how often in a row.
        self._same: dict[str, tuple[str, int]] = {}

    def answered(self, model: str) -> None:
        """To be told of every answer."""
        self._answered.add(model)
        self._same.pop(model, None)

    def stop(self, model: str, error: AttemptError) -> str:
        """A trial has ended with this error; returns why its model ends with it, empty if it does not."""
        if isinstance(error, RequestError) and error.about_settings and model not in self._answered:
            enough, which = SETTINGS_STOP, "the first {} trials"
        elif isinstance(error, FatalError):
            enough, which = UNEXPLAINED_STOP, "{} trials in a row"
        else:
            return ""
        last, times = self._same.get(model, ("", 0))
        now = f"{type(error).__name__}: {error}"
        times = times + 1 if last == now else 1
        self._same[model] = (now, times)
        return f"{which.format(enough)} failed the same way: {error}" if times >= enough else ""
