"""Every fault by its id, with the conditions under which it is played.

The provider of `tests.provider` plays a fault when the request's model is `fault/<id>`, or whatever the model if its
`fault` is set. An id may carry conditions; the request is answered well unless all of them hold: `s503-html/w5` plays
for the first 5 seconds, `s401-key/a10` after 10 good answers, and `s500-json/n2` the first 2 times that the same messages
are asked.

The first letter tells the family: `s` HTTP status, `r` 429, `m` redirect, `b` a 200 whose body is broken, `w` below
HTTP, `c` a completion without a usable message, `u` odd usage, `j` odd text of the answer, `t` a fault with a memory.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from llmlab.simulate.completion import Request
from llmlab.simulate.reply import Reply, refuse
from llmlab.simulate.window import Window
from tests.provider.answers import ANSWERS, GOOD
from tests.provider.faults import USAGE, Call, Fault
from tests.provider.refusals import REFUSALS

FAULTS: Mapping[str, Fault] = MappingProxyType(REFUSALS | ANSWERS)


@dataclass(frozen=True)
class Spec:
    """A fault's id with its conditions, as in `s503-html/w5`.

    Attributes
    ----------
    text : str
        The whole, as asked for.
    fault : Fault
    window_s : float or None
        Plays for so many seconds from the first request.
    after : int
        Plays after so many good answers.
    times : int or None
        Plays so many times for the same messages.
    """

    text: str
    fault: Fault
    window_s: float | None
    after: int
    times: int | None


def parse(text: str) -> Spec:
    """Read `<id>` or `<id>/w<seconds>`, `/a<requests>`, `/n<times>`, also combined.

    Raises
    ------
    ValueError
        For an unknown id or condition; it names similar ids.
    """
    fault_id, *conditions = text.split("/")
    if fault_id not in FAULTS:
        near = sorted(known for known in FAULTS if known.startswith(fault_id[:1])) or sorted(FAULTS)
        raise ValueError(f"no fault {fault_id!r}; there are {', '.join(near)}")
    found: dict[str, float] = {}
    for condition in conditions:
        match = re.fullmatch(r"([wan])(\d+(?:\.\d+)?)", condition)
        if not match:
            raise ValueError(f"{condition!r} in {text!r} is no condition; use w<seconds>, a<requests> or n<times>")
        found[match[1]] = float(match[2])
    fault = FAULTS[fault_id]
    times = int(found["n"]) if "n" in found else None
    return Spec(text, fault, found.get("w"), int(found.get("a", fault.after)), times)


class Player:
    """Plays faults, and remembers what it has played; `port` is the provider's, as soon as it is known."""

    def __init__(self) -> None:
        self.port = 0
        self.played: Counter[object] = Counter()
        self.since: dict[str, float] = {}
        self.windows: dict[tuple[str, str], Window] = {}

    def reply(self, name: str, request: Request, in_flight: int) -> Reply:
        """What becomes of a request that asks for this fault: the fault, or a good answer."""
        try:
            spec = parse(name)
        except ValueError as error:
            return refuse(404, f"{error}.", code="model_not_found")
        if spec.fault.max_in_flight is not None:
            if in_flight <= spec.fault.max_in_flight:
                return good_answer()
        elif spec.fault.limit is not None:
            window = self.windows.setdefault((name, request.key), Window(spec.fault.limit, None, spec.fault.period_s))
            wait_s = window.admit(request.at_s, 0)
            refusal = window.refusal(request.model, request.at_s, wait_s, 0)
            return replace(refusal, tally={"faults": 1}) if wait_s else good_answer()
        elif not self._plays(spec, request):
            return good_answer()
        return spec.fault.play(Call(request.key, self.port, time.time()))

    def _plays(self, spec: Spec, request: Request) -> bool:
        """Whether all conditions of a fault hold for this request."""
        self.played[spec.text] += 1
        if self.played[spec.text] <= spec.after:
            return False
        if spec.window_s is not None:
            began = self.since.setdefault(spec.text, request.at_s)
            if request.at_s - began >= spec.window_s:
                return False
        asked = spec.text, request.digest(0)
        self.played[asked] += 1
        return spec.times is None or self.played[asked] <= spec.times


def good_answer() -> Reply:
    """The label "yes", as JSON."""
    return Reply(200, GOOD, tally=USAGE)
