"""`bide audit`: the proof of the books from the command line."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest

from bide.credits.audit import CHECKS, WHOLE
from bide.settings import Settings
from tests.cli.program import bide, output, parsed
from tests.credits.orders import order, tenant
from tests.world import Scripted, World, run


def a_day(settings: Settings) -> None:
    """A gateway that took orders and ended some of them."""

    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=100)
        await order(world, caller, 10)
        await world.work()
        await order(world, caller, 10)

    run(settings, test, Scripted())


def change(settings: Settings, sql: str) -> None:
    """One statement behind the gateway's back."""

    async def postgres() -> None:
        connection = await asyncpg.connect(settings.database_url)
        await connection.execute(sql)
        await connection.close()

    if settings.database_url:
        asyncio.run(postgres())
        return
    with closing(sqlite3.connect(settings.sqlite_path)) as connection, connection:
        connection.execute(sql)


def test_books_that_are_right_end_with_0_and_a_line_for_each_check(on_both: Settings) -> None:
    a_day(on_both)
    lines = output(on_both, "audit").splitlines()
    assert [line.split()[0] for line in lines[: len(CHECKS) + 1]] == ["check", *CHECKS]
    assert lines[-1].endswith("are right.")


def test_books_that_are_wrong_end_with_1_and_say_what_is_wrong(on_both: Settings) -> None:
    a_day(on_both)
    change(on_both, "UPDATE usage SET deducted_amount = 4000000")
    found = bide(on_both, "audit", code=1)
    assert found.stderr == ""
    says = "the record says held 0.00001, charged 4, of that general 0; the ledger 0.00001, 0.00001, 0"
    assert says in found.stdout
    assert "the credential's sum is more than its tasks by used -3.99999, held 0" in found.stdout


def test_programs_get_the_same_as_json(on_both: Settings) -> None:
    a_day(on_both)
    right = parsed(on_both, "audit")
    assert (right["right"], right["count"], right["problems"]) == (True, 0, [])
    assert right["checks"]["usage"] == {"rows": 1, "problems": 0}
    change(on_both, "DELETE FROM usage")
    wrong = bide(on_both, "audit", "--json", code=1)
    assert '"right": false' in wrong.stdout
    assert '"check": "endings"' in wrong.stdout


def test_before_the_first_start_the_books_are_empty_and_right(tmp_path: Path) -> None:
    settings = Settings(data_dir=str(tmp_path / "new"))
    assert {one["rows"] for one in parsed(settings, "audit")["checks"].values()} == {0}


def test_since_some_hours_only_their_tasks_are_looked_at_and_the_sums_are_left_out(on_sqlite: Settings) -> None:
    a_day(on_sqlite)
    checks = parsed(on_sqlite, "audit", "--since", "1.5")["checks"]
    assert set(checks) == set(CHECKS) - set(WHOLE)
    assert (checks["usage"]["rows"], checks["queue"]["rows"]) == (0, 1)  # the world's clock stands in the past


@pytest.mark.parametrize("hours", ["0", "-1", "nan", "soon", "1e9"])
def test_hours_that_are_none_are_refused(on_sqlite: Settings, hours: str) -> None:
    found = bide(on_sqlite, "audit", "--since", hours, code=2)
    assert "--since" in found.stderr
