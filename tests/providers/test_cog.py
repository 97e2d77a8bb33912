"""`cog` against recordings of a Cog server (0.23), which answers a PUT with the result."""

import base64
from typing import Any

import pytest
from aiohttp import web

from bide.providers import cog
from bide.providers.base import Failed, Pending, Succeeded, Unknown

from .nonsense import NONSENSE, Handled
from .polled import TASK, polled, submitted, the_item
from .upstream import JPEG, JPEG64, PNG, Reply, answer, given, run

ASK: dict[str, Any] = {"capability": "image.generate", "model": "any", "prompt": "a boat"}
INLINE = "data:image/png;base64," + base64.b64encode(PNG).decode()
DONE = answer({"id": TASK, "logs": "drawing\n", "metrics": {"predict_time": 3.0}, "output": INLINE,
               "status": "succeeded"})  # fmt: skip
RUNNING = Reply(202, b'{"id":"abc","input":{},"logs":"drawing a\\n","metrics":{},"status":"processing"}')
BUSY = Reply(409, b'{"error":"At capacity - all prediction slots busy","status":"failed"}')


def test_the_answer_to_the_put_is_the_picture() -> None:
    outcome, upstream = submitted(cog, DONE, **ASK, size="512x512", n=2)
    assert isinstance(outcome, Succeeded)
    assert upstream.store.of(outcome.assets[0].stored) == PNG
    (asked,) = upstream.requests
    assert (asked.path, asked.json) == (f"/v1/predictions/{TASK}", {"input": {"prompt": "a boat"}})


def test_files_and_the_fields_of_the_channel_go_along() -> None:
    options = {"fields": {"width": "width", "height": "height", "seed": "seed"}, "extra": {"delay": 0}}
    _, upstream = submitted(cog, DONE, **{**ASK, "capability": "image.edit"}, inputs=(given("image", PNG),),
                            size="512x256", seed=3, options=options)  # fmt: skip
    assert upstream.requests[0].json["input"] == {"prompt": "a boat", "image": INLINE, "width": 512, "height": 256,
                                                  "seed": 3, "delay": 0}  # fmt: skip


def test_several_outputs_and_films_are_items() -> None:
    two = [INLINE, f"data:image/jpeg;base64,{JPEG64}"]
    outcome, upstream = submitted(cog, answer({"status": "succeeded", "output": two}), **ASK)
    assert isinstance(outcome, Succeeded)
    assert [upstream.store.of(one.stored) for one in outcome.assets] == [PNG, JPEG]
    film = answer({"status": "succeeded", "output": "http://127.0.0.1:5/out.mp4"})
    outcome, _ = submitted(cog, film, capability="video.generate", prompt="a boat", duration=4)
    assert [(one.role, one.url) for one in the_item(outcome).assets] == [("video", "http://127.0.0.1:5/out.mp4")]


@pytest.mark.parametrize(
    ("reply", "code", "scope", "retryable"),
    [
        (BUSY, "too_many_requests", "channel", True),
        (Reply(503, b'{"error":"starting"}'), "api_error", "channel", True),
        (Reply(422, b'{"detail":[{"loc":["body","input","width"],"msg":"not a number","type":"int"}]}'),
         "bad_request", "task", False),
        (answer({"error": "ValueError: NSFW content detected", "id": TASK, "status": "failed"}),
         "forbidden", "task", False),
        (answer({"error": "CUDA out of memory", "status": "failed"}), "api_error", "channel", False),
        (answer({"status": "canceled"}), "api_error", "channel", False),
        (answer({"status": "succeeded", "output": "a poem"}), "api_error", "channel", False),
    ],
)  # fmt: skip
def test_a_refusal_is_a_value(reply: Reply, code: str, scope: str, retryable: bool) -> None:
    outcome, upstream = submitted(cog, reply, **ASK)
    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.scope, outcome.retryable, upstream.asked) == (code, scope, retryable, 1)


@pytest.mark.parametrize("reply", [*NONSENSE.values(), Reply(502), Reply(500)], ids=[*NONSENSE, "502", "500"])
def test_an_answer_that_says_nothing_is_unknown(reply: Reply) -> None:
    outcome, _ = submitted(cog, reply, **ASK)
    assert isinstance(outcome, Unknown), outcome


def test_work_under_way_is_joined_by_the_same_put() -> None:
    assert submitted(cog, RUNNING, **ASK)[0] == Pending(TASK, cog.FIRST_S)
    assert polled(cog, TASK, RUNNING, **ASK)[0] == Pending(TASK, cog.NEXT_S)
    outcome, upstream = polled(cog, TASK, DONE, **ASK)
    assert isinstance(outcome, Succeeded)
    assert upstream.requests[0].path == f"/v1/predictions/{TASK}"


@pytest.mark.parametrize("reply", [BUSY, Reply(503), Reply(502), NONSENSE["html"], NONSENSE["cut"]])
def test_a_look_that_failed_says_nothing_about_the_work(reply: Reply) -> None:
    assert isinstance(polled(cog, TASK, reply, **ASK)[0], Unknown)


def test_work_that_is_not_wanted_is_cancelled_under_our_id() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response({})

    async def work() -> tuple[bool, list[str]]:
        async with Handled(handler) as upstream:
            return await cog.cancel(upstream.asks(**ASK), TASK), upstream.seen

    assert run(work()) == (True, [f"POST /v1/predictions/{TASK}/cancel"])
