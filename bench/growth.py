"""What a large table costs: the same statements with 1,000 and with 1,000,000 finished tasks beside them."""

import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from bench.row import Row
from bide import db as database
from bide.clock import Clock, uuid7
from bide.db import Database, Tx, write_one
from bide.db.migrate import prepare
from bide.settings import Settings
from bide.tasks import search, store
from bide.tasks.search import Filter
from bide.tasks.store import Claim, Lease, NewTask, Task

FEW, MANY = 1_000, 1_000_000
ROUNDS = 300
OWNER = ("user", "application", "credential")

_NUMBERS = {
    "sqlite": "WITH RECURSIVE numbers (n) AS (SELECT $1 UNION ALL SELECT n + 1 FROM numbers WHERE n < $2)",
    "postgres": "WITH numbers AS (SELECT generate_series($1::bigint, $2::bigint) AS n)",
}
_ID = {
    "sqlite": "printf('%08x-%04x-7000-8000-%012x', ($3 + n) >> 16, ($3 + n) & 65535, n)",
    "postgres": "lpad(to_hex(($3::bigint + n) >> 16), 8, '0') || '-' || lpad(to_hex(($3::bigint + n) & 65535), 4, '0')"
    " || '-7000-8000-' || lpad(to_hex(n), 12, '0')",
}


async def measure(work: Path, url: str) -> list[Row]:
    rows = []
    for name, at in (("SQLite", ""), ("PostgreSQL", url)):
        settings = Settings(data_dir=str(work / f"rows-{name}"), database_url=at)
        db, clock = await database.connect(settings), Clock()
        try:
            await prepare(db, clock)
            began = clock.now_ms() - 10 * MANY
            await _fill(db, 1, FEW, began)
            few = await _times(db, clock, began)
            await _fill(db, FEW + 1, MANY, began)
            many = await _times(db, clock, began)
            for what in few:
                ratio = many[what] / few[what]
                rows.append(Row(f"{what}, {name}, 1,000,000 finished tasks", many[what] * 1e6, "µs", "≤ 1.3 × of 1,000",
                                ratio <= 1.3, f"{few[what] * 1e6:,.0f} µs with 1,000", ratio))  # fmt: skip
        finally:
            await db.close()
    return rows


async def _fill(db: Database, first: int, last: int, began: int) -> None:
    """Finished tasks of one user, in the order of their time, in blocks."""
    block = 100_000
    for start in range(first, last + 1, block):
        end = min(start + block - 1, last)
        await write_one(db, lambda tx, start=start, end=end: _insert(tx, db.dialect, start, end, began))  # type: ignore[misc]
    analyze = {"sqlite": "ANALYZE", "postgres": "ANALYZE tasks, endings, queue, task_counts"}
    await write_one(db, lambda tx: tx.run(analyze[db.dialect]))


async def _insert(tx: Tx, dialect: str, start: int, end: int, began: int) -> None:
    numbers, task_id = _NUMBERS[dialect], _ID[dialect]
    integer = "::bigint" if dialect == "postgres" else ""
    await tx.run(
        "INSERT INTO tasks (id, service, operation, type, user_id, application_id, credential_id, trace_id, visible,"
        f" created_at, base_url, request) {numbers} SELECT {task_id}, 'openai', 'images/generations',"
        f" 'images_generations', 'user', 'application', 'credential', 'trace-' || n, 1, $3{integer} + n, 'http://x', $4"
        " FROM numbers", start, end, began, b'{"prompt":"a boat"}',
    )  # fmt: skip
    await tx.run(
        f"INSERT INTO endings (task_id, state, started_at, finished_at, b64, response) {numbers} SELECT {task_id},"
        f" 'succeeded', $3{integer} + n, $3{integer} + n, 0, $4 FROM numbers", start, end, began,
        b'{"success":true,"data":[{"url":"http://x/files/y.png"}]}',
    )  # fmt: skip
    await tx.run(
        "INSERT INTO task_counts (user_id, service, type, application_id, slot, n) VALUES ('user', 'openai',"
        " 'images_generations', 'application', 0, $1) ON CONFLICT (user_id, service, type, application_id, slot)"
        " DO UPDATE SET n = task_counts.n + excluded.n", end - start + 1,
    )  # fmt: skip


async def _times(db: Database, clock: Clock, began: int) -> dict[str, float]:
    """Median seconds of each statement."""
    wanted = Filter("user", "openai")
    typed = Filter("user", "openai", types=("images_generations", "images_edits"))

    async def claim(_: int) -> None:
        task = _task(clock)
        await db.write(store.insert, NewTask(task, clock.now_ms() + 1000))
        claimed = await db.write(
            store.claim, Claim(clock.now_ms(), 10, Lease(clock.lease_id(), clock.now_ms() + 1000))
        )
        assert [one.task.id for one in claimed] == [task.id]
        await write_one(db, lambda tx: _forget(tx, task.id))

    async def retrieve(number: int) -> None:
        n = 1 + number * 7 % FEW
        record = await store.record(db, uuid7(began + n, n))
        assert record is not None

    async def batch(_: int) -> None:
        assert len(await search.page(db, wanted, 0, 12)) == 12
        assert await search.total(db, wanted) >= FEW

    async def by_type(_: int) -> None:
        assert len(await search.page(db, typed, 0, 12)) == 12
        assert await search.total(db, typed) >= FEW

    return {
        "insert, claim and delete": await _median(claim),
        "retrieve": await _median(retrieve),
        "batch with total": await _median(batch),
        "batch by type with total": await _median(by_type),
    }


async def _median(once: Callable[[int], Awaitable[None]]) -> float:
    for number in range(50):
        await once(number)
    times = []
    for number in range(ROUNDS):
        began = time.perf_counter()
        await once(number)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


async def _forget(tx: Tx, task_id: str) -> None:
    await tx.run("DELETE FROM queue WHERE task_id = $1", task_id)
    await store.delete(tx, [task_id])


def _task(clock: Clock) -> Task:
    now = clock.now_ms()
    request: Any = msgspec.json.encode({"prompt": "a boat"})
    return Task(clock.new_id(now), "openai", "images/generations", "images_generations", *OWNER, clock.new_id(now), True,
                now, None, "http://x", request, None)  # fmt: skip
