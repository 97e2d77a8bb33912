"""The audit finds every kind of wrong: one statement that breaks the books, and the checks that must name it."""

import asyncio
from functools import partial
from typing import Any

from prometheus_client import REGISTRY

from bide.accounts.store import Caller
from bide.app import Worker
from bide.clock import uuid7
from bide.credits.audit import CHECKS, MOST, WHOLE, audit, horizon
from bide.db import Tx, write_one
from bide.flow.cancel import cancel
from bide.providers.base import Failed
from bide.settings import Settings
from tests.books import proved
from tests.credits.orders import makes, order, tenant, top_up
from tests.world import START_MS, Answer, PassingClock, Scripted, World, opened, run, until

TABLES = ("ledger", "balances", "spending", "usage", "queue", "endings")

MOVE = "INSERT INTO ledger (ref, kind, part, application_id, amount, at)"
WRONG: dict[str, tuple[str, set[str]]] = {
    # -- sums
    "a balance that has more": (
        "UPDATE balances SET granted = granted + 1 WHERE application_id = 'app'", {"balances"},
    ),
    "a balance that used less": ("UPDATE balances SET used = used - 1 WHERE application_id = 'app'", {"balances"}),
    "a balance that holds more": (
        "UPDATE balances SET held = held + 1 WHERE application_id = 'app-general'", {"balances", "held"},
    ),
    "a balance that is gone": (
        "DELETE FROM balances WHERE application_id = 'app-general'", {"balances", "held"},
    ),
    "a balance of nobody": (
        "INSERT INTO balances (application_id, slot, granted, used, held) VALUES ('nobody', 0, 5, 0, 0)",
        {"balances"},
    ),
    "a balance below nothing": (
        "UPDATE balances SET granted = 0 WHERE application_id = 'app'", {"balances", "left"},
    ),
    "a grant that is gone": ("DELETE FROM ledger WHERE kind = 'grant' AND application_id = 'app'", {"balances"}),
    "a grant that nobody made": (
        f"{MOVE} VALUES ('made-up', 'grant', 0, 'app', 1, 0)",
        {"balances"},
    ),
    "a credential that spent less": (
        "UPDATE spending SET used = used - 1 WHERE credential_id = 'app-c'", {"spending"},
    ),
    "a credential that holds less": (
        "UPDATE spending SET held = held - 1 WHERE credential_id = 'app-c'", {"spending", "held"},
    ),
    "a credential that spent less than nothing": (
        "UPDATE spending SET used = -1 WHERE credential_id = 'app-c'", {"spending", "left"},
    ),
    # -- open tasks
    "an open task that holds nothing": (
        "UPDATE queue SET held = 0 WHERE task_id = '{open}'", {"queue", "held", "spending"},
    ),
    "an open task that costs more": ("UPDATE queue SET price = price + 1 WHERE task_id = '{open}'", {"queue"}),
    "an open task without its hold": (
        "DELETE FROM ledger WHERE ref = '{open}' AND part = 0", {"queue", "balances"},
    ),
    "an open task that was charged": (
        f"{MOVE} VALUES ('{{open}}\', 'charge', 0, 'app', 1, 0)",
        {"queue", "balances"},
    ),
    "an open task that was released": (
        f"{MOVE} VALUES ('{{open}}\', 'release', 1, 'app-general', 1, 0)", {"queue", "balances"},
    ),
    "an open task that somebody else pays for": (
        "UPDATE queue SET general_id = 'other' WHERE task_id = '{open}'", {"queue", "held"},
    ),
    "an open task that has ended": (
        "INSERT INTO endings (task_id, state, finished_at, expires_at, b64, response)"
        " SELECT '{open}', state, 0, 0, 0, response FROM endings WHERE task_id = '{failed}'", {"endings"},
    ),
    # -- tasks that are over
    "a task lost from the queue": (
        "DELETE FROM queue WHERE task_id = '{open}'", {"holds", "held", "spending", "usage"},
    ),
    "a hold that was never released": (
        "DELETE FROM ledger WHERE ref = '{failed}' AND kind = 'release'", {"holds", "balances"},
    ),
    "a charge that is lost": (
        "DELETE FROM ledger WHERE ref = '{split}' AND kind = 'charge' AND part = 1",
        {"tasks", "balances", "usage"},
    ),
    "a charge without a hold": (
        f"{MOVE} VALUES ('{{free}}\', 'charge', 0, 'app', 1, 0)",
        {"tasks", "balances", "usage"},
    ),
    "a charge that is too high": (
        "UPDATE ledger SET amount = amount + 1 WHERE ref = '{done}' AND kind = 'charge'",
        {"tasks", "balances", "usage"},
    ),
    "a charge of somebody else": (
        "UPDATE ledger SET application_id = 'other' WHERE ref = '{done}' AND kind = 'charge'", {"tasks", "balances"},
    ),
    "a movement of no known kind": (
        f"{MOVE} VALUES ('{{done}}\', 'gift', 0, 'app', 1, 0)",
        {"tasks", "balances"},
    ),
    "a second charge, in a part that is none": (
        f"{MOVE} VALUES ('{{done}}\', 'charge', 2, 'app', 10, 0)",
        {"tasks", "balances", "usage"},
    ),
    "a negative movement": (
        "UPDATE ledger SET amount = -amount WHERE ref = '{cancelled}' AND kind = 'release'", {"tasks", "balances"},
    ),
    "a general charge without a hold": (
        f"{MOVE} VALUES ('{{done}}\', 'charge', 1, 'app-general', 1, 0)", {"general", "tasks", "balances", "usage"},
    ),
    "a general charge before the application's own": (
        "UPDATE ledger SET kind = 'release' WHERE ref = '{split}' AND kind = 'charge' AND part = 0",
        {"general", "balances", "usage"},
    ),
    "a general charge of the application itself": (
        "UPDATE ledger SET application_id = 'app' WHERE ref = '{split}' AND part = 1", {"general", "balances"},
    ),
    "a failed task that was charged": (
        "UPDATE ledger SET kind = 'charge' WHERE ref = '{failed}' AND kind = 'release' AND part = 0",
        {"failed", "balances", "usage"},
    ),
    "a cancelled task that was charged": (
        "UPDATE ledger SET kind = 'charge' WHERE ref = '{cancelled}' AND kind = 'release'",
        {"failed", "balances", "usage"},
    ),
    # -- usage and endings
    "a record that is gone": ("DELETE FROM usage WHERE id = '{done}'", {"usage", "endings", "spending"}),
    "a record of what cost nothing that is gone": ("DELETE FROM usage WHERE id = '{free}'", {"endings"}),
    "a record of less": (
        "UPDATE usage SET deducted_amount = deducted_amount - 1 WHERE id = '{done}'", {"usage", "spending"},
    ),
    "a record of another split": ("UPDATE usage SET deducted_general = 0 WHERE id = '{split}'", {"usage"}),
    "a record of a smaller hold": ("UPDATE usage SET original_amount = 1 WHERE id = '{failed}'", {"usage"}),
    "a record of another credential": (
        "UPDATE usage SET credential_id = 'other' WHERE id = '{done}'", {"spending"},
    ),
    "a record of success that charged nothing": (
        "UPDATE usage SET status = 200, code = NULL, units = 1 WHERE id = '{failed}'", {"usage", "endings"},
    ),
    "a record of a failure that was charged": (
        "UPDATE usage SET status = 500, code = 'api_error' WHERE id = '{done}'", {"usage", "failed", "endings"},
    ),
    "an ending of another state": (
        "UPDATE endings SET state = 'failed' WHERE task_id = '{done}'", {"failed", "endings"},
    ),
}  # fmt: skip


