"""What changes for the other trials after an attempt: how many are sent at once, and which models wait."""

from __future__ import annotations

from llmlab.engine.attempt import Attempts
from llmlab.engine.probes import Probes
from llmlab.engine.queue import Asked
from llmlab.engine.slots import Slots
from llmlab.engine.verdict import Next


def adapt(slots: Slots, probes: Probes, attempts: Attempts, asked: Asked, follows: Next, in_flight: int) -> None:
    """Act on what an attempt says about the others.

    Parameters
    ----------
    asked : Asked
        What the attempt was about.
    in_flight : int
        Requests in flight beside it.
    """
    if follows.room is not None:
        slots.width.narrow(follows.sent_at, follows.room)
    elif follows.widen:
        slots.width.widen()
    if follows.release:
        if not asked.probe:
            # It was in flight all the time: nobody was away, there was just no room for more.
            slots.width.narrow(follows.sent_at, in_flight + 1)
        slots.release(follows.release)
    if follows.hold:
        slots.hold(follows.hold)
        probes.begin(follows.hold, follows.probe_in_s)
    _wait_for_form(slots, attempts, asked, goes_on=follows.retry_in_s is not None and not follows.hold)


def _wait_for_form(slots: Slots, attempts: Attempts, asked: Asked, *, goes_on: bool) -> None:
    """While one trial of a model tries a simpler form of answer, the others of the model wait."""
    model, position, forms = asked.trial.model, asked.trial.position, attempts.forms
    if not goes_on:
        forms.give_up(model, position)
    asked.leads = forms.is_probe(model, position)
    if forms.is_probed(model):
        slots.hold({model})
    elif not attempts.outages.is_away(model):
        slots.release({model})
