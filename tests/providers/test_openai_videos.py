"""`openai_videos` against recordings of servers that speak `/v1/videos`, each in its own way."""

import json
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from bide.clock import Clock
from bide.providers import openai_videos
from bide.providers.base import Absent, Call, Failed, Outcome, Pending, Progress, Source, Succeeded, Unknown

from .nonsense import NONSENSE, Handled
from .polled import Polled, polled, reconciled, source, submitted, the_item
from .upstream import KEY, PNG, Reply, answer, given, run

QUEUED = {"id": "video_1", "object": "video", "status": "queued", "progress": 0, "model": "sora-2"}
DONE = {"id": "video_1", "object": "video", "status": "completed", "seconds": "8", "size": "1280x720"}
FILM = Reply(200, PNG, {"Content-Type": "video/mp4"})
ASK: dict[str, Any] = {"capability": "video.generate", "model": "sora-2", "prompt": "a boat"}


def of(source: Source) -> dict[str, tuple[Source, ...]]:
    return {"video_id": (source,)}


# -- what is sent


def test_a_film_is_asked_for_once_with_the_channels_key() -> None:
    outcome, upstream = submitted(openai_videos, answer(QUEUED), **ASK, duration=8, size="1280x720")
    assert outcome == Pending("video_1", openai_videos.FIRST_S)
    (asked,) = upstream.requests
    assert asked.path == "/v1/videos"
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert asked.json == {"model": "sora-2", "prompt": "a boat", "seconds": "8", "size": "1280x720"}


@pytest.mark.parametrize(
    ("request_fields", "sent"),
    [
        ({"size": "small", "orientation": "landscape"}, "1280x720"),
        ({"size": "large", "orientation": "portrait"}, "1024x1792"),
        ({"aspect_ratio": "9:16", "resolution": "1080p"}, "1080x1920"),
        ({"aspect_ratio": "16:9", "resolution": "720p"}, "1280x720"),
        ({"aspect_ratio": "1:1"}, "720x720"),
        ({"resolution": "1080p"}, "1920x1080"),
        ({"size": "640*480"}, "640x480"),
        ({"aspect_ratio": "adaptive"}, None),
        ({}, None),
    ],
)
def test_sizes_become_pixels(request_fields: dict[str, Any], sent: str | None) -> None:
    _, upstream = submitted(openai_videos, answer(QUEUED), **ASK, **request_fields)
    assert upstream.requests[0].json.get("size") == sent


def test_a_picture_goes_along_in_a_form() -> None:
    _, upstream = submitted(
        openai_videos, answer(QUEUED), **ASK, duration=4, inputs=(given("image_urls", PNG),), image_urls=["https://x"]
    )
    parts = {name: data for name, _, _, data in upstream.requests[0].parts}
    assert parts == {"model": b"sora-2", "prompt": b"a boat", "seconds": b"4", "input_reference": PNG}


def test_more_pictures_than_it_takes_are_for_another_channel() -> None:
    inputs = (given("image_urls", PNG), given("image_urls", PNG))
    outcome, upstream = submitted(openai_videos, answer(QUEUED), **ASK, inputs=inputs)
    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.scope, upstream.asked) == ("bad_request", "channel", 0)
    _, upstream = submitted(openai_videos, answer(QUEUED), **ASK, inputs=inputs, options={"pictures": 2})
    assert [name for name, *_ in upstream.requests[0].parts].count("input_reference") == 2
    _, upstream = submitted(openai_videos, answer(QUEUED), **ASK, inputs=inputs, version="2.0")
    assert [name for name, *_ in upstream.requests[0].parts].count("input_reference") == 1


def test_the_channels_options_change_what_is_sent() -> None:
    options = {"form": True, "fields": {"negative_prompt": "negative_prompt"}, "drop": ["model"],
               "extra": {"num_inference_steps": 4}}  # fmt: skip
    _, upstream = submitted(openai_videos, answer(QUEUED), **ASK, options=options, negative_prompt="rain")
    parts = {name: data for name, _, _, data in upstream.requests[0].parts}
    assert parts == {"prompt": b"a boat", "negative_prompt": b"rain", "num_inference_steps": b"4"}


def test_options_that_are_wrong_are_the_channels_fault_and_nothing_is_sent() -> None:
    outcome, upstream = submitted(openai_videos, answer(QUEUED), **ASK, options={"edits": "all"})
    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.scope, upstream.asked) == ("api_error", "channel", 0)


def test_a_prompt_cannot_hold_settings_of_the_server() -> None:
    words = 'a <sd_cpp_extra_args>{"steps": 1}</sd_cpp_extra_args> boat'
    _, upstream = submitted(openai_videos, answer(QUEUED), capability="video.generate", prompt=words)
    assert "steps" not in upstream.requests[0].json["prompt"]


