"""Forward-only migrations: numbered SQL files, one per database, applied in order.

`0002_words.sqlite.sql` and `0002_words.postgres.sql` are the same step in two languages. An SQLite file is
brought up to date at every start; so is an empty PostgreSQL database. One that holds data is left to
`bide db migrate`, so that the operator decides when.
"""

from dataclasses import dataclass
from importlib.resources import files

from bide.clock import Clock
from bide.db import Database, DatabaseError


@dataclass(frozen=True, slots=True)
class Migration:
    number: int
    name: str
    sql: str


def migrations(dialect: str) -> list[Migration]:
    """The files of one database in the order of their numbers."""
    found = []
    for file in files("bide.db.migrations").iterdir():
        stem, _, rest = file.name.partition(".")
        if rest == f"{dialect}.sql":
            number, _, name = stem.partition("_")
            found.append(Migration(int(number), name, file.read_text("utf-8")))
    return sorted(found, key=lambda migration: migration.number)


async def version(database: Database) -> int:
    """The number of the last migration applied; 0 for an empty database."""
    catalogue = {
        "sqlite": "SELECT count(*) FROM sqlite_master WHERE name = 'schema_versions'",
        "postgres": "SELECT count(*) FROM pg_tables"
        " WHERE schemaname = current_schema() AND tablename = 'schema_versions'",
    }
    there = await database.row(catalogue[database.dialect])
    if not there or not there[0]:
        return 0
    row = await database.row("SELECT coalesce(max(number), 0) FROM schema_versions")
    return int(row[0]) if row else 0


async def migrate(database: Database, clock: Clock) -> list[str]:
    """Applies what is missing, all of it or nothing, and answers the names of what was applied."""
    steps = {one.number: one for one in migrations(database.dialect)}
    done = await database.migrate([(one.number, one.name, one.sql) for one in steps.values()], clock.now_ms())
    return [f"{number:04}_{steps[number].name}" for number in done]


async def prepare(database: Database, clock: Clock) -> None:
    """What a starting process does: see the module's docstring. Raises `DatabaseError` if it may not start."""
    done, newest = await version(database), migrations(database.dialect)[-1].number
    if done > newest:
        raise DatabaseError(f"The database is at version {done}, this bide knows {newest}: install the newer bide.")
    if done == newest:
        return
    if done and database.dialect != "sqlite":
        raise DatabaseError(f"The database is at version {done}, this bide needs {newest}: run 'bide db migrate'.")
    await migrate(database, clock)
