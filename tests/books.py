"""The books, proved by adding the ledger up: what the sums say, and that nothing is held for what is over."""

import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from bide.credits.audit import Report, audit
from bide.db import Database
from bide.settings import Settings
from tests import world as worlds
from tests.system.processes import environment
from tests.world import Scripted, World

SIGNS = {"grant": (1, 0, 0), "hold": (0, 0, 1), "charge": (0, 1, -1), "release": (0, 0, -1)}

Sums = dict[str, tuple[int, int, int]]


async def balanced(db: Database) -> Sums:
    """Granted, used and held by application. Fails unless `balances` are the ledger added up."""
    ledger: dict[str, list[int]] = {}
    for application_id, kind, amount in await db.rows("SELECT application_id, kind, amount FROM ledger"):
        sums = ledger.setdefault(application_id, [0, 0, 0])
        for position, sign in enumerate(SIGNS[kind]):
            sums[position] += sign * amount
    added = {one: (sums[0], sums[1], sums[2]) for one, sums in ledger.items()}
    rows = await db.rows("SELECT application_id, sum(granted), sum(used), sum(held) FROM balances"
                         " GROUP BY application_id")  # fmt: skip
    assert {row[0]: (int(row[1]), int(row[2]), int(row[3])) for row in rows} == added
    return added


async def nothing_held(db: Database) -> Sums:
    """As `balanced`, where no task is open."""
    sums = await balanced(db)
    assert {one: held for one, (_, _, held) in sums.items() if held} == {}
    rows = await db.rows("SELECT coalesce(sum(held), 0) FROM spending")
    assert int(rows[0][0]) == 0
    return sums


async def proved(db: Database, now_ms: int) -> Report:
    """What `bide audit` finds: nothing."""
    report = await audit(db, now_ms)
    assert report.problems == []
    return report


def run(settings: Settings, test: Callable[[World], Awaitable[None]], *upstreams: Scripted, **more: object) -> None:
    """As `tests.world.run`; and at the end the books are right, whatever died meanwhile."""

    async def proven(world: World) -> None:
        await test(world)
        await proved(world.gateway.db, world.clock.now)

    worlds.run(settings, proven, *upstreams, **more)


def prove(directory: Path, **settings: object) -> None:
    """The real `bide audit` beside real processes whose files are below `directory`: it finds nothing."""
    found = subprocess.run(
        [sys.executable, "-m", "bide", "audit"], cwd=directory, env=environment(directory, **settings),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr
