"""Refusals, losses and streams of an OpenAI-compatible server: asked once, and no file left behind."""

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from bide.providers.base import Failed, Input, Outcome, Partial, Unknown
from bide.providers.openai_images import submit

from .upstream import (
    ANSWER,
    JPEG,
    JPEG64,
    KEY,
    PNG,
    PNG64,
    USAGE,
    Reply,
    Upstream,
    answer,
    failed,
    given,
    run,
    succeeded,
    unknown,
)

# -- refusals and losses


@pytest.mark.parametrize(
    ("reply", "code", "scope", "retryable"),
    [
        (Reply(400, b'{"error":{"message":"Blocked.","code":"moderation_blocked"}}'), "forbidden", "task", False),
        (Reply(422, b'{"detail":[{"loc":["body","n"],"msg":"too many"}]}'), "bad_request", "task", False),
        (Reply(401, b'{"error":"Incorrect API key provided: ' + KEY.encode() + b'"}'), "api_error", "channel", False),
        (
            Reply(429, b'{"error":{"message":"Slow","code":"rate_limit_exceeded"}}', {"retry-after": "7"}),
            "too_many_requests",
            "channel",
            True,
        ),
        (Reply(500, b'{"error":{"message":"Oops","type":"server_error"}}'), "api_error", "channel", True),
        (Reply(503, b"starting"), "api_error", "channel", True),
        (Reply(302, b"", {"location": "/elsewhere"}), "api_error", "channel", False),
        (Reply(307, b"", {"location": "/v1/images/generations"}), "api_error", "channel", False),
        (Reply(400, b'{"error":"' + b"x" * 100_000 + b'"}'), "bad_request", "task", False),
        (Reply(400, b'{"error":', then="cut"), "bad_request", "task", False),
    ],
)
def test_a_refusal_is_a_value_and_nothing_is_asked_twice(
    reply: Reply, code: str, scope: str, retryable: bool
) -> None:
    outcome = failed(replace(reply, headers={"X-Request-Id": "req_1", **reply.headers}))
    assert (outcome.code, outcome.scope, outcome.retryable, outcome.status) == (code, scope, retryable, reply.status)
    assert "req_1" in outcome.detail
    assert KEY not in outcome.detail + outcome.message
    assert outcome.after_s == (7 if reply.status == 429 else None)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(500, b"<html><title>Error</title></html>"),
        Reply(502),
        Reply(504),
        Reply(500, b'{"error":', then="cut"),
        Reply(then="reset"),
        Reply(200, b'{"data":[{"b64_json":"' + PNG64.encode(), then="cut"),
        Reply(200, b'{"created":1', then="cut"),
    ],
)
def test_what_was_sent_and_not_answered_is_unknown_and_not_asked_twice(reply: Reply) -> None:
    unknown(reply)
    unknown(reply, capability="image.edit", inputs=(given("image", PNG),))


@pytest.mark.parametrize("began", [[], [b'{"data":[{"b64_json":"' + PNG64.encode()]], ids=["headers", "picture"])
def test_an_answer_that_takes_too_long_is_unknown(began: list[bytes]) -> None:
    assert "Timeout" in unknown(Reply(200, began, then="hang"), total_s=0.3).detail


def test_silence_after_the_request_is_unknown() -> None:
    async def work() -> Outcome:
        async def silent(request: web.Request) -> web.StreamResponse:
            await request.read()
            await asyncio.Event().wait()
            raise AssertionError

        async with Upstream(handler=silent, total_s=0.3) as upstream:
            return await submit(upstream.call())

    assert isinstance(run(work()), Unknown)


def test_nobody_listening_is_a_channel_to_leave_at_once() -> None:
    async def work(url: str) -> Outcome:
        async with (
            Upstream() as upstream,
            aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=2)) as http,
        ):
            return await submit(replace(upstream.call(), http=http))

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        for url in (f"http://127.0.0.1:{port}/v1/", f"https://127.0.0.1:{port}/v1/", "http://bide.invalid/v1/"):
            outcome = run(work(url))
            assert isinstance(outcome, Failed)
            assert (outcome.code, outcome.scope, outcome.retryable) == ("api_error", "channel", True)
            assert str(port) not in outcome.message


def test_a_request_that_never_left_the_pool_was_not_sent() -> None:
    """A total time-out looks the same to aiohttp wherever it strikes: only the body knows."""

    async def work() -> tuple[Outcome, Outcome, int]:
        async with Upstream(Reply(200, [], then="hang")) as upstream:
            connector = aiohttp.TCPConnector(limit=1)
            patient, hurried = (
                aiohttp.ClientSession(
                    upstream.url,
                    connector=connector,
                    connector_owner=False,
                    timeout=aiohttp.ClientTimeout(total=total_s),
                )
                for total_s in (0.3, 0.05)
            )
            async with connector, patient, hurried:
                first = asyncio.create_task(submit(replace(upstream.call(), http=patient)))
                await upstream.came.wait()
                second = await submit(replace(upstream.call(), http=hurried))
                return await first, second, upstream.asked

    sent, queued, asked = run(work())
    assert isinstance(sent, Unknown)
    assert isinstance(queued, Failed)
    assert queued.retryable
    assert asked == 1


