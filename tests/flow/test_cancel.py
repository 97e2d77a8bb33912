"""A task that somebody cancels: it ends once, costs nothing, and whoever works on it writes nothing any more."""

import asyncio
from typing import Any

import pytest

from bide.callbacks import store as callbacks
from bide.credits import ledger, usage
from bide.credits.usage import Filter
from bide.flow import work
from bide.flow.cancel import cancel
from bide.flow.waiting import ended
from bide.flow.work import Watch
from bide.providers.base import Pending
from bide.settings import Settings
from bide.tasks import inspect
from tests.api.admin.world import BUSINESS_TOKEN, Admin, manage
from tests.world import CREDIT, Held, PassingClock, Scripted, World, opened, receiving, run

HOOK = "http://127.0.0.1:9/hook"
ERROR = {"code": "api_error", "message": "The task was cancelled."}


async def books(world: World) -> tuple[int, int]:
    """What the caller's application has used, and what is held of it."""
    found = (await ledger.balances(world.gateway.db, ["application-1"]))["application-1"]
    assert found.granted == CREDIT
    return found.used, found.held


async def kinds(world: World, task_id: str) -> list[str]:
    return [row[0] for row in await ledger.movements(world.gateway.db, task_id)]


async def asked(held: Held, by: "asyncio.Task[Any]") -> None:
    """Returns when the upstream is asked; fails if whoever was to ask it ends before."""
    asking = asyncio.create_task(held.asked.wait())
    await asyncio.wait({asking, by}, return_when=asyncio.FIRST_COMPLETED)
    assert asking.done(), by.result()


def test_a_waiting_task_ends_as_cancelled_its_hold_is_released_and_its_callback_is_owed(on_both: Settings) -> None:
    async def test(world: World) -> None:
        async with receiving() as receiver:
            task_id = await world.submit(receiver.url, trace_id="order-7")
            assert (await books(world))[1] > 0
            world.clock.pass_s(2)
            assert await cancel(world.gateway, task_id)
            assert await books(world) == (0, 0)
            assert await kinds(world, task_id) == ["hold", "release"]
            assert await world.work() == []
            document = await world.document(task_id)
            assert document["response"] == {
                "success": False, "task_id": task_id, "trace_id": "order-7", "error": ERROR,
            }  # fmt: skip
            assert "started_at" not in document
            assert document["duration"] == 2.0
            (record,) = await usage.page(world.gateway.db, Filter(), 10)
            assert (record.status, record.code, record.deducted_amount, record.units) == (500, "api_error", 0, 0)
            assert await world.deliver() == 1
            assert receiver.got[0].body["error"] == ERROR
            assert await world.deliver() == 0

    run(on_both, test)


def test_what_has_ended_or_never_was_cannot_be_cancelled(on_both: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit(HOOK)
        await world.work()
        before = await world.document(task_id)
        assert not await cancel(world.gateway, task_id)
        assert not await cancel(world.gateway, "nobody-knows-this")
        assert await world.document(task_id) == before
        assert len(await callbacks.of_task(world.gateway.db, task_id)) == 1

    run(on_both, test)


def test_a_worker_whose_task_was_cancelled_while_it_asked_writes_nothing(on_both: Settings) -> None:
    held = Held()

    async def test(world: World) -> None:
        task_id = await world.submit(HOOK)
        working = asyncio.create_task(world.work())
        await asked(held, working)
        assert await cancel(world.gateway, task_id)
        held.go.set()
        assert await working == [None]
        assert (await world.response(task_id))["error"] == ERROR
        assert await world.attempts(task_id) == [("first", "unknown")]
        assert await books(world) == (0, 0)
        assert world.files() == []
        assert len(await callbacks.of_task(world.gateway.db, task_id)) == 1
        rows = await world.gateway.db.rows("SELECT state FROM endings")
        assert [row[0] for row in rows] == ["cancelled"]

    run(on_both, test, Scripted(held))


def test_a_task_that_waits_for_its_next_poll_is_not_polled_again(on_both: Settings) -> None:
    upstream = Scripted(Pending("up-1", 5.0))

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        assert await cancel(world.gateway, task_id)
        world.clock.pass_s(60)
        assert await world.work() == []
        assert upstream.polls == []
        assert await inspect.open_count(world.gateway.db) == (0, 0)

    run(on_both, test, upstream)


def test_cancelled_twice_at_once_it_ends_once(on_both: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit(HOOK)
        assert any(await asyncio.gather(*(cancel(world.gateway, task_id) for _ in range(5))))
        assert await kinds(world, task_id) == ["hold", "release"]
        assert len(await callbacks.of_task(world.gateway.db, task_id)) == 1
        assert await usage.total(world.gateway.db, Filter()) == 1

    run(on_both, test)


def test_of_a_success_and_a_cancellation_that_meet_one_wins_and_the_books_fit(on_both: Settings) -> None:
    async def test(world: World) -> None:
        ids = [await world.submit(HOOK) for _ in range(30)]
        claimed = await work.work_once(world.gateway, 100)
        moves: list[Any] = []
        for number, one in enumerate(claimed):
            pair = [work.run(world.gateway, one), cancel(world.gateway, one.task.id)]
            moves += pair if number % 2 else reversed(pair)
        await asyncio.gather(*moves)
        ended = [await world.response(one) for one in ids]
        succeeded = [one for one in ended if one["success"]]
        assert all(one["success"] or one["error"] == ERROR for one in ended)
        records = await usage.page(world.gateway.db, Filter(), 100)
        assert sorted(one.id for one in records) == sorted(ids)
        price = records[0].original_amount
        assert price > 0
        assert await books(world) == (price * len(succeeded), 0)
        assert sum(one.deducted_amount for one in records) == price * len(succeeded)
        assert await callbacks.owed(world.gateway.db) == len(ids)
        assert len(world.files()) == len(succeeded)

    run(on_both, test)


# -- callers that wait


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_that_waits_here_hears_of_it_while_the_upstream_is_still_asked(
    on_both: Settings, stream: bool
) -> None:
    held = Held()

    async def test(admin: Admin) -> None:
        caller, gateway = admin.with_token(BUSINESS_TOKEN), admin.world.gateway
        waiting = asyncio.create_task(caller.generate(**{"async": False, "stream": stream}))
        await asked(held, waiting)
        (row,) = await gateway.db.rows("SELECT task_id FROM queue")
        assert await cancel(gateway, row[0])
        async with asyncio.timeout(30):
            answer = await waiting
        assert (answer.status, answer.json["error"]) == (500, ERROR)
        assert not held.go.is_set()

    manage(on_both, test, Scripted(held))


def test_a_caller_that_waits_in_another_process_hears_of_it(on_both: Settings) -> None:
    held = Held()

    async def inside() -> None:
        async with opened(on_both, Scripted(held), clock=PassingClock()) as here, opened(on_both) as there:
            accepted = await here.accept(waits=True, key="once")
            waiting = asyncio.create_task(ended(here.gateway, accepted, Watch()))
            await asked(held, waiting)
            assert await cancel(there.gateway, accepted.task_id)
            async with asyncio.timeout(30):
                assert (await waiting)["error"] == ERROR

    asyncio.run(inside())
