"""`bide db`: a database that is empty, up to date, too new, damaged or not there."""

import asyncio
from pathlib import Path

import pytest

from bide.cli.shared import connected
from bide.clock import Clock
from bide.db import Tx, write_one
from bide.db.migrate import migrations
from bide.settings import Settings
from tests.cli.program import bide, output, refusal


def _dialect(settings: Settings) -> str:
    return "postgres" if settings.database_url else "sqlite"


def test_migrating_names_what_was_applied_and_then_nothing(on_both: Settings) -> None:
    names = [f"{one.number:04}_{one.name}" for one in migrations(_dialect(on_both))]
    assert output(on_both, "db", "migrate").splitlines() == names
    assert output(on_both, "db", "migrate") == "up to date"


def test_a_migrated_database_is_well(on_both: Settings) -> None:
    output(on_both, "db", "migrate")
    said = dict(line.split(None, 1) for line in output(on_both, "db", "check").splitlines())
    newest = str(migrations(_dialect(on_both))[-1].number)
    assert (said["dialect"], said["version"], said["newest"]) == (_dialect(on_both), newest, newest)
    assert said.get("quick_check") == (None if on_both.database_url else "ok")


def test_an_empty_database_is_told_to_be_migrated(on_both: Settings) -> None:
    async def connect() -> None:
        async with connected(on_both):
            pass

    asyncio.run(connect())
    found = bide(on_both, "db", "check", code=1)
    assert "version" in found.stdout
    assert "run 'bide db migrate'" in found.stderr


def test_a_database_of_a_newer_bide_is_left_alone(on_both: Settings) -> None:
    output(on_both, "db", "migrate")

    async def grow() -> None:
        async def add(tx: Tx) -> None:
            await tx.run("INSERT INTO schema_versions VALUES (9999, 'later', $1)", Clock().now_ms())

        async with connected(on_both) as db:
            await write_one(db, add)

    asyncio.run(grow())
    assert "install the newer bide" in refusal(on_both, "db", "migrate")
    assert "install the newer bide" in bide(on_both, "db", "check", code=1).stderr
    assert "install the newer bide" in refusal(on_both, "credential", "create", "--quiet")


def test_checking_makes_no_database(on_sqlite: Settings) -> None:
    assert on_sqlite.sqlite_path in refusal(on_sqlite, "db", "check")
    assert not Path(on_sqlite.data_dir).exists()


@pytest.mark.parametrize("command", [("db", "check"), ("db", "migrate"), ("credential", "list"), ("task", "list")])
def test_a_file_that_is_no_database_is_one_sentence(on_sqlite: Settings, command: tuple[str, ...]) -> None:
    path = Path(on_sqlite.sqlite_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"this is not a database at all" * 100)
    assert str(path) in refusal(on_sqlite, *command)


def test_a_damaged_page_is_found(on_sqlite: Settings) -> None:
    output(on_sqlite, "db", "migrate")
    path = Path(on_sqlite.sqlite_path)
    data = bytearray(path.read_bytes())
    page = int.from_bytes(data[16:18], "big")
    data[3 * page : 12 * page] = b"\xa5" * (9 * page)
    path.write_bytes(data)
    assert bide(on_sqlite, "db", "check", code=1).stderr.count("\n") == 1


@pytest.mark.parametrize("command", [("db", "check"), ("db", "migrate"), ("credential", "list"), ("task", "list")])
def test_a_server_that_is_not_there_is_one_sentence(on_sqlite: Settings, command: tuple[str, ...]) -> None:
    gone = Settings(data_dir=on_sqlite.data_dir, database_url="postgresql://u:hidden@127.0.0.1:1/d")
    said = refusal(gone, *command)
    assert said.startswith("BIDE_DATABASE_URL: cannot connect")
    assert "hidden" not in said
