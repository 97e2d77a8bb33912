"""PostgreSQL through asyncpg: writes in two lanes with group commit, reads from a small pool.

Each lane has a connection of its own, so that no number of slow reads keeps a lease from being extended; and
few reads of the slow kind (`scan`) run at once, so that they leave room for the quick ones. A process has at
most two lanes, four readers and one listener.

Measured choices (docs/decisions): one transaction per insert does about a third of what two lanes of
batches do; lookups of one turn of the event loop collected into one `= ANY` do five times a pool.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import asyncpg

from bide.db import VERSIONS, Batch, DatabaseError, Item, Result, Row, Tx
from bide.db.batches import Answer, Waiting, Wakes, commit, resolve
from bide.settings import Settings

LANES = 2
SLOTS = 64
MOST_AT_ONCE = 1_000
READERS = 4
SCANS = 2
SCAN_S = 30.0
COMMAND_S = 60.0
CONNECT_S = 10.0
BACK_OFF_S = (0.1, 2.0)
"""A lane that cannot connect tries again after the first, and then ever later up to the second."""
AGAIN = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
GONE = (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.CannotConnectNowError,
        asyncpg.AdminShutdownError, asyncpg.TooManyConnectionsError, TimeoutError,
        asyncpg.InternalClientError)  # fmt: skip  # the last: the server's farewell came between two statements
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


class _Lane:
    """The one connection of a lane, which only that lane uses."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: asyncpg.Connection | None = None

    @property
    def usable(self) -> bool:
        """Whether it is open, and nothing is left on it of a transaction that broke."""
        found = self._connection
        return found is not None and not found.is_closed() and not found.is_in_transaction()

    async def open(self) -> None:
        self.drop()
        self._connection = await asyncpg.connect(
            self._url, timeout=CONNECT_S, command_timeout=COMMAND_S, server_settings={"application_name": "bide"}
        )

    async def connection(self) -> asyncpg.Connection:
        """The connection, opened anew if it was lost. Raises `DatabaseError` if it cannot be."""
        if not self.usable:
            try:
                await self.open()
            except (*GONE, asyncpg.PostgresError) as error:
                raise DatabaseError("The database cannot be reached at the moment.") from error
        return self._connection

    def drop(self) -> None:
        """Gives up the connection without a word to the server."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()


class Postgres:
    dialect = "postgres"
    errors: tuple[type[Exception], ...] = (*GONE, asyncpg.PostgresError)

    def __init__(self, url: str, *, scan_s: float = SCAN_S) -> None:
        self._url = url
        self._scan_s = scan_s
        self._scanning = asyncio.Semaphore(SCANS)
        self._lanes = [_Lane(url) for _ in range(LANES)]
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
            self._url, min_size=1, max_size=READERS, command_timeout=COMMAND_S,
            server_settings={"application_name": "bide"},
        )  # fmt: skip
        for lane in self._lanes:
            await lane.open()
        self._tasks = [asyncio.create_task(self._run(lane)) for lane in self._lanes]

    @property
    def pool(self) -> asyncpg.Pool:
        if self._pool is None:
            raise DatabaseError("The database is not connected.")
        return self._pool

    # -- reads

    async def rows(self, sql: str, *args: Any) -> list[Row]:
        return await self._read(sql, args, COMMAND_S)

    async def _read(self, sql: str, args: tuple[Any, ...], timeout_s: float) -> list[Row]:
        try:
            found: list[Row] = await self.pool.fetch(sql, *args, timeout=timeout_s)
        except GONE as error:
            raise DatabaseError("The database cannot be read at the moment.") from error
        return found

    async def row(self, sql: str, *args: Any) -> Row | None:
        found = await self.rows(sql, *args)
        return found[0] if found else None

    async def scan(self, sql: str, *args: Any) -> list[Row]:
        """As `rows`, but few at once and not for long: the server is told to give up when the time is over."""
        async with self._scanning:
            return await self._read(sql, args, self._scan_s)

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

    async def _run(self, lane: _Lane) -> None:
        """Commits whatever waits, again and again, until the end."""
        pause_s = BACK_OFF_S[0]
        while True:
            while not self._waiting:
                if self._closing:
                    return
                self._arrived.clear()
                await self._arrived.wait()
            try:
                await lane.connection()
            except DatabaseError as error:
                # Another lane that has its connection does the work; without one, nobody should wait longer.
                if not any(other.usable for other in self._lanes):
                    resolve([(one, error) for one in self._take(len(self._waiting))])
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, BACK_OFF_S[1])
                continue
            pause_s = BACK_OFF_S[0]
            if taken := self._take(MOST_AT_ONCE):  # the other lane may have been quicker than our connection
                resolve(await commit(taken, partial(self._transaction, lane)))

    def _take(self, most: int) -> list[Waiting]:
        taken, self._waiting = self._waiting[:most], self._waiting[most:]
        return taken

    async def _transaction(self, lane: _Lane, work: Callable[[Tx], Awaitable[list[Answer]]]) -> list[Answer]:
        for remaining in (2, 1, 0):
            connection = await lane.connection()
            tx = _Tx(connection)
            try:
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
                lane.drop()
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
        for lane in self._lanes:
            await lane.close()
        if self._pool is not None:
            await self._pool.close()