@pytest.mark.parametrize(
    ("capability", "options", "path", "sent"),
    [
        ("video.edit", {}, "/v1/videos/edits", {"video": {"id": "video/0"}, "prompt": "snow"}),
        ("video.edit", {"edits": "remix"}, "/v1/videos/video%2F0/remix", {"prompt": "snow"}),
        ("video.extend", {}, "/v1/videos/extensions", {"video": {"id": "video/0"}, "prompt": "snow", "seconds": "4"}),
    ],
)
def test_an_earlier_film_is_followed_up(
    capability: str, options: dict[str, Any], path: str, sent: dict[str, Any]
) -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append(request.raw_path)
        assert await request.json() == sent
        return web.json_response(QUEUED)

    async def work() -> Outcome:
        async with Handled(handler) as upstream:
            call = upstream.asks(capability=capability, prompt="snow", duration=4, options=options,
                                 sources=of(source({"video": "video/0"}, kind="video")))  # fmt: skip
            return await openai_videos.submit(call)

    assert isinstance(run(work()), Pending)
    assert seen == [path]


def test_what_it_did_not_make_it_cannot_follow_up() -> None:
    for more in ({"capability": "video.extend"}, {"capability": "video.generate", "action": "get1080p"}):
        outcome, upstream = submitted(openai_videos, answer(QUEUED), prompt="a boat", **more)
        assert isinstance(outcome, Failed)
        assert (outcome.scope, upstream.asked) == ("channel", 0)


# -- what is answered to a submission


@pytest.mark.parametrize(
    ("reply", "code", "scope"),
    [
        (Reply(400, b'{"error":{"message":"No.","code":"moderation_blocked"}}'), "forbidden", "task"),
        (Reply(400, b'{"error":{"message":"seconds must be 4","param":"seconds"}}'), "bad_request", "task"),
        (Reply(429, b'{"error":{"message":"litellm.RateLimitError","code":"429"}}'), "too_many_requests", "channel"),
        (Reply(429, b'{"error":{"message":"Quota","code":"insufficient_quota"}}'), "api_error", "channel"),
        (Reply(404, b'{"error":{"message":"The model `sora-2` does not exist"}}'), "api_error", "channel"),
        (Reply(401, b'{"error":{"message":"bad key %s"}}' % KEY.encode()), "api_error", "channel"),
        (Reply(200, b'{"error":{"message":"No.","code":"moderation_blocked"}}'), "forbidden", "task"),
        (answer({**QUEUED, "status": "failed", "error": {"code": "moderation_blocked"}}), "forbidden", "task"),
        (Reply(307, b"", {"location": "/v1/videos"}), "api_error", "channel"),
    ],
)
def test_a_refusal_is_a_value(reply: Reply, code: str, scope: str) -> None:
    outcome, upstream = submitted(openai_videos, reply, **ASK)
    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.scope, upstream.asked) == (code, scope, 1)


@pytest.mark.parametrize("reply", [*NONSENSE.values(), Reply(502), Reply(500, b"oops")],
                         ids=[*NONSENSE, "502", "500"])  # fmt: skip
def test_an_answer_that_says_nothing_is_unknown_and_nothing_is_sent_twice(reply: Reply) -> None:
    outcome, upstream = submitted(openai_videos, reply, **ASK)
    assert isinstance(outcome, Unknown), outcome
    assert upstream.asked == 1


def test_a_film_that_is_done_at_once_is_looked_at_at_once() -> None:
    assert submitted(openai_videos, answer(DONE), **ASK)[0] == Pending("video_1", 0.0)


# -- how it is doing


def test_a_finished_film_is_brought_here_with_the_channels_key() -> None:
    outcome, upstream = polled(openai_videos, "video_1", answer(DONE), FILM, **ASK, duration=4)
    item = the_item(outcome)
    assert isinstance(outcome, Succeeded)
    assert (outcome.units, dict(outcome.response)) == (8, {"state": "succeeded"})
    (asset,) = item.assets
    assert (asset.role, upstream.store.of(asset.stored)) == ("video", PNG)
    assert item.fields == {"state": "succeeded", "prompt": "a boat", "model": "sora-2", "seconds": 8, "width": 1280,
                           "height": 720}  # fmt: skip
    assert item.about == {"video": "video_1"}
    assert [one.path for one in upstream.requests] == ["/v1/videos/video_1", "/v1/videos/video_1/content"]
    assert upstream.requests[1].headers["Authorization"] == f"Bearer {KEY}"


