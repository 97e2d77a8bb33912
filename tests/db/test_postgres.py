"""What only PostgreSQL has: connections of their own for writes, few slow reads, and coming back after a loss."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from bide.db import DatabaseError, Tx, write_one
from bide.db.postgres import LANES, READERS, SCANS, Postgres
from tests.databases import PostgresServer

HELD = "SELECT pg_advisory_xact_lock(7)"
"""Waits for as long as the test wants it to."""


class Outside:
    """A session of somebody else on the same server, who sees what bide's are doing."""

    def __init__(self, connection: asyncpg.Connection, name: str) -> None:
        self.connection = connection
        self.name = name

    async def count(self, where: str = "true") -> int:
        return await self.connection.fetchval(
            f"SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid() AND {where}",
            self.name,
        )

    async def end_all(self) -> None:
        """Ends every session of the database, and waits until they are gone. The pool may open a reader anew."""
        found = await self.connection.fetch(
            "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", self.name
        )
        ended = ",".join(str(row[0]) for row in found)
        await until(lambda: self.count(f"pid = ANY('{{{ended}}}')"), 0)


async def until(ask: Callable[[], Awaitable[Any]], wanted: Any) -> None:
    """Asks until the answer is the one wanted."""
    async with asyncio.timeout(20):
        while await ask() != wanted:  # noqa: ASYNC110  # the server tells nobody when it changes
            await asyncio.sleep(0.01)


def use(server: PostgresServer, test: Callable[[Postgres, Outside], Awaitable[None]], **options: Any) -> None:
    """Runs a test with a table `things (name)`, and with a lock that `HELD` waits for."""
    url = server.new_database()

    async def run() -> None:
        outside = await asyncpg.connect(urlsplit(url)._replace(path="/postgres").geturl())
        holder = await asyncpg.connect(url)
        await holder.execute("CREATE TABLE things (name TEXT PRIMARY KEY)")
        await holder.close()
        db = Postgres(url, **options)
        try:
            await db.start()
            async with asyncio.timeout(60):
                await test(db, Outside(outside, urlsplit(url).path[1:]))
        finally:
            await db.close()
            await outside.close()

    asyncio.run(run())


async def hold(url: str) -> asyncpg.Connection:
    connection = await asyncpg.connect(url)
    await connection.execute("SELECT pg_advisory_lock(7)")
    return connection


async def put(tx: Tx, items: list[str]) -> list[None]:
    await tx.each("INSERT INTO things (name) VALUES ($1)", [(item,) for item in items])
    return [None] * len(items)


async def names(db: Postgres) -> list[str]:
    return [row[0] for row in await db.rows("SELECT name FROM things ORDER BY name")]


WAITING = "wait_event = 'advisory'"


def test_writes_go_on_while_every_reader_is_held_up(postgres_server: PostgresServer) -> None:
    async def test(db: Postgres, outside: Outside) -> None:
        holder = await hold(db._url)
        reads = [asyncio.create_task(db.rows(HELD)) for _ in range(3 * READERS)]
        await until(lambda: outside.count(WAITING), READERS)
        await asyncio.gather(*(db.write(put, f"n{n}") for n in range(50)))
        assert not any(read.done() for read in reads)
        await holder.close()
        await asyncio.gather(*reads)
        assert len(await names(db)) == 50

    use(postgres_server, test)


def test_slow_scans_leave_room_for_reads(postgres_server: PostgresServer) -> None:
    async def test(db: Postgres, outside: Outside) -> None:
        holder = await hold(db._url)
        scans = [asyncio.create_task(db.scan(HELD)) for _ in range(3 * READERS)]
        await until(lambda: outside.count(WAITING), SCANS)
        assert await asyncio.gather(*(names(db) for _ in range(10))) == [[]] * 10
        assert await outside.count(WAITING) == SCANS
        assert not any(scan.done() for scan in scans)
        await holder.close()
        await asyncio.gather(*scans)

    use(postgres_server, test)


def test_a_scan_that_takes_too_long_is_ended_on_the_server_too(postgres_server: PostgresServer) -> None:
    async def test(db: Postgres, outside: Outside) -> None:
        holder = await hold(db._url)
        with pytest.raises(DatabaseError, match="read"):
            await db.scan(HELD)
        await until(lambda: outside.count(WAITING), 0)
        await holder.close()
        assert [row[0] for row in await db.scan("SELECT 1")] == [1]

    use(postgres_server, test, scan_s=0.05)


