"""What is held, charged and released: by whom, how much, how often. Amounts are micro-credits."""

import asyncio
from dataclasses import replace

import pytest

from bide.credits import ledger, usage
from bide.credits.ledger import Funds, Held, Hold, Settlement
from bide.db import Tx, write_one
from bide.errors import BadRequest, UsedUp
from bide.flow import work
from bide.flow.cancel import cancel
from bide.flow.submit import Submission, quote
from bide.providers.base import Failed, Pending, Unknown
from bide.settings import Settings
from tests.books import run
from tests.credits.orders import balance, makes, moves, order, rows, spent, tenant, top_up
from tests.world import Answer, Scripted, World, done, opened
from tests.world import Held as HeldBack

KEPT = ("ledger", "tasks", "queue", "idempotency", "usage", "endings", "files", "task_counts", "spending")


# -- who pays


def test_the_applications_own_balance_pays_before_the_general_one(on_both: Settings) -> None:
    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=25, general=100)
        ids = [(await order(world, caller, 10, units=2)).task_id for _ in range(3)]
        first, split, general = ids
        assert await moves(world, first) == [("hold", 0, "app", 20)]
        assert await moves(world, split) == [("hold", 0, "app", 5), ("hold", 1, "app-general", 15)]
        assert await moves(world, general) == [("hold", 1, "app-general", 20)]
        assert (await balance(world, "app"), await balance(world, "app-general")) == ((25, 0, 25), (100, 0, 35))
        for one in sorted(await work.work_once(world.gateway, 3), key=lambda one: ids.index(one.task.id)):
            await work.run(world.gateway, one)
        assert (await balance(world, "app"), await balance(world, "app-general")) == ((25, 25, 0), (100, 5, 0))
        assert await moves(world, split) == [
            ("charge", 0, "app", 5), ("charge", 1, "app-general", 5), ("hold", 0, "app", 5),
            ("hold", 1, "app-general", 15), ("release", 1, "app-general", 10),
        ]  # fmt: skip
        record = await usage.one(world.gateway.db, split)
        assert record is not None
        assert (record.original_amount, record.deducted_amount, record.deducted_general) == (20, 10, 5)

    run(on_both, test, Scripted(makes(2), makes(1), makes(0)))


def test_without_leave_the_general_balance_pays_nothing(on_both: Settings) -> None:
    async def test(world: World) -> None:
        caller = replace(await tenant(world, "app", own=5, general=100), general_id=None)
        with pytest.raises(UsedUp):
            await order(world, caller, 10)
        assert (await balance(world, "app"), await balance(world, "app-general")) == ((5, 0, 0), (100, 0, 0))

    run(on_both, test)


def test_an_amount_that_both_balances_together_do_not_have_takes_from_neither(on_both: Settings) -> None:
    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=5, general=4)
        with pytest.raises(UsedUp):
            await order(world, caller, 10)
        assert (await balance(world, "app"), await balance(world, "app-general")) == ((5, 0, 0), (4, 0, 0))
        await order(world, caller, 9)
        assert (await balance(world, "app"), await balance(world, "app-general")) == ((5, 0, 5), (4, 0, 4))

    run(on_both, test)


def test_an_application_and_those_it_pays_for_never_spend_the_same_credit(on_both: Settings) -> None:
    """Four callers, one general balance, all at once and from two processes."""

    async def test(world: World) -> None:
        callers = [await tenant(world, "app-0", own=0, general=100)]
        callers += [replace(callers[0], application_id=f"app-{n}", credential_id=f"app-{n}-c") for n in (1, 2)]
        callers += [replace(callers[0], application_id="app-0-general", credential_id="g", general_id=None)]
        for caller in callers:
            await world.seed(caller, 0)
        async with opened(on_both, Scripted(), clock=world.clock) as other:
            orders = [order(one, caller, 10) for _ in range(10) for caller in callers for one in (world, other)]
            answers = await asyncio.gather(*orders, return_exceptions=True)
        assert sum(not isinstance(one, BaseException) for one in answers) == 10
        assert all(isinstance(one, UsedUp) for one in answers if isinstance(one, BaseException))
        assert await balance(world, "app-0-general") == (100, 0, 100)

    run(on_both, test)


