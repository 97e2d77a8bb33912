"""`fal` against recordings of its queue."""

from typing import Any

import pytest
from aiohttp import web

from bide.providers import fal
from bide.providers.base import Failed, Pending, Succeeded, Unknown

from .nonsense import NONSENSE, Handled
from .polled import polled, submitted, the_item
from .upstream import KEY, PNG, Reply, answer, given, run

ASK: dict[str, Any] = {"capability": "image.generate", "model": "fal-ai/flux/dev", "prompt": "a boat"}
WORK = "fal-ai/flux/requests/r-1"
AT = f"https://queue.fal.run/{WORK}"
QUEUED = {"request_id": "r-1", "status": "IN_QUEUE", "queue_position": 3, "status_url": f"{AT}/status",
          "response_url": AT, "cancel_url": f"{AT}/cancel"}  # fmt: skip
COMPLETED = answer({"status": "COMPLETED", "request_id": "r-1", "response_url": AT})
URL = "https://v3.fal.media/files/a/"
PICTURE = {"url": f"{URL}1", "width": 1024, "height": 768, "content_type": "image/jpeg"}


# -- what is sent


def test_work_is_put_into_the_queue_once_with_the_key_as_fal_wants_it() -> None:
    outcome, upstream = submitted(fal, answer(QUEUED), **ASK, size="1024x768", n=2, seed=5)
    assert outcome == Pending(WORK, fal.FIRST_S)
    (asked,) = upstream.requests
    assert (asked.path, asked.headers["Authorization"]) == ("/v1/fal-ai/flux/dev", f"Key {KEY}")
    size = {"width": 1024, "height": 768}
    assert asked.json == {"prompt": "a boat", "image_size": size, "num_images": 2, "seed": 5}


def test_the_channels_options_change_what_is_sent() -> None:
    options = {"headers": {"X-Fal-Queue-Priority": "low", "Authorization": "mine"}, "extra": {"sync_mode": False},
               "mappings": [{"models": ["fal-ai/flux/*"], "fields": {"width": "w", "height": ""}}]}  # fmt: skip
    asks = {**ASK, "options": options, "callback_url": "https://g/cb/t?x=1", "size": "64x64"}
    _, upstream = submitted(fal, answer(QUEUED), **asks)
    (asked,) = upstream.requests
    assert (asked.headers["X-Fal-Queue-Priority"], asked.headers["Authorization"]) == ("low", f"Key {KEY}")
    assert asked.json == {"prompt": "a boat", "w": 64, "sync_mode": False}
    assert upstream.queries == [{"fal_webhook": "https://g/cb/t?x=1"}]


def test_a_film_from_pictures_takes_them_as_data_urls() -> None:
    _, upstream = submitted(fal, answer(QUEUED), capability="video.generate", model="fal-ai/film", prompt="a boat",
                            duration=5, aspect_ratio="9:16", inputs=(given("start_image_url", PNG),),
                            options={"fields": {"seconds": {"name": "duration", "text": "{}s"}}})  # fmt: skip
    sent = upstream.requests[0].json
    assert sent.pop("image_url").startswith("data:image/png;base64,iVBOR")
    assert sent == {"prompt": "a boat", "duration": "5s", "aspect_ratio": "9:16"}


@pytest.mark.parametrize(
    "model", ["", "flux", "../admin", "a/../../b", "a/b?x", "a/b/requests/r-2", "https://evil.example/a/b", "a//b"]
)
def test_what_is_no_models_name_reaches_no_address(model: str) -> None:
    outcome, upstream = submitted(fal, answer(QUEUED), **{**ASK, "model": model})
    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.scope, upstream.asked) == ("api_error", "channel", 0)


@pytest.mark.parametrize(
    ("said", "work"),
    [
        ({"status_url": "https://queue.fal.run/fal-ai/flux/requests/r-1/status"}, WORK),
        ({"status_url": "http://127.0.0.1:4010/proxy/fal-ai/flux-1/requests/r-1/status"},
         "fal-ai/flux-1/requests/r-1"),
        ({"response_url": "https://queue.fal.run/fal-ai/x/y/requests/r-1/response"}, "fal-ai/x/y/requests/r-1"),
        ({"status_url": "https://queue.fal.run/fal-ai/../../admin/requests/r-1/status"}, WORK),
        ({"status_url": "https://queue.fal.run/other/requests/r-1/status"}, WORK),
        ({"status_url": 7, "response_url": "http://["}, WORK),
        ({}, WORK),
    ],
)  # fmt: skip
def test_where_the_work_is_follows_the_answer_as_far_as_it_is_a_path_of_work(said: dict[str, Any], work: str) -> None:
    outcome, _ = submitted(fal, answer({"request_id": "r-1", "status": "IN_QUEUE", **said}), **ASK)
    assert outcome == Pending(work, fal.FIRST_S)


