"""Looking for tasks: what each filter finds, that totals are true, and that every query uses an index."""

import asyncio
import json
from dataclasses import dataclass, replace
from typing import Any

import pytest

from bide import db as database
from bide.clock import Clock, uuid7
from bide.db import Database, Tx, write_one
from bide.db.migrate import prepare
from bide.db.sqlite import translate
from bide.flow import poll, sweep
from bide.settings import Settings
from bide.tasks import purge, search, store
from bide.tasks.search import Filter
from tests.conftest import quick
from tests.databases import PostgresServer
from tests.world import CALLER, START_MS, World, run

MINE = Filter("user-1", "openai")
OTHERS = replace(CALLER, user_id="user-2", application_id="application-9")
SECOND = replace(CALLER, application_id="application-2")


@dataclass
class Shelf:
    """Six tasks of one user, a second apart, oldest first, and some that are not theirs."""

    world: World
    ids: list[str]

    async def find(self, offset: int = 0, limit: int = 12, **wanted: Any) -> tuple[list[int], int]:
        """Numbers of the tasks on the page, as `ids` has them, and the total."""
        found = await poll.retrieve_batch(self.world.gateway, replace(MINE, **wanted), offset, limit)
        batch = json.loads(found)
        return [self.ids.index(item["id"]) for item in batch["items"]], batch["count"]


async def fill(world: World) -> Shelf:
    ids = []
    for number in range(6):
        edit = {"operation": "images/edits", "image": "http://127.0.0.1:9/a.png"} if number % 3 == 2 else {}
        accepted = await world.accept(
            trace_id=f"trace-{number // 2}", caller=SECOND if number >= 4 else CALLER, **edit
        )  # fmt: skip
        ids.append(accepted.task_id)
        await world.accept(trace_id="trace-0", caller=OTHERS)
        await world.accept(waits=True, trace_id="trace-0")
        world.clock.pass_s(1)
    return Shelf(world, ids)


def at(number: int) -> int:
    return START_MS + number * 1000


FILTERS: dict[str, tuple[dict[str, Any], list[int]]] = {
    "no filter means all of the caller's own": ({}, [5, 4, 3, 2, 1, 0]),
    "ids": ({"ids": (3, 0)}, [3, 0]),
    "trace ids": ({"trace_ids": ("trace-0", "trace-2")}, [5, 4, 1, 0]),
    "ids and trace ids: either may match": ({"ids": (3,), "trace_ids": ("trace-0",)}, [3, 1, 0]),
    "a task that is named twice is listed once": ({"ids": (0, 0), "trace_ids": ("trace-0",)}, [1, 0]),
    "an application": ({"application_id": "application-2"}, [5, 4]),
    "somebody else's application": ({"application_id": "application-9"}, []),
    "a type": ({"types": ("images_edits",)}, [5, 2]),
    "an unknown type": ({"types": ("videos",)}, []),
    "a group of types": ({"types": ("images_generations", "images_edits")}, [5, 4, 3, 2, 1, 0]),
    "a time, its own millisecond included": ({"created_at_min": at(4)}, [5, 4]),
    "until a time, its own millisecond included": ({"created_at_max": at(1)}, [1, 0]),
    "a window of one millisecond": ({"created_at_min": at(3), "created_at_max": at(3)}, [3]),
    "a window that holds nothing": ({"created_at_min": at(3) + 1, "created_at_max": at(4) - 1}, []),
    "a time before all times and one after": (
        {"created_at_min": -(10**15), "created_at_max": 10**18}, [5, 4, 3, 2, 1, 0],
    ),
    "all filters at once must match": (
        {"trace_ids": ("trace-2",), "types": ("images_edits",), "application_id": "application-2",
         "created_at_min": at(4), "created_at_max": at(9)}, [5],
    ),
    "filters that exclude each other": ({"ids": (0,), "application_id": "application-2"}, []),
    "a type and a window": ({"types": ("images_edits",), "created_at_max": at(4)}, [2]),
    "an unknown id": ({"ids": ("nobody-knows-this",)}, []),
}  # fmt: skip


