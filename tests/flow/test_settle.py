"""The ending: one transaction, and the documents that a caller reads before and after it."""

import asyncio
import json
from typing import Any

import pytest

from bide.callbacks import store as callbacks
from bide.callbacks.store import NewDelivery
from bide.clock import storage_id
from bide.flow import settle as settling
from bide.flow.settle import Ending, failure, settle
from bide.providers.base import Failed, Stored
from bide.settings import Settings
from bide.tasks.attempts import Attempt
from bide.tasks.states import Event
from bide.tasks.store import Work
from tests.world import PNG, START_MS, Scripted, World, run

REQUEST = {"prompt": "a paper boat", "callback_url": "http://127.0.0.1:9/hook"}
TABLES = ("queue", "endings", "attempts", "files", "deliveries")


def owned(task_id: str, trace_id: str = "order-7") -> dict[str, Any]:
    return {
        "_id": storage_id(task_id), "id": task_id, "trace_id": trace_id, "type": "images_generations",
        "api_id": "0b6f2f0e-5d0a-4c38-9a51-6f1f3a7d2c10", "application_id": "application-1", "user_id": "user-1",
        "credential_id": "credential-1", "created_at": START_MS / 1000, "request": REQUEST,
    }  # fmt: skip


def test_the_document_of_a_waiting_task_has_no_start_and_an_empty_response(on_both: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit(REQUEST["callback_url"], trace_id="order-7")
        world.clock.pass_s(4)
        assert await world.document(task_id) == {**owned(task_id), "response": {}}

    run(on_both, test)


def test_the_document_of_a_running_task_has_a_start_and_still_an_empty_response(on_both: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit(REQUEST["callback_url"], trace_id="order-7")
        world.clock.pass_s(0.285)
        await world.claim()
        expected = {**owned(task_id), "started_at": 1_764_000_000.41, "response": {}}
        assert await world.document(task_id) == expected

    run(on_both, test)


def test_the_document_of_a_finished_task_has_all_times_and_the_whole_response(on_both: Settings) -> None:
    """`duration` counts from acceptance, `elapsed` from the start; there is no `status`."""

    async def test(world: World) -> None:
        task_id = await world.submit(REQUEST["callback_url"], trace_id="order-7")
        world.clock.pass_s(0.285)
        claimed = await world.claim_one()
        world.clock.pass_s(91.5)
        await world.open_attempt(claimed)
        stored = Stored("2026-11-22/" + "0" * 32 + ".png", 4, "image/png")
        data = [{"url": f"http://gateway.test/files/{stored.name}"}]
        response = {"success": True, "task_id": task_id, "trace_id": "order-7", "created": 1, "data": data}
        assert await settle(world.gateway, Ending(claimed, Event.SUCCEED, response, files=(stored,)))
        assert await world.document(task_id) == {
            **owned(task_id), "started_at": 1_764_000_000.41, "finished_at": 1_764_000_091.91, "duration": 91.785,
            "elapsed": 91.5, "response": response,
        }  # fmt: skip

    run(on_both, test)


def test_a_finished_picture_task_is_flat_and_names_its_picture(on_both: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit(trace_id="order-7")
        await world.work()
        response = await world.response(task_id)
        (item,) = response.pop("data")
        assert response == {
            "success": True, "task_id": task_id, "trace_id": "order-7", "created": START_MS // 1000,
            "model": "gpt-image-1",
        }  # fmt: skip
        assert set(item) == {"url"}

    run(on_both, test)


def test_the_document_of_a_failed_task_has_all_times_and_the_error(on_both: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit(REQUEST["callback_url"], trace_id="order-7")
        world.clock.pass_s(2)
        await world.work()
        error = {"code": "forbidden", "message": "Refused by moderation."}
        assert await world.document(task_id) == {
            **owned(task_id), "started_at": START_MS / 1000 + 2, "finished_at": START_MS / 1000 + 2, "duration": 2.0,
            "elapsed": 0.0,
            "response": {"success": False, "task_id": task_id, "trace_id": "order-7", "error": error},
        }  # fmt: skip

    run(on_both, test, Scripted(Failed("forbidden", "Refused by moderation.")))


def test_no_document_ever_has_a_status(on_both: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit()
        seen = [await world.document(task_id)]
        await world.work()
        seen.append(await world.document(task_id))
        assert all("status" not in one for one in seen)

    run(on_both, test)


# -- the transaction


async def counts(world: World) -> dict[str, int]:
    rows = {table: await world.gateway.db.row(f"SELECT count(*) FROM {table}") for table in TABLES}
    return {table: row[0] for table, row in rows.items() if row is not None}


async def full_ending(world: World) -> Ending:
    """An ending that touches every table, of a task that waits for it."""
    task_id = await world.submit(REQUEST["callback_url"])
    claimed = await world.claim_one()
    await world.open_attempt(claimed)
    stored = Stored(f"2026-11-22/{world.clock.token()}.png", len(PNG), "image/png")
    attempt = Attempt(task_id, 1, "first", None, world.clock.now, world.clock.now, "succeeded")
    return Ending(claimed, Event.SUCCEED, {"success": True}, files=(stored,), attempt=attempt)


def test_an_ending_writes_everything_together(on_both: Settings) -> None:
    async def test(world: World) -> None:
        ending = await full_ending(world)
        assert await counts(world) == {"queue": 1, "endings": 0, "attempts": 0, "files": 0, "deliveries": 0}
        assert await settle(world.gateway, ending)
        assert await counts(world) == {"queue": 0, "endings": 1, "attempts": 1, "files": 1, "deliveries": 1}

    run(on_both, test)


def test_an_ending_that_cannot_be_written_whole_is_not_written_at_all(on_both: Settings) -> None:
    """The last insert of the transaction fails: nothing of what came before it stays."""

    async def test(world: World) -> None:
        ending = await full_ending(world)
        rows = settling._rows(world.gateway, ending, settling.State.SUCCEEDED, world.clock.now)
        assert rows.delivery is not None
        await world.gateway.db.write(add_delivery, rows.delivery)
        before = await counts(world)
        with pytest.raises(Exception, match=r"(?i)unique"):
            await world.gateway.db.write(settling._settle, rows)
        assert await counts(world) == before
        assert before["queue"] == 1

    run(on_both, test)


async def add_delivery(tx: Any, items: list[NewDelivery]) -> list[None]:
    await callbacks.add(tx, items)
    return [None] * len(items)


def test_an_ending_that_fails_does_not_fail_those_that_are_committed_with_it(on_both: Settings) -> None:
    async def test(world: World) -> None:
        bad, good = await full_ending(world), await full_ending(world)
        rows = [settling._rows(world.gateway, one, settling.State.SUCCEEDED, world.clock.now) for one in (bad, good)]
        assert rows[0].delivery is not None
        await world.gateway.db.write(add_delivery, rows[0].delivery)
        results = await asyncio.gather(
            *(world.gateway.db.write(settling._settle, one) for one in rows), return_exceptions=True
        )
        assert isinstance(results[0], Exception)
        assert results[1] is True

    run(on_both, test)


def test_of_two_workers_that_end_a_task_one_wins(on_both: Settings) -> None:
    async def test(world: World) -> None:
        await world.submit()
        late = await world.claim_one()
        world.leases_end()
        new = await world.claim_one()
        ends = [failure(one, "api_error", f"lease {one.lease_id}") for one in (late, new)]
        assert await asyncio.gather(*(settle(world.gateway, one) for one in ends)) == [False, True]
        assert (await world.ended(new.task.id))["error"]["message"] == f"lease {new.lease_id}"
        assert await settle(world.gateway, ends[1]) is True  # it knows its own ending again …
        rows = await world.gateway.db.rows("SELECT state FROM endings")
        assert [row[0] for row in rows] == ["failed"]  # … and writes nothing twice

    run(on_both, test)


def test_files_are_kept_for_as_long_as_the_task(on_both: Settings) -> None:
    async def test(world: World) -> None:
        await world.submit()
        await world.work()
        row = await world.gateway.db.row("SELECT expires_at FROM files")
        assert row is not None
        assert row[0] == START_MS + 30 * 86_400_000

    run(on_both, test)


def test_a_task_with_a_callback_owes_one_delivery_and_one_without_owes_none(on_both: Settings) -> None:
    async def test(world: World) -> None:
        owing, free = await world.submit("http://127.0.0.1:9/hook"), await world.submit()
        await world.work()
        (((_, url, state, due_at, sent), attempts),) = await callbacks.of_task(world.gateway.db, owing)
        assert (url, state, due_at, sent, attempts) == ("http://127.0.0.1:9/hook", "pending", START_MS, 0, [])
        assert await callbacks.of_task(world.gateway.db, free) == []
        assert await callbacks.owed(world.gateway.db) == 1

    run(on_both, test)


def test_no_row_holds_the_bytes_of_a_picture(on_both: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit(response_format="b64_json")
        await world.work()
        row = await world.gateway.db.row("SELECT b64, response FROM endings WHERE task_id = $1", task_id)
        assert row is not None
        assert row[0] == 1
        assert "b64_json" not in json.loads(row[1])["data"][0]

    run(on_both, test)


def test_a_failure_names_the_task_and_the_callers_own_name_of_it(on_sqlite: Settings) -> None:
    async def test(world: World) -> None:
        await world.submit(trace_id="order-7")
        claimed: Work = await world.claim_one()
        assert failure(claimed, "timeout", "Too late.").response == {
            "success": False, "task_id": claimed.task.id, "trace_id": "order-7",
            "error": {"code": "timeout", "message": "Too late."},
        }  # fmt: skip

    run(on_sqlite, test)
