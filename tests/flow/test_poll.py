"""What a caller may see of its tasks."""

import base64
import json
from dataclasses import replace
from typing import Any

from bide.api.answers import Message
from bide.api.tasks import answer
from bide.api.turns import Turns
from bide.flow import poll
from bide.flow.poll import Base64, Documents
from bide.providers.base import Call, Outcome, Succeeded
from bide.settings import Settings
from bide.tasks.search import Filter
from tests.world import CALLER, PNG, Scripted, World, as_bytes, picture, png, run

MINE = Filter("user-1", "openai")
OTHER = replace(CALLER, user_id="user-2", application_id="application-2", credential_id="credential-2")


async def retrieve(
    world: World, task_id: str = "", trace_id: str = "", *, user_id: str = "user-1", service: str = "openai"
) -> dict[str, Any]:
    found = await poll.retrieve(world.gateway, world.documents, user_id, service, task_id, trace_id)
    return json.loads(await as_bytes(found))


def test_a_task_is_found_by_its_id_from_the_moment_it_was_accepted(on_both: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit()
        assert (await retrieve(world, task_id))["id"] == task_id
        await world.work()
        assert (await retrieve(world, task_id))["response"]["task_id"] == task_id

    run(on_both, test)


def test_of_several_tasks_with_one_trace_id_the_newest_is_found(on_both: Settings) -> None:
    async def test(world: World) -> None:
        for _ in range(3):
            newest = await world.submit(trace_id="order-7")
            world.clock.pass_s(0.001)
        await world.submit(trace_id="order-8")
        assert (await retrieve(world, trace_id="order-7"))["id"] == newest

    run(on_both, test)


def test_a_trace_id_wins_over_an_id(on_both: Settings) -> None:
    async def test(world: World) -> None:
        one, other = await world.submit(trace_id="one"), await world.submit(trace_id="other")
        assert (await retrieve(world, one, "other"))["id"] == other
        assert await retrieve(world, one, "unknown") == {}

    run(on_both, test)


def test_what_is_unknown_foreign_or_of_another_service_is_an_empty_object(on_both: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit(trace_id="order-7")
        await world.work()
        assert await retrieve(world, "nobody-knows-this") == {}
        for _ in range(2):  # the second time the document is in memory
            assert await retrieve(world, task_id, user_id="user-2") == {}
            assert await retrieve(world, trace_id="order-7", user_id="user-2") == {}
            assert await retrieve(world, task_id, service="suno") == {}
            assert await retrieve(world, trace_id="order-7", service="suno") == {}
            assert (await retrieve(world, task_id))["id"] == task_id

    run(on_both, test)


def test_an_inline_call_leaves_nothing_that_can_be_found(on_both: Settings) -> None:
    async def test(world: World) -> None:
        accepted = await world.accept(waits=True, trace_id="order-7")
        found = [await retrieve(world, accepted.task_id)]
        await world.wait_for(accepted)
        found += [await retrieve(world, accepted.task_id), await retrieve(world, trace_id="order-7")]
        assert found == [{}, {}, {}]
        batch = await poll.retrieve_batch(world.gateway, Filter("user-1", "openai", ids=(accepted.task_id,)), 0, 10)
        assert json.loads(batch) == {"items": [], "count": 0}

    run(on_both, test)


def test_a_batch_shows_the_same_documents_as_single_polls(on_both: Settings) -> None:
    async def test(world: World) -> None:
        ids = []
        for _ in range(3):
            ids.append(await world.submit())
            world.clock.pass_s(0.001)
        await world.work()
        await world.submit()
        batch = json.loads(await poll.retrieve_batch(world.gateway, Filter("user-1", "openai"), 1, 10))
        assert batch == {"items": [await world.document(one) for one in reversed(ids)], "count": 4}

    run(on_both, test)


async def large(world: World, count: int) -> list[str]:
    """Tasks whose requests have 200 KB each, newest first."""
    ids = []
    for _ in range(count):
        ids.append(await world.submit(extra="x" * 200_000))
        world.clock.pass_s(0.001)
    return ids[::-1]


def test_a_small_batch_is_one_body(on_sqlite: Settings) -> None:
    async def test(world: World) -> None:
        for _ in range(30):
            await world.submit()
        found = await poll.retrieve_batch(world.gateway, MINE, 0, 100)
        assert isinstance(found, bytes)
        assert len(json.loads(found)["items"]) == 30

    run(on_sqlite, test)


def test_a_large_batch_is_sent_while_it_is_read_in_pieces_of_a_few_documents(on_both: Settings) -> None:
    async def test(world: World) -> None:
        ids = await large(world, 20)
        found = await poll.retrieve_batch(world.gateway, MINE, 0, 100)
        assert isinstance(found, poll.Parts)
        parts = [part async for part in found.parts]
        assert max(map(len, parts)) < 500_000
        assert json.loads(b"".join(parts)) == {"items": [await world.document(one) for one in ids], "count": 20}

    run(on_both, test)


def test_what_is_deleted_while_a_batch_is_sent_is_left_out(on_both: Settings) -> None:
    async def test(world: World) -> None:
        ids = await large(world, 20)
        found = await poll.retrieve_batch(world.gateway, MINE, 0, 100)
        assert isinstance(found, poll.Parts)
        for gone in (ids[12], ids[-1]):
            await world.gateway.db.write(forget, gone)
        batch = json.loads(b"".join([part async for part in found.parts]))
        assert [item["id"] for item in batch["items"]] == [one for one in ids if one not in (ids[12], ids[-1])]
        assert batch["count"] == 20

    run(on_both, test)


async def forget(tx: Any, items: list[str]) -> list[None]:
    await tx.run("DELETE FROM tasks WHERE id = ANY($1)", items)
    return [None] * len(items)


def test_both_sizes_of_batches_leave_with_the_trace_id(on_sqlite: Settings) -> None:
    async def test(world: World) -> None:
        await world.submit()
        small = await batch_answer(world)
        await large(world, 5)
        big = await batch_answer(world)
        for number, (sent, sized) in enumerate([(small, True), (big, False)]):
            headers = dict(sent[0]["headers"])
            assert (headers[b"x-trace-id"], headers[b"content-type"]) == (b"trace-x", b"application/json")
            assert (b"content-length" in headers) is sized
            assert [message.get("more_body", False) for message in sent[1:]] == [True] * (len(sent) - 2) + [False]
            body = b"".join(message["body"] for message in sent[1:])
            assert len(json.loads(body)["items"]) == (1, 6)[number]

    run(on_sqlite, test)


async def batch_answer(world: World) -> list[Message]:
    """The messages of an answer to `retrieve_batch`."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b'{"action":"retrieve_batch","limit":100}'}

    async def send(message: Message) -> None:
        sent.append(message)

    service = world.gateway.catalog.services["openai"]
    assert await answer(
        world.gateway, world.documents, Turns(), service, "user-1", [], receive, send, "trace-x"
    ) == 200  # fmt: skip
    return sent


def test_a_request_comes_back_exactly_as_it_was_sent(on_both: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit(prompt='a "boat" \u2028 ⛵ \\ </script>', user="ü")
        body = {"prompt": 'a "boat" \u2028 ⛵ \\ </script>', "user": "ü"}
        assert (await retrieve(world, task_id))["request"] == body

    run(on_both, test)


# -- documents in memory


async def spoil(tx: Any, items: list[str]) -> list[None]:
    await tx.run("UPDATE tasks SET trace_id = 'changed' WHERE id = ANY($1)", items)
    return [None] * len(items)


def test_a_finished_document_is_answered_from_memory_for_a_moment_and_then_read_again(on_both: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        before = await retrieve(world, task_id)
        await world.gateway.db.write(spoil, task_id)
        assert await retrieve(world, task_id) == before
        world.clock.pass_s(2.001)
        assert (await retrieve(world, task_id))["trace_id"] == "changed"

    run(on_both, test, cache_s=2.0)


def test_an_unfinished_document_is_never_answered_from_memory(on_both: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit()
        await retrieve(world, task_id)
        await world.work()
        assert (await retrieve(world, task_id))["response"]["success"] is True

    run(on_both, test)


def test_documents_in_memory_are_bounded_in_bytes_and_the_oldest_go_first(on_sqlite: Settings) -> None:
    async def test(world: World) -> None:
        ids = [await world.submit() for _ in range(60)]
        await world.work()
        size = len(json.dumps(await world.document(ids[0])))
        world.documents = Documents(20 * size)
        for one in ids:
            await retrieve(world, one)
        assert world.documents._bytes <= 20 * size
        assert ids[0] not in world.documents._kept
        assert ids[-1] in world.documents._kept

    run(on_sqlite, test)


def test_a_document_that_is_large_is_not_kept(on_sqlite: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit(prompt="x" * 3_000)
        await world.work()
        world.documents = Documents(16_000)
        assert (await retrieve(world, task_id))["id"] == task_id
        assert world.documents._bytes == 0

    run(on_sqlite, test)


# -- pictures as base64


def test_a_poll_of_a_base64_task_is_filled_from_the_files_while_it_is_sent(on_both: Settings) -> None:
    pictures = [PNG, png(300) + b"x", png(40) + b"xx"]

    async def drawn(call: Call) -> Outcome:
        return Succeeded(tuple([await picture(call, data) for data in pictures]))

    async def test(world: World) -> None:
        accepted = await world.accept(response_format="b64_json")
        await world.work()
        found = await poll.retrieve(world.gateway, world.documents, "user-1", "openai", accepted.task_id, "")
        assert isinstance(found, Base64)
        assert b"b64_json" not in found.body.partition(b'"response"')[2]
        body = await poll.filled(world.gateway, found)
        sent = b"".join([part async for part in body.parts])
        assert len(sent) == body.size
        data = json.loads(sent)["response"]["data"]
        assert [base64.b64decode(item["b64_json"], validate=True) for item in data] == pictures
        assert all(item["url"].startswith("http://gateway.test/files/") for item in data)

    run(on_both, test, Scripted(drawn))


def test_a_base64_task_whose_file_is_gone_still_answers(on_sqlite: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit(response_format="b64_json")
        await world.work()
        for path in world.files():
            path.unlink()
        found = await poll.retrieve(world.gateway, world.documents, "user-1", "openai", task_id, "")
        assert isinstance(found, Base64)
        body = await poll.filled(world.gateway, found)
        sent = json.loads(b"".join([part async for part in body.parts]))
        assert set(sent["response"]["data"][0]) == {"url"}

    run(on_sqlite, test)


def test_a_failed_base64_task_has_nothing_to_fill(on_sqlite: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit(response_format="b64_json")
        world.clock.pass_s(901)
        await world.work()
        assert (await retrieve(world, task_id))["response"]["error"]["code"] == "timeout"

    run(on_sqlite, test)
