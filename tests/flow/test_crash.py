"""What the next worker does with what a crash leaves behind: one test for each row a dead worker can leave.

A worker writes down what it is about to do before it does it. So a crash at any moment leaves one of a few
states, and each test here starts from one of them, as the crash left it. At the end of each the books are right.
"""

import asyncio
from dataclasses import replace
from typing import Any

from bide.callbacks import store as callbacks
from bide.callbacks.hosts import Hosts
from bide.db import DatabaseError
from bide.flow import callback, work
from bide.providers.base import Failed, Pending
from bide.settings import Settings
from bide.tasks import inspect, store
from tests.books import proved, run
from tests.world import LEASE_S, Held, PassingClock, Scripted, World, done, opened, receiving, until

DRAWN = [("first", "succeeded")]


class Shaky:
    """A database that commits an ending, and twice loses the word of it."""

    def __init__(self, db: Any) -> None:
        self._db = db
        self.lost: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    async def write(self, batch: Any, item: Any) -> Any:
        result = await self._db.write(batch, item)
        if batch.__name__ == "_settle" and len(self.lost) < 2:
            self.lost.append(result)
            raise DatabaseError("the answer to the commit was lost")
        return result


# -- died before the upstream was asked


def test_a_task_that_was_accepted_before_a_restart_is_asked_for_once(on_both: Settings) -> None:
    upstream = Scripted()

    async def test() -> None:
        async with opened(on_both, upstream) as before:
            task_id = await before.submit()
        async with opened(on_both, upstream, clock=before.clock) as after:
            await after.work()
            assert upstream.submitted == [task_id]
            assert (await after.response(task_id))["success"] is True
            await proved(after.gateway.db, after.clock.now)

    asyncio.run(test())


def test_a_task_whose_worker_died_before_it_asked_is_asked_for_once(on_both: Settings) -> None:
    upstream = Scripted()

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.claim_one()
        world.leases_end()
        await world.work()
        assert upstream.submitted == [task_id]
        assert await world.attempts(task_id) == DRAWN

    run(on_both, test, upstream)


def test_a_leased_task_is_nobody_elses_until_the_lease_ends(on_both: Settings) -> None:
    async def test(world: World) -> None:
        await world.submit()
        await world.claim_one()
        world.clock.pass_s(LEASE_S - 0.001)
        assert await world.claim() == []
        world.clock.pass_s(0.001)
        assert len(await world.claim()) == 1

    run(on_both, test)


def test_two_workers_that_look_at_once_never_claim_the_same_task(on_both: Settings) -> None:
    async def test(world: World) -> None:
        submitted = {await world.submit() for _ in range(30)}
        async with opened(on_both, clock=world.clock) as other:
            looks = (work.work_once(one.gateway, 7) for one in (world, other, world, other, world))
            claimed = [one.task.id for batch in await asyncio.gather(*looks) for one in batch]
        assert len(claimed) == len(set(claimed)) == 30
        assert set(claimed) == submitted

    run(on_both, test)


