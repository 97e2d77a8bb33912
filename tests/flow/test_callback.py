"""Callbacks: what is sent, when it is sent again, and that no receiver holds up another."""

import asyncio
import contextlib
import resource
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from standardwebhooks import Webhook

from bide.app import Worker
from bide.callbacks import store
from bide.callbacks.hosts import PROBATION_MAX, SLOW_PUT_OFF_MS
from bide.db import write_one
from bide.flow import callback
from bide.providers.base import Failed
from bide.settings import Settings
from bide.tasks import purge
from tests.world import PassingClock, Scripted, World, opened, receiving, run, until

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"


@dataclass(frozen=True)
class Delivery:
    """A row of `deliveries` with its attempts, as (status, error)."""

    id: str
    state: str
    due_at: int | None
    sent: int
    attempts: list[tuple[int | None, str]]


async def delivery(world: World, task_id: str) -> Delivery:
    ((row, attempts),) = await store.of_task(world.gateway.db, task_id)
    return Delivery(row[0], row[2], row[3], row[4], [(one[2], one[4]) for one in attempts])


async def finished(world: World, url: str, **body: Any) -> str:
    """A task that has ended and owes its callback."""
    task_id = await world.submit(url, trace_id="order-7", **body)
    await world.work()
    return task_id


# -- what is sent


def test_a_callback_is_sent_once_when_the_task_has_ended(on_both: Settings) -> None:
    async def test(world: World) -> None:
        async with receiving() as receiver:
            task_id = await world.submit(receiver.url)
            assert await world.deliver() == 0
            await world.work()
            assert await world.deliver() == 1
            assert await world.deliver() == 0
        assert len(receiver.got) == 1
        found = await delivery(world, task_id)
        assert (found.state, found.due_at, found.attempts) == ("delivered", None, [(200, "")])

    run(on_both, test)


def test_the_body_of_a_picture_task_holds_the_whole_answer_below_data(on_both: Settings) -> None:
    async def test(world: World) -> None:
        async with receiving() as receiver:
            task_id = await finished(world, receiver.url)
            await world.deliver()
        response = await world.response(task_id)
        inner = {name: response[name] for name in ("created", "data", "model")}
        envelope = {"success": True, "task_id": task_id, "trace_id": "order-7"}
        assert receiver.got[0].body == {**envelope, "data": inner}

    run(on_both, test)


def test_the_body_is_the_tasks_response_where_the_operator_wants_it_flat(on_both: Settings) -> None:
    async def test(world: World) -> None:
        async with receiving() as receiver:
            task_id = await finished(world, receiver.url)
            await world.deliver()
        assert receiver.got[0].body == await world.response(task_id)

    run(on_both, test, callback_shape="flat")


@pytest.mark.parametrize("shape", ["nested", "flat"])
def test_the_body_of_a_failed_task_holds_the_error(on_sqlite: Settings, shape: str) -> None:
    async def test(world: World) -> None:
        async with receiving() as receiver:
            task_id = await finished(world, receiver.url)
            await world.deliver()
        assert receiver.got[0].body == {
            "success": False, "task_id": task_id, "trace_id": "order-7",
            "error": {"code": "forbidden", "message": "Refused."},
        }  # fmt: skip

    run(on_sqlite, test, Scripted(Failed("forbidden", "Refused.")), callback_shape=shape)


def test_a_callback_never_carries_base64_but_the_address_of_the_picture(on_sqlite: Settings) -> None:
    async def test(world: World) -> None:
        async with receiving() as receiver:
            await finished(world, receiver.url, response_format="b64_json")
            await world.deliver()
        (item,) = receiver.got[0].body["data"]["data"]
        assert set(item) == {"url"}

    run(on_sqlite, test)