# -- what is answered to a submission


@pytest.mark.parametrize(
    ("reply", "code", "scope"),
    [
        (Reply(422, b'{"detail":[{"loc":["body","prompt"],"msg":"bad","type":"content_policy_violation"}]}'),
         "forbidden", "task"),
        (Reply(422, b'{"detail":[{"loc":["body","prompt"],"msg":"field required","type":"missing"}]}'),
         "bad_request", "task"),
        (Reply(401, b'{"detail":"Cannot access with %s"}' % KEY.encode()), "api_error", "channel"),
        (Reply(403, b'{"detail":"User is locked. Reason: Exhausted balance."}'), "api_error", "channel"),
        (Reply(404, b'{"detail":"Application not found"}'), "api_error", "channel"),
        (Reply(429, b'{"detail":"Too many"}'), "too_many_requests", "channel"),
        (Reply(503, b"starting"), "api_error", "channel"),
    ],
)  # fmt: skip
def test_a_refusal_is_a_value(reply: Reply, code: str, scope: str) -> None:
    outcome, upstream = submitted(fal, reply, **ASK)
    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.scope, upstream.asked) == (code, scope, 1)


@pytest.mark.parametrize("reply", [*NONSENSE.values(), Reply(502), Reply(500), answer({"request_id": "../x"})],
                         ids=[*NONSENSE, "502", "500", "path"])  # fmt: skip
def test_an_answer_that_says_nothing_is_unknown_and_nothing_is_sent_twice(reply: Reply) -> None:
    outcome, upstream = submitted(fal, reply, **ASK)
    assert isinstance(outcome, Unknown), outcome
    assert upstream.asked == 1


# -- how it is doing


@pytest.mark.parametrize("word", ["IN_QUEUE", "IN_PROGRESS", "PONDERING", None, 7])
def test_work_that_goes_on_is_looked_at_again(word: object) -> None:
    outcome, upstream = polled(fal, WORK, Reply(202, answer({"status": word}).body), **ASK)
    assert outcome == Pending(WORK, fal.NEXT_S)
    (asked,) = upstream.requests
    assert (asked.path, asked.headers["Authorization"]) == (f"/v1/{WORK}/status", f"Key {KEY}")


def test_completed_work_has_its_pictures() -> None:
    result = {"images": [PICTURE, {**PICTURE, "url": f"{URL}2"}], "seed": 9, "has_nsfw_concepts": [False, False]}
    outcome, upstream = polled(fal, WORK, COMPLETED, answer(result), **ASK)
    assert isinstance(outcome, Succeeded)
    assert [one.url for one in outcome.assets] == [f"{URL}1", f"{URL}2"]
    assert [one.about for one in outcome.assets] == [{"seed": 9, "width": 1024, "height": 768}] * 2
    assert [one.path for one in upstream.requests] == [f"/v1/{WORK}/status", f"/v1/{WORK}"]
    assert all(not one.headers for one in outcome.assets)


def test_films_and_songs_are_items() -> None:
    film = {"video": {"url": f"{URL}f.mp4", "content_type": "video/mp4", "file_size": 9}, "seed": 1}
    outcome, _ = polled(fal, WORK, COMPLETED, answer(film), capability="video.generate", prompt="a", duration=6)
    item = the_item(outcome)
    assert [(one.role, one.url) for one in item.assets] == [("video", f"{URL}f.mp4")]
    assert isinstance(outcome, Succeeded)
    assert (outcome.units, item.fields["seed"], item.about) == (6, 1, {"work": WORK})
    song = {"audio_file": {"url": f"{URL}s", "content_type": "application/octet-stream"}}
    outcome, _ = polled(fal, WORK, COMPLETED, answer(song), capability="music.generate", prompt="sea",
                        options={"fields": {"prompt": "prompt"}})  # fmt: skip
    assert [(one.role, one.url) for one in the_item(outcome).assets] == [("audio", f"{URL}s")]


