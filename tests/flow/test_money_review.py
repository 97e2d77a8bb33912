"""What meets at a bad moment: keys that go while they are looked up, and writes that others must not pay for."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from bide.db import Row, Tx, write_one
from bide.errors import BadRequest
from bide.flow import erase
from bide.settings import Settings
from bide.tasks import purge, store
from bide.tasks.store import Known, NewTask, Task, Terms
from tests.books import run
from tests.credits.orders import order, rows, tenant
from tests.world import START_MS, World


class Between:
    """A transaction in which a task is deleted by another just before its key is looked at."""

    def __init__(self, tx: Tx, task_id: str) -> None:
        self._tx, self._task_id = tx, task_id

    async def rows(self, sql: str, *args: Any) -> list[Row]:
        if sql.startswith("SELECT task_id, body_hash FROM idempotency"):
            await purge.delete(self._tx, [self._task_id])
        return await self._tx.rows(sql, *args)


def test_a_key_whose_task_is_deleted_while_it_is_asked_for_is_free(on_both: Settings) -> None:
    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=100)
        old = (await order(world, caller, 10, key="a-key")).task_id
        await world.work()
        task = Task("the-new-one", "openai", "images/generations", "images", caller.user_id, "app", "app-c", "",
                    True, START_MS, None, "", b"{}", None)  # fmt: skip
        ((key,),) = await world.gateway.db.rows("SELECT key FROM idempotency")
        new = NewTask(task, START_MS, Terms(0), idempotency_key=key, body_hash="the body")
        wanted = [new, replace(new, task=replace(task, id="another"))]
        found = await write_one(world.gateway.db, lambda tx: store.known(Between(tx, old), wanted))  # type: ignore[arg-type]
        assert found == [None, Known("the-new-one", "the body")]

    run(on_both, test)


def test_a_write_that_is_refused_costs_those_beside_it_nothing(on_both: Settings) -> None:
    """What raises is taken back, with all of its transaction: so it has one of its own."""
    done: list[int] = []

    async def note(tx: Tx, items: list[int]) -> list[int]:
        done.extend(items)
        return items

    async def refuse(tx: Tx) -> None:
        await tx.rows("SELECT 1")
        raise BadRequest("Not this one.")

    async def test(world: World) -> None:
        db = world.gateway.db
        answers = await asyncio.gather(
            *(write_one(db, refuse) if at % 2 else db.write(note, at) for at in range(10)), return_exceptions=True
        )
        assert [one for one in answers if not isinstance(one, BadRequest)] == [0, 2, 4, 6, 8]
        assert sorted(done) == [0, 2, 4, 6, 8]

    run(on_both, test)


class Taken:
    """A database in which another takes every task from whoever cancels it for the first time."""

    def __init__(self, db: Any) -> None:
        self._db, self._left = db, 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    async def write(self, batch: Any, item: Any) -> Any:
        if batch.__name__ == "_settle" and self._left:
            self._left -= 1
            assert await write_one(self._db, lambda tx: store.seize(tx, item.work.task.id, 7, START_MS + 60_000))
        return await self._db.write(batch, item)


def test_who_erases_ends_a_task_that_another_has_taken_and_not_ended_yet(on_both: Settings) -> None:
    """Two erase one user: the receipt of the quicker must not be written while the slower still has to cancel."""

    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=100)
        await order(world, caller, 10)
        gateway = replace(world.gateway, db=Taken(world.gateway.db))
        await erase.erase_user(gateway, caller.user_id)
        assert await rows(world, "queue", "tasks") == {"queue": 0, "tasks": 0}

    run(on_both, test)


@pytest.mark.parametrize("at_once", [2, 5])
def test_of_several_that_erase_a_user_all_have_the_one_receipt(on_both: Settings, at_once: int) -> None:
    async def test(world: World) -> None:
        caller = await tenant(world, "app", own=100)
        for _ in range(5):
            await order(world, caller, 10)
        erasing = (erase.erase_user(world.gateway, caller.user_id) for _ in range(at_once))
        assert len(set(await asyncio.gather(*erasing))) == 1
        assert await rows(world, "queue", "tasks") == {"queue": 0, "tasks": 0}

    run(on_both, test)
