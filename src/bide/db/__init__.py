"""The database seam: what the stores may ask of SQLite and of PostgreSQL, and nothing else.

**One SQL text for both.** Statements are written with `$1` placeholders in the common subset; a list is
matched with `= ANY($1)`; rows to be worked on are taken with `FOR UPDATE SKIP LOCKED`, rows that others must
wait for with `FOR NO KEY UPDATE`. SQLite's side rewrites these (`bide.db.sqlite.translate`). Times and flags
are integers, ids text, documents bytes.

**Writes are batches.** `write(batch, item)` queues the item; whatever waits is handed to the batch function
as one list and committed as one transaction (group commit), and a caller gets its result only after the
commit of *its* transaction is on disk. A batch function

    async def insert(tx: Tx, items: list[NewTask]) -> list[Result]

answers one result per item; a result that is an exception is raised to that item's caller alone. It may run
more than once for the same items (a batch that fails is taken apart and each part tried again), so it must
do nothing but SQL, and it must not wait for anything but `tx`.

**Reads** see what is committed. `row` and `rows` are for lookups by an index; `scan` is for queries whose
cost grows with what they match, and never blocks the event loop; `load` is `row` for many callers at once.
"""

from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from bide.errors import GatewayError
from bide.settings import Settings

Row = Sequence[Any]
Item = TypeVar("Item")
Result = TypeVar("Result")

Step = tuple[int, str, str]
"""A migration: its number, its name, its SQL."""


VERSIONS = """
CREATE TABLE IF NOT EXISTS schema_versions (number BIGINT PRIMARY KEY, name TEXT NOT NULL, applied_at BIGINT NOT NULL)
"""


class DatabaseError(GatewayError):
    """The database did not do what was asked: gone, locked, full, or of another version."""


class Tx(Protocol):
    """An open transaction."""

    slot: int
    """A small number that transactions which run at the same time rarely share: counters are kept per slot."""

    async def rows(self, sql: str, *args: Any) -> list[Row]:
        """All rows of one statement (a query, or a write with RETURNING)."""
        ...

    async def run(self, sql: str, *args: Any) -> int:
        """How many rows one statement changed."""
        ...

    async def each(self, sql: str, items: Sequence[Sequence[Any]]) -> list[Row]:
        """One write per item; the rows of its RETURNING clause, all together and in any order (none without one).

        No two items may write the same row: PostgreSQL's side makes one statement of all of them.
        """
        ...

    def wake(self, name: str) -> None:
        """After the commit, wakes whoever waits for `name` (`tasks`, `deliveries`) here and on other nodes."""
        ...


Batch = Callable[[Tx, list[Item]], Awaitable[Sequence[Result | BaseException]]]


class Database(Protocol):
    dialect: str
    errors: tuple[type[Exception], ...]
    """What the driver raises by itself. A command ends with it in a sentence; anywhere else it is a defect."""

    async def rows(self, sql: str, *args: Any) -> list[Row]: ...
    async def row(self, sql: str, *args: Any) -> Row | None: ...
    async def scan(self, sql: str, *args: Any) -> list[Row]: ...

    async def load(self, sql: str, key: str, owner: str | None = None) -> Row | None:
        """The row of one key. `sql` has `= ANY($1)` once and answers the key as its first column.

        With `owner` it has `= ANY($2)` too, for whose rows are looked for: what is another's costs what is not there
        costs. Callers that ask at the same time may see each other's rows, so the owner is to be looked at once more.
        """
        ...

    async def write(self, batch: Batch[Item, Result], item: Item) -> Result: ...

    def on_wake(self, name: str, call: Callable[[], None]) -> None:
        """`call` runs in the event loop whenever somebody wakes `name`."""
        ...

    async def migrate(self, steps: Sequence[Step], at_ms: int) -> list[int]:
        """Runs what is missing of some migrations, all in one transaction that no other node's overlaps.

        Answers the numbers of those that were missing in `schema_versions`.
        """
        ...

    async def close(self) -> None:
        """Commits what waits, then closes every connection."""
        ...


def mark(args: list[Any], value: Any) -> str:
    """Adds an argument of a statement that is being put together, and answers its placeholder."""
    args.append(value)
    return f"${len(args)}"


async def connect(settings: Settings) -> Database:
    """The database of the settings, connected. Raises `DatabaseError` with a sentence when it cannot be."""
    scheme = urlsplit(settings.database_url).scheme if settings.database_url else "sqlite"
    modules = {"sqlite": "sqlite", "postgres": "postgres", "postgresql": "postgres"}
    if scheme not in modules:
        raise DatabaseError(f"BIDE_DATABASE_URL: {scheme!r} is not a database bide knows: use postgresql://…")
    # Only the driver that is used is loaded: it is memory and start-up time.
    database: Database = await import_module(f"bide.db.{modules[scheme]}").connect(settings)
    return database


async def write_one(database: Database, work: Callable[[Tx], Awaitable[Result]]) -> Result:
    """A transaction of its own for rare writes: `await write_one(db, lambda tx: create(tx, …))`."""
    return await database.write(apart, work)


async def apart(tx: Tx, items: list[Callable[[Tx], Awaitable[Any]]]) -> list[Any]:
    """The batch function of such writes: it is only ever given one item."""
    return [await work(tx) for work in items]
