"""`bide db`: brings the database up to date, and says whether it is well."""

from pathlib import Path
from urllib.parse import urlsplit

import click

from bide.cli.shared import CommandError, connected, one_sentence, place, print_pairs, run, settings_of
from bide.clock import Clock
from bide.db import Database
from bide.db.migrate import migrate as apply
from bide.db.migrate import migrations, version
from bide.settings import Settings


@click.group()
def db() -> None:
    """Migrates and checks the database."""


@db.command()
@one_sentence
def migrate() -> None:
    """Applies the migrations that are missing and prints their names, or 'up to date'.

    SQLite and an empty PostgreSQL database are migrated by a starting gateway too; a PostgreSQL database that
    holds data waits for this command.
    """
    for name in run(_migrate(settings_of())) or ["up to date"]:
        click.echo(name)


async def _migrate(settings: Settings) -> list[str]:
    async with connected(settings) as database:
        done, newest = await _versions(database)
        if done > newest:
            raise CommandError(f"the database is at version {done}, this bide knows {newest}: install the newer bide")
        return await apply(database, Clock())


@db.command()
@one_sentence
def check() -> None:
    """Connects and prints the version of the database; SQLite files are read through for damage.

    Exit code 0: it is well and up to date.
    """
    settings = settings_of()
    if urlsplit(settings.database_url).scheme in ("", "sqlite") and not Path(settings.sqlite_path).exists():
        raise CommandError(f"there is no database {settings.sqlite_path} yet: the first start makes it")
    run(_check(settings))


async def _check(settings: Settings) -> None:
    async with connected(settings) as database:
        done, newest = await _versions(database)
        found = [("dialect", database.dialect), ("database", place(settings)), ("version", str(done)),
                 ("newest", str(newest))]  # fmt: skip
        damage = ""
        if database.dialect == "sqlite":
            damage = "; ".join(str(row[0]) for row in await database.scan("PRAGMA quick_check"))
            found.append(("quick_check", damage))
    print_pairs(found)
    if damage not in ("", "ok"):
        raise CommandError("the database file is damaged: restore it from a backup")
    if done < newest:
        raise CommandError(f"the database is at version {done}, this bide needs {newest}: run 'bide db migrate'")
    if done > newest:
        raise CommandError(f"the database is at version {done}, this bide knows {newest}: install the newer bide")


async def _versions(database: Database) -> tuple[int, int]:
    """That of the database, and the newest this bide knows."""
    return await version(database), migrations(database.dialect)[-1].number
