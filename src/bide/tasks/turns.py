"""Letting in those who wait: free slots go to the smallest turns of the lines (`bide.tasks.waiting`)."""

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bide.db import Row, Tx
from bide.tasks.waiting import Gate, beyond, counted, first_of, kind_of, kinds_in, lock

AHEAD = 16
"""Tasks of one line that are read at once."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What may be given: gates, the preferred ones first, and how many may pass those that have a rate."""

    gates: tuple[Gate, ...]
    passes: dict[str, int]
    now_ms: int
    most: int


@dataclass(frozen=True, slots=True)
class Granted:
    """Ids of tasks that have a slot now; `more`: there may be slots and tasks left."""

    ids: list[str]
    more: bool


_HEADS = (
    "WITH RECURSIVE lines AS (SELECT min(waits_for) AS line FROM queue WHERE waits_for > $1 AND waits_for < $2"
    " UNION ALL SELECT (SELECT min(q.waits_for) FROM queue q WHERE q.waits_for > lines.line AND q.waits_for < $2)"
    " FROM lines WHERE lines.line IS NOT NULL)"
    " SELECT (SELECT h.task_id FROM queue h WHERE h.waits_for = lines.line ORDER BY h.turn, h.task_id LIMIT 1)"
    " FROM lines WHERE lines.line IS NOT NULL"
)
"""The first of each line of a kind. A kind has as many lines as applications wait."""
_REST = (
    "SELECT waits_for, turn, task_id, lease_id FROM queue WHERE waits_for = $1 AND (turn, task_id) > ($2, $3)"
    " ORDER BY turn, task_id LIMIT $4"
)


class _Merge:
    """Tasks of several lines in the order in which they are served: by turn; within one, callers who wait inline come
    first, then the oldest."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        self._heap: list[tuple[int, bool, str, str, list[Row]]] = []

    async def add(self, kind: str) -> None:
        heads = [row[0] for row in await self._tx.rows(_HEADS, first_of(kind), beyond(kind))]
        for row in await self._tx.rows(
            "SELECT waits_for, turn, task_id, lease_id FROM queue WHERE task_id = ANY($1) AND waits_for IS NOT NULL",
            heads,
        ):
            self._push(row, [])

    def _push(self, row: Row, rest: list[Row]) -> None:
        line, turn, task_id, lease_id = row
        heapq.heappush(self._heap, (turn, lease_id is None, task_id, line, rest))

    def next(self) -> tuple[str, str] | None:
        """Task id and line of the first. It stays there until `served` or `given_up`."""
        return (self._heap[0][2], self._heap[0][3]) if self._heap else None

    async def served(self) -> None:
        turn, _, task_id, line, rest = heapq.heappop(self._heap)
        rest = rest or list(reversed(await self._tx.rows(_REST, line, turn, task_id, AHEAD)))
        if rest:
            self._push(rest.pop(), rest)

    def given_up(self) -> None:
        """Nothing more can be done for the line of the first."""
        heapq.heappop(self._heap)


async def grant(tx: Tx, wanted: Grant) -> Granted:
    """Gives free slots to those who are first in line."""
    await lock(tx, sorted(gate.name for gate in wanted.gates if gate.bound))
    slots, passes = await counted(tx, wanted.gates), Counter(wanted.passes)
    kinds = await kinds_in(tx)
    merge, given = _Merge(tx), list[tuple[str, str]]()

    def open_for(kind: str) -> str | None:
        return next((
            gate.name for gate in wanted.gates
            if gate.name in kinds[kind] and slots.has_room(gate)
            and (gate.name not in wanted.passes or passes[gate.name] > 0)
        ), None)  # fmt: skip

    for kind in kinds:
        if open_for(kind) is not None:
            await merge.add(kind)
    while len(given) < wanted.most and (first := merge.next()) is not None:
        channel = open_for(kind_of(first[1]))
        if channel is None:
            merge.given_up()
            continue
        slots.open[channel] += 1
        passes[channel] -= 1
        given.append((first[0], channel))
        await merge.served()
    return Granted(await _give(tx, given, wanted.now_ms), len(given) == wanted.most)


async def _give(tx: Tx, given: Sequence[tuple[str, str]], now_ms: int) -> list[str]:
    """Rows that somebody is writing at this moment are left for the next time: nobody is waited for here."""
    if not given:
        return []
    rows = await tx.rows(
        "SELECT task_id FROM queue WHERE task_id = ANY($1) AND waits_for IS NOT NULL FOR UPDATE SKIP LOCKED",
        [task_id for task_id, _ in given],
    )
    free = {row[0] for row in rows}
    await tx.each(
        "UPDATE queue SET slot = $2, waits_for = NULL, due_at = CASE WHEN lease_id IS NULL THEN $3 ELSE due_at END"
        " WHERE task_id = $1",
        [(task_id, channel, now_ms) for task_id, channel in given if task_id in free],
    )
    tx.wake("tasks")
    return [task_id for task_id, _ in given if task_id in free]


async def look_again(tx: Tx, now_ms: int) -> None:
    """What waits and is in nobody's hands is due: the channels have changed, and it may stand in another line now."""
    await tx.run("UPDATE queue SET due_at = $1 WHERE waits_for IS NOT NULL AND lease_id IS NULL", now_ms)
