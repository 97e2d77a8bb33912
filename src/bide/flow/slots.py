"""slots: a place at a channel before its attempt is opened, and the line of those that find none.

    choose ──▶ has the channel a bound or a rate? ── no ──▶ open the attempt
                   │ yes
                   ├─ a slot is free, and nobody waits for it ──▶ take it and open the attempt: one transaction
                   ├─ another channel that could do it has room ──▶ that one
                   └─ else join the line ──▶ `HandOut` gives a slot to the first ──▶ open the attempt with it

Who waits in line is parked, unless its caller waits in this process. It stands there until it has its turn, is
cancelled, or has waited too long. `bide.tasks.waiting` has the rules of slots and turns.
"""

import asyncio
from dataclasses import replace
from functools import partial

from bide import metrics
from bide.channels.load import Channel
from bide.db import write_one
from bide.flow.leased import LeaseLost, persistently, written
from bide.flow.running import Run
from bide.gateway import Gateway
from bide.providers.base import Failed, Outcome, Unknown
from bide.rates import rate
from bide.tasks import handed, store, turns, waiting
from bide.tasks.store import Work
from bide.tasks.turns import Grant
from bide.tasks.waiting import Entry, Gate, Joined, Refused, Taken

LOOK_S = 0.25
"""How often a caller that waits in this process looks whether it was given a slot elsewhere."""
FULL_S = 0.5
"""How long a channel that had no slot is taken to be full."""
GRANTS_MAX = 200
"""Slots that are given in one pass."""

LEFT_MIN_S = 0.5
"""With less time than this a submission could only be paid for nothing."""

OVERDUE = Failed("timeout", "The task did not end in the time it may take.")
ABSENT = "No channel of this gateway offers {}."
GONE = Failed("timeout", "It is not known what became of the task, and the channel that was asked is gone.")
LINE_FULL = Failed("too_many_requests", "Too many tasks wait for a channel that can do this: try again later.")
TOO_LONG = Failed("timeout", "No channel had room for the task in the time it may wait.")


async def opened(run: Run) -> Channel | Failed | None:
    """Chooses a channel and opens an attempt there. None: there is no room, and the task was given back until its
    turn comes. Raises `LeaseLost`."""
    while True:
        if run.work.waits_for is not None and waits_until(run) <= run.gateway.clock.now_ms():
            metrics.waits("too_long")
            return TOO_LONG
        if run.left_s < LEFT_MIN_S:
            return OVERDUE
        if run.work.slot is not None and (channel := await _with_slot(run)) is not None:
            return channel
        first = run.choose()
        if first is None and run.again is not None:
            return GONE
        if first is None:
            return Failed("api_not_implemented", ABSENT.format(run.capability))
        if not first.gated or run.gateway.leaves(first):
            return await _open(run, first)
        answer = await _enter(run)
        if answer is not None or run.watch is None:
            return answer
        await _turn(run)


# -- opening an attempt


async def _open(run: Run, channel: Channel) -> Channel:
    """At a channel that needs no slot."""
    await _leave(run, channel)
    work, now = run.work, run.gateway.clock.now_ms()
    number = await written(run.gateway, store.open_attempts, (work.task.id, work.lease_id, channel.name, now))
    return _is_open(run, channel, number or 0, now, slot=None)


async def _with_slot(run: Run) -> Channel | None:
    """At the channel of which it was given a slot; None if that is no more a channel it should ask."""
    work, now = run.work, run.gateway.clock.now_ms()
    channel = next((one for one in run.choices() if one.name == work.slot), None)
    if channel is None:
        return None
    await _leave(run, channel)
    number = await written(run.gateway, waiting.use, (work.task.id, work.lease_id, channel.name, now))
    return _is_open(run, channel, number or 0, now, slot=channel.name)


async def _leave(run: Run, channel: Channel) -> None:
    """Hands the task over if the channel is to be asked by another process. Raises `LeaseLost`: it is out of our
    hands then, and a caller that waits here hears of its end."""
    gateway, work = run.gateway, run.work
    if gateway.leaves(channel):
        due_at, slot = (work.deadline_at, channel.name) if channel.apart else (gateway.clock.now_ms(), None)
        await written(gateway, handed.hand_over, (work.task.id, work.lease_id, due_at, slot))
        raise LeaseLost


