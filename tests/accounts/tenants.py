"""What the tests of users, applications and credentials share: a database, further nodes on it, and how a query is
planned."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from bide import db as database
from bide.accounts import applications, users
from bide.accounts.applications import Application, New
from bide.accounts.users import User
from bide.db import Database, write_one
from bide.db.migrate import prepare
from bide.db.sqlite import translate
from bide.settings import Settings
from tests.world import StillClock

CLOCK = StillClock()


def use(settings: Settings, test: Callable[[Database], Awaitable[None]]) -> None:
    """Runs a test on an empty database."""

    async def inside() -> None:
        async with connected(settings, 1) as (db,):
            await prepare(db, CLOCK)
            await test(db)

    asyncio.run(inside())


@contextlib.asynccontextmanager
async def connected(settings: Settings, count: int) -> AsyncIterator[list[Database]]:
    """As many nodes as a test wants, each with connections of its own."""
    nodes = [await database.connect(settings) for _ in range(count)]
    try:
        yield nodes
    finally:
        for node in nodes:
            await node.close()


async def make_user(db: Database, name: str) -> User:
    made = await write_one(db, lambda tx: users.create(tx, CLOCK, name))
    assert made is not None
    return made


async def subscribe(db: Database, user_id: str, service: str | None = "openai", free: int = 0) -> Application:
    new = New(user_id, service, service or "global", free_amount=free)
    made = await write_one(db, lambda tx: applications.create(tx, CLOCK, new))
    assert made is not None
    return made


async def plan(db: Database, sql: str, args: list[Any]) -> str:
    """How the database means to answer a query."""
    if db.dialect == "sqlite":
        rows = await db.rows(f"EXPLAIN QUERY PLAN {translate(sql)}", *args)
        return "\n".join(row[3] for row in rows)
    rows = await db.rows(f"EXPLAIN {sql}", *args)
    return "\n".join(row[0] for row in rows)


async def count(db: Database, table: str) -> int:
    rows = await db.rows(f"SELECT count(*) FROM {table}")
    return int(rows[0][0])
