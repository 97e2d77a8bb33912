"""PostgreSQL through asyncpg: writes in two lanes with group commit, reads from a small pool.

Each lane has a connection of its own, so that no number of slow reads keeps a lease from being extended; and
few reads of the slow kind (`scan`) run at once, so that they leave room for the quick ones. A process has at
most two lanes, four readers and one listener.

Measured choices (docs/decisions): one transaction per insert does about a third of what two lanes of
batches do; lookups of one turn of the event loop collected into one `= ANY` do five times a pool.
"""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import asyncpg

from bide.db import VERSIONS, Batch, DatabaseError, Item, Result, Row, Step, Tx
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
        asyncpg.AdminShutdownError, asyncpg.CrashShutdownError, asyncpg.IdleInTransactionSessionTimeoutError,
        asyncpg.InsufficientResourcesError, asyncpg.ReadOnlySQLTransactionError, TimeoutError,
        asyncpg.InternalClientError)  # fmt: skip  # the last: the server's farewell came between two statements
"""The server is away, full, or a standby: what was to be written is tried again later."""
MIGRATION_LOCK = 0x62696465  # "bide" in ASCII: any number no other program is likely to use
SLOT_LOCKS = MIGRATION_LOCK + 1
STATEMENTS = 500
"""Prepared statements a lane keeps: a batch is one of many combinations of writes."""
BY_KEY = {
    "application_name": "bide", "enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off",
    "jit": "off", "idle_in_transaction_session_timeout": "10s",
}  # fmt: skip
"""A lane finds its rows by their keys, always: a plan made while a table was small must not read all of it later. And
the locks of a process that stands still, or whose machine is gone, are not kept from everybody else."""


async def connect(settings: Settings) -> "Postgres":
    database = Postgres(settings.database_url)
    try:
        await database.start()
    except (*GONE, asyncpg.PostgresError, ValueError) as error:
        await database.close()
        raise DatabaseError(f"BIDE_DATABASE_URL: cannot connect: {type(error).__name__}: {error}") from error
    return database


_TABLE = re.compile(r"\b(?:INTO|UPDATE|FROM) (\w+)")
_TYPES: dict[str, tuple[str, ...]] = {}
"""The types of a statement's arguments, which the server knows."""


@cache
def of_many(sql: str, types: tuple[str, ...], before: int = 0) -> str:
    """A write of one row as one statement for many: its arguments become columns of `given`, a row per item.

    `before`: how many arguments there are before its own.
    """
    names = [f"a{number}" for number, _ in enumerate(types, 1)]
    arrays = ", ".join(f"${before + number}::{one}[]" for number, one in enumerate(types, 1))
    source = f"unnest({arrays}) AS given ({', '.join(names)})"
    of_row = re.sub(r"\$(\d+)", r"given.a\1", sql)
    if sql.startswith("INSERT"):
        return re.sub(r" VALUES \((.*?)\)(?= ON CONFLICT| RETURNING|$)", rf" SELECT \1 FROM {source}", of_row)
    word = "FROM" if sql.startswith("UPDATE") else "USING"
    head, _, condition = of_row.partition(" WHERE ")
    # Asked for like this the first column, a key, can only be looked up: no plan walks the index of a table that was
    # small when the plan was made.
    condition = re.sub(r"^(\w+) = (given\.a\d+)", r"\1 = ANY(ARRAY[\2])", condition)
    return f"{head} {word} {source} WHERE {condition}"


@cache
def as_one(statements: tuple[str, ...]) -> str:
    """Writes to different tables as one statement."""
    *first, last = statements
    parts = ", ".join(f"w{number} AS ({one})" for number, one in enumerate(first))
    return f"WITH {parts} {last}" if first else last