def _is_open(run: Run, channel: Channel, number: int, now: int, *, slot: str | None) -> Channel:
    run.work = replace(
        run.work, channel=channel.name, upstream_id=None, asked_at=now, attempts=number, slot=slot, waits_for=None
    )
    return channel


# -- coming in


async def _enter(run: Run) -> Channel | Failed | None:
    """At the first of its channels that has room. None: it stands in line."""
    gateway, work, choices = run.gateway, run.work, run.choices()
    gates, free = await _gates(gateway, choices)
    if free is not None and not gates:
        return await _open(run, free)
    now = gateway.clock.now_ms()
    line = "" if free is not None else _line(run, choices)
    entry = Entry(
        work.task.id, work.lease_id, now, gates, line, None if run.watch is not None else waits_until(run),
        gateway.settings.queue_depth_max, work.turn if work.waits_for is not None or work.slot is not None else None,
    )  # fmt: skip
    answer = await persistently(gateway, partial(gateway.entries.write, entry))
    taken = answer.channel if isinstance(answer, Taken) else None
    for channel in choices:
        if channel.name == taken:
            return _is_open(run, channel, answer.attempts, now, slot=taken)
        if channel.gated:
            channel.full_until = gateway.clock.monotonic() + FULL_S
    match answer:
        case Joined():
            _joined(run, line, answer.turn)
            return None
        case Refused(full=True):
            metrics.waits("full")
            return LINE_FULL
        case Refused() if free is not None:
            return await _open(run, free)
    raise LeaseLost


async def _gates(gateway: Gateway, choices: list[Channel]) -> tuple[tuple[Gate, ...], Channel | None]:
    """Where to ask for a slot, in order, and the first channel that needs none. A pass of a channel's rate is taken
    for one at most, and for none where others wait already: those come first."""
    gates: list[Gate] = []
    for channel in choices:
        if not channel.gated:
            return tuple(gates), channel
        if channel.settings.rate_per_minute and (
            channel.full_until > gateway.clock.monotonic() or not await _may_pass(gateway, channel)
        ):
            continue
        gates.append(gate_of(channel))
        if channel.settings.rate_per_minute:
            break
    return tuple(gates), None


def gate_of(channel: Channel) -> Gate:
    return Gate(channel.name, channel.settings.concurrency)


async def _may_pass(gateway: Gateway, channel: Channel) -> bool:
    """Takes a pass of a channel's rate, if there is one now."""
    wait_s = await gateway.rates.take(f"c/{channel.name}", rate(channel.settings.rate_per_minute / 60))
    if wait_s > 0:
        gateway.slots_free.after(wait_s)
    return wait_s <= 0


# -- waiting


def waits_until(run: Run) -> int:
    """When a task has waited for too long: counted from its acceptance, or from the end of its last attempt."""
    since = run.work.task.created_at if run.free_since is None else run.free_since
    return min(run.work.deadline_at, since + int(run.gateway.settings.queue_age_s * 1000))


def _line(run: Run, choices: list[Channel]) -> str:
    preferred = sorted(choices, key=lambda one: (-one.settings.priority, one.name))  # the same in every process
    return waiting.line_of((one.name for one in preferred), run.work.task.application_id)


def _joined(run: Run, line: str, turn: int) -> None:
    gateway = run.gateway
    metrics.waits("joined")
    run.work = replace(run.work, slot=None, waits_for=line, turn=turn)
    gateway.slots_free.now()
    if run.watch is None:
        gateway.tasks_due.after((waits_until(run) - gateway.clock.now_ms()) / 1000)


async def _turn(run: Run) -> None:
    """Waits here for a slot, or until there is another reason to look. Raises `LeaseLost` when the task is no longer
    this process's."""
    gateway, work, loop = run.gateway, run.work, asyncio.get_running_loop()
    line = work.waits_for
    while waits_until(run) > gateway.clock.now_ms() and line == _line(run, run.choices()):
        # All that wait look at the same moment: their lookups go out as one.
        await gateway.turns.wait(work.task.id, LOOK_S - loop.time() % LOOK_S)
        row = await waiting.standing(gateway.db, work.task.id)
        if row is None or row.lease_id != work.lease_id:
            raise LeaseLost
        if row.slot is not None or row.waits_for is None:
            run.work = replace(work, slot=row.slot, waits_for=row.waits_for)
            return