def test_each_filter_finds_what_it_says_newest_first_and_counts_it(on_both: Settings) -> None:
    async def test(world: World) -> None:
        shelf = await fill(world)
        wrong = {}
        for name, (wanted, expected) in FILTERS.items():
            ids = tuple(shelf.ids[one] if isinstance(one, int) else one for one in wanted.get("ids", ()))
            found = await shelf.find(**{**wanted, "ids": ids})
            if found != (expected, len(expected)):
                wrong[name] = (found, expected)
        assert wrong == {}

    run(on_both, test)


def test_the_type_images_stands_for_generations_and_edits(on_both: Settings) -> None:
    async def test(world: World) -> None:
        shelf = await fill(world)
        types = world.gateway.catalog.services["openai"].types("images")
        assert await shelf.find(types=types) == ([5, 4, 3, 2, 1, 0], 6)

    run(on_both, test)


@pytest.mark.parametrize("wanted", [{}, {"types": ("images_generations", "images_edits")}, {"created_at_min": 0},
                                    {"trace_ids": ("trace-0", "trace-1", "trace-2")}])  # fmt: skip
def test_pages_follow_each_other_without_gap_or_repetition_and_the_count_is_the_total(
    on_both: Settings, wanted: dict[str, Any]
) -> None:
    async def test(world: World) -> None:
        shelf = await fill(world)
        pages = [await shelf.find(offset, 4, **wanted) for offset in (0, 4, 8)]
        assert pages == [([5, 4, 3, 2], 6), ([1, 0], 6), ([], 6)]

    run(on_both, test)


def test_another_users_tasks_are_never_found_by_any_filter(on_both: Settings) -> None:
    async def test(world: World) -> None:
        shelf = await fill(world)
        for wanted in (Filter("user-3", "openai"), Filter("user-1", "suno")):
            for more in ({}, {"ids": tuple(shelf.ids)}, {"trace_ids": ("trace-0",)}, {"created_at_min": 0},
                         {"application_id": "application-1"}, {"types": ("images_edits",)}):  # fmt: skip
                found = await poll.retrieve_batch(world.gateway, replace(wanted, **more), 0, 100)
                assert json.loads(found) == {"items": [], "count": 0}

    run(on_both, test)


def test_counters_hold_the_real_numbers_after_tasks_came_and_went(on_both: Settings) -> None:
    async def test(world: World) -> None:
        await asyncio.gather(*(world.accept(caller=one) for one in (CALLER, OTHERS, SECOND) * 20))
        await asyncio.gather(*(world.accept(waits=True) for _ in range(5)))
        await world.work()
        world.clock.pass_s(31 * 86_400)
        await asyncio.gather(*(world.accept(caller=one) for one in (CALLER, OTHERS, SECOND) * 3))
        assert await counted(world.gateway.db) == await real(world.gateway.db)
        while await sweep.sweep_once(world.gateway):
            pass
        counts = await real(world.gateway.db)
        assert await counted(world.gateway.db) == counts
        assert sum(counts.values()) == 9

    run(on_both, test)


KEY = "user_id, service, type, application_id"


async def counted(db: Database) -> dict[tuple[Any, ...], int]:
    rows = await db.rows(f"SELECT {KEY}, sum(n) FROM task_counts GROUP BY {KEY} HAVING sum(n) <> 0")
    return {tuple(row[:4]): int(row[4]) for row in rows}


async def real(db: Database) -> dict[tuple[Any, ...], int]:
    rows = await db.rows(f"SELECT {KEY}, count(*) FROM tasks WHERE visible = 1 GROUP BY {KEY}")
    return {tuple(row[:4]): row[4] for row in rows}


# -- plans: no query may read a table from one end to the other

MANY = 20_000
NAMED = 12
BUSY = 2_000
SERIES = {
    "sqlite": "WITH RECURSIVE s(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < {last}) ",
    "postgres": "WITH s(n) AS (SELECT generate_series(0, {last})) ",
}


