"""How long work takes is learned from what it took, and tells when to look and when to come back."""

import pytest

from bide.errors import TooManyRequests
from bide.flow import expected
from bide.flow.submit import too_many_open
from bide.providers.base import Pending
from bide.settings import Settings
from bide.tasks import durations
from bide.tasks.durations import NOTHING, Durations
from tests.books import run
from tests.world import Scripted, World, opened


def test_the_first_endings_count_alike_and_later_the_latest_most() -> None:
    few = NOTHING
    for ms in (1_000, 2_000, 3_000):
        few = few.after(ms)
    assert (few.n, round(few.mean_ms)) == (3, 2_000)
    many = few
    for _ in range(60):
        many = many.after(10_000)
    assert 9_900 < many.mean_ms <= 10_000
    assert many.dev_ms < 500


def test_what_is_kept_in_memory_has_a_bound() -> None:
    seen = Durations()
    for n in range(durations.KEYS_MAX + 10):
        seen.see(("openai", "images/generations", f"model-{n}"), 1)
    for _ in range(durations.SAMPLES_MAX + 10):
        seen.see(("openai", "images/generations", "model-1"), 1)
    seen.see(("openai", "images/generations", "x" * 10_000), 1)
    taken = seen.take()
    assert len(taken) == durations.KEYS_MAX
    assert max(map(len, taken.values())) == durations.SAMPLES_MAX
    assert seen.take() == {}


async def learn(world: World, seconds: float, times: int = expected.ENOUGH) -> None:
    """As many endings after so long."""
    for _ in range(times):
        await world.submit()
        await world.work()
        world.clock.pass_s(seconds)
        await world.work()
    await expected.exchange_once(world.gateway)


def test_every_node_knows_what_any_of_them_learned(on_both: Settings) -> None:
    upstream = Scripted(*[Pending("up-7", 10.0)] * 20)

    async def test(world: World) -> None:
        operation = world.gateway.catalog.operation("openai", "images/generations")
        model = operation.model(operation.check({"prompt": "a boat"}))
        await learn(world, 60, expected.ENOUGH - 1)
        assert expected.expected_s(world.gateway, operation, model) == operation.entry.expected_s
        await learn(world, 60, 1)
        assert expected.expected_s(world.gateway, operation, model) == 60
        async with opened(on_both, upstream, clock=world.clock) as other:
            assert expected.expected_s(other.gateway, operation, model) == operation.entry.expected_s
            await expected.exchange_once(other.gateway)
            assert expected.expected_s(other.gateway, operation, model) == 60

    run(on_both, test, upstream)


@pytest.mark.parametrize(("took_s", "first_s"), [(5, 10), (25, 25), (600, 40)])
def test_the_first_look_comes_when_something_can_be_there(on_sqlite: Settings, took_s: float, first_s: float) -> None:
    """Not sooner than the provider says, and not much later either."""
    upstream = Scripted(*[Pending("up-7", 10.0)] * 20)

    async def test(world: World) -> None:
        operation = world.gateway.catalog.operation("openai", "images/generations")
        key = expected.key_of(operation, operation.model(operation.check({"prompt": "a boat"})))
        for _ in range(expected.ENOUGH):
            world.gateway.durations.see(key, took_s * 1000)
        await expected.exchange_once(world.gateway)
        task_id = await world.submit()
        await world.work()
        row = await world.queued(task_id)
        assert row is not None
        assert (row.due_at - world.clock.now) / 1000 == first_s

    run(on_sqlite, test, upstream)


def test_a_table_of_names_that_came_up_once_stays_small(on_both: Settings) -> None:
    async def test(world: World) -> None:
        db = world.gateway.db
        for batch in range(3):
            names = range(batch * 500, batch * 500 + 500)
            seen = {("openai", "images/generations", f"model-{n}"): [1_000] for n in names}
            await db.write(durations.add, (seen, world.clock.now + batch))
        known = await durations.all_known(db)
        (row,) = await db.rows("SELECT count(*) FROM durations")
        assert row[0] == durations.KEYS_MAX
        assert ("openai", "images/generations", "model-1499") in known
        assert ("openai", "images/generations", "model-0") not in known

    run(on_both, test)


def test_who_has_too_much_open_is_told_by_what_was_learned_when_to_come_back(on_sqlite: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit()
        refused = too_many_open(1, task_id, 90.0, world.clock.now + 30_000)
        assert isinstance(refused, TooManyRequests)
        assert refused.retry_after_s is not None
        assert round(refused.retry_after_s) == 60
        await world.work()

    run(on_sqlite, test)