def test_the_connections_are_few_and_readers_come_when_they_are_needed(postgres_server: PostgresServer) -> None:
    async def test(db: Postgres, outside: Outside) -> None:
        assert await outside.count() == LANES + 1
        db.on_wake("tasks", lambda: None)
        await asyncio.gather(
            *(db.write(put, f"n{n}") for n in range(100)), *(names(db) for _ in range(100)),
            *(db.scan("SELECT 1") for _ in range(100)),
        )  # fmt: skip
        assert await outside.count() <= LANES + READERS + 1

    use(postgres_server, test)


def test_a_lane_whose_connection_was_lost_while_it_was_idle_opens_another(postgres_server: PostgresServer) -> None:
    async def test(db: Postgres, outside: Outside) -> None:
        await db.write(put, "before")
        await outside.end_all()
        await until(lambda: _written(db, "after"), True)
        assert await names(db) == ["after", "before"]

    use(postgres_server, test)


def test_a_write_whose_connection_is_lost_fails_and_the_next_does_not(postgres_server: PostgresServer) -> None:
    async def test(db: Postgres, outside: Outside) -> None:
        holder = await hold(db._url)
        lost = asyncio.create_task(write_one(db, lambda tx: tx.rows(HELD)))
        await until(lambda: outside.count(WAITING), 1)
        await outside.connection.fetch(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND {WAITING}", outside.name
        )
        with pytest.raises(DatabaseError, match="written"):
            await lost
        for number in range(4):
            await db.write(put, f"n{number}")
        assert len(await names(db)) == 4
        await holder.close()

    use(postgres_server, test)


def test_without_a_server_writes_fail_until_it_is_back(postgres_server: PostgresServer) -> None:
    async def test(db: Postgres, outside: Outside) -> None:
        await outside.connection.execute(f"ALTER DATABASE {outside.name} ALLOW_CONNECTIONS false")
        await outside.end_all()
        for _ in range(3):
            with pytest.raises(DatabaseError):
                await db.write(put, "lost")
        await outside.connection.execute(f"ALTER DATABASE {outside.name} ALLOW_CONNECTIONS true")
        await until(lambda: _written(db, "found"), True)
        assert await names(db) == ["found"]

    use(postgres_server, test)


def test_a_lane_without_a_connection_leaves_the_work_to_the_other(postgres_server: PostgresServer) -> None:
    async def test(db: Postgres, outside: Outside) -> None:
        await outside.connection.execute(f"ALTER DATABASE {outside.name} ALLOW_CONNECTIONS false")
        db._lanes[0].drop()
        for number in range(20):
            await db.write(put, f"n{number:02}")
        assert len(await names(db)) == 20

    use(postgres_server, test)


def test_closing_without_a_server_ends_and_tells_who_waits(postgres_server: PostgresServer) -> None:
    async def test(db: Postgres, outside: Outside) -> None:
        await outside.connection.execute(f"ALTER DATABASE {outside.name} ALLOW_CONNECTIONS false")
        await outside.end_all()
        writes = [asyncio.create_task(db.write(put, f"n{number}")) for number in range(20)]
        await asyncio.sleep(0)
        await db.close()
        ended = await asyncio.gather(*writes, return_exceptions=True)
        assert all(isinstance(end, DatabaseError) for end in ended)

    use(postgres_server, test)


def test_a_transaction_that_another_one_stopped_is_tried_again(postgres_server: PostgresServer) -> None:
    tries = []

    async def work(tx: Tx) -> int:
        tries.append(tx.slot)
        if len(tries) < 3:
            await tx.run("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40P01'; END $$")  # deadlock detected
        return await tx.run("INSERT INTO things (name) VALUES ('x')")

    async def test(db: Postgres, outside: Outside) -> None:
        assert await write_one(db, work) == 1
        assert len(tries) == 3

    use(postgres_server, test)


async def _written(db: Postgres, name: str) -> bool:
    try:
        await db.write(put, name)
    except DatabaseError:
        return False
    return True
