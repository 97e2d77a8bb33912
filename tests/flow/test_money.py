"""Money and tasks in one transaction: admitted and held for together, ended and charged together, or neither.

Amounts are micro-credits.
"""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from bide.db import DatabaseError, Tx, write_one
from bide.errors import Disabled, TooManyRequests, UsedUp
from bide.flow import settle as settling
from bide.flow import work
from bide.flow.settle import Ending, failure, settle
from bide.settings import Settings
from bide.tasks.states import Event, State, after
from tests.books import run
from tests.credits.orders import balance, makes, moves, order, rows, spent, tenant, top_up
from tests.world import Scripted, World, done, opened

MONEY = ("ledger", "tasks", "queue", "endings", "usage", "idempotency", "spending")


class Shaky:
    """A database that commits, and then loses the word of it, as often as is said."""

    def __init__(self, db: Any, batch: str, times: int) -> None:
        self._db, self._batch, self._times = db, batch, times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    async def write(self, batch: Any, item: Any) -> Any:
        result = await self._db.write(batch, item)
        if batch.__name__ == self._batch and self._times:
            self._times -= 1
            raise DatabaseError("the answer to the commit was lost")
        return result


def shaky(world: World, batch: str, times: int = 2) -> World:
    return replace(world, gateway=replace(world.gateway, db=Shaky(world.gateway.db, batch, times)))


async def change(tx: Tx, sql: str) -> int:
    return await tx.run(sql)


# -- the ending


def test_an_ending_whose_commit_nobody_heard_of_is_charged_once(on_both: Settings) -> None:
    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=5, general=100)
        task_id = (await order(world, caller, 10)).task_id
        (ending,) = await shaky(world, "_settle").work()
        assert ending is not None
        assert await moves(world, task_id) == [
            ("charge", 0, "app", 5), ("charge", 1, "app-general", 5), ("hold", 0, "app", 5),
            ("hold", 1, "app-general", 5),
        ]  # fmt: skip
        assert (await balance(world, "app"), await spent(world, "app-c")) == ((5, 5, 0), (10, 0))

    run(on_both, test, Scripted(makes(1)))


def test_a_submission_whose_commit_nobody_heard_of_is_held_for_and_ends_uncharged_or_done(on_both: Settings) -> None:
    """The caller hears of an error. Who waited is gone, and its task fails; another task is done all the same."""

    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=100)
        for waits in (True, False):
            with pytest.raises(DatabaseError):
                await order(shaky(world, "_admit", 1), caller, 10, waits=waits)
        assert await balance(world, "app") == (100, 0, 20)
        world.leases_end()
        await world.work()
        assert await balance(world, "app") == (100, 10, 0)

    run(on_both, test)


def test_an_ending_that_cannot_be_written_moves_no_money(on_both: Settings) -> None:
    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=100)
        await order(world, caller, 10)
        claimed = await world.claim_one()
        await world.open_attempt(claimed)
        clash = f"INSERT INTO endings SELECT '{claimed.task.id}', 'failed', NULL, 0, 0, 0, request FROM tasks"
        await write_one(world.gateway.db, lambda tx: change(tx, clash))
        before = await rows(world, *MONEY)
        with pytest.raises(Exception, match=r"(?i)unique"):
            await settle(world.gateway, Ending(claimed, Event.SUCCEED, {"success": True}, units=1))
        assert (await rows(world, *MONEY), await balance(world, "app")) == (before, (100, 0, 10))
        await write_one(world.gateway.db, lambda tx: change(tx, "DELETE FROM endings"))
        assert await settle(world.gateway, Ending(claimed, Event.SUCCEED, {"success": True}, units=1))
        assert await balance(world, "app") == (100, 10, 0)

    run(on_both, test)


def test_of_two_workers_that_end_a_task_only_the_winner_moves_money(on_both: Settings) -> None:
    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=100)
        await order(world, caller, 10)
        late = await world.claim_one()
        world.leases_end()
        new = await world.claim_one()
        ends = [Ending(late, Event.SUCCEED, {"success": True}, units=1), failure(new, "api_error", "Broken.")]
        assert await asyncio.gather(*(settle(world.gateway, one) for one in ends)) == [False, True]
        assert await balance(world, "app") == (100, 0, 0)

    run(on_both, test)


def test_what_did_not_succeed_is_never_charged_whatever_units_it_names(on_both: Settings) -> None:
    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=100)
        for event in (Event.FAIL, Event.CANCEL):
            await order(world, caller, 10)
            claimed = await world.claim_one()
            ending = Ending(claimed, event, {"success": False}, code="api_error", units=1)
            assert await settle(world.gateway, ending)
        assert await balance(world, "app") == (100, 0, 0)

    run(on_both, test)


