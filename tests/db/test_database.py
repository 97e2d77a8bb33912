"""One suite for both databases: what the seam promises."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bide import db as database
from bide.clock import Clock
from bide.db import Database, DatabaseError, Tx, write_one
from bide.db.migrate import migrate, migrations, prepare, version
from bide.settings import Settings


def use(settings: Settings, test: Callable[[Database], Awaitable[Any]]) -> Any:
    """Runs a test with a table `things (name, n)`."""

    async def run() -> Any:
        db = await database.connect(settings)
        try:
            await write_one(db, lambda tx: tx.run("CREATE TABLE things (name TEXT PRIMARY KEY, n BIGINT)"))
            return await test(db)
        finally:
            await db.close()

    return asyncio.run(run())


async def put(tx: Tx, items: list[tuple[str, int]]) -> list[int]:
    await tx.each("INSERT INTO things (name, n) VALUES ($1, $2)", items)
    return [len(items)] * len(items)


async def put_or_refuse(tx: Tx, items: list[int]) -> list[int | BaseException]:
    return [KeyError(item) if item < 0 else item for item in items]


async def names(db: Database) -> list[str]:
    return [row[0] for row in await db.rows("SELECT name FROM things ORDER BY name")]


def test_writes_that_wait_together_share_a_transaction(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        sizes = await asyncio.gather(*(db.write(put, (f"n{i:03}", i)) for i in range(200)))
        assert max(sizes) > 1
        assert len(await names(db)) == 200

    use(on_both, test)


def test_an_item_that_fails_fails_alone(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        await db.write(put, ("b", 1))
        results = await asyncio.gather(*(db.write(put, (n, 1)) for n in "abc"), return_exceptions=True)
        assert [isinstance(one, Exception) for one in results] == [False, True, False]
        assert await names(db) == ["a", "b", "c"]

    use(on_both, test)


def test_a_result_that_is_an_exception_is_raised_to_its_caller_alone(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        results = await asyncio.gather(*(db.write(put_or_refuse, n) for n in (1, -2, 3)), return_exceptions=True)
        assert results[0] == 1
        assert isinstance(results[1], KeyError)
        assert results[2] == 3

    use(on_both, test)


def test_a_transaction_that_raises_changes_nothing(on_both: Settings) -> None:
    async def work(tx: Tx) -> None:
        await tx.run("INSERT INTO things (name, n) VALUES ('x', 1)")
        raise ValueError("no")

    async def test(db: Database) -> None:
        with pytest.raises(ValueError, match="no"):
            await write_one(db, work)
        assert await names(db) == []

    use(on_both, test)


def test_lists_match_and_returning_answers(on_both: Settings) -> None:
    async def work(tx: Tx) -> Any:
        await tx.each("INSERT INTO things (name, n) VALUES ($1, $2)", [("a", 1), ("b", 2), ("c", 3)])
        changed = await tx.each("UPDATE things SET n = $2 WHERE name = $1 RETURNING name, n", [("a", 9), ("z", 9)])
        found = await tx.rows("SELECT name FROM things WHERE name = ANY($1) ORDER BY name", ["a", "c", "z"])
        other = await tx.rows("SELECT name FROM things WHERE name <> ALL($1)", ["a", "c"])
        gone = await tx.run("DELETE FROM things WHERE n > $1", 2)
        return [tuple(row) for row in changed], [row[0] for row in found], [row[0] for row in other], gone

    async def test(db: Database) -> None:
        assert await write_one(db, work) == ([("a", 9)], ["a", "c"], ["b"], 2)

    use(on_both, test)


def test_load_answers_each_key_its_row(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        await asyncio.gather(*(db.write(put, (f"k{i}", i)) for i in range(50)))
        sql = "SELECT name, n FROM things WHERE name = ANY($1)"
        rows = await asyncio.gather(*(db.load(sql, f"k{i % 60}") for i in range(120)))
        assert [None if row is None else row[1] for row in rows] == [
            i % 60 if i % 60 < 50 else None for i in range(120)
        ]

    use(on_both, test)


def test_who_waits_is_woken_after_the_commit(on_both: Settings) -> None:
    async def work(tx: Tx) -> None:
        tx.wake("tasks")
        await tx.run("INSERT INTO things (name, n) VALUES ('x', 1)")

    async def test(db: Database) -> None:
        woken = asyncio.Event()
        db.on_wake("tasks", woken.set)
        await write_one(db, work)
        async with asyncio.timeout(5):
            await woken.wait()

    use(on_both, test)


def test_another_node_is_woken_through_postgres(postgres_server: Any, tmp_path: Any) -> None:
    settings = Settings(database_url=postgres_server.new_database())

    async def run() -> None:
        one, other = await database.connect(settings), await database.connect(settings)
        woken = asyncio.Event()
        other.on_wake("tasks", woken.set)
        try:
            async with asyncio.timeout(10):
                while not woken.is_set():  # until the listener is connected

                    async def wake(tx: Tx) -> None:
                        tx.wake("tasks")

                    await write_one(one, wake)
                    await asyncio.sleep(0.05)
        finally:
            await one.close()
            await other.close()

    asyncio.run(run())


def test_close_commits_what_waits(on_both: Settings) -> None:
    async def run() -> None:
        db = await database.connect(on_both)
        await write_one(db, lambda tx: tx.run("CREATE TABLE things (name TEXT PRIMARY KEY, n BIGINT)"))
        writes = [asyncio.ensure_future(db.write(put, (f"n{i}", i))) for i in range(20)]
        await asyncio.sleep(0)
        await db.close()
        await asyncio.gather(*writes)
        again = await database.connect(on_both)
        assert len(await names(again)) == 20
        await again.close()

    asyncio.run(run())


def test_who_writes_after_the_close_is_told(on_both: Settings) -> None:
    async def test() -> None:
        db = await database.connect(on_both)
        await db.close()
        await db.close()
        with pytest.raises(DatabaseError, match="closed"):
            await db.write(put, ("a", 1))

    asyncio.run(test())


def test_migrations_run_once_whoever_comes_first(on_both: Settings) -> None:
    async def run() -> None:
        nodes = [await database.connect(on_both) for _ in range(3)]
        await asyncio.gather(*(prepare(node, Clock()) for node in nodes))
        applied = await nodes[0].rows("SELECT number FROM schema_versions")
        assert [row[0] for row in applied] == [one.number for one in migrations(nodes[0].dialect)]
        assert await migrate(nodes[1], Clock()) == []
        for node in nodes:
            await node.close()

    asyncio.run(run())


def test_a_database_of_a_newer_bide_is_refused(on_both: Settings) -> None:
    async def run() -> None:
        db = await database.connect(on_both)
        try:
            await prepare(db, Clock())
            await write_one(db, lambda tx: tx.run("INSERT INTO schema_versions VALUES (9999, 'later', 0)"))
            assert await version(db) == 9999
            with pytest.raises(DatabaseError, match="newer"):
                await prepare(db, Clock())
        finally:
            await db.close()

    asyncio.run(run())


def test_nodes_that_start_at_once_on_an_empty_database_all_start(on_both: Settings) -> None:
    async def start() -> None:
        db = await database.connect(on_both)
        try:
            await prepare(db, Clock())
        finally:
            await db.close()

    async def inside() -> None:
        await asyncio.gather(*(start() for _ in range(8)))

    asyncio.run(inside())


def test_both_dialects_have_the_same_migrations() -> None:
    assert [(m.number, m.name) for m in migrations("sqlite")] == [(m.number, m.name) for m in migrations("postgres")]


def test_a_url_of_another_database_is_refused_by_name() -> None:
    with pytest.raises(DatabaseError, match="mysql"):
        asyncio.run(database.connect(Settings(database_url="mysql://x/y")))


def test_a_server_that_is_not_there_is_refused_in_a_sentence() -> None:
    with pytest.raises(DatabaseError, match="BIDE_DATABASE_URL"):
        asyncio.run(database.connect(Settings(database_url="postgresql://nobody@127.0.0.1:1/none")))


LONG = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 2000000) SELECT count(*) FROM n"


def test_a_long_scan_does_not_hold_up_a_short_one(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        long = asyncio.create_task(db.scan(LONG))
        await asyncio.sleep(0)
        assert [tuple(row) for row in await db.scan("SELECT 1")] == [(1,)]
        assert not long.done()
        assert [tuple(row) for row in await long] == [(2_000_000,)]

    use(on_both, test)


def test_whoever_stops_waiting_for_a_scan_takes_no_place_of_others(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        for _ in range(8):
            long = asyncio.create_task(db.scan(LONG))
            await asyncio.sleep(0.01)
            long.cancel()
        assert [tuple(row) for row in await db.scan("SELECT 1")] == [(1,)]

    use(on_both, test)


ENDLESS = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"


def test_a_scan_that_nobody_waits_for_ends_and_holds_up_no_close(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        for _ in range(8):
            endless = asyncio.create_task(db.scan(ENDLESS))
            await asyncio.sleep(0.01)
            endless.cancel()

    use(on_both, test)
