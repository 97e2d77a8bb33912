"""SQLite: one file, one writer thread with group commit, reads in the event loop.

Measured choices (docs/decisions): a thread hop per read costs ten to thirty times the read itself; one
writer that commits whatever waits does about seven times the inserts of one transaction per insert, with
`synchronous=FULL`, so a commit is on disk when it is answered.
"""

import asyncio
import json
import queue
import re
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

from bide.db import VERSIONS, Batch, DatabaseError, Item, Result, Row, Step, Tx, write_one
from bide.db.batches import Answer, Waiting, Wakes, commit, resolve
from bide.settings import Settings

BUSY_S = 10.0
"""How long a transaction waits for another process's before it fails."""

MOST_AT_ONCE = 1_000
"""Writes in one transaction: bounds how long a caller waits behind others."""

ROWS = (64, 16, 4, 1)
"""Rows of one insert. After each statement the writer waits for the interpreter's lock, which the event loop has most
of the time: a row at a time that is a good part of all a task costs."""

SCANS = 3
"""Looks through many rows at once, each in a thread: a long one must not hold up everybody else's."""


async def connect(settings: Settings) -> "SQLite":
    if sqlite3.sqlite_version_info < (3, 35):
        raise DatabaseError(f"SQLite {sqlite3.sqlite_version} is too old: bide needs 3.35 or later")
    path = Path(settings.sqlite_path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return SQLite(str(path))
    except (OSError, sqlite3.Error) as error:
        raise DatabaseError(f"BIDE_DATA_DIR: {path} cannot be used: {error}") from error


@cache
def translate(sql: str) -> str:
    """The common SQL in SQLite's words."""
    sql = re.sub(r"= ANY\(\$(\d+)\)", r"IN (SELECT value FROM json_each(?\1))", sql)
    sql = re.sub(r"= ANY\(ARRAY\((.*?)\)\)", r"IN (\1)", sql)
    sql = re.sub(r"<> ALL\(\$(\d+)\)", r"NOT IN (SELECT value FROM json_each(?\1))", sql)
    sql = re.sub(r"FOR (NO KEY )?UPDATE( SKIP LOCKED)?", "", sql)  # there is one writer
    return re.sub(r"\$(\d+)", r"?\1", sql)


@cache
def translate_one(sql: str) -> str:
    """As `translate`, for one key and one owner instead of lists."""
    return translate(sql.replace("= ANY($1)", "= $1").replace("= ANY($2)", "= $2"))


@cache
def of_many(sql: str, rows: int) -> str:
    """An insert of one row as one of several, each with arguments of its own."""
    values = re.search(r"VALUES (\(.*?\))(?= ON CONFLICT|$)", sql)
    assert values is not None
    row = values[1]
    width = max(int(number) for number in re.findall(r"\$(\d+)", row))

    def at(position: int) -> str:
        return re.sub(r"\$(\d+)", lambda found: f"${int(found[1]) + position * width}", row)

    every = ",".join(at(position) for position in range(rows))
    return translate(f"{sql[: values.start(1)]}{every}{sql[values.end(1) :]}")


def _arguments(args: Sequence[Any]) -> Sequence[Any]:
    if any(isinstance(value, list) for value in args):
        return [json.dumps(value) if isinstance(value, list) else value for value in args]
    return args


class _Tx:
    """The writer's open transaction. Its coroutines never suspend, so a thread can drive them."""

    slot = 0  # one transaction at a time

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.wakes: set[str] = set()

    async def rows(self, sql: str, *args: Any) -> list[Row]:
        return self._connection.execute(translate(sql), _arguments(args)).fetchall()

    async def run(self, sql: str, *args: Any) -> int:
        return self._connection.execute(translate(sql), _arguments(args)).rowcount

    async def each(self, sql: str, items: Sequence[Sequence[Any]]) -> list[Row]:
        if "RETURNING" not in sql:
            if sql.startswith("INSERT"):
                self._insert(sql, items)
            else:
                self._connection.executemany(translate(sql), items)
            return []
        sql = translate(sql)
        answered: list[Row] = []
        for item in items:
            answered += self._connection.execute(sql, item).fetchall()
        return answered

    def _insert(self, sql: str, items: Sequence[Sequence[Any]]) -> None:
        at = 0
        for rows in ROWS:
            while len(items) - at >= rows:
                arguments = [*chain.from_iterable(items[at : at + rows])]
                self._connection.execute(of_many(sql, rows), arguments)
                at += rows

    def wake(self, name: str) -> None:
        self.wakes.add(name)


class SQLite:
    dialect = "sqlite"
    errors: tuple[type[Exception], ...] = (sqlite3.Error,)

    def __init__(self, path: str) -> None:
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._closing = False
        self._wakes = Wakes()
        self._asked: list[Waiting] = []
        self._waiting: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        writer = _open(path)  # first: it may have to recover the log of a process that was killed
        self._reader = _open(path, read_only=True)
        self._scanners: asyncio.Queue[_Scanner] = asyncio.Queue()
        for _ in range(SCANS):
            self._scanners.put_nowait(_Scanner(path))
        self._thread = threading.Thread(target=self._write_for_ever, args=(writer,), name="bide-writer", daemon=True)
        self._thread.start()

    # -- reads

    async def rows(self, sql: str, *args: Any) -> list[Row]:
        return self._reader.execute(translate(sql), _arguments(args)).fetchall()

    async def row(self, sql: str, *args: Any) -> Row | None:
        found: Row | None = self._reader.execute(translate(sql), _arguments(args)).fetchone()
        return found

    async def load(self, sql: str, key: str, owner: str | None = None) -> Row | None:
        args = (key,) if owner is None else (key, owner)
        found: Row | None = self._reader.execute(translate_one(sql), args).fetchone()
        return found

    async def scan(self, sql: str, *args: Any) -> list[Row]:
        scanner = await self._scanners.get()
        abandoned = threading.Event()
        job = self._loop.run_in_executor(None, scanner.read, abandoned, translate(sql), _arguments(args))
        # Free when its thread has ended, which is later than now for a caller who stops waiting.
        job.add_done_callback(lambda _: self._scanners.put_nowait(scanner))
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            abandoned.set()
            raise

    # -- writes

    async def write(self, batch: Batch[Item, Result], item: Item) -> Result:
        if self._closing:
            raise DatabaseError("The database is closed.")
        done: asyncio.Future[Result] = self._loop.create_future()
        if not self._asked:
            self._loop.call_soon(self._hand_over)
        self._asked.append(Waiting(batch, item, done))
        return await done

    def _hand_over(self) -> None:
        """Gives the writer all that was asked for in one turn of the event loop. Woken by the first of it, the writer
        would begin a transaction with that alone."""
        for one in self._asked:
            self._waiting.put(one)
        self._asked.clear()

    def on_wake(self, name: str, call: Callable[[], None]) -> None:
        self._wakes.add(name, call)

    async def migrate(self, steps: Sequence[Step], at_ms: int) -> list[int]:
        async def run(tx: Tx) -> list[int]:
            await tx.run(VERSIONS)
            there = {row[0] for row in await tx.rows("SELECT number FROM schema_versions")}
            missing = [step for step in steps if step[0] not in there]
            for number, name, sql in missing:
                for statement in _statements(sql):
                    await tx.run(statement)
                await tx.run("INSERT INTO schema_versions VALUES ($1, $2, $3)", number, name, at_ms)
            return [step[0] for step in missing]

        return await write_one(self, run)

    async def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._hand_over()
            self._waiting.put(None)
            await asyncio.to_thread(self._thread.join)
            self._reader.close()
            for _ in range(SCANS):
                (await self._scanners.get()).close()

    def _write_for_ever(self, connection: sqlite3.Connection) -> None:
        """The writer thread: waits for one write, takes all that wait, commits them together."""
        taken: list[Waiting] = []
        while self._take(taken):
            wakes: set[str] = set()
            answers = _drive(commit(taken, partial(_transaction, connection, wakes)))
            self._loop.call_soon_threadsafe(self._answer, answers, wakes)
        connection.close()

    def _take(self, taken: list[Waiting]) -> bool:
        """Fills `taken` with what waits, at least one; False when the database is being closed."""
        taken.clear()
        one = self._waiting.get()
        while one is not None:
            taken.append(one)
            if len(taken) == MOST_AT_ONCE or self._waiting.empty():
                return True
            one = self._waiting.get()
        self._waiting.put(None)  # the next call ends the thread
        return bool(taken)

    def _answer(self, answers: list[Answer], wakes: set[str]) -> None:
        resolve(answers)
        self._wakes.fire(wakes)


class _Scanner:
    """A connection for looks through many rows, one at a time; one that nobody waits for any more is given up."""

    _STEPS = 10_000
    """Steps of SQLite's machine between two looks at whether to go on: some tenth of a millisecond."""

    def __init__(self, path: str) -> None:
        self._connection = _open(path, read_only=True)
        self._connection.set_progress_handler(lambda: self._abandoned.is_set(), self._STEPS)
        self._abandoned = threading.Event()

    def read(self, abandoned: threading.Event, sql: str, args: Sequence[Any]) -> list[Row]:
        """In a thread. Nothing as soon as it is abandoned."""
        self._abandoned = abandoned
        try:
            return self._connection.execute(sql, args).fetchall()
        except sqlite3.OperationalError:
            if abandoned.is_set():
                return []
            raise

    def close(self) -> None:
        self._connection.close()


async def _transaction(
    connection: sqlite3.Connection, wakes: set[str], work: Callable[[Tx], Awaitable[list[Answer]]]
) -> list[Answer]:
    tx = _Tx(connection)
    try:
        connection.execute("BEGIN IMMEDIATE")
        answers = await work(tx)
        connection.execute("COMMIT")
    except BaseException as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if isinstance(error, sqlite3.OperationalError):
            raise DatabaseError("The database cannot be written at the moment.") from error
        raise
    wakes |= tx.wakes
    return answers


def _drive(coroutine: Coroutine[Any, Any, list[Answer]]) -> list[Answer]:
    """Runs a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        answers: list[Answer] = end.value
        return answers
    raise RuntimeError("a batch function waited for something other than its transaction")


def _open(path: str, *, read_only: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA cache_size = -16384")  # KiB; per connection, filled only as used
    connection.execute("PRAGMA mmap_size = 268435456")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    if read_only:
        connection.execute("PRAGMA query_only = 1")
    return connection


def _statements(script: str) -> list[str]:
    """The statements of a migration file."""
    found, start = [], 0
    for end in (match.end() for match in re.finditer(";", script)):
        if sqlite3.complete_statement(script[start:end]):
            found.append(script[start:end].strip())
            start = end
    return found
