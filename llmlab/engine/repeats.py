"""Whether the runs of a unit were really asked, or a gateway gave the same completion twice."""

from __future__ import annotations

from llmlab.records import Trial

NOTE = "same completion as another run of the unit"


class Completions:
    """The completions that came, by their ids. Two runs with one completion are one answer, counted twice.

    Servers that give every completion the same id are recognised by giving it to different units; of them nothing is
    said.
    """

    def __init__(self) -> None:
        self._came: dict[str, tuple[object, int]] = {}
        self._tells = True

    def is_repeated(self, trial: Trial, completion_id: str | None) -> bool:
        """Whether another run of the trial's unit got the completion with this id."""
        if completion_id is None or not self._tells:
            return False
        asked = (trial.unit_id, trial.model, trial.prompt)
        before, run = self._came.setdefault(completion_id, (asked, trial.run))
        if before != asked:
            self._tells = False
            self._came.clear()
            return False
        return run != trial.run