def test_the_start_that_the_document_shows_is_the_first_one(on_both: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit()
        world.clock.pass_s(1)
        await world.claim_one()
        started_at = (await world.document(task_id))["started_at"]
        world.leases_end()
        await world.work()
        assert (await world.document(task_id))["started_at"] == started_at

    run(on_both, test)


# -- died while it asked: the outcome is unknown


async def leave_unknown(world: World, callback_url: str | None = None) -> str:
    """A worker wrote down that it asks, asked, and died: there is no id of the upstream's."""
    task_id = await world.submit(callback_url)
    await world.open_attempt(await world.claim_one())
    world.leases_end()
    return task_id


def test_a_task_with_an_unknown_outcome_fails_with_timeout_and_is_not_asked_for_again(on_both: Settings) -> None:
    upstream = Scripted()

    async def test(world: World) -> None:
        task_id = await leave_unknown(world)
        await world.work()
        assert upstream.submitted == []
        assert await world.error(task_id) == "timeout"
        assert await world.attempts(task_id) == [("first", "lost")]

    run(on_both, test, upstream)


def test_an_upstream_that_takes_our_id_is_asked_again_with_the_same_id(on_both: Settings) -> None:
    upstream = Scripted(takes_our_id=True)

    async def test(world: World) -> None:
        task_id = await leave_unknown(world)
        await world.work()
        assert upstream.submitted == [task_id]
        assert (await world.response(task_id))["success"] is True
        assert await world.attempts(task_id) == [("first", "lost"), *DRAWN]

    run(on_both, test, upstream)


def test_a_channel_whose_operator_said_resend_is_asked_again(on_both: Settings) -> None:
    upstream = Scripted(on_unknown="resend")

    async def test(world: World) -> None:
        task_id = await leave_unknown(world)
        await world.work()
        assert upstream.submitted == [task_id]
        assert (await world.response(task_id))["success"] is True

    run(on_both, test, upstream)


def test_after_an_unknown_outcome_only_the_same_channel_is_asked_again(on_both: Settings) -> None:
    """Its id means nothing to another upstream, which would do and bill the work a second time."""
    first, second = Scripted(takes_our_id=True), Scripted(name="second", weight=1000)

    async def test(world: World) -> None:
        task_id = await leave_unknown(world)
        await world.work()
        assert (first.submitted, second.submitted) == ([task_id], [])

    run(on_both, test, first, second)


def test_a_worker_that_dies_between_two_attempts_leaves_the_next_one_to_the_same_channel(on_both: Settings) -> None:
    first, second = Scripted(takes_our_id=True), Scripted(name="second", weight=1000)

    async def test(world: World) -> None:
        task_id = await leave_unknown(world)
        claimed = await world.claim_one()
        lost = work.Attempt(task_id, 1, "first", None, world.clock.now, world.clock.now, "lost")
        assert await world.gateway.db.write(work._close, (lost, claimed.lease_id))
        world.leases_end()
        await world.work()
        assert (first.submitted, second.submitted) == ([task_id], [])

    run(on_both, test, first, second)


def test_a_task_that_kills_every_worker_is_given_up_after_the_last_attempt(on_both: Settings) -> None:
    upstream = Scripted(takes_our_id=True)

    async def test(world: World) -> None:
        task_id = await world.submit()
        for _ in range(3):
            claimed = await world.claim_one()
            if claimed.channel is not None:
                lost = work.Attempt(task_id, claimed.attempts, "first", None, 0, 0, "lost")
                await world.gateway.db.write(work._close, (lost, claimed.lease_id))
            await world.open_attempt(claimed)
            world.leases_end()
        await world.work()
        assert upstream.submitted == []
        assert await world.error(task_id) == "api_error"
        assert await world.attempts(task_id) == [("first", "lost")] * 3

    run(on_both, test, upstream)


# -- died after the upstream took it


def test_a_task_that_the_upstream_accepted_is_polled_and_never_submitted_again(on_both: Settings) -> None:
    upstream = Scripted()

    async def test(world: World) -> None:
        task_id = await world.submit()
        claimed = await world.claim_one()
        await world.open_attempt(claimed)
        assert await world.gateway.db.write(store.accept, (task_id, claimed.lease_id, "up-7"))
        world.leases_end()
        await world.work()
        assert (upstream.polls, upstream.submitted) == (["up-7"], [])
        assert (await world.response(task_id))["success"] is True

    run(on_both, test, upstream)


def test_a_parked_task_is_polled_by_whoever_comes_when_it_is_due(on_both: Settings) -> None:
    upstream = Scripted(Pending("up-7", 5.0))

    async def test() -> None:
        async with opened(on_both, upstream) as before:
            task_id = await before.submit()
            assert await before.work() == [None]
        async with opened(on_both, upstream, clock=before.clock) as after:
            assert await after.work() == []
            after.clock.pass_s(5)
            await after.work()
            assert (upstream.polls, upstream.submitted) == (["up-7"], [task_id])
            assert (await after.response(task_id))["success"] is True
            await proved(after.gateway.db, after.clock.now)

    asyncio.run(test())


def test_a_worker_that_dies_while_it_polls_costs_one_more_poll(on_both: Settings) -> None:
    upstream = Scripted(Pending("up-7", 5.0))

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        world.clock.pass_s(5)
        await world.claim_one()
        world.leases_end()
        await world.work()
        assert (upstream.polls, upstream.submitted) == (["up-7"], [task_id])

    run(on_both, test, upstream)


# -- died after the end


def test_a_callback_that_was_owed_at_the_crash_is_sent_after_it(on_both: Settings) -> None:
    async def test() -> None:
        async with receiving() as receiver:
            async with opened(on_both, Scripted()) as before:
                task_id = await before.submit(receiver.url)
                await before.work()
            async with opened(on_both, Scripted(), clock=before.clock) as after:
                assert await after.deliver() == 1
                await proved(after.gateway.db, after.clock.now)
        assert [one.body["task_id"] for one in receiver.got] == [task_id]

    asyncio.run(test())


def test_a_callback_that_was_sent_but_not_written_down_is_sent_again_under_the_same_id(on_both: Settings) -> None:
    async def test(world: World) -> None:
        async with receiving() as receiver:
            await world.submit(receiver.url)
            await world.work()
            (owed,) = await world.claim_deliveries()
            await callback._post(world.gateway, owed)
            assert await world.deliver() == 0
            world.leases_end()
            assert await world.deliver() == 1
            assert await world.deliver() == 0
        first, second = receiver.got
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
        assert first.raw == second.raw

    run(on_both, test)


def test_a_task_that_failed_by_a_crash_owes_its_callback_too(on_both: Settings) -> None:
    async def test(world: World) -> None:
        async with receiving() as receiver:
            await leave_unknown(world, receiver.url)
            await world.work()
            await world.deliver()
        assert receiver.got[0].body["error"]["code"] == "timeout"

    run(on_both, test)


# -- a worker that is late: it was thought dead, and comes back


async def take_over(world: World, held: Held) -> "asyncio.Task[list[object]]":
    """A worker asks and hears nothing until its lease has ended and another worker has the task."""
    late = asyncio.create_task(world.work())
    await asyncio.wait_for(held.asked.wait(), 10)
    world.leases_end()
    assert len(await world.claim()) == 1
    return late  # type: ignore[return-value]


def test_a_late_worker_that_succeeds_writes_nothing_and_leaves_no_file(on_both: Settings) -> None:
    held = Held(done)

    async def test(world: World) -> None:
        task_id = await world.submit("http://127.0.0.1:9/hook")
        late = await take_over(world, held)
        row = await world.queued(task_id)
        held.go.set()
        assert await late == [None]
        assert await world.queued(task_id) == row
        assert await store.ending(world.gateway.db, task_id) is None
        assert await world.attempts(task_id) == []
        assert await inspect.file_names(world.gateway.db, task_id) == []
        assert await callbacks.of_task(world.gateway.db, task_id) == []
        assert world.files() == []

    run(on_both, test, Scripted(held))


def test_a_late_worker_that_fails_writes_nothing(on_both: Settings) -> None:
    held = Held(Failed("bad_request", "No."))

    async def test(world: World) -> None:
        task_id = await world.submit()
        late = await take_over(world, held)
        held.go.set()
        assert await late == [None]
        assert (await world.document(task_id))["response"] == {}
        assert await world.attempts(task_id) == []

    run(on_both, test, Scripted(held))


def test_a_late_worker_parks_nothing(on_both: Settings) -> None:
    held = Held(Pending("up-late", 5.0))

    async def test(world: World) -> None:
        task_id = await world.submit()
        late = await take_over(world, held)
        row = await world.queued(task_id)
        held.go.set()
        assert await late == [None]
        assert await world.queued(task_id) == row

    run(on_both, test, Scripted(held))


def test_a_late_worker_puts_nothing_back(on_both: Settings) -> None:
    held = Held(Failed("too_many_requests", "Slow down.", retryable=True, after_s=3))

    async def test(world: World) -> None:
        task_id = await world.submit()
        late = await take_over(world, held)
        row = await world.queued(task_id)
        held.go.set()
        assert await late == [None]
        assert await world.queued(task_id) == row
        assert await world.attempts(task_id) == []

    run(on_both, test, Scripted(held))


def test_a_late_worker_asks_nobody(on_both: Settings) -> None:
    """The attempt is written down under the lease first, so a worker that lost it never reaches the upstream."""
    upstream = Scripted()

    async def test(world: World) -> None:
        await world.submit()
        late = await world.claim_one()
        world.leases_end()
        await world.claim_one()
        assert await work.run(world.gateway, late) is None
        assert upstream.submitted == []

    run(on_both, test, upstream)


def test_a_late_worker_changes_nothing_of_a_task_that_ended_without_it(on_both: Settings) -> None:
    held = Held(Failed("forbidden", "Refused."))

    async def test(world: World) -> None:
        task_id = await world.submit()
        late = asyncio.create_task(world.work())
        await asyncio.wait_for(held.asked.wait(), 10)
        world.leases_end()
        await work.run(world.gateway, await world.claim_one())  # the upstream does not take our id: it is ended
        document = await world.document(task_id)
        held.go.set()
        assert await late == [None]
        assert await world.document(task_id) == document
        assert document["response"]["error"]["code"] == "timeout"

    run(on_both, test, Scripted(held))


def test_a_late_worker_does_not_write_its_callback_down(on_both: Settings) -> None:
    async def test(world: World) -> None:
        async with receiving("500 Oops") as receiver:
            task_id = await world.submit(receiver.url)
            await world.work()
            (late,) = await world.claim_deliveries()
            world.leases_end()
            await world.claim_deliveries()
            hosts = Hosts(10)
            hosts.start(late.host)
            await callback.deliver(world.gateway, hosts, late)
            ((row, attempts),) = await callbacks.of_task(world.gateway.db, task_id)
            assert (row[2], row[4], attempts) == ("pending", 0, [])

    run(on_both, test)


# -- leases and deadlines


def test_a_lease_is_kept_for_as_long_as_the_work_goes_on(on_both: Settings) -> None:
    held = Held(done)

    async def test(world: World) -> None:
        gateway = world.gateway
        task_id = await world.submit()
        working = asyncio.create_task(world.work())
        await asyncio.wait_for(held.asked.wait(), 10)
        for _ in range(4):
            world.clock.pass_s(LEASE_S * 0.6)
            await gateway.task_leases.keep()
            kept_until = world.clock.now + int(LEASE_S * 1000)

            async def is_kept(until_ms: int = kept_until) -> bool:
                row = await world.queued(task_id)
                return row is not None and row.due_at == until_ms

            await until(is_kept)
            assert await world.claim() == []
        held.go.set()
        (ending,) = await working
        assert ending is not None
        assert ending.response["success"] is True
        assert len(gateway.task_leases) == 0

    run(on_both, test, Scripted(held))


def test_a_lease_with_most_of_its_time_left_costs_no_write(on_both: Settings) -> None:
    held = Held(done)

    async def test(world: World) -> None:
        task_id = await world.submit()
        working = asyncio.create_task(world.work())
        await asyncio.wait_for(held.asked.wait(), 10)
        row = await world.queued(task_id)
        world.clock.pass_s(LEASE_S * 0.3)
        await world.gateway.task_leases.keep()
        await asyncio.sleep(0.02)
        assert await world.queued(task_id) == row
        held.go.set()
        await working

    run(on_both, test, Scripted(held))


def test_a_task_past_its_deadline_fails_with_timeout_and_nobody_is_asked(on_both: Settings) -> None:
    upstream = Scripted()

    async def test(world: World) -> None:
        task_id = await world.submit()
        world.clock.pass_s(901)
        await world.work()
        assert upstream.submitted == []
        assert await world.error(task_id) == "timeout"

    run(on_both, test, upstream)


def test_a_poll_is_never_put_off_beyond_the_deadline_and_then_the_task_fails(on_both: Settings) -> None:
    upstream = Scripted(Pending("up-7", 5_000.0))

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        row = await world.queued(task_id)
        assert row is not None
        assert row.due_at == row.deadline_at
        world.clock.now = row.deadline_at
        await world.work()
        assert upstream.polls == []
        assert await world.error(task_id) == "timeout"
        assert await world.attempts(task_id) == [("first", "failed")]

    run(on_both, test, upstream)


def test_a_process_that_was_stopped_for_a_while_keeps_its_own_work(on_both: Settings) -> None:
    """Its lease has ended, but nobody took it: the next claim extends it instead of taking it for a dead worker's."""
    held = Held(done)

    async def test(world: World) -> None:
        task_id = await world.submit()
        working = asyncio.create_task(world.work())
        await asyncio.wait_for(held.asked.wait(), 10)
        world.leases_end()
        assert await work.work_once(world.gateway, 10) == []
        held.go.set()
        (ending,) = await working
        assert ending is not None
        assert (await world.document(task_id))["response"]["success"] is True

    run(on_both, test, Scripted(held))


def test_a_result_survives_a_database_that_is_away_for_a_while(on_both: Settings) -> None:
    """The upstream was paid: the ending is written when the database is back, and its files stay."""

    async def test(world: World) -> None:
        task_id = await world.submit()
        shaky = Shaky(world.gateway.db)
        world.gateway = replace(world.gateway, db=shaky)
        (ending,) = await world.work()
        assert shaky.lost == [True, True]
        assert ending is not None
        document = await world.document(task_id)
        assert document["response"]["success"] is True
        assert len(world.files()) == 1

    run(on_both, test, clock=PassingClock())


def test_an_inline_call_whose_process_died_is_not_asked_for_nobody(on_both: Settings) -> None:
    upstream = Scripted(done)

    async def test(world: World) -> None:
        accepted = await world.accept(None, waits=True)
        world.gateway.task_leases.drop(accepted.task_id)
        assert accepted.work is not None
        await world.gateway.db.write(store.close_attempts, (accepted.task_id, accepted.work.lease_id))
        world.leases_end()
        await world.work()
        assert upstream.submitted == []
        assert (await world.ended(accepted.task_id))["error"]["code"] == "timeout"

    run(on_both, test, upstream)


def test_a_waiting_call_of_a_process_that_is_behind_is_not_taken_for_a_dead_ones(on_both: Settings) -> None:
    """Its lease was over before the process came round to it; nobody else took it, so it goes on."""

    async def test(world: World) -> None:
        accepted = await world.accept(None, waits=True)
        world.leases_end()
        assert await work.work_once(world.gateway, 10) == []
        ending = await world.wait_for(accepted)
        assert ending is not None
        assert ending.response["success"] is True

    run(on_both, test)