def plans_of(dialect: str) -> dict[str, tuple[str, list[Any]]]:
    """Every query whose cost must not grow with the number of tasks."""
    ids, traces = tuple(uuid7(START_MS + n, n) for n in range(NAMED)), tuple(f"trace-{n}" for n in range(NAMED))
    window = {"created_at_min": START_MS, "created_at_max": START_MS + 5_000}
    filters: dict[str, dict[str, Any]] = {
        "all": {}, "ids": {"ids": ids}, "trace ids": {"trace_ids": traces}, "both": {"ids": ids, "trace_ids": traces},
        "application": {"application_id": "a-1"}, "type": {"types": ("images_edits",)},
        "types": {"types": ("images_edits", "images_generations")}, "window": window,
        "from": {"created_at_min": START_MS}, "until": {"created_at_max": START_MS + 1_000},
        "application in a window": {"application_id": "a-1", **window},
        "type in a window": {"types": ("images_edits",), **window},
        "everything": {"ids": ids, "types": ("images_edits",), "application_id": "a-1", **window},
    }  # fmt: skip
    found = {}
    for name, wanted in filters.items():
        mine = Filter("u-1", "openai", **wanted)
        found[f"page by {name}"] = search.page_query(mine, 0, 12)
        found[f"total by {name}"] = search.total_query(mine)
    found["one by trace id"] = (
        "SELECT id FROM tasks WHERE user_id = $1 AND trace_id = $2 AND visible = 1 AND service = $3"
        " ORDER BY id DESC LIMIT 1", ["u-1", "trace-7", "openai"],
    )  # fmt: skip
    found["documents"] = (store._DOCUMENT, [list(ids)])
    return found


class Recorder:
    """Stands where a transaction does and keeps what it is asked."""

    slot = 0

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[Any]]] = []

    async def rows(self, sql: str, *args: Any) -> list[Any]:
        self.asked.append((sql, list(args)))
        return []

    async def scan(self, sql: str, *args: Any) -> list[Any]:
        return await self.rows(sql, *args)


async def recorded() -> dict[str, tuple[str, list[Any]]]:
    """The queries of the worker and of the sweep, as they are really sent."""
    recorder: Any = Recorder()
    now = START_MS + 1_000
    await store.claim(recorder, [store.Claim(now, 200, store.Lease(1, now + 7_000))])
    await store.open_by_limit(recorder, ["credential/openai/default"])
    await purge.purgeable(recorder, START_MS + 5, 200)  # a few at a time, as the sweep finds them
    await purge.expired_files(recorder, now, 200)
    names = ["claim", "open under a limit", "old tasks", "expired files"]
    return dict(zip(names, recorder.asked, strict=True))


async def stock(tx: Tx, dialect: str) -> None:
    """20,000 finished tasks of 10 users, every tenth of them inline, and 2,000 that wait."""
    series, kind = SERIES[dialect].format(last=MANY - 1), "'{}'"
    await tx.run(
        f"{series} INSERT INTO tasks (id, service, operation, type, user_id, application_id, credential_id, trace_id,"
        f" visible, created_at, base_url, request) SELECT {ids(dialect)}, 'openai', 'images/edits',"
        f" CASE WHEN n % 3 = 0 THEN 'images_edits' ELSE 'images_generations' END, 'u-' || (n % 10),"
        f" 'a-' || (n % 20), 'c', 'trace-' || (n % 5000), CASE WHEN n % 10 = 9 THEN 0 ELSE 1 END, {START_MS} + n, '',"
        f" {blob(dialect, kind)} FROM s"
    )
    await tx.run(
        f"{series} INSERT INTO endings (task_id, state, started_at, finished_at, expires_at, b64, response)"
        f" SELECT {ids(dialect)}, 'succeeded', {START_MS} + n, {START_MS} + n + 50, {START_MS} + n + 50, 0,"
        f" {blob(dialect, kind)} FROM s"
    )
    await tx.run(
        f"{series} INSERT INTO files (name, task_id, size, content_type, expires_at)"
        f" SELECT 'f' || n, {ids(dialect)}, 1, 'image/png', {START_MS} * 2 + n FROM s"
    )
    series = SERIES[dialect].format(last=BUSY - 1)
    await tx.run(
        f"{series} INSERT INTO queue (task_id, state, due_at, deadline_at, kept_ms, price, units, held, held_general,"
        f" limit_key) SELECT 'q' || n, 'queued', {START_MS} + n * 1000, 0, 0, 0, 0, 0, 0, 'c-' || n FROM s"
    )


