"""What the connections that write are told, on PostgreSQL: to look rows up by their keys, and not to stand still."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from bide.clock import Clock
from bide.db import DatabaseError, Tx, write_one
from bide.db.migrate import prepare
from bide.db.postgres import BY_KEY, Postgres, _Tx
from bide.tasks import purge, store
from bide.tasks.store import Claim, Lease
from tests.databases import PostgresServer

QUEUED = (
    "INSERT INTO queue (task_id, state, due_at, deadline_at, kept_ms, price, units, held, held_general)"
    " SELECT 'task-' || n, 'queued', n, 0, 0, 0, 0, 0, 0 FROM generate_series($1::int, $2::int) AS n"
)
ENDED = (
    "INSERT INTO endings (task_id, state, finished_at, expires_at, b64, response)"
    " SELECT 'task-' || n, 'failed', 0, 0, 0, '' FROM generate_series($1::int, $2::int) AS n"
)
READ = "SELECT coalesce(seq_tup_read + idx_tup_fetch, 0) FROM pg_stat_xact_user_tables WHERE relname = $1"


ACCEPTED = (
    "INSERT INTO tasks (id, service, operation, type, user_id, application_id, credential_id, trace_id, visible,"
    " created_at, base_url, request)"
    " SELECT 'task-' || n, '', '', '', '', '', '', '', 1, 0, '', '' FROM generate_series($1::int, $2::int) AS n"
)


async def claim(tx: Tx, ids: list[str]) -> None:
    await store.claim(tx, [Claim(1_000_000, len(ids), Lease(1, 2))])


async def take_out(tx: Tx, ids: list[str]) -> None:
    await store.take_out(tx, [(one, 1) for one in ids])


async def extend(tx: Tx, ids: list[str]) -> None:
    await store.extend(tx, [[(one, 1, 2) for one in ids]])


async def still_open(tx: Tx, ids: list[str]) -> None:
    await purge.still_open(tx, ids)


@pytest.mark.parametrize(
    ("work", "table"), [(claim, "queue"), (take_out, "queue"), (extend, "queue"), (still_open, "endings")]
)
@pytest.mark.parametrize("before", [0, 3])
def test_a_plan_made_while_a_table_was_small_does_not_read_all_of_it_later(
    postgres_server: PostgresServer, work: Callable[[Tx, list[str]], Awaitable[None]], table: str, before: int
) -> None:
    url = postgres_server.new_database()

    async def run() -> None:
        db = Postgres(url)
        await db.start()
        await prepare(db, Clock())
        await db.close()
        lane = await asyncpg.connect(url, server_settings={**BY_KEY, "plan_cache_mode": "force_generic_plan"})
        try:
            for sql in (ACCEPTED, QUEUED, ENDED):
                await lane.execute(sql, 1, before)
            await lane.execute("VACUUM ANALYZE")
            async with lane.transaction():
                tx = _Tx(lane, 0)
                await work(tx, ["task-0"])
                await tx.flush()
            for sql in (ACCEPTED, QUEUED, ENDED):
                await lane.execute(sql, before + 1, 20_000)
            async with lane.transaction():
                tx = _Tx(lane, 0)
                seen = await lane.fetchval(READ, table)
                await work(tx, [f"task-{n}" for n in range(5_000, 5_020)])
                await tx.flush()
                assert await lane.fetchval(READ, table) - seen < 1_000
        finally:
            await lane.close()

    asyncio.run(run())


def on(server: PostgresServer, test: Callable[[Postgres], Awaitable[None]]) -> None:
    url = server.new_database()

    async def run() -> None:
        db = Postgres(url)
        await db.start()
        try:
            await test(db)
        finally:
            await db.close()

    asyncio.run(run())


def test_the_locks_of_a_process_that_stands_still_are_given_back(postgres_server: PostgresServer) -> None:
    """A node whose machine is gone in the middle of a transaction would keep an application locked for hours."""

    async def test(db: Postgres) -> None:
        found = await write_one(db, lambda tx: tx.rows("SHOW idle_in_transaction_session_timeout"))
        assert found[0][0] == "10s"

    on(postgres_server, test)


@pytest.mark.parametrize(
    "state", ["53100", "53200", "25006", "57P02", "25P03"],
    ids=["disk full", "out of memory", "a standby", "another session crashed it", "stood still"],
)  # fmt: skip
def test_what_ails_the_server_is_tried_again_later_and_no_defect(postgres_server: PostgresServer, state: str) -> None:
    async def ails(tx: Tx) -> Any:
        return await tx.run(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}'; END $$")

    async def test(db: Postgres) -> None:
        with pytest.raises(DatabaseError):
            await write_one(db, ails)
        assert await write_one(db, lambda tx: tx.rows("SELECT 1"))

    on(postgres_server, test)
