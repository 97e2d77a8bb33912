"""What a large table costs: the same statements with 1,000 and with 1,000,000 finished tasks beside them."""

import statistics
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from bench.row import Row
from bide import db as database
from bide.clock import Clock, uuid7
from bide.db import Database, Tx, write_one
from bide.db.migrate import prepare
from bide.settings import Settings
from bide.tasks import purge, search, store
from bide.tasks.search import Filter
from bide.tasks.store import Claim, Lease, NewTask, Task, Terms

FEW, MANY = 1_000, 1_000_000
WARM_UP, ROUNDS = 50, 300
BEGAN = Clock().now_ms() - 10 * MANY
OWNER = ("user", "application", "credential")

_NUMBERS = {
    "sqlite": "WITH RECURSIVE numbers (n) AS (SELECT $1 UNION ALL SELECT n + 1 FROM numbers WHERE n < $2)",
    "postgres": "WITH numbers AS (SELECT generate_series($1::bigint, $2::bigint) AS n)",
}
_ID = {
    "sqlite": "printf('%08x-%04x-7000-8000-%012x', ($3 + n) >> 16, ($3 + n) & 65535, n)",
    "postgres": "lpad(to_hex(($3::bigint + n) >> 16), 8, '0') || '-' || "
    "lpad(to_hex(($3::bigint + n) & 65535), 4, '0') || '-7000-8000-' || lpad(to_hex(n), 12, '0')",
}


async def measure(work: Path, postgres: list[str]) -> list[Row]:
    rows = []
    for name, urls in (("SQLite", ["", ""]), ("PostgreSQL", postgres)):
        few, many = [
            await _filled(Settings(data_dir=str(work / f"rows-{name}-{count}"), database_url=url), count)
            for url, count in zip(urls, (FEW, MANY), strict=True)
        ]
        try:
            rows += await _compare(name, few, many)
        finally:
            await few.close()
            await many.close()
    return rows


async def _filled(settings: Settings, count: int) -> Database:
    db = await database.connect(settings)
    await prepare(db, Clock())
    await _fill(db, 1, count, BEGAN)
    return db


async def _compare(name: str, few: Database, many: Database) -> list[Row]:
    """Each statement on both in turn, so that a machine whose speed drifts slows both alike."""
    rows = []
    for what, once in _STATEMENTS.items():
        seconds: tuple[list[float], list[float]] = ([], [])
        for number in range(WARM_UP + ROUNDS):
            for db, times in zip((few, many), seconds, strict=True):
                began = time.perf_counter()
                await once(db, number)
                if number >= WARM_UP:
                    times.append(time.perf_counter() - began)
        less, more = (statistics.median(times) * 1e6 for times in seconds)
        rows.append(Row(f"{what}, {name}, 1,000,000 tasks", more, "µs", "≤ 1.3 × of 1,000", more <= 1.3 * less,
                        f"{less:,.0f} µs with 1,000", more / less))  # fmt: skip
    return rows


async def _fill(db: Database, first: int, last: int, began: int) -> None:
    """Finished tasks of one user, in the order of their time, in blocks."""
    block = 100_000
    for start in range(first, last + 1, block):
        end = min(start + block - 1, last)
        await write_one(db, partial(_insert, dialect=db.dialect, start=start, end=end, began=began))
    analyze = {"sqlite": "ANALYZE", "postgres": "ANALYZE tasks, endings, queue, task_counts"}
    await write_one(db, lambda tx: tx.run(analyze[db.dialect]))


async def _insert(tx: Tx, *, dialect: str, start: int, end: int, began: int) -> None:
    numbers, task_id = _NUMBERS[dialect], _ID[dialect]
    at = "$3::bigint + n" if dialect == "postgres" else "$3 + n"
    await tx.run(
        "INSERT INTO tasks (id, service, operation, type, user_id, application_id, credential_id, trace_id, visible,"
        f" created_at, base_url, request) {numbers} SELECT {task_id}, 'openai', 'images/generations',"
        f" 'images_generations', 'user', 'application', 'credential', 'trace-' || n, 1, {at}, 'http://x', $4"
        " FROM numbers", start, end, began, b'{"prompt":"a boat"}',
    )  # fmt: skip
    await tx.run(
        f"INSERT INTO endings (task_id, state, started_at, finished_at, expires_at, b64, response) {numbers}"
        f" SELECT {task_id}, 'succeeded', {at}, {at}, {at} + 2592000000, 0, $4 FROM numbers", start, end, began,
        b'{"success":true,"data":[{"url":"http://x/files/y.png"}]}',
    )  # fmt: skip
    await tx.run(
        "INSERT INTO task_counts (user_id, service, type, application_id, slot, n) VALUES ('user', 'openai',"
        " 'images_generations', 'application', 0, $1) ON CONFLICT (user_id, service, type, application_id, slot)"
        " DO UPDATE SET n = task_counts.n + excluded.n", end - start + 1,
    )  # fmt: skip


_ALL = Filter("user", "openai")
_TYPED = Filter("user", "openai", types=("images_generations", "images_edits"))
_APPLICATION = Filter("user", "openai", application_id="application")


async def _claim(db: Database, _: int) -> None:
    """A task is inserted, claimed and taken out again: three commits."""
    clock = Clock()
    now, task = clock.now_ms(), _task(clock)
    await db.write(store.insert, NewTask(task, now + 1000, Terms(kept_ms=1000)))
    claimed = await db.write(store.claim, Claim(now + 1, 10, Lease(clock.lease_id(), now + 1000)))
    assert [one.task.id for one in claimed] == [task.id]
    await write_one(db, lambda tx: _forget(tx, task.id))


async def _retrieve(db: Database, number: int) -> None:
    n = 1 + number * 7 % FEW
    assert await store.record(db, uuid7(BEGAN + n, n)) is not None


async def _trace(db: Database, number: int) -> None:
    assert await search.newest(db, "user", "openai", f"trace-{1 + number * 7 % FEW}") is not None


async def _batch(db: Database, wanted: Filter) -> None:
    assert len(await search.page(db, wanted, 0, 12)) == 12
    assert await search.total(db, wanted) >= FEW


_STATEMENTS: dict[str, Callable[[Database, int], Awaitable[None]]] = {
    "insert, claim, delete": _claim,
    "retrieve by id": _retrieve,
    "retrieve by trace id": _trace,
    "batch with total": lambda db, _: _batch(db, _ALL),
    "batch by type with total": lambda db, _: _batch(db, _TYPED),
    "batch by application with total": lambda db, _: _batch(db, _APPLICATION),
}


async def _forget(tx: Tx, task_id: str) -> None:
    await tx.run("DELETE FROM queue WHERE task_id = $1", task_id)
    await purge.delete(tx, [task_id])


def _task(clock: Clock) -> Task:
    now = clock.now_ms()
    request: Any = msgspec.json.encode({"prompt": "a boat"})
    return Task(clock.new_id(now), "openai", "images/generations", "images_generations", *OWNER, clock.new_id(now),
                True, now, None, "http://x", request, None)  # fmt: skip