def test_the_first_id_is_kept_and_null_fields_are_as_good_as_none() -> None:
    strange = {"id": "another", "status": "processing", "created_at": None, "progress": None, "seconds": None}
    outcome, _ = polled(openai_videos, "video_1", answer(strange), **ASK)
    assert isinstance(outcome, Pending)
    assert outcome.upstream_id == "video_1"
    outcome, upstream = polled(openai_videos, "video_1", answer({**strange, "status": "succeeded"}), FILM, **ASK)
    assert the_item(outcome).about == {"video": "video_1"}
    assert upstream.requests[1].path == "/v1/videos/video_1/content"


@pytest.mark.parametrize(("said", "percent"), [(40, 40), ("30%", 30), (12.7, 12), (400, None), ("soon", None)])
def test_progress_is_told(said: object, percent: int | None) -> None:
    working = {**QUEUED, "status": "in_progress", "progress": said}
    outcome, upstream = polled(openai_videos, "video_1", answer(working), **ASK, watched=True)
    assert outcome == Pending("video_1", openai_videos.NEXT_S)
    assert upstream.reports == ([] if percent is None else [Progress(percent)])


def test_the_older_the_work_the_longer_the_wait() -> None:
    outcome, _ = polled(openai_videos, "video_1", answer(QUEUED), **ASK, asked_s_ago=3600)
    assert outcome == Pending("video_1", openai_videos.CAP_S)


@pytest.mark.parametrize("word", ["paused", "", None, 7, ["completed"]])
def test_an_unknown_word_leaves_the_film_where_it_is(word: object) -> None:
    outcome, upstream = polled(openai_videos, "video_1", answer({**QUEUED, "status": word}), **ASK)
    assert isinstance(outcome, Pending)
    assert upstream.asked == 1


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({"status": "failed", "error": {"code": "moderation_blocked", "message": "No."}}, "forbidden"),
        ({"status": "failed", "error": {"message": "Blocked by the safety system", "code": "400"}}, "forbidden"),
        ({"status": "FAILURE", "error": "generation timed out"}, "timeout"),
        ({"status": "failed", "error": None}, "api_error"),
        ({"status": "error"}, "api_error"),
        ({"status": "cancelled"}, "api_error"),
    ],
)
def test_a_film_that_failed_says_why(document: dict[str, Any], code: str) -> None:
    outcome, _ = polled(openai_videos, "video_1", answer({**QUEUED, **document}), **ASK)
    assert isinstance(outcome, Failed)
    assert outcome.code == code
    assert outcome.message


@pytest.mark.parametrize("reply", [*NONSENSE.values(), Reply(500), Reply(401), Reply(429)],
                         ids=[*NONSENSE, "500", "401", "429"])  # fmt: skip
def test_a_look_that_failed_says_nothing_about_the_film(reply: Reply) -> None:
    outcome, _ = polled(openai_videos, "video_1", reply, **ASK)
    assert isinstance(outcome, Unknown | Pending), outcome


def test_a_film_the_server_does_not_know_is_gone() -> None:
    outcome, _ = polled(openai_videos, "video_1", Reply(404, b'{"error":{"message":"not found"}}'), **ASK)
    assert isinstance(outcome, Failed)
    assert outcome.status == 404


# -- the film's bytes


@pytest.mark.parametrize(
    "content",
    [Reply(500), Reply(429), Reply(409), Reply(200, PNG, {"Content-Type": "video/mp4"}, then="cut"),
     Reply(then="reset")],
)  # fmt: skip
def test_a_film_that_cannot_be_had_now_is_asked_for_again(content: Reply) -> None:
    outcome, _ = polled(openai_videos, "video_1", answer(DONE), content, **ASK)
    assert isinstance(outcome, Unknown)


@pytest.mark.parametrize("content", [Reply(404), Reply(501), Reply(200, b"<html>not a film</html>")])
def test_a_film_that_is_none_or_not_there_fails(content: Reply) -> None:
    outcome, _ = polled(openai_videos, "video_1", answer(DONE), content, **ASK)
    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.scope) == ("api_error", "task")


@pytest.mark.parametrize(
    ("said", "code"),
    [("litellm.APIConnectionError: No response data in completed operation", "api_error"),
     ("Blocked by the safety filter", "forbidden")],
)  # fmt: skip
def test_a_server_may_say_only_with_the_content_that_the_work_has_failed(said: str, code: str) -> None:
    error = {"error": {"message": said, "type": "internal_server_error", "param": None, "code": "500"}}
    content = Reply(500, json.dumps(error).encode())
    outcome, _ = polled(openai_videos, "video_1", answer(DONE), content, **ASK)
    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.scope) == (code, "task")