def test_pictures_that_were_blackened_do_not_count() -> None:
    two = {"images": [PICTURE, {**PICTURE, "url": f"{URL}2"}]}
    outcome, _ = polled(fal, WORK, COMPLETED, answer({**two, "has_nsfw_concepts": [True, False]}), **ASK)
    assert isinstance(outcome, Succeeded)
    assert ([one.url for one in outcome.assets], outcome.units) == ([f"{URL}2"], 1)
    outcome, _ = polled(fal, WORK, COMPLETED, answer({**two, "has_nsfw_concepts": [True, True]}), **ASK)
    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.scope) == ("forbidden", "task")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ({"status": "COMPLETED", "error": "blocked", "error_type": "content_policy_violation"}, "forbidden"),
        ({"status": "COMPLETED", "error": "too slow", "error_type": "generation_timeout"}, "timeout"),
        ({"status": "COMPLETED", "error": "oops", "error_type": "internal_server_error"}, "api_error"),
        ({"status": "COMPLETED", "error": {"message": "NSFW content"}}, "forbidden"),
        ({"status": "ERROR", "error": ["?"]}, "api_error"),
        ({"status": "FAILED"}, "api_error"),
    ],
)
def test_completed_with_an_error_has_failed(status: dict[str, Any], code: str) -> None:
    outcome, upstream = polled(fal, WORK, answer(status), **ASK)
    assert isinstance(outcome, Failed)
    assert (outcome.code, upstream.asked) == (code, 1)


@pytest.mark.parametrize(
    ("result", "code", "scope"),
    [
        (Reply(422, b'{"detail":[{"loc":[],"msg":"no","type":"content_policy_violation"}]}'), "forbidden", "task"),
        (
            Reply(422, b'{"detail":[{"loc":["body","image_url"],"msg":"big","type":"image_too_large"}]}'),
            "bad_request",
            "task",
        ),
        (Reply(422, b'{"detail":[{"loc":[],"msg":"late","type":"generation_timeout"}]}'), "timeout", "channel"),
        (Reply(500, b'{"detail":"Internal Server Error"}'), "api_error", "channel"),
        (Reply(404, b'{"detail":"Request not found"}'), "api_error", "task"),
        (Reply(200, b'{"error":"NSFW content","detail":"x"}'), "forbidden", "task"),
        (Reply(200, b'{"images":[]}'), "api_error", "channel"),
        (Reply(200, b'{"text":"a poem"}'), "api_error", "channel"),
    ],
)
def test_a_result_that_is_an_error_is_the_end_of_the_work(result: Reply, code: str, scope: str) -> None:
    outcome, _ = polled(fal, WORK, COMPLETED, result, **ASK)
    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.scope) == (code, scope)


@pytest.mark.parametrize(
    "result",
    [Reply(401), Reply(429), Reply(502), Reply(503), Reply(504), Reply(500, b"<html>"), Reply(then="reset"),
     NONSENSE["html"], NONSENSE["cut"], NONSENSE["empty"]],
)  # fmt: skip
def test_a_result_that_cannot_be_had_now_is_asked_for_again(result: Reply) -> None:
    outcome, _ = polled(fal, WORK, COMPLETED, result, **ASK)
    assert isinstance(outcome, Unknown), outcome


@pytest.mark.parametrize("reply", [*NONSENSE.values(), Reply(500), Reply(401), Reply(429)],
                         ids=[*NONSENSE, "500", "401", "429"])  # fmt: skip
def test_a_look_that_failed_says_nothing_about_the_work(reply: Reply) -> None:
    outcome, _ = polled(fal, WORK, reply, **ASK)
    assert isinstance(outcome, Unknown | Pending), outcome


def test_work_the_upstream_does_not_know_is_gone() -> None:
    outcome, _ = polled(fal, WORK, Reply(404, b'{"detail":"Not found"}'), **ASK)
    assert isinstance(outcome, Failed)
    assert outcome.status == 404


def test_work_that_is_not_wanted_is_cancelled() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        over = "r-2" in request.path
        return web.json_response({"status": "ALREADY_COMPLETED" if over else "CANCELLATION_REQUESTED"},
                                 status=400 if over else 202)  # fmt: skip

    async def work() -> tuple[list[bool], list[str]]:
        async with Handled(handler) as upstream:
            call = upstream.asks(**ASK)
            return [await fal.cancel(call, one) for one in (WORK, "fal-ai/flux/requests/r-2")], upstream.seen

    done, seen = run(work())
    assert done == [True, False]
    assert seen == [f"PUT /v1/{WORK}/cancel", "PUT /v1/fal-ai/flux/requests/r-2/cancel"]