class _Tx:
    """An open transaction on one connection.

    Writes that answer nothing wait until something else is asked for, or the commit; then all of them, each about
    another table, go out as one statement. Every trip to the server costs about as much as what it does there.
    """

    def __init__(self, connection: asyncpg.Connection, slot: int) -> None:
        self._connection = connection
        self.slot = slot
        self.wakes: set[str] = set()
        self._waiting: dict[str, tuple[str, Sequence[Sequence[Any]]]] = {}

    async def rows(self, sql: str, *args: Any) -> list[Row]:
        await self.flush()
        found: list[Row] = await self._connection.fetch(sql, *args)
        return found

    async def run(self, sql: str, *args: Any) -> int:
        await self.flush()
        status: str = await self._connection.execute(sql, *args)  # such as "UPDATE 3", "INSERT 0 1"
        last = status.rpartition(" ")[2]
        return int(last) if last.isdigit() else 0

    async def each(self, sql: str, items: Sequence[Sequence[Any]]) -> list[Row]:
        if not items:
            return []
        table = _TABLE.search(sql)
        assert table is not None
        if "RETURNING" in sql or table[1] in self._waiting:
            await self.flush()
        self._waiting[table[1]] = (sql, items)
        return await self.flush() if "RETURNING" in sql else []

    async def flush(self) -> list[Row]:
        """Sends what waits; the rows of the last of it."""
        if not self._waiting:
            return []
        statements, columns = [], list[Any]()
        for sql, items in self._waiting.values():
            types = await self._types(sql)
            statements.append(of_many(sql, types, len(columns)))
            columns += [list(column) for column in zip(*items, strict=True)]
        self._waiting.clear()
        found: list[Row] = await self._connection.fetch(as_one(tuple(statements)), *columns)
        return found

    async def _types(self, sql: str) -> tuple[str, ...]:
        if sql not in _TYPES:
            statement = await self._connection.prepare(sql)
            _TYPES[sql] = tuple(one.name for one in statement.get_parameters())
        return _TYPES[sql]

    def wake(self, name: str) -> None:
        self.wakes.add(name)


async def _free_slot(connection: asyncpg.Connection) -> int:
    """A slot that no other connection has, as long as there are enough: two that share one wait for each other, and
    could do so in a circle. The server takes it back when the connection ends."""
    for slot in random.sample(range(SLOTS), SLOTS):
        if await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", SLOT_LOCKS, slot):
            return slot
    return random.randrange(SLOTS)


class _Lane:
    """The one connection of a lane, which only that lane uses."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: asyncpg.Connection | None = None
        self.slot = 0

    @property
    def usable(self) -> bool:
        """Whether it is open, and nothing is left on it of a transaction that broke."""
        found = self._connection
        return found is not None and not found.is_closed() and not found.is_in_transaction()

    async def open(self) -> None:
        self.drop()
        self._connection = await asyncpg.connect(
            self._url, timeout=CONNECT_S, command_timeout=COMMAND_S, server_settings=BY_KEY,
            statement_cache_size=STATEMENTS,
        )  # fmt: skip
        self.slot = await _free_slot(self._connection)

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


@dataclass(slots=True)
class _Loads:
    """Lookups by one statement that will go out together."""

    keys: dict[str, asyncio.Future[Row | None]]
    owners: set[str]


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
        self._loads: dict[str, _Loads] = {}
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

    async def load(self, sql: str, key: str, owner: str | None = None) -> Row | None:
        """Lookups of one turn of the event loop go out as one query."""
        waiting = self._loads.get(sql)
        if waiting is None:
            waiting = self._loads[sql] = _Loads({}, set())
            asyncio.get_running_loop().call_soon(self._send_loads, sql)
        if owner is not None:
            waiting.owners.add(owner)
        future = waiting.keys.get(key)
        if future is None:
            future = waiting.keys[key] = asyncio.get_running_loop().create_future()
        return await asyncio.shield(future)

    def _send_loads(self, sql: str) -> None:
        task = asyncio.create_task(self._load(sql, self._loads.pop(sql)))
        self._loading.add(task)
        task.add_done_callback(self._loading.discard)

    async def _load(self, sql: str, waiting: _Loads) -> None:
        owners = [list(waiting.owners)] if waiting.owners else []
        try:
            found = {row[0]: row for row in await self.rows(sql, list(waiting.keys), *owners)}
        except Exception as error:
            for future in waiting.keys.values():
                future.set_exception(error)
                future.exception()  # a caller that was cancelled will not ask for it
            return
        for key, future in waiting.keys.items():
            future.set_result(found.get(key))

    # -- writes

    async def write(self, batch: Batch[Item, Result], item: Item) -> Result:
        if self._closing:
            raise DatabaseError("The database is closed.")
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
            tx = _Tx(connection, lane.slot)
            try:
                async with connection.transaction():
                    answers = await work(tx)
                    await tx.flush()
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

    async def migrate(self, steps: Sequence[Step], at_ms: int) -> list[int]:
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
            await connection.execute(VERSIONS)
            there = {row[0] for row in await connection.fetch("SELECT number FROM schema_versions")}
            missing = [step for step in steps if step[0] not in there]
            for number, name, sql in missing:
                await connection.execute(sql)
                await connection.execute("INSERT INTO schema_versions VALUES ($1, $2, $3)", number, name, at_ms)
            return [step[0] for step in missing]

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