def test_a_receiver_can_tell_which_callback_and_which_try_it_is(on_both: Settings) -> None:
    async def test(world: World) -> None:
        async with receiving("500 Oops") as receiver:
            task_id = await finished(world, receiver.url)
            await world.deliver()
            world.clock.pass_s(0.1)
            await world.deliver()
        first, second = (one.headers for one in receiver.got)
        found = await delivery(world, task_id)
        for headers in (first, second):
            assert headers["webhook-id"] == found.id
            assert (headers["x-task-id"], headers["x-trace-id"]) == (task_id, "order-7")
            assert headers["content-type"] == "application/json"
            assert headers["user-agent"].startswith("bide/")
            assert "webhook-signature" not in headers
        assert (first["x-delivery-attempt"], second["x-delivery-attempt"]) == ("1", "2")

    run(on_both, test)


def test_a_trace_id_that_is_no_header_is_in_the_body_alone(on_sqlite: Settings) -> None:
    async def test(world: World) -> None:
        async with receiving() as receiver:
            await world.submit(receiver.url, trace_id="auftrag-ä\r\nx: y")
            await world.work()
            await world.deliver()
        assert "x-trace-id" not in receiver.got[0].headers
        assert receiver.got[0].body["trace_id"] == "auftrag-ä\r\nx: y"

    run(on_sqlite, test)


def test_with_a_secret_every_try_is_signed_anew_and_any_standard_library_verifies_it(on_sqlite: Settings) -> None:
    async def test(world: World) -> None:
        world.clock.now = time.time_ns() // 1_000_000  # the library compares with the real time
        async with receiving("500 Oops") as receiver:
            await finished(world, receiver.url)
            await world.deliver()
            world.clock.pass_s(2)
            await world.deliver()
        for one in receiver.got:
            Webhook(SECRET).verify(one.raw, one.headers)
        first, second = (one.headers for one in receiver.got)
        assert int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]) == 2
        assert first["webhook-signature"] != second["webhook-signature"]

    run(on_sqlite, test, webhook_secret=SECRET)


# -- when it is sent again


def test_a_callback_that_fails_is_sent_again_by_the_schedule_and_parked_at_its_end(on_both: Settings) -> None:
    async def test(world: World) -> None:
        async with receiving(*["503 Busy"] * 9) as receiver:
            task_id = await finished(world, receiver.url)
            waits = []
            while await world.deliver():
                found = await delivery(world, task_id)
                if found.due_at is not None:
                    waits.append((found.due_at - world.clock.now) / 1000)
                    world.clock.now = found.due_at
        assert waits == [5, 30, 120]
        found = await delivery(world, task_id)
        assert (found.state, found.due_at, found.sent) == ("parked", None, 4)
        assert found.attempts == [(503, "status")] * 4
        assert len(receiver.got) == 4

    run(on_both, test, callback_schedule=(0.0, 5.0, 30.0, 120.0))


def test_waits_are_spread_so_that_what_failed_together_does_not_return_together(on_sqlite: Settings) -> None:
    async def test(world: World) -> None:
        async with receiving("503 Busy", "503 Busy") as receiver:
            for luck, wait_ms in ((0.0, 8_000), (0.75, 11_000)):
                world.clock.luck = luck
                task_id = await finished(world, receiver.url)
                await world.deliver()
                assert (await delivery(world, task_id)).due_at == world.clock.now + wait_ms

    run(on_sqlite, test, callback_schedule=(0.0, 10.0))


def test_a_parked_callback_is_kept_and_can_be_sent_again(on_both: Settings) -> None:
    async def test(world: World) -> None:
        async with receiving("500 Oops") as receiver:
            task_id = await finished(world, receiver.url)
            await world.deliver()
            found = await delivery(world, task_id)
            assert found.state == "parked"
            assert await world.gateway.db.write(store.send_again, (found.id, world.clock.now))
            assert await world.deliver() == 1
        found = await delivery(world, task_id)
        assert (found.state, found.attempts) == ("delivered", [(500, "status"), (200, "")])

    run(on_both, test, callback_schedule=(0.0,))


@pytest.mark.parametrize(("asked", "wait_s"), [("7", 7), ("0", 5), ("86400", 3600), ("nonsense", 5)])
def test_a_receiver_may_ask_for_more_time_up_to_an_hour(on_sqlite: Settings, asked: str, wait_s: int) -> None:
    async def test(world: World) -> None:
        async with receiving(f"429 Slow\r\nRetry-After: {asked}") as receiver:
            task_id = await finished(world, receiver.url)
            await world.deliver()
        assert (await delivery(world, task_id)).due_at == world.clock.now + wait_s * 1000

    run(on_sqlite, test, callback_schedule=(0.0, 5.0))


