"""The state of a shared key as a few bytes: how a store keeps a `Common` from one step to the next."""

from __future__ import annotations

import struct
from array import array
from dataclasses import astuple, fields

from llmlab.limits.common import Common, Limits, Member, Outcome, Request
from llmlab.limits.refusals import Refusals
from llmlab.limits.schedule import Schedule

FORMAT = 1
GRAINS_PER_PERIOD = 400
CLOCK_WENT_BACK_S = 5.0

HEAD = struct.Struct("<B8sqqddddIqd")
REFUSALS = struct.Struct("<" + "d" * len(fields(Refusals)))
LENGTHS = struct.Struct("<II")
MEMBER = struct.Struct("<8sdddq")


def step(state: bytes, request: Request, now: float) -> tuple[bytes, Outcome]:
    """What a store does in one atomic step: the state after it, and what the process takes from it."""
    common = load(state, request.limits, now)
    outcome = common.advance(request, now)
    return dumps(common), outcome


def dumps(common: Common) -> bytes:
    """The state without the limits, which are each process's own."""
    schedule = common.schedule
    leaves_at, requests, tokens = schedule.window.entries()
    parts = [
        HEAD.pack(
            FORMAT,
            common.generation,
            common.turns,
            schedule.booked,
            common.last,
            schedule.paused_until,
            # The last grant, rather than the next one: each process adds the interval of its own limit.
            schedule.requests.tat - common.interval_s(),
            schedule.tokens.tat,
            schedule.window.requests,
            schedule.returnable,
            schedule.window.tokens,
        ),
        REFUSALS.pack(*astuple(schedule.refusals)),
        LENGTHS.pack(len(common.members), len(leaves_at)),
    ]
    for name, member in common.members.items():
        parts.append(MEMBER.pack(name, member.seen_at, member.since, member.until, member.served))
    parts += [leaves_at.tobytes(), requests.tobytes(), tokens.tobytes()]
    return b"".join(parts)


def load(state: bytes, limits: Limits, now: float) -> Common:
    """The state behind `dumps`; a new one if there is none, or if its clock was another one."""
    schedule = Schedule(
        limits.requests,
        period_s=limits.period_s,
        tokens=limits.tokens,
        burst=limits.burst,
        margin_s=limits.margin_s,
        grain_s=limits.period_s / GRAINS_PER_PERIOD,
    )
    common = Common(schedule)
    if not state or state[0] != FORMAT:
        return common
    head = HEAD.unpack_from(state)
    _, generation, turns, booked, last, paused_until, granted_at, tokens_tat, requests, returnable, tokens = head
    if last > now + CLOCK_WENT_BACK_S:
        return common
    common.generation, common.turns, common.last = generation, turns, last
    schedule.refusals = Refusals(*REFUSALS.unpack_from(state, HEAD.size))
    members, entries = LENGTHS.unpack_from(state, HEAD.size + REFUSALS.size)
    at = HEAD.size + REFUSALS.size + LENGTHS.size
    for name, *numbers in MEMBER.iter_unpack(state[at : at + members * MEMBER.size]):
        common.members[name] = Member(*numbers)
    at += members * MEMBER.size
    columns = array("d"), array("I"), array("d")
    for column in columns:
        size = column.itemsize * entries
        column.frombytes(state[at : at + size])
        at += size
    schedule.window.restore(*columns, requests, tokens)
    schedule.booked, schedule.returnable, schedule.paused_until = booked, returnable, paused_until
    schedule.requests.tat = granted_at + common.interval_s()
    schedule.tokens.tat = tokens_tat
    return common