def test_a_credential_spends_no_more_than_its_cap_whatever_the_balance_has(on_both: Settings) -> None:
    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=1_000, cap=25)
        other = replace(caller, credential_id="other", cap=None)
        answers = await asyncio.gather(*(order(world, caller, 10) for _ in range(5)), return_exceptions=True)
        assert sum(isinstance(one, UsedUp) for one in answers) == 3
        assert await spent(world, "app-c") == (0, 20)
        await world.work()
        assert await spent(world, "app-c") == (10, 0)  # one succeeded, one failed: only the first was spent
        await order(world, other, 500)
        await order(world, caller, 15)
        with pytest.raises(UsedUp):
            await order(world, caller, 1)

    run(on_both, test, Scripted(done, Failed("forbidden", "No.")))


def test_what_costs_nothing_leaves_no_movement_and_needs_no_credit(on_both: Settings) -> None:
    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=0, cap=0)
        task_id = (await order(world, caller, 0)).task_id
        await world.work()
        assert await moves(world, task_id) == []
        record = await usage.one(world.gateway.db, task_id)
        assert record is not None
        assert (record.status, record.original_amount, record.deducted_amount) == (200, 0, 0)

    run(on_both, test)


# -- what is charged


FREE: dict[str, tuple[Answer, ...]] = {
    "a refusal": (Failed("bad_request", "No."),),
    "moderation": (Failed("forbidden", "Refused by moderation."),),
    "a failure": (Failed("api_error", "Broken."),),
    "a rate limit of the upstream": (Failed("too_many_requests", "Slow.", retryable=True, after_s=1.0),) * 3,
    "an unknown outcome": (Unknown("The connection broke."),),
    "a defect of ours": (ValueError("a defect"),),
    "a code that is not ours": (Failed("made_up", "What?"),),
}


@pytest.mark.parametrize("name", FREE)
def test_nothing_is_charged_for(on_both: Settings, name: str) -> None:
    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=15, general=100)
        task_id = (await order(world, caller, 10, units=2)).task_id
        for _ in FREE[name]:
            await world.work()
            world.clock.pass_s(2)
        assert await moves(world, task_id) == [
            ("hold", 0, "app", 15), ("hold", 1, "app-general", 5), ("release", 0, "app", 15),
            ("release", 1, "app-general", 5),
        ]  # fmt: skip
        assert (await balance(world, "app"), await balance(world, "app-general")) == ((15, 0, 0), (100, 0, 0))
        assert await spent(world, "app-c") == (0, 0)
        record = await usage.one(world.gateway.db, task_id)
        assert record is not None
        assert (record.original_amount, record.deducted_amount, record.units) == (20, 0, 0)
        assert record.status >= 400

    run(on_both, test, Scripted(*FREE[name]))


def test_nothing_is_charged_for_a_task_past_its_deadline(on_both: Settings) -> None:
    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=100)
        task_id = (await order(world, caller)).task_id
        world.clock.pass_s(100_000)
        await world.work()
        record = await usage.one(world.gateway.db, task_id)
        assert record is not None
        assert (record.code, record.status, record.deducted_amount) == ("timeout", 504, 0)
        assert await balance(world, "app") == (100, 0, 0)

    run(on_both, test)


def test_nothing_is_charged_for_a_task_whose_worker_died_while_it_asked(on_both: Settings) -> None:
    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=100)
        await order(world, caller)
        await world.open_attempt(await world.claim_one())
        world.leases_end()
        await world.work()
        assert await balance(world, "app") == (100, 0, 0)

    run(on_both, test)


def test_nothing_is_charged_for_a_task_that_was_cancelled_whatever_its_worker_brings_later(on_both: Settings) -> None:
    held = HeldBack(done)

    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=100)
        task_id = (await order(world, caller)).task_id
        late = asyncio.create_task(world.work())
        await asyncio.wait_for(held.asked.wait(), 10)
        assert await cancel(world.gateway, task_id)
        held.go.set()
        assert await late == [None]
        assert not await cancel(world.gateway, task_id)
        assert await moves(world, task_id) == [("hold", 0, "app", 10), ("release", 0, "app", 10)]
        assert await balance(world, "app") == (100, 0, 0)

    run(on_both, test, Scripted(held))