# -- being let in


class HandOut:
    """Gives slots that are free to those who are first in line: a worker's loop."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._known: tuple[object, ...] | None = None

    async def once(self) -> bool:
        """One pass. True when there may be more to give at once."""
        gateway, channels = self._gateway, self._gateway.channels.taking
        await self._look_at(channels)
        kinds = await waiting.kinds(gateway.db)
        awaited = frozenset[str]().union(*(waiting.channels_of(kind) for kind in kinds))
        until = gateway.clock.monotonic() + FULL_S
        for channel in channels:
            if channel.name in awaited:
                channel.full_until = until
        wanted = [channel for channel in channels if channel.name in awaited]
        gates, passes = await self._free(wanted)
        if not gates:
            return False
        grant = Grant(gates, passes, gateway.clock.now_ms(), GRANTS_MAX)
        granted = await write_one(gateway.db, lambda tx: turns.grant(tx, grant))
        metrics.waits("granted", len(granted.ids))
        for task_id in granted.ids:
            gateway.turns.tell(task_id)
        return granted.more

    async def _look_at(self, channels: tuple[Channel, ...]) -> None:
        """When the channels have changed, what waits may stand in the wrong line."""
        now = tuple(
            (one.name, one.capabilities, one.settings.models, one.applications, one.gated) for one in channels
        )
        if now != self._known:
            at = self._gateway.clock.now_ms()
            await write_one(self._gateway.db, lambda tx: turns.look_again(tx, at))
            self._gateway.tasks_due.now()
            self._known = now

    async def _free(self, channels: list[Channel]) -> tuple[tuple[Gate, ...], dict[str, int]]:
        """The gates where somebody may be let in, the preferred first, and the passes that were taken of rates."""
        gateway, now = self._gateway, self._gateway.clock.monotonic()
        bounded = [one.name for one in channels if one.settings.concurrency]
        taken = await waiting.taken(gateway.db, bounded)
        gates: list[Gate] = []
        passes: dict[str, int] = {}
        for one in sorted(channels, key=lambda one: (one.health.resting(now), -one.settings.priority,
                                                     one.settings.cost, -one.settings.weight)):  # fmt: skip
            room = one.settings.concurrency - taken.get(one.name, 0) if one.settings.concurrency else GRANTS_MAX
            if room <= 0:
                continue
            if one.settings.rate_per_minute:
                passes[one.name] = await self._passes(one, room)
                if not passes[one.name]:
                    continue
            gates.append(gate_of(one))
        return tuple(gates), passes

    async def _passes(self, channel: Channel, most: int) -> int:
        for number in range(most):
            if not await _may_pass(self._gateway, channel):
                return number
        return most


# -- what is learned of the channel


def asked(run: Run, channel: Channel) -> None:
    """Before a submission."""
    channel.health.asked(run.model, run.gateway.clock.monotonic(), channel.settings.timeout_s)


def answered(run: Run, channel: Channel, outcome: Outcome) -> None:
    """After a submission: a success, or a refusal that is the request's own fault, says that the channel is well."""
    if isinstance(outcome, Unknown):
        channel.health.unanswered(run.model, run.gateway.clock.monotonic())
    elif not isinstance(outcome, Failed) or outcome.scope == "task":
        if not channel.health.not_closed:
            return
        channel.health.worked(run.model)
    else:
        return  # see `failed`, which also hears of polls
    metrics.circuits(channel.name, channel.health.not_closed)


def failed(run: Run, channel: Channel, cool_s: float) -> None:
    """The channel failed by its own fault, when it was asked or polled."""
    channel.health.failed(run.model, run.gateway.clock.monotonic(), cool_s)
    metrics.circuits(channel.name, channel.health.not_closed)


def given_back(gateway: Gateway, work: Work) -> None:
    """An attempt is over, or a task that stood in line or was given a slot."""
    if work.slot is not None or work.waits_for is not None:
        gateway.slots_free.now()
