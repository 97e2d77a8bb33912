"""PostgreSQL through asyncpg: writes in two lanes with group commit, reads from a small pool.

Measured choices (docs/decisions): one transaction per insert does about a third of what two lanes of
batches do; lookups of one turn of the event loop collected into one `= ANY` do five times a pool.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from bide.db import VERSIONS, Batch, DatabaseError, Item, Result, Row, Tx
from bide.db.batches import Answer, Waiting, Wakes, commit, resolve
from bide.settings import Settings

LANES = 2
SLOTS = 64
MOST_AT_ONCE = 1_000
READERS = 4
AGAIN = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
GONE = (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.CannotConnectNowError,
        asyncpg.AdminShutdownError, asyncpg.TooManyConnectionsError, TimeoutError)  # fmt: skip
MIGRATION_LOCK = 0x62696465  # "bide" in ASCII: any number no other program is likely to use


async def connect(settings: Settings) -> "Postgres":
    database = Postgres(settings.database_url)
    try:
        await database.start()
    except (*GONE, asyncpg.PostgresError, ValueError) as error:
        await database.close()
        raise DatabaseError(f"BIDE_DATABASE_URL: cannot connect: {type(error).__name__}: {error}") from error
    return database


class _Tx:
    """An open transaction on one connection."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self.slot = connection.get_server_pid() % SLOTS
        self.wakes: set[str] = set()

    async def rows(self, sql: str, *args: Any) -> list[Row]:
        found: list[Row] = await self._connection.fetch(sql, *args)
        return found

    async def run(self, sql: str, *args: Any) -> int:
        status: str = await self._connection.execute(sql, *args)  # such as "UPDATE 3", "INSERT 0 1"
        last = status.rpartition(" ")[2]
        return int(last) if last.isdigit() else 0

    async def each(self, sql: str, items: Any) -> list[Row]:
        if "RETURNING" not in sql:
            await self._connection.executemany(sql, items)
            return []
        found: list[Row] = await self._connection.fetchmany(sql, items)
        return found

    def wake(self, name: str) -> None:
        self.wakes.add(name)


class Postgres:
    dialect = "postgres"
    errors: tuple[type[Exception], ...] = (*GONE, asyncpg.PostgresError)

    def __init__(self, url: str) -> None:
        self._url = url
        self._wakes = Wakes()
        self._waiting: list[Waiting] = []
        self._arrived = asyncio.Event()
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []
        self._pool: asyncpg.Pool | None = None
        self._listener: asyncpg.Connection | None = None
        self._loads: dict[str, dict[str, asyncio.Future[Row | None]]] = {}
        self._loading: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._pool = await asyncpg.create_pool(
            self._url, min_size=1, max_size=READERS + LANES, command_timeout=60,
            server_settings={"application_name": "bide"},
        )  # fmt: skip
        self._tasks = [asyncio.create_task(self._lane()) for _ in range(LANES)]

    @property
    def pool(self) -> asyncpg.Pool:
        if self._pool is None:
            raise DatabaseError("The database is not connected.")
        return self._pool

    # -- reads

    async def rows(self, sql: str, *args: Any) -> list[Row]:
        try:
            found: list[Row] = await self.pool.fetch(sql, *args)
        except GONE as error:
            raise DatabaseError("The database cannot be read at the moment.") from error
        return found

    async def row(self, sql: str, *args: Any) -> Row | None:
        found = await self.rows(sql, *args)
        return found[0] if found else None

    scan = rows

    async def load(self, sql: str, key: str) -> Row | None:
        """Lookups of one turn of the event loop go out as one query."""
        waiting = self._loads.get(sql)
        if waiting is None:
            waiting = self._loads[sql] = {}
            asyncio.get_running_loop().call_soon(self._send_loads, sql)
        future = waiting.get(key)
        if future is None:
            future = waiting[key] = asyncio.get_running_loop().create_future()
        return await asyncio.shield(future)

    def _send_loads(self, sql: str) -> None:
        task = asyncio.create_task(self._load(sql, self._loads.pop(sql)))
        self._loading.add(task)
        task.add_done_callback(self._loading.discard)

    async def _load(self, sql: str, waiting: dict[str, asyncio.Future[Row | None]]) -> None:
        try:
            found = {row[0]: row for row in await self.rows(sql, list(waiting))}
        except Exception as error:
            for future in waiting.values():
                future.set_exception(error)
                future.exception()  # a caller that was cancelled will not ask for it
            return
        for key, future in waiting.items():
            future.set_result(found.get(key))

    # -- writes

    async def write(self, batch: Batch[Item, Result], item: Item) -> Result:
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append(Waiting(batch, item, done))
        self._arrived.set()
        return await done

    async def _lane(self) -> None:
        while True:
            while not self._waiting:
                if self._closing:
                    return
                self._arrived.clear()
                await self._arrived.wait()
            taken, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
            resolve(await commit(taken, self._transaction))

    async def _transaction(self, work: Callable[[Tx], Awaitable[list[Answer]]]) -> list[Answer]:
        for remaining in (2, 1, 0):
            try:
                async with self.pool.acquire() as connection:
                    tx = _Tx(connection)
                    async with connection.transaction():
                        answers = await work(tx)
                        # A node with a worker of its own needs no other to be told: it is slow to notify,
                        # and a worker that has nothing to do looks by itself twice a second.
                        for name in sorted(name for name in tx.wakes if not self._wakes.here(name)):
                            await connection.execute(f"NOTIFY bide_{name}")
                self._wakes.fire(tx.wakes)
                return answers
            except AGAIN:
                if not remaining:
                    raise
                await asyncio.sleep(random.random() * 0.02)
            except GONE as error:
                raise DatabaseError("The database cannot be written at the moment.") from error
        raise AssertionError("unreachable")

    # -- wakes

    def on_wake(self, name: str, call: Callable[[], None]) -> None:
        self._wakes.add(name, call)
        if len(self._tasks) == LANES:
            self._tasks.append(asyncio.create_task(self._listen()))

    async def _listen(self) -> None:
        """Keeps one connection that hears other nodes; without it, work is found by the slow look."""
        while not self._closing:
            try:
                connection = self._listener = await asyncpg.connect(self._url, timeout=10)
                for name in ("tasks", "deliveries"):
                    await connection.add_listener(f"bide_{name}", self._heard)
                closed = asyncio.Event()
                connection.add_termination_listener(lambda _, closed=closed: closed.set())
                await closed.wait()
            except (*GONE, asyncpg.PostgresError):
                await asyncio.sleep(1)

    def _heard(self, _connection: Any, _pid: int, channel: str, _payload: str) -> None:
        self._wakes.fire({channel.removeprefix("bide_")})

    # -- the end

    async def migrate(self, number: int, name: str, sql: str, at_ms: int) -> bool:
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
            await connection.execute(VERSIONS)
            if await connection.fetchval("SELECT 1 FROM schema_versions WHERE number = $1", number):
                return False
            await connection.execute(sql)
            await connection.execute("INSERT INTO schema_versions VALUES ($1, $2, $3)", number, name, at_ms)
            return True

    async def close(self) -> None:
        self._closing = True
        self._arrived.set()
        await asyncio.gather(*self._tasks[:LANES])
        for task in self._tasks[LANES:]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*self._loading, return_exceptions=True)
        if self._listener is not None:
            await self._listener.close()
        if self._pool is not None:
            await self._pool.close()
