"""Bounded channels: never more than the bound is open, the rest waits in turn, and nothing of it is lost."""

import asyncio
from dataclasses import replace
from itertools import pairwise
from typing import Any

from bide.flow.cancel import cancel
from bide.flow.slots import HandOut
from bide.providers.base import Failed, Pending, Unknown
from bide.settings import Settings
from bide.tasks import store, waiting
from tests.books import nothing_held, run
from tests.world import CALLER, LEASE_S, Held, Scripted, World, done, opened, until

SMALL = replace(CALLER, application_id="application-2", credential_id="credential-2")
NEVER = 10_000.0


def bounded(*submit: Any, concurrency: int = 1, **more: Any) -> Scripted:
    """A channel with a bound whose submissions are pending until the test polls them."""
    return Scripted(*(submit or [Pending(f"up-{number}", 5.0) for number in range(100)]), concurrency=concurrency,
                    **more)  # fmt: skip


async def row(world: World, task_id: str) -> tuple[Any, ...] | None:
    """Slot, line and turn of an open task."""
    found = await world.gateway.db.row("SELECT slot, waits_for, turn FROM queue WHERE task_id = $1", task_id)
    return None if found is None else tuple(found)


async def waits(world: World, task_id: str) -> bool:
    found = await row(world, task_id)
    return found is not None and found[1] is not None


async def open_at(world: World, channel: str = "first") -> int:
    return (await waiting.taken(world.gateway.db, [channel])).get(channel, 0)


async def serve(world: World, hand_out: HandOut) -> None:
    """What is open ends, slots are handed out, and those who got one ask."""
    world.clock.pass_s(5)
    await world.work()
    while await hand_out.once():
        pass
    await world.work()


# -- the bound


def test_what_finds_no_slot_waits_and_gets_the_one_that_is_given_back(on_both: Settings) -> None:
    upstream = bounded()

    async def test(world: World) -> None:
        first, second = await world.submit(), await world.submit()
        assert await world.work() == [None, None]
        assert upstream.submitted == [first]
        assert (await row(world, first), await waits(world, second)) == (("first", None, 0), True)
        hand_out = HandOut(world.gateway)
        await hand_out.once()
        assert await waits(world, second)
        await serve(world, hand_out)
        assert upstream.submitted == [first, second]
        assert await row(world, second) == ("first", None, 0)
        assert (await world.response(first))["success"] is True
        await serve(world, hand_out)
        assert (await world.response(second))["success"] is True
        await nothing_held(world.gateway.db)

    run(on_both, test, upstream)


def test_no_more_than_the_bound_is_open_whoever_comes_at_once(on_both: Settings) -> None:
    upstream = bounded(concurrency=3)

    async def test(world: World) -> None:
        ids = [await world.submit() for _ in range(20)]
        async with opened(on_both, upstream, clock=world.clock) as other:
            await asyncio.gather(world.work(), other.work(), world.work())
            assert (await open_at(world), len(upstream.submitted)) == (3, 3)
            hands = HandOut(world.gateway), HandOut(other.gateway)
            for _ in range(12):
                world.clock.pass_s(5)
                await asyncio.gather(world.work(), other.work())
                await asyncio.gather(*(hand.once() for hand in hands))
                assert await open_at(world) <= 3
                await asyncio.gather(world.work(), other.work())
                assert await open_at(world) <= 3
        assert sorted(upstream.submitted) == sorted(ids)
        await nothing_held(world.gateway.db)

    run(on_both, test, upstream)


def test_a_dead_workers_slot_follows_its_task(on_both: Settings) -> None:
    held = Held()
    upstream = bounded(held)

    async def test(world: World) -> None:
        first, second = await world.submit(), await world.submit()
        working = asyncio.create_task(world.work())
        await asyncio.wait_for(held.asked.wait(), 10)
        await until(lambda: waits(world, second))
        world.gateway.task_leases.drop(first)  # the worker is dead
        hand_out = HandOut(world.gateway)
        await hand_out.once()
        assert (await open_at(world), await waits(world, second)) == (1, True)
        world.leases_end()
        async with opened(on_both, upstream, clock=world.clock) as other:
            await other.work()
            await HandOut(other.gateway).once()
            await other.work()
            assert upstream.submitted == [first, second]
        held.go.set()
        await working
        assert await world.error(first) == "timeout"
        assert (await world.response(second))["success"] is True
        await nothing_held(world.gateway.db)

    run(on_both, test, upstream)


