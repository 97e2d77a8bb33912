"""What is past its time goes, and nothing else does."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bide.callbacks import store as callbacks
from bide.flow import removal, sweep
from bide.flow.removal import BATCH
from bide.providers.base import Failed
from bide.settings import Settings
from bide.storage import Storage
from bide.tasks import inspect, purge, search, store
from bide.tasks.search import Filter
from tests.books import nothing_held
from tests.world import CALLER, Scripted, World, run

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
        assert await inspect.file_names(world.gateway.db, task_id) == []

    run(on_both, test)


def test_a_sweep_goes_in_batches_and_says_when_there_is_more(on_both: Settings) -> None:
    async def test(world: World) -> None:
        await asyncio.gather(*(world.submit() for _ in range(BATCH + 5)))
        while await world.work():
            pass
        world.clock.pass_s(31 * DAY_S)
        assert await sweep.sweep_once(world.gateway) is True
        assert await search.total(world.gateway.db, Filter("user-1", "openai")) == 5
        assert await sweep.sweep_once(world.gateway) is False
        assert await rows(world) == 0

    run(on_both, test, Scripted(*[Failed("forbidden", "No.")] * (BATCH + 5)))


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
        assert len(world.files()) == 1  # the callback links to it

    run(on_both, test)


def test_it_goes_once_its_callback_was_made_at_the_next_look(on_both: Settings) -> None:
    async def test(world: World) -> None:
        await world.accept("http://127.0.0.1:9/hook")
        await world.work()
        await world.deliver()
        world.clock.pass_s(31 * DAY_S)
        await sweep.sweep_once(world.gateway)
        for _ in range(2):
            await world.deliver()
            world.clock.pass_s(1)
        world.clock.pass_s(removal.AGAIN_MS / 1000)
        await sweep.sweep_once(world.gateway)
        assert await rows(world) == 0
        assert world.files() == []

    run(on_both, test)


def test_those_that_stay_never_hide_those_that_may_go(on_both: Settings) -> None:
    async def test(world: World) -> None:
        await asyncio.gather(*(world.submit("http://127.0.0.1:9/hook") for _ in range(BATCH + 5)))
        while await world.work():
            pass
        world.clock.pass_s(1)
        free = await world.submit()
        await world.work()
        world.clock.pass_s(31 * DAY_S)
        while await sweep.sweep_once(world.gateway):
            pass
        assert await world.document(free) == {}
        assert await search.total(world.gateway.db, Filter("user-1", "openai")) == BATCH + 5
        assert await purge.purgeable(world.gateway.db, world.clock.now_ms(), 1) == []  # none is looked at again soon

    run(on_both, test, Scripted(*[Failed("forbidden", "No.")] * (BATCH + 6)))


class Refusing:
    """A store that does not let go of one file."""

    def __init__(self, storage: Storage, kept: str) -> None:
        self.storage, self.kept = storage, kept

    async def delete(self, names: Sequence[str]) -> None:
        if self.kept in names:
            raise OSError("read-only")
        await self.storage.delete(names)


def test_a_file_that_the_store_keeps_is_tried_again_later_and_keeps_no_other(on_both: Settings) -> None:
    async def test(world: World) -> None:
        kept, other = await world.submit(), await world.submit()
        await world.work()
        name = (await inspect.file_names(world.gateway.db, kept))[0][0]
        refusing: Any = Refusing(world.gateway.storage, name)
        gateway = replace(world.gateway, storage=refusing)
        world.clock.pass_s(31 * DAY_S)
        await sweep.sweep_once(gateway)
        assert [path.name for path in world.files()] == [name.rpartition("/")[2]]
        assert await inspect.file_names(gateway.db, other) == []
        assert await purge.expired_files(gateway.db, world.clock.now_ms(), 10) == []
        world.clock.pass_s(removal.AGAIN_MS / 1000 + 1)
        await sweep.sweep_once(world.gateway)
        assert world.files() == []
        assert await rows(world) == 0

    run(on_both, test)


# -- what an application has of its own


def test_an_application_keeps_its_tasks_and_files_for_as_long_as_it_says(on_both: Settings) -> None:
    async def test(world: World) -> None:
        short = replace(CALLER, application_id="application-7", retention_ms=7 * DAY_S * 1000)
        long = replace(CALLER, application_id="application-90", retention_ms=90 * DAY_S * 1000)
        one, normal, ninety = [(await world.accept(caller=caller)).task_id for caller in (short, CALLER, long)]
        await world.work()
        for days, left in ((6.9, [one, normal, ninety]), (0.2, [normal, ninety]), (23, [ninety]), (60, [])):
            world.clock.pass_s(days * DAY_S)
            await sweep.sweep_once(world.gateway)
            await sweep.sweep_orphans_once(world.gateway)
            found = [task_id for task_id in (one, normal, ninety) if await world.document(task_id)]
            assert (found, len(world.files())) == (left, len(left))

    run(on_both, test)


def test_a_change_of_the_retention_is_for_later_tasks(on_both: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit()
        short = replace(CALLER, retention_ms=DAY_S * 1000)
        world.caller = short
        later = await world.submit()
        await world.work()
        world.clock.pass_s(2 * DAY_S)
        await sweep.sweep_once(world.gateway)
        assert (await world.document(task_id))["id"] == task_id
        assert await world.document(later) == {}

    run(on_both, test)


# -- what stays, and what it costs


def test_the_books_and_the_usage_stay(on_both: Settings) -> None:
    async def test(world: World) -> None:
        db = world.gateway.db
        for _ in range(3):
            await world.submit()
        await world.work()
        sums = await nothing_held(db)
        assert sums[CALLER.application_id][1] > 0
        usage, ledger = await count(world, "usage"), await count(world, "ledger")
        world.clock.pass_s(31 * DAY_S)
        await sweep.sweep_once(world.gateway)
        assert await rows(world) == 0
        assert await nothing_held(db) == sums
        assert (await count(world, "usage"), await count(world, "ledger")) == (usage, ledger)

    run(on_both, test)


async def count(world: World, table: str) -> int:
    found = await world.gateway.db.rows(f"SELECT count(*) FROM {table}")
    return int(found[0][0])


def test_a_batch_is_bounded_in_bytes_too(on_both: Settings) -> None:
    """A database takes its time to let go of large bodies."""

    async def test(world: World) -> None:
        large = "x" * (purge.BYTES_MAX // 2)
        for _ in range(5):
            await world.submit(note=large)
        await world.work()
        world.clock.pass_s(31 * DAY_S)
        assert await sweep.sweep_once(world.gateway) is True
        assert await search.total(world.gateway.db, Filter("user-1", "openai")) == 4
        while await sweep.sweep_once(world.gateway):
            pass
        assert await rows(world) == 0

    run(on_both, test)


def test_a_body_larger_than_a_batch_goes_alone() -> None:
    most = purge.BYTES_MAX
    assert purge.few([("a", most + 1), ("b", 1)]) == ["a"]
    assert purge.few([("a", 1), ("b", most - 1), ("c", 1)]) == ["a", "b"]
    assert purge.few([]) == []
