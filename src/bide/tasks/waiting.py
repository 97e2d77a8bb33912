"""Slots of channels and the lines before them: the columns `slot`, `waits_for` and `turn` of the table `queue`.

A task that is, or is about to be, worked on at a channel with a bound or a rate has `slot`, the channel's name. It is
set in the transaction that opens the attempt, or by `bide.tasks.turns`, and goes with the attempt or with the row:
who dies gives back what it held when its task ends. Whoever counts the slots of a channel has locked its row in
`channel_locks`, so there are never more than the bound, on whatever number of nodes.

A task that found no room stands in a line, `waits_for`: the channels that could do it, and its application. Its
`turn` is that of start-time fair queueing (Goyal, Vin, Cheng 1996) with equal shares: one more than the last of its
line, but not before the turn that is being served. So applications take turns, however much one of them brings, and
who comes new is served in the round that is going on. The turn stays on the row that is served: it is the clock.

`enter`, and `bide.tasks.turns.grant`, must have a transaction of their own (`bide.db.apart`), since they lock more
than their own rows.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import msgspec

from bide.clock import time_of
from bide.db import Database, Row, Tx

KIND_BYTES_MAX = 1_500
"""Of the names of the channels in a line's name: it stands in an index, whose entries must not be large."""


@dataclass(frozen=True, slots=True)
class Gate:
    """A channel one may be let in at: `bound` slots in all (0: any number)."""

    name: str
    bound: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A task that asks for a slot of one of some channels, the first that has one.

    `line`: where it stands if there is none; empty: nowhere, it is done elsewhere then. `until_ms`: when it has
    waited for too long; None: its caller waits in this process, which keeps the lease and the time. `turn`: the one
    that it has already.
    """

    task_id: str
    lease_id: int
    now_ms: int
    gates: tuple[Gate, ...]
    line: str
    until_ms: int | None
    depth_max: int
    turn: int | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """It has a slot of the channel, and its attempt with this number is open."""

    channel: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Joined:
    """It stands in its line."""

    turn: int


@dataclass(frozen=True, slots=True)
class Refused:
    """There is no slot; `full`: nor room in the line."""

    full: bool


Answer = Taken | Joined | Refused | None
"""None: the lease is another worker's by now."""


# -- lines


def line_of(channels: Iterable[str], application_id: str) -> str:
    """Where a task of an application stands that these channels could do, the first of them if they are many."""
    names: list[str] = []
    for name in channels:
        if len(msgspec.json.encode([*names, name])) > KIND_BYTES_MAX:
            break
        names.append(name)
    return f"{msgspec.json.encode(sorted(names)).decode()}\n{application_id}"


def kind_of(line: str) -> str:
    """What lines of several applications have in common: the channels."""
    return line.partition("\n")[0]


@lru_cache(1_000)
def channels_of(kind: str) -> frozenset[str]:
    return msgspec.json.decode(kind, type=frozenset[str])


def first_of(kind: str) -> str:
    return f"{kind}\n"


def beyond(kind: str) -> str:
    """After every line of a kind, before every other kind's: the character after the one that separates."""
    return f"{kind}\x0b"


_NEXT_KIND = "SELECT min(waits_for) FROM queue WHERE waits_for > $1"


async def kinds(db: Database) -> list[str]:
    """For what somebody waits. One lookup for each, and one more."""
    found: list[str] = []
    while (row := await db.row(_NEXT_KIND, beyond(found[-1]) if found else "")) is not None and row[0] is not None:
        found.append(kind_of(row[0]))
    return found


async def kinds_in(tx: Tx) -> dict[str, frozenset[str]]:
    found: list[str] = []
    while (rows := await tx.rows(_NEXT_KIND, beyond(found[-1]) if found else "")) and rows[0][0] is not None:
        found.append(kind_of(rows[0][0]))
    return {kind: channels_of(kind) for kind in found}


# -- slots

_COUNT = "SELECT slot, count(*), max(turn) FROM queue WHERE slot = ANY($1) GROUP BY slot"


async def taken(db: Database, names: list[str]) -> dict[str, int]:
    """How many slots of some channels are taken."""
    return {row[0]: row[1] for row in await db.rows(_COUNT, names)} if names else {}