def test_a_slot_that_was_given_to_a_worker_that_died_is_used_by_the_next(on_both: Settings) -> None:
    upstream = bounded()

    async def test(world: World) -> None:
        first, second = await world.submit(), await world.submit()
        await world.work()
        world.clock.pass_s(5)
        await world.work()
        await HandOut(world.gateway).once()
        claimed = await world.claim_one()
        assert (claimed.task.id, claimed.slot, claimed.channel) == (second, "first", None)
        third = await world.submit()
        world.leases_end()
        await world.work()
        assert upstream.submitted == [first, second]
        assert await waits(world, third)

    run(on_both, test, upstream)


def test_an_attempt_that_is_over_gives_its_slot_back_while_the_task_goes_on(on_both: Settings) -> None:
    busy = Failed("too_many_requests", "Slow down.", scope="channel", retryable=True, after_s=7, status=429)

    async def test(world: World) -> None:
        first = await world.submit()
        await world.work()
        assert await row(world, first) == (None, None, None)
        assert await open_at(world) == 0

    run(on_both, test, bounded(busy))


def test_another_channel_with_room_is_asked_before_anybody_waits(on_both: Settings) -> None:
    first, second = bounded(priority=1), bounded(name="second")

    async def test(world: World) -> None:
        ids = [await world.submit() for _ in range(3)]
        for _ in ids:
            await world.work()
        assert (len(first.submitted), len(second.submitted)) == (1, 1)
        assert sum([await waits(world, one) for one in ids]) == 1

    run(on_both, test, first, second)


def test_a_channel_without_a_bound_takes_what_a_full_one_does_not_and_has_no_slots(on_both: Settings) -> None:
    first, second = bounded(priority=1), Scripted(name="second")

    async def test(world: World) -> None:
        ids = [await world.submit() for _ in range(3)]
        await world.work()
        assert (len(first.submitted), len(second.submitted)) == (1, 2)
        assert [await waits(world, one) for one in ids] == [False] * 3

    run(on_both, test, first, second)


# -- the line


def test_applications_take_turns_however_much_one_of_them_brings(on_both: Settings) -> None:
    upstream = bounded()

    async def test(world: World) -> None:
        greedy = [await world.submit() for _ in range(30)]
        await world.work()
        hand_out = HandOut(world.gateway)
        for _ in range(3):
            await serve(world, hand_out)
        small = [(await world.accept(caller=SMALL)).task_id for _ in range(3)]
        await world.work()
        for _ in range(6):
            await serve(world, hand_out)
        served = upstream.submitted
        places = sorted(served.index(one) for one in small)
        assert places[0] <= 5
        assert all(later - earlier <= 2 for earlier, later in pairwise(places))
        assert [one for one in served if one in greedy] == greedy[: len(served) - 3]

    run(on_both, test, upstream)


def test_who_comes_new_does_not_overtake_those_who_wait(on_both: Settings) -> None:
    upstream = bounded()

    async def test(world: World) -> None:
        first, second = await world.submit(), await world.submit()
        await world.work()
        world.clock.pass_s(5)
        await world.work()  # a slot is free, and nobody has handed it out yet
        assert await open_at(world) == 0
        third = await world.submit()
        await world.work()
        assert upstream.submitted == [first]
        await HandOut(world.gateway).once()
        await world.work()
        assert upstream.submitted == [first, second]
        assert await waits(world, third)

    run(on_both, test, upstream)


def test_a_caller_that_waits_inline_comes_first_within_its_turn(on_both: Settings) -> None:
    upstream = bounded()

    async def test(world: World) -> None:
        await world.submit()
        await world.work()
        parked = await world.submit()
        await world.work()
        inline = await world.accept(waits=True, caller=SMALL)
        staying = asyncio.create_task(world.wait_for(inline))
        await until(lambda: waits(world, inline.task_id))
        await serve(world, HandOut(world.gateway))
        await until(lambda: _asked(upstream, inline.task_id))
        assert await waits(world, parked)
        ending = await asyncio.wait_for(staying, 10)
        assert ending is not None
        assert ending.response["success"] is True

    async def _asked(upstream: Scripted, task_id: str) -> bool:
        return task_id in upstream.submitted

    run(on_both, test, upstream)


def test_an_inline_caller_hears_of_a_slot_that_another_process_gave_it(on_both: Settings) -> None:
    upstream = bounded(Pending("up-1", 5.0), done)

    async def test(world: World) -> None:
        first = await world.submit()
        await world.work()
        inline = await world.accept(waits=True)
        staying = asyncio.create_task(world.wait_for(inline))
        await until(lambda: waits(world, inline.task_id))
        async with opened(on_both, upstream, clock=world.clock) as other:
            await serve(other, HandOut(other.gateway))
        ending = await asyncio.wait_for(staying, 10)
        assert ending is not None
        assert ending.response["success"] is True
        assert upstream.submitted == [first, inline.task_id]

    run(on_both, test, upstream)