async def history(world: World) -> dict[str, str]:
    """Tasks by name: charged, failed, free, cancelled, split between two balances, and one open, split as well."""
    caller = await tenant(world, "app", own=100, general=100)
    found = {}
    for name, price, units in (("done", 10, 1), ("failed", 60, 1), ("free", 0, 1), ("split", 50, 3)):
        found[name] = (await order(world, caller, price, units)).task_id
        await world.work()
    await top_up(world, "app", 4)
    found["cancelled"] = (await order(world, caller, 4)).task_id
    assert await cancel(world.gateway, found["cancelled"])
    found["open"] = (await order(world, caller, 9)).task_id
    return found


def upstream() -> Scripted:
    return Scripted(makes(1), Failed("forbidden", "No."), makes(1), makes(2))


async def kept(world: World) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of every table the audit reads."""
    return {one: [tuple(row) for row in await world.gateway.db.rows(f"SELECT * FROM {one}")] for one in TABLES}


async def restore(tx: Tx, before: dict[str, list[tuple[Any, ...]]]) -> None:
    for table, found in before.items():
        await tx.run(f"DELETE FROM {table}")
        places = ", ".join(f"${number}" for number in range(1, len(found[0]) + 1))
        await tx.each(f"INSERT INTO {table} VALUES ({places})", found)


async def change(tx: Tx, sql: str) -> int:
    return await tx.run(sql)


async def named(world: World, since: str = "") -> set[str]:
    """The checks that find something wrong."""
    report = await audit(world.gateway.db, world.clock.now, since)
    assert len(report.problems) == min(report.count, MOST)
    assert {one.check for one in report.problems} == {name for name, one in report.checks.items() if one.problems}
    return {one.check for one in report.problems}


def test_every_wrong_is_named_by_the_checks_it_concerns(on_both: Settings) -> None:
    async def test(world: World) -> None:
        tasks = await history(world)
        await proved(world.gateway.db, world.clock.now)
        before = await kept(world)
        found = {}
        for name, (sql, _) in WRONG.items():
            assert await write_one(world.gateway.db, partial(change, sql=sql.format(**tasks)))
            found[name] = await named(world)
            await write_one(world.gateway.db, lambda tx: restore(tx, before))
        await proved(world.gateway.db, world.clock.now)
        assert found == {name: checks for name, (_, checks) in WRONG.items()}
        assert set().union(*found.values()) == set(CHECKS)

    run(on_both, test, upstream())


def test_a_long_ledger_is_walked_in_ranges_and_every_row_is_looked_at_once(on_both: Settings) -> None:
    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=1_000)
        for _ in range(30):
            await order(world, caller, 10)
            world.clock.pass_s(60)
        await world.work()
        for _ in range(3):
            await order(world, caller, 10)
        whole = await proved(world.gateway.db, world.clock.now)
        in_parts = await audit(world.gateway.db, world.clock.now, chunk=4)
        assert in_parts == whole
        assert {name: one.rows for name, one in whole.checks.items()} == {
            "balances": 1, "spending": 1, "held": 2, "left": 2, "queue": 3, "holds": 63, "tasks": 63, "general": 63,
            "failed": 30, "usage": 30, "endings": 30,
        }  # fmt: skip

    run(on_both, test)


def test_an_audit_since_a_time_looks_at_what_came_after_and_at_all_that_is_open(on_both: Settings) -> None:
    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=1_000)
        left = (await order(world, caller, 10)).task_id
        await world.claim_one()
        old = (await order(world, caller, 10)).task_id
        await world.work()
        world.clock.pass_s(59)
        since = uuid7(world.clock.now, 0)
        new = (await order(world, caller, 10)).task_id
        await world.work()
        report = await audit(world.gateway.db, world.clock.now, since)
        assert (report.count, report.checks["usage"].rows, report.checks["queue"].rows) == (0, 1, 1)
        assert set(report.checks) == set(CHECKS) - set(WHOLE)
        wrong = "UPDATE usage SET original_amount = 1 WHERE id = '{}'"
        await write_one(world.gateway.db, partial(change, sql=wrong.format(old)))
        assert await named(world, since) == set()
        await write_one(world.gateway.db, partial(change, sql=wrong.format(new)))
        assert await named(world, since) == {"usage"}
        await write_one(world.gateway.db, partial(change, sql=f"UPDATE queue SET held = 9 WHERE task_id = '{left}'"))
        assert await named(world, since) == {"usage", "queue", "held"}

    run(on_both, test)


def test_of_many_problems_the_first_are_told_and_all_are_counted(on_both: Settings) -> None:
    async def test(world: World) -> None:
        sql = f"{MOVE} VALUES ($1, 'charge', 0, 'app', 1, 0)"
        ids = [(uuid7(START_MS, number),) for number in range(MOST + 50)]
        await write_one(world.gateway.db, lambda tx: tx.each(sql, ids))
        report = await audit(world.gateway.db, world.clock.now + 3_600_000)
        assert report.checks["tasks"].problems == report.checks["usage"].problems == MOST + 50
        assert (report.count, len(report.problems)) == (2 * (MOST + 50) + 1, MOST)

    run(on_both, test)


def test_the_horizon_is_before_every_open_task_and_before_what_may_still_be_written(on_both: Settings) -> None:
    async def test(world: World) -> None:
        hour = START_MS + 3_600_000
        assert await horizon(world.gateway.db, hour) == uuid7(hour - 600_000, 0)
        task_id = await world.submit()
        assert await horizon(world.gateway.db, hour) == task_id
        await world.work()
        assert await horizon(world.gateway.db, hour) == uuid7(hour - 600_000, 0)

    run(on_both, test)


def test_the_books_are_right_at_every_moment_of_a_gateway_that_is_busy(on_both: Settings) -> None:
    """Two processes take orders and work, a third proves the books all the while."""

    async def test() -> None:
        answers: list[Answer] = [makes(1), Failed("forbidden", "No."), makes(2)] * 100
        async with (
            opened(on_both, Scripted(*answers)) as one, opened(on_both, Scripted(*answers), clock=one.clock) as other,
            opened(on_both, Scripted(), clock=one.clock) as prover,
        ):  # fmt: skip
            caller = await tenant(one, "app", own=700, general=2_000)
            other.seeded |= one.seeded
            busy = asyncio.gather(*(keep_busy(world, caller) for world in (one, other)))
            reports = []
            while not busy.done():
                reports.append(await proved(prover.gateway.db, one.clock.now))
            await busy
            one.clock.pass_s(3_600)
            last = await proved(prover.gateway.db, one.clock.now)
            assert last.checks["usage"].rows == 160
            assert len(reports) > 3

    async def keep_busy(world: World, caller: Caller) -> None:
        for _ in range(10):
            await asyncio.gather(*(order(world, caller, 5, 2) for _ in range(8)))
            await world.work()
            world.clock.pass_s(50)
        await world.work()

    asyncio.run(test())


def gauge(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def test_a_worker_proves_the_books_again_and_again_and_shows_it_as_a_metric(on_both: Settings) -> None:
    async def test() -> None:
        async with opened(on_both, Scripted(), clock=PassingClock(), audit_s=0.05) as world:
            caller = await tenant(world, "app", own=100)
            await order(world, caller, 10)
            worker, begun_s = Worker(world.gateway), world.clock.now_ms() / 1000

            async def looked() -> bool:
                return (gauge("bide_audit_timestamp_seconds") or 0) > begun_s

            async def found() -> bool:
                return gauge("bide_audit_problems", check="held") == 1

            worker.start()
            try:
                await until(looked)
                assert {gauge("bide_audit_problems", check=one) for one in set(CHECKS) - set(WHOLE)} == {0.0}
                sql = "UPDATE balances SET held = held + 1 WHERE application_id = 'app' AND slot ="
                sql += " (SELECT min(slot) FROM balances WHERE application_id = 'app')"
                await write_one(world.gateway.db, partial(change, sql=sql))
                await until(found)
                assert "the books are wrong" in [one["event"] for one in world.logs]
            finally:
                await worker.stop()

    asyncio.run(test())
