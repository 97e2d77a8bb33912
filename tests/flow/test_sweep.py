"""What is past its time goes, and nothing else does."""

import asyncio

from bide.callbacks import store as callbacks
from bide.flow import sweep
from bide.providers.base import Failed
from bide.settings import Settings
from bide.tasks import search, store
from bide.tasks.search import Filter
from tests.world import Scripted, World, run

DAY_S = 86_400
TABLES = ("tasks", "queue", "endings", "attempts", "files", "deliveries", "delivery_attempts", "idempotency")


async def rows(world: World) -> int:
    """Rows in all tables of tasks together."""
    found = [await world.gateway.db.row(f"SELECT count(*) FROM {table}") for table in TABLES]
    return sum(row[0] for row in found if row is not None)


def test_a_finished_task_is_kept_for_its_retention_and_then_goes_with_all_that_belongs_to_it(
    on_both: Settings,
) -> None:
    async def test(world: World) -> None:
        accepted = await world.accept("http://127.0.0.1:9/hook", key="k")
        await world.work()
        for _ in range(3):  # until it is given up: a task whose callback is owed stays
            await world.deliver()
            world.clock.pass_s(1)
        document = await world.document(accepted.task_id)
        world.clock.pass_s(30 * DAY_S - 3)
        assert await sweep.sweep_once(world.gateway) is False
        assert await world.document(accepted.task_id) == document
        assert len(world.files()) == 1
        world.clock.pass_s(1)
        await sweep.sweep_once(world.gateway)
        assert await world.document(accepted.task_id) == {}
        assert world.files() == []
        assert await rows(world) == 0

    run(on_both, test)


def test_an_unfinished_task_never_goes_however_old_it_is(on_both: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit()
        world.clock.pass_s(400 * DAY_S)
        await sweep.sweep_once(world.gateway)
        assert (await world.document(task_id))["id"] == task_id

    run(on_both, test)


def test_retention_counts_from_the_end_of_a_task_not_from_its_beginning(on_both: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit()
        world.clock.pass_s(29 * DAY_S)
        await world.work()
        world.clock.pass_s(2 * DAY_S)
        await sweep.sweep_once(world.gateway)
        assert "finished_at" in await world.document(task_id)

    run(on_both, test)


def test_the_record_of_an_inline_call_goes_after_its_grace_and_its_picture_stays(on_both: Settings) -> None:
    async def test(world: World) -> None:
        kept = await world.submit()
        await world.work()
        accepted = await world.accept(waits=True)
        await world.wait_for(accepted)
        world.clock.pass_s(601)
        await sweep.sweep_once(world.gateway)
        assert await store.record(world.gateway.db, accepted.task_id) is None
        assert (await world.document(kept))["id"] == kept
        assert len(world.files()) == 2

    run(on_both, test, inline_grace_s=600.0)


def test_a_sweep_that_died_between_a_file_and_its_row_is_done_again(on_both: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        world.clock.pass_s(31 * DAY_S)
        for path in world.files():
            path.unlink()
        await sweep.sweep_once(world.gateway)
        assert await store.file_names(world.gateway.db, task_id) == []

    run(on_both, test)


def test_a_sweep_goes_in_batches_and_says_when_there_is_more(on_both: Settings) -> None:
    async def test(world: World) -> None:
        await asyncio.gather(*(world.submit() for _ in range(sweep.BATCH + 5)))
        while await world.work():
            pass
        world.clock.pass_s(31 * DAY_S)
        assert await sweep.sweep_once(world.gateway) is True
        assert await search.total(world.gateway.db, Filter("user-1", "openai")) == 5
        assert await sweep.sweep_once(world.gateway) is False
        assert await rows(world) == 0

    run(on_both, test, Scripted(*[Failed("forbidden", "No.")] * (sweep.BATCH + 5)))


def test_two_sweeps_at_once_count_each_task_once(on_both: Settings) -> None:
    async def test(world: World) -> None:
        gone = [await world.submit() for _ in range(10)]
        await world.work()
        world.clock.pass_s(31 * DAY_S)
        await world.submit()
        await asyncio.gather(sweep.sweep_once(world.gateway), sweep.sweep_once(world.gateway))
        assert await search.total(world.gateway.db, Filter("user-1", "openai")) == 1
        assert await callbacks.of_task(world.gateway.db, gone[0]) == []

    run(on_both, test)


def test_a_task_whose_callback_is_still_owed_stays(on_both: Settings) -> None:
    async def test(world: World) -> None:
        accepted = await world.accept("http://127.0.0.1:9/hook")
        await world.work()
        await world.deliver()
        world.clock.pass_s(31 * DAY_S)
        await sweep.sweep_once(world.gateway)
        assert (await world.document(accepted.task_id))["id"] == accepted.task_id

    run(on_both, test)