def test_an_inline_caller_that_dies_in_line_is_not_served(on_both: Settings) -> None:
    upstream = bounded(Pending("up-1", 5.0))

    async def test(world: World) -> None:
        first = await world.submit()
        await world.work()
        inline = await world.accept(waits=True)
        staying = asyncio.create_task(world.wait_for(inline))
        await until(lambda: waits(world, inline.task_id))
        staying.cancel()
        await asyncio.gather(staying, return_exceptions=True)
        world.leases_end()
        await world.work()
        await HandOut(world.gateway).once()
        await world.work()
        assert upstream.submitted == [first]
        assert await world.queued(inline.task_id) is None
        await nothing_held(world.gateway.db)

    run(on_both, test, upstream)


# -- the ends of waiting


def test_a_line_is_so_deep_and_who_finds_it_full_is_refused_for_nothing(on_both: Settings) -> None:
    async def test(world: World) -> None:
        ids = [await world.submit() for _ in range(5)]
        await world.work()
        codes = [await world.queued(one) is None and await world.error(one) for one in ids]
        assert sorted(code for code in codes if code) == ["too_many_requests"] * 2
        other = (await world.accept(caller=SMALL)).task_id
        await world.work()
        assert await waits(world, other)  # the depth is that of one application

    run(on_both, test, bounded(), queue_depth_max=2)


def test_who_has_waited_too_long_fails_and_pays_nothing(on_both: Settings) -> None:
    upstream = bounded(*[Pending("up", NEVER)])

    async def test(world: World) -> None:
        await world.submit()
        second = await world.submit()
        await world.work()
        world.clock.pass_s(29)
        await world.work()
        assert await waits(world, second)
        world.clock.pass_s(1)
        await world.work()
        assert await world.error(second) == "timeout"
        assert len(upstream.submitted) == 1

    run(on_both, test, upstream, queue_age_s=30.0)


def test_a_waiting_task_fails_at_its_deadline(on_both: Settings) -> None:
    upstream = bounded(*[Pending("up", NEVER)])

    async def test(world: World) -> None:
        await world.submit()
        second = await world.submit()
        await world.work()
        found = await world.queued(second)
        assert found is not None
        assert found.due_at <= found.deadline_at
        world.clock.now = found.deadline_at
        await world.work()
        assert await world.error(second) == "timeout"
        await nothing_held(world.gateway.db)

    run(on_both, test, upstream)


def test_a_waiting_task_can_be_cancelled_and_is_not_served_afterwards(on_both: Settings) -> None:
    upstream = bounded()

    async def test(world: World) -> None:
        first, second, third = [await world.submit() for _ in range(3)]
        await world.work()
        assert await cancel(world.gateway, second)
        await serve(world, HandOut(world.gateway))
        assert upstream.submitted == [first, third]
        await serve(world, HandOut(world.gateway))
        await nothing_held(world.gateway.db)

    run(on_both, test, upstream)


def test_a_task_that_is_cancelled_with_a_slot_gives_it_back(on_both: Settings) -> None:
    upstream = bounded()

    async def test(world: World) -> None:
        first, second = await world.submit(), await world.submit()
        await world.work()
        assert await cancel(world.gateway, first)
        await HandOut(world.gateway).once()
        await world.work()
        assert upstream.submitted == [first, second]

    run(on_both, test, upstream)


def test_a_graceful_stop_leaves_those_in_line_where_they_are(on_both: Settings) -> None:
    async def test(world: World) -> None:
        await world.submit()
        await world.work()
        inline = await world.accept(waits=True, operation="images/generations")
        staying = asyncio.create_task(world.wait_for(inline))
        await until(lambda: waits(world, inline.task_id))
        leases = world.gateway.task_leases.held(world.clock.now)
        await world.gateway.db.write(store.release, leases)
        assert await asyncio.wait_for(staying, 10) is None
        found = await world.queued(inline.task_id)
        assert found is not None
        assert (found.lease_id, found.due_at) == (None, world.clock.now)

    run(on_both, test, bounded(*[Pending("up", NEVER)]))


# -- channels that change, fail, or have a rate


def test_when_the_channels_change_those_who_wait_look_again_and_keep_their_turn(on_both: Settings) -> None:
    first, second = bounded(), Scripted(name="second", capabilities=("image.generate",))

    async def test(world: World) -> None:
        ids = [await world.submit() for _ in range(4)]
        await world.work()
        hand_out = HandOut(world.gateway)
        await hand_out.once()
        channels = world.gateway.channels
        channels.set([*channels.all, second.channel(world.gateway)])
        await hand_out.once()
        await world.work()
        assert sorted([*first.submitted, *second.submitted]) == sorted(ids)

    run(on_both, test, first)