def ids(dialect: str) -> str:
    """SQL of the id of task `n`: its time is `START_MS + n`."""
    if dialect == "sqlite":
        return "task_id(n)"
    digits = f"lpad(to_hex({START_MS}::bigint + n), 12, '0')"
    return f"substr({digits}, 1, 8) || '-' || substr({digits}, 9, 4) || '-7000-8000-' || lpad(n::text, 12, '0')"


def blob(dialect: str, text: str) -> str:
    return f"CAST({text} AS BLOB)" if dialect == "sqlite" else f"convert_to({text}, 'UTF8')"


def explain(settings: Settings) -> dict[str, str]:
    """The plan of each query, on a database with many tasks in it."""

    async def inside() -> dict[str, str]:
        db = await database.connect(settings)
        try:
            await prepare(db, Clock())
            await write_one(db, lambda tx: stock_for(tx, db.dialect))
            if db.dialect == "postgres":
                for table in ("tasks", "endings", "queue", "files"):
                    await db.rows(f"ANALYZE {table}")
            plans = {}
            for name, (sql, args) in {**plans_of(db.dialect), **await recorded()}.items():
                plans[name] = await plan(db, sql, args)
            return plans
        finally:
            await db.close()

    return asyncio.run(inside())


async def stock_for(tx: Tx, dialect: str) -> None:
    connection = getattr(tx, "_connection")  # noqa: B009
    if dialect == "sqlite":
        connection.create_function("task_id", 1, lambda n: uuid7(START_MS + n, n), deterministic=True)
    await stock(tx, dialect)


async def plan(db: Database, sql: str, args: list[Any]) -> str:
    if db.dialect == "sqlite":
        rows = await db.rows(f"EXPLAIN QUERY PLAN {translate(sql)}", *args)
        return "\n".join(row[3] for row in rows)
    rows = await db.rows(f"EXPLAIN {sql}", *args)
    return "\n".join(row[0] for row in rows)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def plans(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    url = ""
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        url = server.new_database()
    return explain(quick(tmp_path_factory.mktemp("plans"), database_url=url))


TABLES = ("tasks", "endings", "files", "t", "e")


@pytest.mark.parametrize("name", [*plans_of("sqlite"), "claim", "open under a limit", "old tasks", "expired files"])
def test_no_query_reads_a_whole_table(plans: dict[str, str], name: str) -> None:
    found = plans[name]
    for table in TABLES:
        assert f"SCAN {table}\n" not in f"{found}\n", found  # SQLite, without an index
        assert f"Seq Scan on {table}" not in found, found  # PostgreSQL


@pytest.mark.parametrize("name", ["all", "type", "types", "application", "window", "from", "until"])
def test_a_page_walks_an_index_from_its_newest_end_and_sorts_nothing_but_the_page(
    plans: dict[str, str], name: str
) -> None:
    found = plans[f"page by {name}"]
    branches = 2 if name == "types" else 1
    if "SEARCH tasks" in found:  # SQLite: the one sort is that of the page
        assert found.count("SEARCH tasks USING INDEX tasks_") == branches
        assert found.count("USE TEMP B-TREE") == branches
    else:
        assert found.count("Scan Backward using tasks_") == branches


@pytest.mark.parametrize("what", ["page", "total"])
@pytest.mark.parametrize("by", ["trace ids", "both"])
def test_trace_ids_are_looked_up_and_not_searched_among_all_tasks_of_a_user(
    plans: dict[str, str], what: str, by: str
) -> None:
    assert "tasks_trace" in plans[f"{what} by {by}"], plans[f"{what} by {by}"]


def test_a_total_without_a_window_never_looks_at_the_tasks(plans: dict[str, str]) -> None:
    for name in ("all", "type", "types", "application"):
        assert "tasks" not in plans[f"total by {name}"]
        assert "task_counts" in plans[f"total by {name}"]


def test_the_claim_reads_the_queue_by_due_time(plans: dict[str, str]) -> None:
    assert "queue_due" in plans["claim"]
    assert "SCAN queue" not in plans["claim"]
