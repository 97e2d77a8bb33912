"""Applications: the free quota is granted once for ever, top-ups are granted once, and lists cost a page."""

import asyncio
from typing import Any

import pytest

from bide.accounts import applications
from bide.accounts.applications import Application, Filter, New
from bide.credits import granting, ledger
from bide.credits.granting import TopUp
from bide.credits.pricing import MICRO
from bide.db import Database, Tx, write_one
from bide.errors import BadRequest
from bide.settings import Settings
from tests.accounts.tenants import CLOCK, connected, count, make_user, plan, subscribe, use

FREE = 2 * MICRO
NODES, ASKING = 3, 15


async def granted(db: Database) -> int:
    """Micro-credits granted to all."""
    rows = await db.rows("SELECT cast(coalesce(sum(granted), 0) AS BIGINT) FROM balances")
    return int(rows[0][0])


def test_of_many_first_applications_at_once_one_has_the_free_quota(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        user = await make_user(db, "Ada")
        async with connected(on_both, NODES) as nodes:
            made = await asyncio.gather(*(subscribe(nodes[one % NODES], user.id, free=FREE) for one in range(ASKING)))
        balances = await ledger.balances(db, [one.id for one in made])
        assert [one.granted for one in balances.values()] == [FREE]
        assert await count(db, "applications") == ASKING
        assert await count(db, "ledger") == 1

    use(on_both, test)


def test_the_free_quota_is_one_for_each_user_and_service_and_none_for_all_services(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        for name in ("Ada", "Zoë"):
            user = await make_user(db, name)
            for service in ("openai", "suno", None, "openai"):
                await subscribe(db, user.id, service, free=FREE)
        assert await granted(db) == 4 * FREE

    use(on_both, test)


def test_a_free_quota_that_comes_later_is_not_for_those_who_subscribed_before(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        user = await make_user(db, "Ada")
        await subscribe(db, user.id, free=0)
        await subscribe(db, user.id, free=FREE)
        assert await granted(db) == 0

    use(on_both, test)


def test_nobody_subscribes_for_a_user_that_is_not_there(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        new = New("nobody", "openai", "openai", free_amount=FREE)
        assert await write_one(db, lambda tx: applications.create(tx, CLOCK, new)) is None
        assert (await count(db, "applications"), await count(db, "ledger")) == (0, 0)

    use(on_both, test)


def top_up(application: Application, amount: int, name: str = "a") -> TopUp:
    return granting.new_top_up(CLOCK, application.id, amount, "a test", "why", name)


async def add(db: Database, wanted: TopUp) -> bool:
    async def work(tx: Tx) -> bool:
        return await granting.top_up(tx, CLOCK.now_ms(), wanted)

    return await write_one(db, work)


def test_of_many_top_ups_with_one_id_at_once_one_counts(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        one = await subscribe(db, (await make_user(db, "Ada")).id)
        async with connected(on_both, NODES) as nodes:
            done = await asyncio.gather(*(add(nodes[at % NODES], top_up(one, 5)) for at in range(ASKING)))
        assert sum(done) == 1
        assert await granted(db) == 5
        with pytest.raises(BadRequest, match="another amount"):
            await add(db, top_up(one, 6))
        other = await subscribe(db, one.user_id, "suno")
        assert await add(db, top_up(other, 6)), "an id is one application's own"

    use(on_both, test)


def test_many_who_take_away_at_once_leave_nothing_below_zero(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        one = await subscribe(db, (await make_user(db, "Ada")).id)
        await add(db, top_up(one, 10, "first"))
        async with connected(on_both, NODES) as nodes:
            done = await asyncio.gather(
                *(add(nodes[at % NODES], top_up(one, -3, str(at))) for at in range(ASKING)), return_exceptions=True
            )
        assert [one for one in done if not isinstance(one, BadRequest)] == [True] * 3
        assert await granted(db) == 1

    use(on_both, test)


@pytest.mark.parametrize(("text", "amount"), [
    ("1", 1_000_000), ("0.000001", 1), ("-2.5", -2_500_000), (1e12, 10**18), (" 3 ", 3_000_000), ("1e-6", 1),
    (0.1, 100_000), (7, 7_000_000),
])  # fmt: skip
def test_amounts_are_exact(text: Any, amount: int) -> None:
    assert granting.amount_of("amount", text) == amount


@pytest.mark.parametrize("text", [
    "", "x", "nan", "inf", "-inf", "1e13", "1000000000000.000001", "0.0000001", 0.1 + 0.2, 1e300, "1e999999999",
    "--5", "5,5",
])  # fmt: skip
def test_what_is_no_exact_amount_of_credits_is_refused(text: Any) -> None:
    with pytest.raises(BadRequest, match="amount"):
        granting.amount_of("amount", text)


async def stock(tx: Tx) -> None:
    """A few thousand rows of other people, in which nothing may be looked for one by one."""
    people, many = [f"u{at:03}" for at in range(1_000)], [f"{at:05}" for at in range(4_000)]
    await tx.each("INSERT INTO users (id, name, created_at) VALUES ($1, $1, 0)", [(one,) for one in people])
    await tx.each(
        "INSERT INTO applications (id, user_id, name, scope, service, created_at, updated_at)"
        " VALUES ($1, $2, 'n', 'Individual', 'openai', 0, 0)", [(one, people[int(one) % 1_000]) for one in many],
    )  # fmt: skip
    await tx.each(
        "INSERT INTO credentials (id, application_id, user_id, name, token_hash, token_end, created_at, updated_at)"
        " VALUES ($1, $1, $2, 'n', $1, 'ends', 0, 0)", [(one, people[int(one) % 1_000]) for one in many],
    )  # fmt: skip
    await tx.each(
        "INSERT INTO ledger (ref, kind, part, application_id, amount, at) VALUES ($1, $2, 0, $1, 1, 0)",
        [(one, kind) for one in many for kind in ("grant", "hold", "charge")],
    )
    for table in ("balances", "spending"):
        key = "application_id" if table == "balances" else "credential_id"
        granted = ", granted" if table == "balances" else ""
        await tx.each(
            f"INSERT INTO {table} ({key}, slot, used, held{granted}) VALUES ($1, 0, 0, 0{', 0' if granted else ''})",
            [(one,) for one in many],
        )


def test_a_list_of_applications_reads_no_table_from_end_to_end(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        await write_one(db, stock)
        if db.dialect == "postgres":
            for table in ("users", "applications", "credentials", "ledger", "balances", "spending"):
                await db.rows(f"ANALYZE {table}")
        queries: list[tuple[str, list[Any]]] = [(granting.PAID, [["00001", "00002"]])]
        for wanted in (Filter("u001"), Filter("u001", "openai", "Individual")):
            total, page, args = applications.queries(wanted)
            queries += [(total, args), (page, [*args, 20, 0])]
        for sql, args in queries:
            found = await plan(db, sql, args)
            for table in ("applications", "ledger"):
                assert f"SCAN {table}\n" not in f"{found}\n", (sql, found)
                assert f"Seq Scan on {table}" not in found, (sql, found)
        _, page, args = applications.queries(Filter())
        everybody = await plan(db, page, [*args, 20, 0])
        assert "TEMP B-TREE" not in everybody, everybody
        assert "Sort" not in everybody, everybody

    use(on_both, test)
