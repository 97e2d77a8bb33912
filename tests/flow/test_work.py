"""What becomes of a task for each thing an upstream can answer."""

import asyncio
from typing import Any

import pytest

from bide.errors import BadRequest, NotImplementedHere
from bide.flow import inputs, results
from bide.flow.waiting import ended
from bide.flow.work import Watch, work_once
from bide.providers.base import Asset, Call, Failed, Outcome, Partial, Pending, Succeeded, Unknown
from bide.settings import Settings
from bide.tasks import attempts, inspect, store
from tests.world import PNG, Held, Scripted, World, done, picture, run, serving

REFUSED = Failed("bad_request", "The prompt is empty.", detail="upstream: prompt: too short", status=400)
BROKEN = Failed("api_error", "The upstream failed.", scope="channel", cool_s=30, status=500)
BUSY = Failed("too_many_requests", "Slow down.", scope="channel", retryable=True, after_s=7, status=429)


# -- success


def test_a_picture_is_in_our_storage_before_the_task_has_succeeded(on_both: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit()
        (ending,) = await world.work()
        assert ending is not None
        ((name, size, content_type),) = await inspect.file_names(world.gateway.db, task_id)
        assert (await world.response(task_id))["data"] == [{"url": f"http://gateway.test/files/{name}"}]
        assert (size, content_type) == (len(PNG), "image/png")
        (file,) = world.files()
        assert file.read_bytes() == PNG

    run(on_both, test)


def test_a_provider_gets_the_checked_values_and_the_channels_name_of_the_model(on_both: Settings) -> None:
    upstream = Scripted(model_map={"gpt-image-1": "their-model"}, options={"tier": "flex"})

    async def test(world: World) -> None:
        task_id = await world.submit("http://127.0.0.1:9/hook", size="1024x1024", trace_id="order-7")
        await world.work()
        (call,) = upstream.calls
        assert (call.task_id, call.capability, call.model) == (task_id, "image.generate", "their-model")
        assert call.request["size"] == "1024x1024"
        assert {"callback_url", "async", "trace_id", "stream"}.isdisjoint(call.request)
        assert (call.inputs, call.progress, call.options) == ((), None, {"tier": "flex"})

    run(on_both, test, upstream)


def test_what_the_upstream_said_of_a_picture_is_in_the_response(on_both: Settings) -> None:
    async def told(call: Call) -> Outcome:
        drawn = await picture(call, revised_prompt="A boat.")
        return Succeeded((drawn,), {"created": 99, "usage": {"total_tokens": 3}})

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        response = await world.response(task_id)
        assert response["data"][0]["revised_prompt"] == "A boat."
        assert (response["created"], response["usage"]) == (99, {"total_tokens": 3})

    run(on_both, test, Scripted(told))


def test_an_answer_without_a_picture_is_a_failure(on_both: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        assert await world.error(task_id) == "api_error"
        assert await world.attempts(task_id) == [("first", "failed")]

    run(on_both, test, Scripted(Succeeded(())))


def test_a_file_that_did_not_become_part_of_the_result_is_deleted(on_both: Settings) -> None:
    async def half(call: Call) -> Outcome:
        await picture(call)
        return BROKEN

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        assert await world.attempts(task_id) == [("first", "failed"), ("second", "succeeded")]
        assert len(world.files()) == 1

    run(on_both, test, Scripted(half, weight=1e9), Scripted(name="second", weight=1e-9))


# -- pending


def test_a_pending_task_is_parked_until_its_poll_is_due(on_both: Settings) -> None:
    upstream = Scripted(Pending("up-1", 5.0), poll=[Pending("up-1", 2.5)])

    async def test(world: World) -> None:
        task_id = await world.submit()
        asked_at = world.clock.now
        await world.work()
        row = await world.queued(task_id)
        assert row is not None
        assert (row.state, row.lease_id, row.channel, row.upstream_id) == ("running", None, "first", "up-1")
        assert (row.due_at, row.asked_at, row.attempts) == (world.clock.now + 5_000, asked_at, 1)
        world.clock.pass_s(5)
        await world.work()
        row = await world.queued(task_id)
        assert row is not None
        assert row.due_at == world.clock.now + 2_500
        world.clock.pass_s(2.5)
        await world.work()
        assert upstream.polls == ["up-1", "up-1"]
        assert await world.attempts(task_id) == [("first", "succeeded")]

    run(on_both, test, upstream)


@pytest.mark.parametrize("lost", [Unknown("No answer came."), Pending("up-1", 5.0)])
def test_a_poll_that_brings_nothing_is_made_again(on_both: Settings, lost: Outcome) -> None:
    upstream = Scripted(Pending("up-1", 1.0), poll=[lost])

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        world.clock.pass_s(1)
        await world.work()
        world.clock.pass_s(5)
        await world.work()
        assert (upstream.polls, upstream.submitted) == (["up-1", "up-1"], [task_id])
        assert (await world.response(task_id))["success"] is True

    run(on_both, test, upstream)


def test_a_poll_that_raises_never_leads_to_a_second_submission(on_both: Settings) -> None:
    upstream = Scripted(Pending("up-1", 1.0), poll=[ValueError("not JSON")])

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        for _ in range(3):
            world.clock.pass_s(10)
            await world.work()
        assert upstream.submitted == [task_id]
        assert await world.queued(task_id) is None

    run(on_both, test, upstream)


def test_a_poll_may_bring_a_refusal(on_both: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        world.clock.pass_s(1)
        await world.work()
        assert await world.error(task_id) == "forbidden"
        (attempt,) = await attempts.of_task(world.gateway.db, task_id)
        assert (attempt.upstream_id, attempt.outcome, attempt.code) == ("up-1", "failed", "forbidden")

    run(on_both, test, Scripted(Pending("up-1", 1.0), poll=[Failed("forbidden", "Refused by moderation.")]))


# -- refusals


def test_a_refusal_of_the_task_is_final_and_no_other_channel_is_asked(on_both: Settings) -> None:
    first, second = Scripted(REFUSED, weight=1e9), Scripted(name="second", weight=1e-9)

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        assert (len(first.calls), len(second.calls)) == (1, 0)
        assert (await world.response(task_id))["error"] == {"code": "bad_request", "message": "The prompt is empty."}
        (attempt,) = await attempts.of_task(world.gateway.db, task_id)
        assert (attempt.status, attempt.detail) == (400, "upstream: prompt: too short")

    run(on_both, test, first, second)


def test_a_channel_that_fails_is_left_for_another_one_at_once_and_rests(on_both: Settings) -> None:
    first, second = Scripted(BROKEN, weight=1e9), Scripted(name="second", weight=1e-9)

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        assert (first.submitted, second.submitted) == ([task_id], [task_id])
        assert await world.attempts(task_id) == [("first", "failed"), ("second", "succeeded")]
        next_id = await world.submit()
        await world.work()
        assert next_id not in first.submitted
        world.clock.pass_s(30)
        later_id = await world.submit()
        await world.work()
        assert later_id in first.submitted

    run(on_both, test, first, second)


def test_when_every_channel_has_failed_the_last_error_is_the_tasks(on_both: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        assert await world.error(task_id) == "api_error"
        assert {channel for channel, _ in await world.attempts(task_id)} == {"first", "second"}

    run(on_both, test, Scripted(BROKEN), Scripted(BROKEN, name="second"))


def test_a_channel_that_asks_for_patience_is_asked_again_when_it_said(on_both: Settings) -> None:
    upstream = Scripted(BUSY)

    async def test(world: World) -> None:
        task_id = await world.submit()
        assert await world.work() == [None]
        row = await world.queued(task_id)
        assert row is not None
        assert (row.due_at, row.lease_id, row.channel) == (world.clock.now + 7_000, None, None)
        assert await world.attempts(task_id) == [("first", "failed")]
        world.clock.pass_s(7)
        await world.work()
        assert await world.attempts(task_id) == [("first", "failed"), ("first", "succeeded")]

    run(on_both, test, upstream)


def test_without_a_word_from_the_upstream_the_waits_grow(on_both: Settings) -> None:
    busy = Failed("too_many_requests", "Slow down.", retryable=True)

    async def test(world: World) -> None:
        task_id = await world.submit()
        waits = []
        for _ in range(2):
            await world.work()
            row = await world.queued(task_id)
            assert row is not None
            waits.append((row.due_at - world.clock.now) / 1000)
            world.clock.now = row.due_at
        assert waits == [2, 4]

    run(on_both, test, Scripted(busy, busy, busy))


def test_a_task_is_submitted_at_most_attempts_max_times(on_both: Settings) -> None:
    upstream = Scripted(BUSY, BUSY, BUSY, BUSY)

    async def test(world: World) -> None:
        task_id = await world.submit()
        for _ in range(5):
            await world.work()
            world.clock.pass_s(7)
        assert len(upstream.calls) == 3
        assert await world.error(task_id) == "too_many_requests"

    run(on_both, test, upstream, attempts_max=3)


# -- unknown outcomes


def test_an_unknown_outcome_ends_the_task_and_nobody_else_is_asked(on_both: Settings) -> None:
    first, second = Scripted(Unknown("The connection broke."), weight=1e9), Scripted(name="second", weight=1e-9)

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        assert (await world.response(task_id))["error"] == {"code": "timeout", "message": "The connection broke."}
        assert await world.attempts(task_id) == [("first", "unknown")]
        assert second.submitted == []

    run(on_both, test, first, second)


@pytest.mark.parametrize("how", [{"takes_our_id": True}, {"on_unknown": "resend"}])
def test_an_unknown_outcome_is_sent_again_where_that_is_harmless(on_both: Settings, how: dict[str, Any]) -> None:
    upstream = Scripted(Unknown("The connection broke."), **how)

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        assert upstream.submitted == [task_id, task_id]
        assert await world.attempts(task_id) == [("first", "unknown"), ("first", "succeeded")]

    run(on_both, test, upstream)


def test_sending_again_ends_after_attempts_max(on_both: Settings) -> None:
    upstream = Scripted(*[Unknown("The connection broke.")] * 9, takes_our_id=True)

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        assert len(upstream.calls) == 3
        assert await world.error(task_id) == "api_error"

    run(on_both, test, upstream)


def test_a_provider_that_raises_leaves_an_unknown_outcome(on_both: Settings) -> None:
    """A defect in code of a dialect: the request may have been sent, so it is not sent again."""
    upstream = Scripted(ZeroDivisionError("a defect, with a secret in it"))

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        assert upstream.submitted == [task_id]
        assert await world.error(task_id) == "timeout"
        assert "secret" not in str(await world.document(task_id))
        assert "a defect" in str(await attempts.of_task(world.gateway.db, task_id))
        assert [line["event"] for line in world.logs] == ["provider failed"]

    run(on_both, test, upstream)


# -- results that the upstream keeps at an address


def answering(status: str, body: bytes) -> Any:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    return handler


def test_a_picture_at_an_address_is_copied_into_our_storage(on_both: Settings) -> None:
    async def test(world: World) -> None:
        async with serving(answering("200 OK", PNG)) as address:
            upstream = Scripted(Succeeded((Asset(url=f"{address}/picture.png"),)))
            world = with_upstream(world, upstream)
            task_id = await world.submit()
            await world.work()
        ((name, *_),) = await inspect.file_names(world.gateway.db, task_id)
        assert (await world.response(task_id))["data"] == [{"url": f"http://gateway.test/files/{name}"}]
        assert world.files()[0].read_bytes() == PNG

    run(on_both, test)


def with_upstream(world: World, upstream: Scripted) -> World:
    """The same process with another upstream."""
    world.gateway.channels.set([upstream.channel(world.gateway)])
    return world


def test_an_address_that_is_not_public_is_never_asked_for_a_result(on_sqlite: Settings) -> None:
    asked = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()

    async def test(world: World) -> None:
        async with serving(handler) as address:
            task_id = await with_upstream(world, Scripted(Succeeded((Asset(url=f"{address}/p.png"),)))).submit()
            await world.work()
        assert await world.error(task_id) == "api_error"
        assert not asked.is_set()

    run(on_sqlite, test, callback_allow_private="")


def test_a_channels_own_host_is_trusted_for_its_results_even_on_a_private_network(on_sqlite: Settings) -> None:
    async def test(world: World) -> None:
        async with serving(answering("200 OK", PNG)) as address:
            upstream = Scripted(Succeeded((Asset(url=f"{address}/p.png"),)), base_url=f"{address}/v1")
            task_id = await with_upstream(world, upstream).submit()
            await world.work()
        assert (await world.response(task_id))["success"] is True

    run(on_sqlite, test, callback_allow_private="")


@pytest.mark.parametrize(("status", "body"), [("404 Not Found", b""), ("200 OK", b"<html>no picture</html>")])
def test_a_result_that_cannot_be_copied_fails_the_task_without_naming_the_address(
    on_sqlite: Settings, status: str, body: bytes
) -> None:
    async def test(world: World) -> None:
        async with serving(answering(status, body)) as address:
            task_id = await with_upstream(world, Scripted(Succeeded((Asset(url=f"{address}/p.png"),)))).submit()
            await world.work()
        assert await world.error(task_id) == "api_error"
        assert address not in str((await world.document(task_id))["response"])
        assert world.files() == []

    run(on_sqlite, test)


def test_when_one_of_several_pictures_cannot_be_copied_the_others_are_deleted(on_sqlite: Settings) -> None:
    async def test(world: World) -> None:
        async with serving(answering("404 Not Found", b"")) as address:

            async def two(call: Call) -> Outcome:
                return Succeeded((await picture(call), Asset(url=f"{address}/gone.png")))

            task_id = await with_upstream(world, Scripted(two)).submit(n=2)
            await world.work()
        assert await world.error(task_id) == "api_error"
        assert world.files() == []

    run(on_sqlite, test)


# -- pictures that the caller gave by address


def test_a_callers_picture_is_fetched_before_the_attempt_is_opened(on_both: Settings) -> None:
    read = []

    async def look(call: Call) -> Outcome:
        (one,) = call.inputs
        read.append((one.field, one.content_type, b"".join([chunk async for chunk in one.chunks()])))
        return await done(call)

    async def test(world: World) -> None:
        async with serving(answering("200 OK", PNG)) as address:
            task_id = (await world.accept(operation="images/edits", image=f"{address}/in.png", waits=False)).task_id
            await world.work()
        assert read == [("image", "image/png", PNG)]
        assert await world.attempts(task_id) == [("first", "succeeded")]
        assert world.gateway.spool.held == 0

    run(on_both, test, Scripted(look))


def test_a_callers_picture_that_is_no_picture_is_a_refusal_and_nobody_is_asked(on_both: Settings) -> None:
    upstream = Scripted()

    async def test(world: World) -> None:
        async with serving(answering("200 OK", b"<svg onload='x'/>")) as address:
            task_id = (await world.accept(operation="images/edits", image=f"{address}/in.png")).task_id
            await world.work()
        assert await world.error(task_id) == "bad_request"
        assert upstream.submitted == []
        assert await world.attempts(task_id) == []

    run(on_both, test, upstream)


# -- callers that wait


def test_the_first_attempt_of_a_caller_that_waits_is_opened_by_the_insert(on_both: Settings) -> None:
    upstream = Scripted()

    async def test(world: World) -> None:
        accepted = await world.accept(waits=True)
        row = await world.queued(accepted.task_id)
        assert row is not None
        assert (row.state, row.channel, row.attempts, row.asked_at) == ("running", "first", 1, world.clock.now)
        assert accepted.fresh
        assert await work_once(world.gateway, 10) == []  # it is leased
        await world.wait_for(accepted)
        assert upstream.submitted == [accepted.task_id]
        assert await world.attempts(accepted.task_id) == [("first", "succeeded")]

    run(on_both, test, upstream)


def test_an_inline_call_that_died_right_after_the_insert_is_unknown_to_the_next_worker(on_both: Settings) -> None:
    upstream = Scripted()

    async def test(world: World) -> None:
        accepted = await world.accept(waits=True)
        world.gateway.task_leases.drop(accepted.task_id)
        world.leases_end()
        await world.work()
        assert upstream.submitted == []
        assert await world.attempts(accepted.task_id) == [("first", "lost")]

    run(on_both, test, upstream)


def test_a_bounded_channel_or_a_picture_to_fetch_leaves_the_attempt_for_later(on_both: Settings) -> None:
    async def test(world: World) -> None:
        accepted = await world.accept(waits=True)
        assert (accepted.fresh, accepted.work is not None) == (False, True)
        row = await world.queued(accepted.task_id)
        assert row is not None
        assert (row.channel, row.attempts) == (None, 0)
        ending = await world.wait_for(accepted)
        assert ending is not None
        assert ending.response["success"] is True

    run(on_both, test, Scripted(concurrency=2))


def test_a_caller_that_waits_holds_its_task_while_the_upstream_works(on_both: Settings) -> None:
    """It is polled here, and the upstream's id is written down in case this process dies."""
    held = Held(done)
    upstream = Scripted(Pending("up-1", 2.0), poll=[Pending("up-1", 3.0), held])

    async def test(world: World) -> None:
        accepted = await world.accept(waits=True)
        waiting = asyncio.create_task(world.wait_for(accepted))
        await asyncio.wait_for(held.asked.wait(), 10)
        row = await world.queued(accepted.task_id)
        assert row is not None
        assert row.lease_id is not None
        assert row.upstream_id == "up-1"
        assert world.clock.slept == [2.0, 3.0]
        held.go.set()
        ending = await waiting
        assert ending is not None
        assert ending.response["success"] is True
        assert upstream.polls == ["up-1", "up-1"]

    run(on_both, test, upstream)


def test_a_caller_that_waits_is_kept_while_a_busy_channel_asks_for_patience(on_both: Settings) -> None:
    async def test(world: World) -> None:
        ending = await world.wait_for(await world.accept(waits=True))
        assert ending is not None
        assert ending.response["success"] is True
        assert world.clock.slept == [7]

    run(on_both, test, Scripted(BUSY))


def test_a_caller_that_streams_sees_the_unfinished_pictures_in_order(on_both: Settings) -> None:
    seen: list[int] = []

    async def drawing(call: Call) -> Outcome:
        assert call.progress is not None
        for index in range(call.partial_images):
            await call.progress(Partial(index, PNG))
        return await done(call)

    async def see(partial: Partial) -> None:
        seen.append(partial.index)

    async def test(world: World) -> None:
        await world.wait_for(await world.accept(waits=True), Watch(see, partial_images=3))
        assert seen == [0, 1, 2]

    run(on_both, test, Scripted(drawing))


def test_base64_for_a_caller_that_waits_never_touches_storage(on_both: Settings) -> None:
    async def test(world: World) -> None:
        accepted = await world.accept(waits=True, response_format="b64_json")
        response = await ended(world.gateway, accepted, Watch(spooled=True))
        body = results.fill(world.gateway, response["data"][0]["b64_json"].encode())
        filled = b"".join([part async for part in body.parts])
        assert filled.startswith(b"iVBOR")
        assert len(filled) == body.size
        assert world.files() == []
        results.release(world.gateway, response)
        assert world.gateway.spool.held == 0

    run(on_both, test)


def test_a_caller_whose_task_fell_into_other_hands_gets_the_result_from_there(on_both: Settings) -> None:
    held = Held(done)

    async def test(world: World) -> None:
        accepted = await world.accept(waits=True)
        waiting = asyncio.create_task(ended(world.gateway, accepted, Watch()))
        await asyncio.wait_for(held.asked.wait(), 10)
        world.leases_end()
        await world.work()
        held.go.set()
        assert await asyncio.wait_for(waiting, 10) == await world.ended(accepted.task_id)

    run(on_both, test, Scripted(held, takes_our_id=True))


# -- what is refused before there is a task


def test_what_no_channel_can_answer_is_refused_and_leaves_no_task(on_both: Settings) -> None:
    async def test(world: World) -> None:
        with pytest.raises(NotImplementedHere):
            await world.submit(model="gpt-image-1")
        assert await inspect.latest(world.gateway.db, 10) == []

    run(on_both, test, Scripted(models=("dall-e-*",)))


def test_a_request_that_is_repeated_under_its_idempotency_key_is_the_same_task(on_both: Settings) -> None:
    upstream = Scripted()

    async def test(world: World) -> None:
        first = await world.accept(key="k", prompt="a boat")
        again = await world.accept(key="k", prompt="a boat")
        assert (again.task_id, again.known, again.work) == (first.task_id, True, None)
        with pytest.raises(BadRequest, match="idempotency-key"):
            await world.accept(key="k", prompt="a ship")
        await world.work()
        assert upstream.submitted == [first.task_id]

    run(on_both, test, upstream)


def test_many_requests_under_one_idempotency_key_at_once_are_one_task(on_both: Settings) -> None:
    async def test(world: World) -> None:
        accepted = await asyncio.gather(*(world.accept(key="k") for _ in range(20)))
        assert len({one.task_id for one in accepted}) == 1
        assert len(await inspect.latest(world.gateway.db, 50)) == 1

    run(on_both, test)


def test_a_task_whose_operation_is_not_offered_any_more_fails(on_both: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.gateway.db.write(rename_operation, task_id)
        await world.work()
        response = await world.ended(task_id)
        assert response["error"]["code"] == "bad_request"

    run(on_both, test)


async def rename_operation(tx: Any, items: list[str]) -> list[None]:
    await tx.run("UPDATE tasks SET operation = 'images/gone' WHERE id = ANY($1)", items)
    return [None] * len(items)


def test_an_uploaded_picture_that_is_gone_from_storage_is_a_failure_not_a_crash(on_sqlite: Settings) -> None:
    async def test(world: World) -> None:
        gone = store.Upload("image", f"private/2026-11-22/{'0' * 32}.png", "boat.png", "image/png", 4)
        assert isinstance(await inputs._uploaded(world.gateway, gone), Failed)

    run(on_sqlite, test)