def test_endings_of_many_payers_in_one_transaction_are_each_their_own(on_both: Settings) -> None:
    """Three applications, two of which share a general balance, are charged, partly charged and released together."""

    async def test(world: World) -> None:
        callers = [await tenant(world, "a", own=15, general=100)]
        callers += [replace(callers[0], application_id="b", credential_id="b-c"), await tenant(world, "c", own=90)]
        await world.seed(callers[1], 5)
        ids = [(await order(world, one, 10, units=3)).task_id for one in callers for _ in range(2)]
        claimed = {one.task.id: one for one in await work.work_once(world.gateway, 6)}
        endings = [
            failure(claimed[one], "forbidden", "No.") if at == 4
            else Ending(claimed[one], Event.SUCCEED, {"n": at}, units=at % 4) for at, one in enumerate(ids)
        ]  # fmt: skip
        found = [settling._rows(world.gateway, one, after(State.RUNNING, one.event), 0)
                 for one in endings]  # fmt: skip
        assert await write_one(world.gateway.db, lambda tx: settling._settle(tx, found)) == [True] * 6
        # held a: 15+15 general, 30 general; b: 5+25 general, 30 general; c: 30, 30. Units 0, 1; 2, 3; none, 1.
        assert await balance(world, "a") == (15, 0, 0)
        assert await balance(world, "b") == (5, 5, 0)
        assert await balance(world, "a-general") == (100, 10 + 15 + 30, 0)
        assert await balance(world, "c") == (90, 10, 0)
        assert [await spent(world, f"{one}-c") for one in "abc"] == [(10, 0), (50, 0), (10, 0)]

    run(on_both, test)


# -- admission


def test_who_asks_for_too_much_does_not_keep_others_from_what_is_left(on_both: Settings) -> None:
    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=25)
        asked = [10, 20, 10, 10, 5, 1]
        answers = await asyncio.gather(*(order(world, caller, one) for one in asked), return_exceptions=True)
        assert [isinstance(one, UsedUp) for one in answers] == [False, True, False, True, False, True]
        assert await balance(world, "app") == (25, 0, 25)

    run(on_both, test)


def test_a_tenant_without_credit_is_refused_beside_one_that_has_it(on_both: Settings) -> None:
    async def test(world: World) -> None:
        rich, poor = await tenant(world, "rich", own=1_000), await tenant(world, "poor", own=0)
        answers = await asyncio.gather(
            *(order(world, one, 10) for _ in range(20) for one in (rich, poor)), return_exceptions=True
        )
        assert [isinstance(one, UsedUp) for one in answers] == [False, True] * 20
        assert (await balance(world, "rich"), await balance(world, "poor")) == ((1_000, 0, 200), (0, 0, 0))

    run(on_both, test)


def test_a_task_that_is_one_too_many_holds_nothing(on_both: Settings) -> None:
    async def test(world: World) -> None:
        caller = replace(await tenant(world, "app", own=1_000), limits={"*": {"concurrent": 3}})
        orders = (order(world, caller, 10, key=f"{n}") for n in range(5))
        answers = await asyncio.gather(*orders, return_exceptions=True)
        assert [isinstance(one, TooManyRequests) for one in answers] == [False] * 3 + [True] * 2
        assert await balance(world, "app") == (1_000, 0, 30)
        assert (await rows(world, "idempotency"))["idempotency"] == 3
        await world.work()
        assert not (await order(world, caller, 10, key="4")).known

    run(on_both, test)


def test_an_application_that_was_switched_off_a_moment_ago_holds_nothing(on_both: Settings) -> None:
    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=100)
        off = "UPDATE applications SET disabled = 1 WHERE id = 'app'"
        await write_one(world.gateway.db, lambda tx: change(tx, off))
        with pytest.raises(Disabled):
            await order(world, caller, 10, key="k")
        assert await balance(world, "app") == (100, 0, 0)
        assert (await rows(world, "idempotency"))["idempotency"] == 0

    run(on_both, test)


def test_credit_that_comes_back_or_is_added_may_be_spent_at_once_by_any_process(on_both: Settings) -> None:
    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=10)
        async with opened(on_both, Scripted(done), clock=world.clock) as other:
            await order(world, caller, 10)
            with pytest.raises(UsedUp):
                await order(other, caller, 1)
            claimed = await world.claim_one()
            assert await settle(world.gateway, failure(claimed, "api_error", "Broken."))
            await order(other, caller, 10)
            await top_up(world, "app", 3)
            await order(other, caller, 3)
            with pytest.raises(UsedUp):
                await order(world, caller, 1)
        assert await balance(world, "app") == (13, 0, 13)

    run(on_both, test)