def test_a_receiver_that_is_gone_for_good_is_not_asked_again(on_both: Settings) -> None:
    async def test(world: World) -> None:
        async with receiving("410 Gone") as receiver:
            task_id = await finished(world, receiver.url)
            await world.deliver()
        found = await delivery(world, task_id)
        assert (found.state, found.due_at, found.attempts) == ("parked", None, [(410, "status")])

    run(on_both, test)


def test_a_redirect_is_a_failure_and_is_not_followed(on_sqlite: Settings) -> None:
    async def test(world: World) -> None:
        async with receiving() as elsewhere, receiving(f"302 Found\r\nLocation: {elsewhere.url}") as receiver:
            task_id = await finished(world, receiver.url)
            await world.deliver()
        assert elsewhere.got == []
        found = await delivery(world, task_id)
        assert (found.state, found.attempts) == ("pending", [(302, "redirect")])

    run(on_sqlite, test)


@pytest.mark.parametrize("status", ["200 OK", "201 Created", "204 No Content", "299 Fine"])
def test_any_2xx_ends_a_callback(on_sqlite: Settings, status: str) -> None:
    async def test(world: World) -> None:
        async with receiving(status) as receiver:
            task_id = await finished(world, receiver.url)
            await world.deliver()
        assert (await delivery(world, task_id)).state == "delivered"

    run(on_sqlite, test)


def test_a_receiver_that_is_not_there_or_never_answers_is_tried_again(on_sqlite: Settings) -> None:
    async def test(world: World) -> None:
        async with receiving() as gone:
            pass
        absent = await finished(world, gone.url)
        async with receiving(hangs=True) as silent:
            mute = await finished(world, silent.url)
            await world.deliver()
        assert (await delivery(world, absent)).attempts == [(None, "connect")]
        assert (await delivery(world, mute)).attempts == [(None, "timeout")]
        assert {(await delivery(world, one)).state for one in (absent, mute)} == {"pending"}

    run(on_sqlite, test, callback_timeout_s=0.1)


def test_an_address_is_judged_again_at_each_try(on_sqlite: Settings) -> None:
    """The network was opened when the task was submitted, and is closed when the callback is due."""

    async def test() -> None:
        async with receiving() as receiver:
            async with opened(on_sqlite, Scripted()) as before:
                task_id = await finished(before, receiver.url)
            async with opened(on_sqlite, Scripted(), clock=before.clock, callback_allow_private="") as after:
                await after.deliver()
                assert (await delivery(after, task_id)).attempts == [(None, "address")]
        assert receiver.got == []

    asyncio.run(test())


def test_a_callback_of_a_task_that_is_gone_is_dropped(on_both: Settings) -> None:
    async def test(world: World) -> None:
        async with receiving() as receiver:
            await finished(world, receiver.url)
            (owed,) = await world.claim_deliveries()
            await write_one(world.gateway.db, lambda tx: purge.delete(tx, [owed.task_id]))
            world.hosts.start(owed.host, owed.owner)
            await callback.deliver(world.gateway, world.hosts, owed)
        assert receiver.got == []
        assert await store.owed(world.gateway.db) == 0

    run(on_both, test)


def test_a_failed_callback_changes_nothing_of_the_task(on_both: Settings) -> None:
    async def test(world: World) -> None:
        async with receiving("500 Oops") as receiver:
            task_id = await finished(world, receiver.url)
            before = await world.document(task_id)
            await world.deliver()
        assert await world.document(task_id) == before

    run(on_both, test)


# -- who sends it


def test_a_callback_that_a_dead_worker_claimed_is_sent_by_another_under_the_same_id(on_both: Settings) -> None:
    async def test(world: World) -> None:
        async with receiving() as receiver:
            await finished(world, receiver.url)
            (owed,) = await world.claim_deliveries()
            async with opened(on_both, Scripted(), clock=world.clock) as other:
                assert await other.deliver() == 0
                world.leases_end()
                assert await other.deliver() == 1
            assert receiver.got[0].headers["webhook-id"] == owed.id

    run(on_both, test)