async def lock(tx: Tx, names: list[str]) -> None:
    """Locks channels, in one order."""
    sql = "SELECT name FROM channel_locks WHERE name = ANY($1) ORDER BY name FOR NO KEY UPDATE"
    there = {row[0] for row in await tx.rows(sql, names)}
    missing = [name for name in names if name not in there]
    if missing:
        await tx.each("INSERT INTO channel_locks (name) VALUES ($1) ON CONFLICT (name) DO NOTHING",
                      [(name,) for name in missing])  # fmt: skip
        await tx.rows(sql, names)


class Counted:
    """What is taken of some locked channels, and which turn is served there."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.open = Counter({row[0]: row[1] for row in rows})
        self.turns: dict[str, int] = {row[0]: row[2] for row in rows if row[2] is not None}

    def has_room(self, gate: Gate) -> bool:
        return not gate.bound or self.open[gate.name] < gate.bound

    def take(self, name: str, turn: int) -> None:
        self.open[name] += 1
        self.turns[name] = max(turn, self.turns.get(name, turn))

    def served(self, names: Collection[str]) -> int | None:
        """The turn that is being served by some channels; None: nothing is."""
        return max((self.turns[name] for name in names if name in self.turns), default=None)


async def counted(tx: Tx, gates: Iterable[Gate]) -> Counted:
    bounded = sorted({gate.name for gate in gates if gate.bound})
    return Counted(await tx.rows(_COUNT, bounded) if bounded else [])


# -- coming in


@dataclass(slots=True)
class _Line:
    """A line as it is in this transaction."""

    last: int | None
    depth: int


class _Entrance:
    """Some entries that are decided on together."""

    def __init__(self, tx: Tx, counted: Counted, waiting: dict[str, frozenset[str]]) -> None:
        self._tx, self._counted, self._waiting = tx, counted, waiting
        self._awaited = {name for channels in waiting.values() for name in channels}
        self._lines: dict[str, _Line] = {}
        self.takes: list[tuple[str, int, str, int, int]] = []
        """Task id, lease id, channel, time, turn."""
        self.joins: list[tuple[Entry, int]] = []

    async def decide(self, entry: Entry) -> Refused | None:
        """Nobody overtakes those who wait for the same channel."""
        for gate in entry.gates:
            if gate.name not in self._awaited and self._counted.has_room(gate):
                turn = entry.turn if entry.turn is not None else self._counted.served([gate.name]) or 0
                self._counted.take(gate.name, turn)
                self.takes.append((entry.task_id, entry.lease_id, gate.name, entry.now_ms, turn))
                return None
        if not entry.line:
            return Refused(full=False)
        line = await self._line(entry.line, entry.depth_max)
        if line.depth >= entry.depth_max and entry.turn is None:
            return Refused(full=True)
        turn = entry.turn if entry.turn is not None else await self._next_turn(entry.line, line)
        line.depth, line.last = line.depth + 1, max(turn, line.last or 0)
        kind = kind_of(entry.line)
        self._waiting[kind] = channels_of(kind)
        self._awaited |= self._waiting[kind]
        self.joins.append((entry, turn))
        return None

    async def _line(self, name: str, depth_max: int) -> _Line:
        if name not in self._lines:
            last = await self._tx.rows("SELECT max(turn) FROM queue WHERE waits_for = $1", name)
            depth = await self._tx.rows(
                "SELECT count(*) FROM (SELECT 1 FROM queue WHERE waits_for = $1 LIMIT $2) AS there", name, depth_max
            )
            self._lines[name] = _Line(last[0][0], depth[0][0])
        return self._lines[name]

    async def _next_turn(self, name: str, line: _Line) -> int:
        kind = kind_of(name)
        served = self._counted.served(channels_of(kind))
        if served is None and kind in self._waiting:  # nothing is served at this moment: the next will be the first
            rows = await self._tx.rows("SELECT min(turn) FROM queue WHERE waits_for > $1 AND waits_for < $2",
                                       first_of(kind), beyond(kind))  # fmt: skip
            served = rows[0][0]
        return max(served or 0, -1 if line.last is None else line.last + 1)


async def enter(tx: Tx, entries: Sequence[Entry]) -> list[Answer]:
    """Gives each a slot or a place in its line, the oldest first."""
    gates = {gate.name: gate for entry in entries for gate in entry.gates}
    for entry in entries:
        for name in channels_of(kind_of(entry.line)) if entry.line else ():
            gates.setdefault(name, Gate(name, 1))  # counted for the turn it serves
    await lock(tx, sorted(gates))
    entrance = _Entrance(tx, await counted(tx, gates.values()), await kinds_in(tx))
    by_age = sorted(entries, key=lambda one: time_of(one.task_id))
    refused = {one.task_id: await entrance.decide(one) for one in by_age}
    numbers = await _take(tx, entrance.takes)
    await _join(tx, entrance.joins)
    there = await _leased(tx, [entry for entry, _ in entrance.joins])
    chosen = {item[0]: item[2] for item in entrance.takes}
    turns = {entry.task_id: turn for entry, turn in entrance.joins if entry.task_id in there}
    answers: list[Answer] = []
    for entry in entries:
        if (no := refused[entry.task_id]) is not None:
            answers.append(no)
        elif entry.task_id in chosen:
            number = numbers.get((entry.task_id, entry.lease_id))
            answers.append(None if number is None else Taken(chosen[entry.task_id], number))
        else:
            answers.append(Joined(turns[entry.task_id]) if entry.task_id in turns else None)
    return answers


async def _take(tx: Tx, takes: Sequence[tuple[str, int, str, int, int]]) -> dict[tuple[str, int], int]:
    """Opens attempts; answers their numbers."""
    rows = await tx.each(
        "UPDATE queue SET attempts = attempts + 1, channel = $3, slot = $3, waits_for = NULL, turn = $5,"
        " upstream_id = NULL, asked_at = $4 WHERE task_id = $1 AND lease_id = $2"
        " RETURNING task_id, lease_id, attempts", takes,
    )  # fmt: skip
    return {(row[0], row[1]): row[2] for row in rows}


_WHO = "WHERE task_id = $1 AND lease_id = $2"


async def _leased(tx: Tx, entries: Sequence[Entry]) -> set[str]:
    """Those of some entries whose rows stand in their lines as the entries said."""
    if not entries:
        return set()
    rows = await tx.rows("SELECT task_id, lease_id, waits_for FROM queue WHERE task_id = ANY($1)",
                         [entry.task_id for entry in entries])  # fmt: skip
    found = {row[0]: (row[1], row[2]) for row in rows}
    return {
        one.task_id for one in entries
        if found.get(one.task_id) == (None if one.until_ms is not None else one.lease_id, one.line)
    }  # fmt: skip


async def _join(tx: Tx, joins: Sequence[tuple[Entry, int]]) -> None:
    stays = [(one.task_id, one.lease_id, one.line, turn) for one, turn in joins if one.until_ms is None]
    parked = [(one.task_id, one.lease_id, one.line, turn, one.until_ms) for one, turn in joins
              if one.until_ms is not None]  # fmt: skip
    await tx.each(f"UPDATE queue SET waits_for = $3, turn = $4, slot = NULL {_WHO}", stays)
    await tx.each(
        f"UPDATE queue SET waits_for = $3, turn = $4, slot = NULL, due_at = $5, lease_id = NULL {_WHO}", parked
    )


async def use(tx: Tx, items: Sequence[tuple[str, int, str, int]]) -> list[int | None]:
    """Opens attempts with slots that were granted: task id, lease id, channel, time. Answers their numbers; None to a
    worker whose lease is another's by now. May be batched with anything: it counts nothing."""
    rows = await tx.each(
        "UPDATE queue SET attempts = attempts + 1, channel = $3, waits_for = NULL, upstream_id = NULL, asked_at = $4"
        f" {_WHO} AND slot = $3 RETURNING task_id, lease_id, attempts", items,
    )  # fmt: skip
    numbers = {(row[0], row[1]): row[2] for row in rows}
    return [numbers.get(item[:2]) for item in items]


# -- looking


@dataclass(frozen=True, slots=True)
class Standing:
    """A waiting task's row."""

    lease_id: int | None
    slot: str | None
    waits_for: str | None


async def standing(db: Database, task_id: str) -> Standing | None:
    """None: the task has ended."""
    row = await db.load("SELECT task_id, lease_id, slot, waits_for FROM queue WHERE task_id = ANY($1)", task_id)
    return None if row is None else Standing(*row[1:])