def test_an_upload_that_was_never_complete_was_not_asked() -> None:
    async def work() -> Outcome:
        async def deaf(request: web.Request) -> web.StreamResponse:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield bytes(65_536)

        async with Upstream(handler=deaf) as upstream:
            huge = Input("image", "a.png", "image/png", 1 << 40, endless)
            return await submit(upstream.call(capability="image.edit", inputs=(huge,)))

    outcome = run(work())
    assert isinstance(outcome, Failed)
    assert outcome.retryable


def test_cancelling_passes_through_and_leaves_no_file() -> None:
    async def work() -> None:
        picture = base64.b64encode(PNG * 1000)
        async with Upstream(Reply(200, b'{"data":[{"b64_json":"' + picture, then="hang")) as upstream:
            task = asyncio.create_task(submit(upstream.call()))
            await upstream.store.opened.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert upstream.store.states == ["aborted"]

    run(work())


# -- streams of events


def event(name: str, **fields: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **fields})}\n\n".encode()


def stream(*events: bytes, then: str = "end") -> Reply:
    return Reply(200, list(events), {"content-type": "text/event-stream; charset=utf-8"}, then)


FIRST = event("image_generation.partial_image", b64_json=JPEG64, partial_image_index=0, created_at=1)
SECOND = event("image_generation.partial_image", b64_json=PNG64, partial_image_index=1, created_at=1)
DONE = event("image_generation.completed", b64_json=PNG64, created_at=1795316790, size="1024x1024", usage=USAGE)
ERROR = event("error", error={"code": "moderation_blocked", "message": "Blocked late."})


def test_partial_pictures_are_shown_and_the_last_one_is_kept() -> None:
    outcome, upstream = succeeded(
        stream(b": hello\n\n", FIRST, SECOND, b"data: not json\n\n", DONE, b"data: [DONE]\n\n"),
        watched=True,
        partial_images=2,
    )
    assert upstream.partials == [Partial(0, JPEG), Partial(1, PNG)]
    assert [upstream.store.of(asset.stored) for asset in outcome.assets] == [PNG]
    assert outcome.response == {"created": 1795316790, "size": "1024x1024", "usage": USAGE}


def test_a_stream_that_nobody_watches_is_read_all_the_same() -> None:
    outcome, upstream = succeeded(stream(FIRST, DONE), options={"stream": True})
    assert upstream.partials == []
    assert outcome.units == 1


def test_events_of_an_edit_and_an_event_that_was_not_closed_count() -> None:
    done = event("image_edit.completed", b64_json=PNG64).rstrip()
    outcome, _ = succeeded(
        stream(done), capability="image.edit", inputs=(given("image", PNG),), options={"stream": True}
    )
    assert outcome.units == 1


def test_an_answer_without_stream_to_a_request_for_one_is_fine() -> None:
    outcome, _ = succeeded(answer(ANSWER), watched=True, partial_images=1)
    assert outcome.units == 1


def test_all_pictures_of_a_stream_are_kept_and_then_it_is_left() -> None:
    outcome, upstream = succeeded(
        stream(DONE, event("image_generation.completed", url="https://cdn.example/b.png"), then="hang"),
        n=2,
        options={"stream": True},
    )
    assert upstream.store.of(outcome.assets[0].stored) == PNG
    assert outcome.assets[1].url == "https://cdn.example/b.png"


def test_a_whole_answer_as_one_event_is_understood() -> None:
    outcome, _ = succeeded(stream(b"data: " + json.dumps(ANSWER).encode() + b"\n\n", b"data: [DONE]\n\n"))
    assert outcome.response["usage"] == USAGE


@pytest.mark.parametrize(
    "last",
    [
        ERROR,
        b'data: {"error": {"code": "moderation_blocked", "message": "Blocked late."}}\n\n',
        b'event: error\ndata: {"code": "moderation_blocked", "message": "Blocked late."}\n\n',
    ],
)
def test_an_error_after_partial_pictures_is_a_failure(last: bytes) -> None:
    outcome = failed(stream(FIRST, last, DONE), watched=True, partial_images=1)
    assert (outcome.code, outcome.message) == ("forbidden", "Blocked late.")


@pytest.mark.parametrize(
    "reply",
    [
        stream(),
        stream(FIRST),
        stream(FIRST, b"data: [DONE]\n\n", DONE),
        stream(FIRST, then="cut"),
        stream(FIRST, DONE[:-40]),
        stream(FIRST, DONE[:-40], then="cut"),
        stream(event("image_generation.queued")),
    ],
)
def test_a_stream_without_an_end_is_unknown(reply: Reply) -> None:
    unknown(reply, watched=True, partial_images=1)


@pytest.mark.parametrize("reply", [stream(DONE, ERROR), stream(DONE, then="cut"), stream(DONE)])
def test_a_completed_picture_counts_whatever_follows(reply: Reply) -> None:
    outcome, _ = succeeded(reply, n=2, options={"stream": True})
    assert outcome.units == 1


def test_an_event_beyond_the_bound_is_a_failure() -> None:
    outcome = failed(stream(b"data: " + b"x" * 30_000, b"x" * 30_000), answer_bytes_max=20_000)
    assert (outcome.code, outcome.scope) == ("api_error", "task")