def test_two_workers_never_send_the_same_callback_at_once(on_both: Settings) -> None:
    async def test(world: World) -> None:
        async with receiving() as receiver:
            for _ in range(20):
                await world.submit(receiver.url)
            await world.work()
            async with opened(on_both, Scripted(), clock=world.clock) as other:
                assert sum(await asyncio.gather(world.deliver(), other.deliver())) == 20
        assert len({one.headers["webhook-id"] for one in receiver.got}) == len(receiver.got) == 20

    run(on_both, test)


def test_the_lease_of_a_slow_callback_is_kept(on_both: Settings) -> None:
    async def test(world: World) -> None:
        async with receiving(hangs=True) as receiver:
            task_id = await finished(world, receiver.url)
            sending = asyncio.create_task(world.deliver())
            await asyncio.wait_for(receiver.arrived.wait(), 10)
            world.clock.pass_s(50)
            await world.gateway.delivery_leases.keep()

            async def is_kept() -> bool:
                return (await delivery(world, task_id)).due_at == world.clock.now + 60_000

            await until(is_kept)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    run(on_both, test, callback_timeout_s=60.0)


# -- fairness


def allow_files(least: int) -> None:
    """Raises the number of files and sockets this process may have open, where that is low by default."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < least:
        resource.setrlimit(resource.RLIMIT_NOFILE, (least, hard))


@contextlib.asynccontextmanager
async def working(world: World) -> AsyncIterator[None]:
    """The worker's own loops, as in a running process."""
    worker = Worker(world.gateway)
    worker.start()
    try:
        yield
    finally:
        await worker.stop()


def test_three_hundred_receivers_that_hang_do_not_hold_up_a_healthy_one(on_both: Settings) -> None:
    allow_files(2_048)

    async def test(world: World) -> None:
        async with contextlib.AsyncExitStack() as stack, working(world):
            hanging = [await stack.enter_async_context(receiving(hangs=True)) for _ in range(300)]
            await asyncio.gather(*(world.submit(one.url) for one in hanging))

            async def all_hang() -> bool:
                return all(len(one.got) == 1 for one in hanging)

            await until(all_hang, 30)
            async with receiving() as healthy:
                await world.submit(healthy.url)
                await asyncio.wait_for(healthy.arrived.wait(), 10)
            assert [len(one.got) for one in hanging] == [1] * 300  # and all of them hang still

    run(on_both, test, clock=PassingClock(), callback_timeout_s=120.0, stop_grace_s=0.0)


def test_one_receiver_that_hangs_gets_a_share_and_the_others_get_the_rest(on_both: Settings) -> None:
    async def test(world: World) -> None:
        async with receiving(hangs=True) as slow, receiving() as healthy, working(world):
            for _ in range(40):
                await world.submit(slow.url)

            async def share_is_taken() -> bool:
                return len(slow.got) == 3

            await until(share_is_taken)
            for _ in range(10):
                await world.submit(healthy.url)

            async def all_arrived() -> bool:
                return len(healthy.got) == 10

            await until(all_arrived)
            assert len(slow.got) == 3  # with three open it has reached a quarter of the thirteen that are free

    run(on_both, test, clock=PassingClock(), callback_timeout_s=120.0, callback_concurrency=16, stop_grace_s=0.0)


def test_a_receiver_that_let_a_callback_time_out_is_on_probation_until_it_answers_one(on_sqlite: Settings) -> None:
    async def test(world: World) -> None:
        async with receiving(hangs=True) as receiver:
            await finished(world, receiver.url)
            await world.deliver()
            for _ in range(PROBATION_MAX * 2):
                await world.submit(receiver.url)
            await world.work()
            receiver.hangs = False
            assert await world.deliver() == PROBATION_MAX
            world.clock.pass_s(2 * SLOW_PUT_OFF_MS / 1000)
            assert await world.deliver() > 1
            assert len(receiver.got) > PROBATION_MAX + 1

    run(on_sqlite, test, callback_timeout_s=0.1)