ELSEWHERE = {"url": "https://cdn.example/f.mp4"}


@pytest.mark.parametrize("where", [ELSEWHERE, {"metadata": ELSEWHERE}])
def test_a_film_without_content_may_be_at_an_address(where: dict[str, Any]) -> None:
    outcome, _ = polled(openai_videos, "video_1", answer({**DONE, **where}), Reply(404), **ASK)
    assert the_item(outcome).assets[0].url == "https://cdn.example/f.mp4"
    nowhere, _ = polled(openai_videos, "video_1", answer({**DONE, "url": "/tmp/f.mp4"}), Reply(404), **ASK)
    assert isinstance(nowhere, Failed)


def test_a_redirect_is_left_to_the_gateways_guard() -> None:
    elsewhere = Reply(302, b"", {"Location": "https://cdn.example/f.mp4?sig=1"})
    outcome, upstream = polled(openai_videos, "video_1", answer(DONE), elsewhere, **ASK)
    (asset,) = the_item(outcome).assets
    assert (asset.url, dict(asset.headers), upstream.asked) == ("https://cdn.example/f.mp4?sig=1", {}, 2)
    for bad in ("file:///etc/passwd", ""):
        outcome, _ = polled(openai_videos, "video_1", answer(DONE), Reply(302, b"", {"Location": bad}), **ASK)
        assert isinstance(outcome, Failed)


# -- what was lost, and what is not wanted


def listed(*films: dict[str, Any], **more: Any) -> Reply:
    return answer({"object": "list", "data": list(films), "has_more": False, **more})


def lost(reply: Reply, *replies: Reply, ago: float = 120, **options: Any) -> Outcome | Absent:
    options = {"list": True, **options}
    return reconciled(openai_videos, reply, *replies, **ASK, duration=8, asked_s_ago=ago, options=options)[0]


def made(ago: float = 119, **more: Any) -> dict[str, Any]:
    now_s = Clock().now_ms() // 1000
    return {**QUEUED, "prompt": "a boat", "seconds": "8", "created_at": now_s - ago, **more}


def test_a_lost_film_is_found_by_its_prompt_and_its_time() -> None:
    others = [made(id="x", prompt="a ship"), made(id="y", ago=4000), made(id="z", seconds="4")]
    outcome = lost(listed(*others, made(status="in_progress")))
    assert isinstance(outcome, Pending)
    assert outcome.upstream_id == "video_1"
    assert isinstance(lost(listed(made(status="completed")), FILM), Succeeded)


def test_a_film_that_is_not_listed_is_absent_once_it_would_be() -> None:
    assert isinstance(lost(listed(made(prompt="a ship"))), Absent)
    assert isinstance(lost(listed()), Absent)
    assert isinstance(lost(listed(), ago=5), Unknown)


def test_a_list_that_does_not_decide_leaves_it_unknown() -> None:
    undecided = (
        listed(made(), made(id="video_2")), listed(made(prompt=None)), listed(made(prompt="a ship"), has_more=True),
        Reply(404), Reply(500), Reply(200, b"[]"), *NONSENSE.values(),
    )  # fmt: skip
    for reply in undecided:
        assert isinstance(lost(reply), Unknown), reply


def test_a_server_that_is_not_said_to_list_is_not_asked() -> None:
    outcome, upstream = reconciled(openai_videos, listed(), **ASK, asked_s_ago=120)
    assert isinstance(outcome, Unknown)
    assert upstream.asked == 0


def test_a_film_that_is_not_wanted_is_deleted() -> None:
    methods: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        methods.append(f"{request.method} {request.path}")
        if request.path.endswith("video_2"):
            return web.json_response({"error": {"message": "still working"}}, status=409)
        return web.json_response({"id": "video_1", "object": "video.deleted", "deleted": True})

    async def work() -> list[bool]:
        async with Handled(handler) as upstream:
            call = upstream.asks(**ASK)
            return [await openai_videos.cancel(call, one) for one in ("video_1", "video_2")]

    assert run(work()) == [True, False]
    assert methods == ["DELETE /v1/videos/video_1", "DELETE /v1/videos/video_2"]


def test_the_key_and_the_address_of_a_call_stay_out_of_every_outcome() -> None:
    async def work() -> Outcome:
        async with Polled(Reply(500, json.dumps({"error": {"message": f"key {KEY}"}}).encode())) as upstream:
            call: Call = replace(upstream.asks(**ASK))
            return await openai_videos.submit(call)

    outcome = run(work())
    assert isinstance(outcome, Failed)
    assert KEY not in repr(outcome)