def test_those_who_wait_for_a_channel_that_takes_no_more_work_are_told(on_both: Settings) -> None:
    async def test(world: World) -> None:
        _first, second = await world.submit(), await world.submit()
        await world.work()
        hand_out = HandOut(world.gateway)
        await hand_out.once()
        channels = world.gateway.channels
        channels.all[0].drained = True
        channels.set(channels.all)
        await hand_out.once()
        await world.work()
        assert await world.error(second) == "api_not_implemented"

    run(on_both, test, bounded(*[Pending("up", NEVER)]))


def test_an_application_that_a_channel_does_not_name_is_never_served_by_it(on_both: Settings) -> None:
    theirs = bounded(applications=(SMALL.application_id,), priority=9)
    free = Scripted(name="free")

    async def test(world: World) -> None:
        mine = await world.submit()
        small = (await world.accept(caller=SMALL)).task_id
        await world.work()
        assert (theirs.submitted, free.submitted) == ([small], [mine])

    run(on_both, test, theirs, free)


def test_a_channel_that_rests_gives_no_slot_while_another_may_come_free(on_both: Settings) -> None:
    broken = Failed("api_error", "The upstream failed.", scope="channel", cool_s=300, status=500)
    first, second = bounded(broken, priority=1), bounded(name="second")

    async def test(world: World) -> None:
        ids = [await world.submit() for _ in range(3)]
        for _ in ids:
            await world.work()
        hand_out = HandOut(world.gateway)
        for _ in range(4):
            await serve(world, hand_out)
        assert len(first.submitted) == 1
        assert sorted(second.submitted) == sorted(ids)

    run(on_both, test, first, second)


def test_after_its_rest_a_channel_is_probed_by_one_and_opened_by_its_success(on_both: Settings) -> None:
    broken = Failed("api_error", "The upstream failed.", scope="channel", cool_s=30, status=500)
    held = Held(done)
    first, second = Scripted(broken, held, priority=1), Scripted(name="second")

    async def test(world: World) -> None:
        await world.submit()
        await world.work()
        world.clock.pass_s(30)
        probe = await world.submit()
        probing = asyncio.create_task(world.work())
        await asyncio.wait_for(held.asked.wait(), 10)
        meanwhile = await world.submit()
        await world.work()
        assert (probe in first.submitted, meanwhile in second.submitted) == (True, True)
        held.go.set()
        await probing
        after = await world.submit()
        await world.work()
        assert after in first.submitted

    run(on_both, test, first, second)


def test_an_unknown_outcome_of_a_probe_keeps_the_circuit_open(on_both: Settings) -> None:
    broken = Failed("api_error", "The upstream failed.", scope="channel", cool_s=30, status=500)
    first, second = Scripted(broken, Unknown("No answer."), priority=1), Scripted(name="second")

    async def test(world: World) -> None:
        await world.submit()
        await world.work()
        world.clock.pass_s(30)
        await world.submit()
        await world.work()
        await world.submit()
        await world.work()
        assert (len(first.submitted), len(second.submitted)) == (2, 2)

    run(on_both, test, first, second)


def test_a_channel_with_a_rate_is_given_no_more_and_the_rest_waits(on_both: Settings) -> None:
    upstream = Scripted(rate_per_minute=6)

    async def test(world: World) -> None:
        ids = [await world.submit() for _ in range(4)]
        await world.work()
        assert len(upstream.submitted) == 1
        hand_out = HandOut(world.gateway)
        for number in range(2, 5):
            await hand_out.once()
            await world.work()
            assert len(upstream.submitted) == number - 1
            world.clock.pass_s(10.001)
            await hand_out.once()
            await world.work()
            assert len(upstream.submitted) == number
        assert sorted(upstream.submitted) == sorted(ids)
        await nothing_held(world.gateway.db)

    run(on_both, test, upstream)


def test_a_lease_that_is_lost_in_line_is_nobodys_slot(on_both: Settings) -> None:
    upstream = bounded(Pending("up-1", 5.0))

    async def test(world: World) -> None:
        await world.submit()
        late = await world.claim_one()
        world.clock.pass_s(LEASE_S + 0.001)
        await world.claim_one()
        entry = waiting.Entry(late.task.id, late.lease_id, world.clock.now, (waiting.Gate("first", 1),),
                              waiting.line_of(["first"], "application-1"), world.clock.now, 10)  # fmt: skip
        assert await world.gateway.entries.write(entry) is None
        assert await open_at(world) == 0

    run(on_both, test, upstream)