@pytest.mark.parametrize(("made", "charged"), [(0, 0), (1, 7), (3, 21), (4, 28), (9, 28), (-1, 0)])
def test_only_the_units_that_succeeded_are_charged_and_never_more_than_were_held(
    on_both: Settings, made: int, charged: int
) -> None:
    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=100)
        await order(world, caller, 7, units=4)
        assert await balance(world, "app") == (100, 0, 28)
        await world.work()
        assert await balance(world, "app") == (100, charged, 0)

    run(on_both, test, Scripted(makes(made)))


def test_the_price_is_that_of_the_day_on_which_the_task_was_accepted(on_both: Settings) -> None:
    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=100)
        old = (await order(world, caller, 10)).task_id
        new = (await order(world, caller, 25)).task_id
        async with opened(on_both, Scripted(), clock=world.clock) as later:  # another process, another catalogue
            await later.work()
        assert ("charge", 0, "app", 10) in await moves(world, old)
        assert ("charge", 0, "app", 25) in await moves(world, new)

    run(on_both, test)


def test_a_task_that_is_polled_and_tried_again_is_held_for_and_charged_once(on_both: Settings) -> None:
    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=10)
        task_id = (await order(world, caller)).task_id
        for _ in range(4):
            await world.work()
            assert await balance(world, "app") == (10, 0, 10)
            world.clock.pass_s(10)
        await world.work()
        assert await moves(world, task_id) == [("charge", 0, "app", 10), ("hold", 0, "app", 10)]

    first = Scripted(Failed("too_many_requests", "Slow.", retryable=True, after_s=1.0), Pending("up", 1.0),
                     poll=[Unknown("?"), Pending("up", 1.0)])  # fmt: skip
    run(on_both, test, first)


def test_a_late_worker_charges_nothing(on_both: Settings) -> None:
    held = HeldBack(done)

    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=100)
        task_id = (await order(world, caller)).task_id
        late = asyncio.create_task(world.work())
        await asyncio.wait_for(held.asked.wait(), 10)
        world.leases_end()
        await work.run(world.gateway, await world.claim_one())  # the outcome is unknown: it fails
        before = await moves(world, task_id)
        held.go.set()
        assert await late == [None]
        assert await moves(world, task_id) == before == [("hold", 0, "app", 10), ("release", 0, "app", 10)]

    run(on_both, test, Scripted(held))


def test_the_usage_says_what_was_left_after_each_of_several_that_end_together(on_sqlite: Settings) -> None:
    """In one transaction, that is: on PostgreSQL two that are committed at the same moment do not see each other."""

    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=100)
        ids = [(await order(world, caller, 10)).task_id for _ in range(5)]
        await world.work()
        records = [await usage.one(world.gateway.db, one) for one in ids]
        left = sorted((one.remaining_amount, one.used_amount) for one in records if one is not None)
        assert left == [(50, 50), (60, 40), (70, 30), (80, 20), (90, 10)]

    run(on_sqlite, test)


# -- admission


def test_a_refused_submission_leaves_nothing_and_its_key_may_be_tried_again(on_both: Settings) -> None:
    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=9)
        before = await rows(world, *KEPT)
        with pytest.raises(UsedUp):
            await order(world, caller, key="k")
        assert await rows(world, *KEPT) == before
        await top_up(world, "app", 1)
        accepted = await order(world, caller, key="k")
        assert not accepted.known
        assert await balance(world, "app") == (10, 0, 10)

    run(on_both, test)


def test_an_idempotency_key_is_held_for_once_however_often_it_comes(on_both: Settings) -> None:
    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=100)
        async with opened(on_both, Scripted(), clock=world.clock) as other:
            answers = await asyncio.gather(*(order(one, caller, key="k") for one in (world, other) * 10))
        assert len({one.task_id for one in answers}) == 1
        assert sum(not one.known for one in answers) == 1
        assert await balance(world, "app") == (100, 0, 10)
        await world.work()
        again = await order(world, caller, key="k")
        assert (again.known, again.task_id) == (True, answers[0].task_id)
        assert await balance(world, "app") == (100, 10, 0)
        with pytest.raises(BadRequest):
            await order(world, caller, key="k", body_hash="another body")

    run(on_both, test)


def test_the_same_request_twice_at_once_without_credit_is_refused_twice(on_both: Settings) -> None:
    """Nobody gets the id of a task that was refused to somebody else in the same moment."""

    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=9)
        answers = await asyncio.gather(*(order(world, caller, key="k") for _ in range(30)), return_exceptions=True)
        assert [type(one) for one in answers] == [UsedUp] * 30
        assert (await rows(world, "idempotency", "tasks", "queue")) == {"idempotency": 0, "tasks": 0, "queue": 0}

    run(on_both, test)


