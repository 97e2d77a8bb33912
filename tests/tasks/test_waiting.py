"""Slots and lines in the database: what their queries cost, and the order in which a line is served."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bide.clock import Clock, uuid7
from bide.db import Database, Tx, connect, write_one
from bide.db.migrate import prepare
from bide.settings import Settings
from bide.tasks import turns, waiting
from bide.tasks.turns import Grant, Granted
from bide.tasks.waiting import Entry, Gate
from tests.tasks.test_search import plan

NOW = 1_764_000_000_000
ROWS = 3_000


async def add(tx: Tx, rows: list[tuple[str, int | None, str | None, str | None, int | None]]) -> None:
    """Rows of the queue: task id, lease id, slot, line, turn."""
    await tx.each(
        "INSERT INTO queue (task_id, state, due_at, lease_id, deadline_at, slot, waits_for, turn, kept_ms, price,"
        f" units, held, held_general) VALUES ($1, 'running', {NOW}, $2, {NOW}, $3, $4, $5, 0, 0, 0, 0, 0)", rows,
    )  # fmt: skip


async def open_database(settings: Settings) -> Database:
    db = await connect(settings)
    await prepare(db, Clock())
    return db


class Seen:
    """A transaction that remembers what it was asked."""

    def __init__(self, tx: Tx) -> None:
        self._tx, self.slot = tx, tx.slot
        self.asked: dict[str, list[object]] = {}

    async def rows(self, sql: str, *args: object) -> list[object]:
        self.asked[sql] = list(args)
        return await self._tx.rows(sql, *args)  # type: ignore[return-value]

    async def run(self, sql: str, *args: object) -> int:
        self.asked[sql] = list(args)
        return await self._tx.run(sql, *args)

    async def each(self, sql: str, items: list[tuple[object, ...]]) -> list[object]:
        if items and not sql.startswith("INSERT"):
            self.asked[sql] = list(items[0])
        return await self._tx.each(sql, items)  # type: ignore[return-value]

    def wake(self, name: str) -> None:
        self._tx.wake(name)


def test_nobody_reads_the_queue_from_one_end_to_the_other(on_both: Settings) -> None:
    """With thousands of open tasks, few of which have a slot or wait, each step finds its rows by an index."""

    async def inside() -> dict[str, str]:
        db = await open_database(on_both)
        line, other = waiting.line_of(["a", "b"], "app-1"), waiting.line_of(["b"], "app-2")
        ids = [uuid7(NOW + number, number) for number in range(ROWS)]
        rows = [(one, None, None, None, None) for one in ids[:-60]]
        held = [(one, None, "a", None, 0) for one in ids[-60:-40]]
        lines = [(one, 7, None, line if number % 2 else other, number) for number, one in enumerate(ids[-40:])]
        seen: dict[str, list[object]] = {}

        async def steps(tx: Tx) -> None:
            watched = Seen(tx)
            entry = Entry(ids[0], 1, NOW, (Gate("a", 1), Gate("b", 2)), line, NOW, 10)
            stays = Entry(ids[-1], 7, NOW, (Gate("c", 1),), other, None, 10)
            takes = Entry(ids[1], 1, NOW, (Gate("c", 1),), "", None, 10)
            await waiting.enter(watched, [entry, stays, takes])  # type: ignore[arg-type]
            await waiting.use(watched, [(ids[0], 1, "a", NOW)])  # type: ignore[arg-type]
            await turns.grant(watched, Grant((Gate("a", 100), Gate("b", 3)), {}, NOW, 20))  # type: ignore[arg-type]
            await turns.look_again(watched, NOW)  # type: ignore[arg-type]
            seen.update(watched.asked)

        try:
            await write_one(db, lambda tx: add(tx, [*rows, *held, *lines]))
            if db.dialect == "postgres":
                await db.rows("ANALYZE queue")
            await write_one(db, steps)
            seen[waiting._COUNT] = [["a", "b"]]
            return {sql: await plan(db, sql, args) for sql, args in seen.items() if "channel_locks" not in sql}
        finally:
            await db.close()

    found = asyncio.run(inside())
    assert len(found) >= 10
    for sql, steps in found.items():
        for name in ("queue", "q", "h"):
            assert f"SCAN {name}\n" not in f"{steps}\n", (sql, steps)
        assert "Seq Scan on queue" not in steps, (sql, steps)


def served_in_order(settings: Settings, lines: dict[str, list[str]], each: int) -> list[str]:
    """Puts tasks of some applications in line for one channel, and answers in which order they get its slots."""

    async def inside() -> list[str]:
        db, order = await open_database(settings), list[str]()
        try:
            await write_one(db, lambda tx: add(tx, [
                (task_id, 1, None, None, None) for tasks in lines.values() for task_id in tasks
            ]))  # fmt: skip
            for application, tasks in lines.items():
                line = waiting.line_of(["a"], application)
                entries = [Entry(one, 1, NOW, (), line, NOW, 10_000) for one in tasks]
                await write_one(db, lambda tx, entries=entries: waiting.enter(tx, entries))  # type: ignore[misc]
            while ids := (await write_one(db, lambda tx: _granted(tx, each))).ids:
                order += ids
            return order
        finally:
            await db.close()

    async def _granted(tx: Tx, most: int) -> Granted:
        granted = await turns.grant(tx, Grant((Gate("a", 0),), {}, NOW, most))
        return Granted(sorted(granted.ids, key=_turn_of), granted.more)

    def _turn_of(task_id: str) -> tuple[int, str]:
        return next((tasks.index(task_id), task_id) for tasks in lines.values() if task_id in tasks)

    return asyncio.run(inside())


def test_a_small_application_is_served_in_the_round_in_which_it_came(on_both: Settings) -> None:
    greedy = [uuid7(NOW + number, 1) for number in range(1_000)]
    small = [uuid7(NOW + 5_000 + number, 2) for number in range(3)]
    order = served_in_order(on_both, {"greedy": greedy, "small": small}, 7)
    assert sorted(order) == sorted([*greedy, *small])
    assert [order.index(one) for one in small] == [1, 3, 5]


@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(1, 9))
def test_while_two_applications_wait_neither_is_served_twice_more_than_the_other(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], each: int
) -> None:
    lines = {
        f"app-{at}": [uuid7(NOW + 100 * at + number, at) for number in range(size)] for at, size in enumerate(sizes)
    }
    settings = Settings(data_dir=str(tmp_path_factory.mktemp("fair")))
    order = served_in_order(settings, lines, each)
    of = {task_id: name for name, tasks in lines.items() for task_id in tasks}
    left, served = Counter({name: len(tasks) for name, tasks in lines.items()}), Counter[str]()
    for task_id in order:
        served[of[task_id]] += 1
        left[of[task_id]] -= 1
        still = [served[name] for name in lines if left[name]]
        assert not still or max(still) - min(still) <= 1
    assert not +left


def test_the_name_of_a_line_tells_channels_and_application_apart_whatever_they_are_called() -> None:
    strange = ['a"b', "a\nb", "ü,1"]
    line = waiting.line_of(strange, "app\n1")
    assert waiting.channels_of(waiting.kind_of(line)) == frozenset(strange)
    assert waiting.line_of(reversed(strange), "app\n1") == line


def test_the_name_of_a_line_stays_short_enough_for_an_index() -> None:
    line = waiting.line_of([f"{number:03}{'ü' * 61}" for number in range(100)], "application")
    assert len(line.encode()) < 2_000
    assert waiting.channels_of(waiting.kind_of(line))
