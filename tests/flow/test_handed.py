"""Channels that only a worker for their provider asks: everybody else hands their tasks over to it."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from bide.app import open_gateway
from bide.channels.load import check
from bide.flow import work
from bide.providers.base import Failed, Outcome
from bide.settings import ChannelSettings, Settings, SettingsError
from bide.tasks.store import Work
from tests.world import Answer, Scripted, World, done, run


class Apart(Scripted):
    APART = True

    def __init__(self, *submit: Answer, name: str = "local") -> None:
        super().__init__(*submit, name=name, takes_our_id=True)


Test = Callable[[World, World], Awaitable[None]]


def both(settings: Settings, test: Test, *upstreams: Scripted) -> None:
    """A usual worker, and one for the provider of the first upstream."""
    upstreams[0].settings = replace_provider(upstreams[0].settings)

    async def inside(world: World) -> None:
        await test(world, replace(world, gateway=replace(world.gateway, provider="apart")))

    run(settings, inside, *upstreams)


def replace_provider(one: ChannelSettings) -> ChannelSettings:
    return ChannelSettings(**{name: getattr(one, name) for name in one.__struct_fields__} | {"provider": "apart"})


def test_a_task_is_handed_over_and_done_by_the_worker_for_its_provider_alone(on_both: Settings) -> None:
    local = Apart()

    async def test(usual: World, own: World) -> None:
        task_id = await usual.submit()
        assert await own.work() == []  # nobody has looked yet who could do it
        assert await usual.work() == [None]
        row = await usual.queued(task_id)
        assert row is not None
        assert (row.lease_id, row.due_at, row.attempts, row.channel) == (None, row.deadline_at, 0, None)
        assert await usual.work() == []
        assert local.submitted == []
        (ending,) = await own.work()
        assert ending is not None
        assert local.submitted == [task_id]
        assert (await usual.response(task_id))["success"] is True
        assert await usual.attempts(task_id) == [("local", "succeeded")]

    both(on_both, test, local)


def test_a_caller_that_waits_is_answered_by_the_worker_for_the_provider(on_both: Settings) -> None:
    async def test(usual: World, own: World) -> None:
        accepted = await usual.accept(waits=True)
        assert not accepted.fresh
        assert await usual.wait_for(accepted) is None  # `bide.flow.waiting` then looks for its ending
        assert await usual.work() == []
        await own.work()
        assert (await usual.ended(accepted.task_id))["success"] is True

    both(on_both, test, Apart())


def test_a_task_that_nobody_comes_for_ends_at_its_deadline(on_both: Settings) -> None:
    async def test(usual: World, own: World) -> None:
        task_id = await usual.submit()
        await usual.work()
        row = await usual.queued(task_id)
        assert row is not None
        usual.clock.now = row.deadline_at
        await usual.work()
        assert await usual.error(task_id) == "timeout"

    both(on_both, test, Apart())


@pytest.mark.parametrize("waits", [False, True])
def test_a_task_whose_worker_died_is_handed_over_again(on_both: Settings, *, waits: bool) -> None:
    local = Apart()

    async def test(usual: World, own: World) -> None:
        accepted = await usual.accept(waits=waits)
        await (usual.wait_for(accepted) if waits else usual.work())
        (claimed,) = await own_claims(own)
        await own.open_attempt(claimed, "local")
        assert await own_claims(own) == []
        usual.leases_end()
        await usual.work()
        assert local.submitted == []
        await own.work()
        assert (await usual.ended(accepted.task_id))["success"] is True
        assert await usual.attempts(accepted.task_id) == [("local", "lost"), ("local", "succeeded")]

    both(on_both, test, local)


async def own_claims(own: World) -> list[Work]:
    """What a worker for the provider claims before it dies: nobody keeps its leases."""
    claimed = await work.work_once(own.gateway, 1)
    for one in claimed:
        own.gateway.task_leases.drop(one.task.id)
    return claimed


def test_a_worker_that_died_before_it_asked_leaves_the_task_to_the_next(on_both: Settings) -> None:
    async def test(usual: World, own: World) -> None:
        task_id = await usual.submit()
        await usual.work()
        assert len(await own_claims(own)) == 1
        usual.leases_end()
        await own.work()
        assert await usual.attempts(task_id) == [("local", "succeeded")]

    both(on_both, test, Apart())


def test_a_failure_goes_to_another_channel_which_the_worker_for_the_provider_does_not_ask(on_both: Settings) -> None:
    local, far = Apart(Failed("api_error", "No.", "channel")), Scripted(name="far", priority=-1)

    async def test(usual: World, own: World) -> None:
        task_id = await usual.submit()
        await usual.work()
        await own.work()
        assert far.submitted == []
        await usual.work()
        assert far.submitted == [task_id]
        assert await usual.attempts(task_id) == [("local", "failed"), ("far", "succeeded")]

    both(on_both, test, local, far)


def test_a_task_comes_to_the_worker_for_the_provider_when_another_channel_fails(on_both: Settings) -> None:
    async def refuse(call: object) -> Outcome:
        return Failed("api_error", "No.", "channel")

    local, far = Apart(done), Scripted(refuse, name="far", priority=1)

    async def test(usual: World, own: World) -> None:
        task_id = await usual.submit()
        await usual.work()
        await own.work()
        assert await usual.attempts(task_id) == [("far", "failed"), ("local", "succeeded")]

    both(on_both, test, local, far)


def test_the_worker_for_a_provider_takes_one_of_its_own_at_a_time_and_the_oldest_first(on_both: Settings) -> None:
    async def test(usual: World, own: World) -> None:
        ids = []
        for _ in range(3):
            ids.append(await usual.submit())
            usual.clock.pass_s(1)
        await usual.work()
        assert [one.task.id for one in await work.work_once(own.gateway, 1)] == ids[:1]
        assert [one.task.id for one in await work.work_once(own.gateway, 5)] == ids[1:]

    both(on_both, test, Apart())


def test_a_provider_that_every_worker_asks_has_no_worker_of_its_own(on_sqlite: Settings) -> None:
    async def test(_: World) -> None:
        with pytest.raises(SettingsError, match="no worker of its own"):
            async with open_gateway(on_sqlite, provider="sandbox"):
                pass

    run(on_sqlite, test)


def test_how_many_are_done_at_once_is_not_for_the_channel_to_say() -> None:
    with pytest.raises(SettingsError, match="one task at a time"):
        check(ChannelSettings(name="local", provider="diffusers", concurrency=2))