def test_credit_for_a_hundred_admits_exactly_a_hundred_of_a_thousand(on_both: Settings) -> None:
    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=1_000)
        async with opened(on_both, Scripted(), clock=world.clock) as other:
            orders = (order((world, other)[n % 2], caller, 10) for n in range(1_000))
            answers = await asyncio.gather(*orders, return_exceptions=True)
        assert sum(isinstance(one, UsedUp) for one in answers) == 900
        assert sum(not isinstance(one, BaseException) for one in answers) == 100
        assert await balance(world, "app") == (1_000, 0, 1_000)
        assert (await rows(world, "queue"))["queue"] == 100

    run(on_both, test)


def test_a_caller_that_waits_is_held_for_and_charged_like_any_other(on_both: Settings) -> None:
    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=15)
        accepted = await order(world, caller, 10, waits=True)
        assert await balance(world, "app") == (15, 0, 10)
        with pytest.raises(UsedUp):
            await order(world, caller, 10, waits=True)
        await world.wait_for(accepted)
        assert await balance(world, "app") == (15, 10, 0)

    run(on_both, test)


def test_a_quote_says_who_would_pay_and_takes_nothing(on_both: Settings) -> None:
    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=400_000, general=400_000)
        poor = await tenant(world, "poor", own=1)
        operation = world.gateway.catalog.operation("openai", "images/generations")
        values = dict(operation.check({"prompt": "a boat", "model": "any-other", "n": 2}))
        wanted = Submission(caller, operation, values, b"{}", None, "a-trace", "http://gateway.test", waits=False)
        found = await quote(world.gateway, wanted)
        assert found.price.units == 2
        assert found.held == Held(400_000, found.price.total - 400_000)
        assert (await quote(world.gateway, replace(wanted, caller=poor))).held is None
        assert await balance(world, "app") == (400_000, 0, 0)

    run(on_both, test)


# -- the pure part


HOLD = Hold("t", "app", "general", "c", None, 10, 0)


@pytest.mark.parametrize(
    ("left", "hold", "held"),
    [
        ({"app": 10}, HOLD, Held(10, 0)),
        ({"app": 4, "general": 6}, HOLD, Held(4, 6)),
        ({"general": 10}, HOLD, Held(0, 10)),
        ({"app": 4, "general": 5}, HOLD, None),
        ({"app": -3, "general": 10}, HOLD, Held(0, 10)),
        ({"app": -3, "general": 9}, HOLD, None),
        ({"app": 9, "general": 9}, replace(HOLD, general_id=None), None),
        ({"app": 10}, replace(HOLD, cap=9), None),
        ({"app": 10}, replace(HOLD, cap=10), Held(10, 0)),
        ({}, replace(HOLD, amount=0, cap=0), Held()),
        ({}, HOLD, None),
    ],
)
def test_a_hold_is_split_or_refused_whole(left: dict[str, int], hold: Hold, held: Held | None) -> None:
    funds = Funds(dict(left))
    assert funds.take(hold) == held
    taken = 0 if held is None else held.own + held.general
    assert sum(left.values()) - sum(funds.left.values()) == taken
    assert funds.spent.get("c", 0) == taken


@pytest.mark.parametrize(
    ("charge", "charged"),
    [(0, Held()), (3, Held(3)), (4, Held(4)), (7, Held(4, 3)), (10, Held(4, 6)), (99, Held(4, 6))],
)
def test_a_charge_is_split_like_its_hold_and_never_exceeds_it(charge: int, charged: Held) -> None:
    assert Settlement("t", "app", "general", "c", Held(4, 6), charge, 0).charged == charged


def test_a_grant_is_made_once(on_both: Settings) -> None:
    async def test(world: World) -> None:
        await tenant(world, "app", own=0)

        async def again(tx: Tx) -> bool:
            return await ledger.grant(tx, "grant/app/1", "app", 5, world.clock.now, "twice")

        assert [await write_one(world.gateway.db, again) for _ in range(2)] == [True, False]
        assert await balance(world, "app") == (5, 0, 0)

    run(on_both, test)

