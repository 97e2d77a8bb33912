"""`replicate` against recordings of its predictions."""

import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from bide.clock import Clock
from bide.providers import replicate
from bide.providers.base import Absent, Failed, Outcome, Pending, Progress, Source, Succeeded, Unknown

from .nonsense import NONSENSE, Handled
from .polled import polled, reconciled, submitted, the_item
from .upstream import KEY, PNG, Reply, answer, given, run

ASK: dict[str, Any] = {"capability": "image.generate", "model": "acme/paint", "prompt": "a boat"}
FILM: dict[str, Any] = {"capability": "video.generate", "model": "acme/film", "prompt": "a boat"}
STARTING = {"id": "p1", "status": "starting", "input": {"prompt": "a boat"}, "output": None, "error": None}
URL = "https://replicate.delivery/x/"
VERSION = "a" * 64


def done(output: object) -> Reply:
    return answer({**STARTING, "status": "succeeded", "output": output, "metrics": {"predict_time": 2.1}})


# -- what is sent


@pytest.mark.parametrize(
    ("model", "path", "named"),
    [
        ("acme/paint", "/v1/models/acme/paint/predictions", {}),
        (f"acme/paint:{VERSION}", "/v1/predictions", {"version": VERSION}),
        (VERSION, "/v1/predictions", {"version": VERSION}),
        ("deployments/me/paint", "/v1/deployments/me/paint/predictions", {}),
    ],
)
def test_a_prediction_is_asked_for_once(model: str, path: str, named: dict[str, Any]) -> None:
    outcome, upstream = submitted(replicate, answer(STARTING), **{**ASK, "model": model}, size="1344x768", n=1)
    assert outcome == Pending("p1", replicate.FIRST_S)
    (asked,) = upstream.requests
    assert (asked.path, asked.headers["Authorization"]) == (path, f"Bearer {KEY}")
    assert asked.json == {**named, "input": {"prompt": "a boat", "aspect_ratio": "16:9"}}


@pytest.mark.parametrize(
    "model",
    ["", "paint", "../account", "a/../b", "a/b/c", "a/b?x=1", "https://evil.example/x", "a/b#c", "a/..", "x" * 300],
)
def test_what_is_no_models_name_reaches_no_address(model: str) -> None:
    outcome, upstream = submitted(replicate, answer(STARTING), **{**ASK, "model": model})
    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.scope, upstream.asked) == ("api_error", "channel", 0)


def test_the_channel_says_how_fields_are_called_there() -> None:
    options = {
        "fields": {"prompt": "text.en", "n": "", "ratio": "", "width": "size.w"}, "extra": {"steps": 4},
        "headers": {"Cancel-After": "10m"},
        "mappings": [
            {"models": ["other/*"], "extra": {"steps": 9}},
            {"models": ["acme/*"], "capabilities": ["image.*"], "model": "acme/paint-2",
             "fields": {"quality": {"name": "mode", "values": {"high": "pro"}},
                        "seed": {"name": "seed", "text": "s{}"}}},
        ],
    }  # fmt: skip
    _, upstream = submitted(replicate, answer(STARTING), **ASK, options=options, n=3, size="1024x512", quality="high",
                            seed=7)  # fmt: skip
    (asked,) = upstream.requests
    assert (asked.path, asked.headers["Cancel-After"]) == ("/v1/models/acme/paint-2/predictions", "10m")
    assert asked.json["input"] == {"text": {"en": "a boat"}, "size": {"w": 1024}, "mode": "pro", "seed": "s7",
                                   "steps": 4}  # fmt: skip


def test_options_that_are_wrong_are_the_channels_fault_and_nothing_is_sent() -> None:
    outcome, upstream = submitted(replicate, answer(STARTING), **ASK, options={"feilds": {}})
    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.scope, upstream.asked) == ("api_error", "channel", 0)
    assert "feilds" in outcome.detail


def test_music_is_made_where_the_channel_says_how() -> None:
    song = {"capability": "music.generate", "model": "acme/song", "prompt": "a harbour", "lyric": "la"}
    outcome, upstream = submitted(replicate, answer(STARTING), **song)
    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.scope, upstream.asked) == ("api_not_implemented", "channel", 0)
    options = {"fields": {"prompt": "tags", "lyric": "lyrics"}}
    _, upstream = submitted(replicate, answer(STARTING), **song, options=options)
    assert upstream.requests[0].json["input"] == {"tags": "a harbour", "lyrics": "la"}
    output = {"audio": f"{URL}a.mp3", "cover": f"{URL}a.jpg", "text": f"{URL}a.srt"}
    outcome, _ = polled(replicate, "p1", done(output), **song, options=options)
    item = the_item(outcome)
    assert [(one.role, one.url) for one in item.assets] == [("audio", f"{URL}a.mp3"), ("image", f"{URL}a.jpg")]
    assert item.fields == {"title": "a harbour", "prompt": "a harbour", "lyric": "la"}


def test_where_it_may_call_back_is_told() -> None:
    _, upstream = submitted(replicate, answer(STARTING), **ASK, callback_url="https://bide.example/cb/t")
    sent = upstream.requests[0].json
    assert (sent["webhook"], sent["webhook_events_filter"]) == ("https://bide.example/cb/t", ["completed"])


def test_small_files_go_along_and_large_ones_first() -> None:
    large, kept = PNG * 300, "https://api.replicate.com/v1/files/f1"

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/files"):
            form = await request.post()
            file = form["content"]
            assert isinstance(file, web.FileField)
            assert file.file.read() == large
            return web.json_response({"id": "f1", "urls": {"get": kept}}, status=201)
        sent = (await request.json())["input"]
        assert sent["image"] == kept
        assert sent["mask"] == "data:image/png;base64," + base64.b64encode(PNG).decode()
        return web.json_response(STARTING, status=201)

    async def work() -> tuple[Outcome, list[str]]:
        async with Handled(handler) as upstream:
            inputs = (given("image", large), given("mask", PNG))
            outcome = await replicate.submit(upstream.asks(**{**ASK, "capability": "image.edit"}, inputs=inputs))
            return outcome, upstream.seen

    outcome, seen = run(work())
    assert isinstance(outcome, Pending)
    assert seen == ["POST /v1/files", "POST /v1/models/acme/paint/predictions"]


@pytest.mark.parametrize("reply", [Reply(500), Reply(then="reset"), Reply(200, b"{}"), Reply(429)])
def test_a_file_that_is_not_taken_began_no_work(reply: Reply) -> None:
    inputs = (given("image", PNG * 300),)
    outcome, upstream = submitted(replicate, reply, **{**ASK, "capability": "image.edit"}, inputs=inputs)
    assert isinstance(outcome, Failed)
    assert (outcome.scope, outcome.retryable, upstream.asked) == ("channel", True, 1)


def test_the_callers_own_address_is_sent_where_the_channel_wants_it() -> None:
    _, upstream = submitted(
        replicate, answer(STARTING), **FILM, inputs=(given("image_urls", PNG), given("image_urls", PNG)),
        image_urls=["https://a.example/1.png", "https://a.example/2.png"], duration=8, aspect_ratio="9:16",
        options={"inputs": "address"},
    )  # fmt: skip
    assert upstream.requests[0].json["input"] == {
        "prompt": "a boat", "aspect_ratio": "9:16", "duration": 8, "image": "https://a.example/1.png",
        "last_frame": "https://a.example/2.png",
    }  # fmt: skip


def test_an_earlier_film_is_sent_as_its_file() -> None:
    earlier = Source("item-1", "videos", "video", {}, (given("video", PNG, "f.mp4", "video/mp4"),))
    _, upstream = submitted(replicate, answer(STARTING), capability="video.extend", model="acme/film", prompt="on",
                            sources={"video_id": (earlier,)})  # fmt: skip
    assert upstream.requests[0].json["input"]["video"].startswith("data:video/mp4;base64,")


# -- what is answered to a submission


@pytest.mark.parametrize(
    ("reply", "code", "scope", "retryable"),
    [
        (Reply(422, b'{"title":"Input validation failed","detail":"prompt is required","status":422}'),
         "bad_request", "task", False),
        (Reply(402, b'{"title":"Insufficient credit","status":402}'), "api_error", "channel", False),
        (Reply(401, b'{"title":"Unauthenticated","detail":"%s"}' % KEY.encode()), "api_error", "channel", False),
        (Reply(404, b'{"detail":"The requested resource could not be found.","status":404}'),
         "api_error", "channel", False),
        (Reply(429, b'{"detail":"Request was throttled.","status":429}', {"retry-after": "4"}),
         "too_many_requests", "channel", True),
        (Reply(200, b'{"detail":"Request was throttled by content policy"}'), "forbidden", "task", False),
        (answer({**STARTING, "status": "failed", "error": "NSFW content detected"}), "forbidden", "task", False),
    ],
)  # fmt: skip
def test_a_refusal_is_a_value(reply: Reply, code: str, scope: str, retryable: bool) -> None:
    outcome, upstream = submitted(replicate, reply, **ASK)
    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.scope, outcome.retryable, upstream.asked) == (code, scope, retryable, 1)


@pytest.mark.parametrize("reply", [*NONSENSE.values(), Reply(502), Reply(500), answer({"id": "../x"})],
                         ids=[*NONSENSE, "502", "500", "path"])  # fmt: skip
def test_an_answer_that_says_nothing_is_unknown_and_nothing_is_sent_twice(reply: Reply) -> None:
    outcome, upstream = submitted(replicate, reply, **ASK)
    assert isinstance(outcome, Unknown), outcome
    assert upstream.asked == 1


def test_work_that_is_done_at_once_is_taken_at_once() -> None:
    outcome, _ = submitted(replicate, done(f"{URL}a.png"), **ASK)
    assert isinstance(outcome, Succeeded)


# -- how it is doing


@pytest.mark.parametrize(
    ("output", "urls"),
    [
        (f"{URL}a.png", ["a.png"]),
        ([f"{URL}a.png", f"{URL}b.webp"], ["a.png", "b.webp"]),
        ({"images": [{"url": f"{URL}a"}], "mask": f"{URL}m.json"}, ["a"]),
        ([[f"{URL}a.png"], {"x": {"y": f"{URL}a.png"}}], ["a.png"]),
    ],
)
def test_pictures_are_found_wherever_they_are(output: object, urls: list[str]) -> None:
    outcome, upstream = polled(replicate, "p1", done(output), **ASK)
    assert isinstance(outcome, Succeeded)
    assert [one.url for one in outcome.assets] == [URL + name for name in urls]
    assert (outcome.units, upstream.requests[0].path) == (len(urls), "/v1/predictions/p1")


def test_a_film_is_an_item_with_its_picture() -> None:
    output = {"video": {"url": f"{URL}f", "content_type": "video/mp4", "duration": 5.2, "width": 640, "height": 360},
              "poster": f"{URL}p.jpg", "seed": 4}  # fmt: skip
    outcome, _ = polled(replicate, "p1", done(output), **FILM, duration=5)
    item = the_item(outcome)
    assert [(one.role, one.url) for one in item.assets] == [("video", f"{URL}f"), ("thumbnail", f"{URL}p.jpg")]
    assert item.fields == {"state": "succeeded", "prompt": "a boat", "model": "acme/film", "seconds": 5.2, "seed": 4,
                           "width": 640, "height": 360}  # fmt: skip
    assert isinstance(outcome, Succeeded)
    assert (outcome.units, item.about) == (5, {"prediction": "p1"})


def test_a_data_url_is_stored() -> None:
    inline = "data:image/png;base64," + base64.b64encode(PNG).decode()
    outcome, upstream = polled(replicate, "p1", done([inline]), **ASK)
    assert isinstance(outcome, Succeeded)
    assert upstream.store.of(outcome.assets[0].stored) == PNG
    broken, _ = polled(replicate, "p1", done(["data:image/png;base64,@@"]), **ASK)
    assert isinstance(broken, Failed)


def test_the_channel_may_say_where_in_the_output_the_files_are() -> None:
    output = {"draft": f"{URL}d.png", "final": [f"{URL}f.png"]}
    outcome, _ = polled(replicate, "p1", done(output), **ASK, options={"output": "final.0"})
    assert isinstance(outcome, Succeeded)
    assert [one.url for one in outcome.assets] == [f"{URL}f.png"]


@pytest.mark.parametrize("output", [None, "a poem", {}, [1, None], "file:///etc/passwd", "/tmp/a.png"])
def test_an_output_without_a_file_is_the_channels_fault(output: object) -> None:
    outcome, _ = polled(replicate, "p1", done(output), **ASK)
    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.scope) == ("api_error", "channel")


@pytest.mark.parametrize("word", ["processing", "queued", "pondering", "", None, 7])
def test_work_that_goes_on_is_looked_at_again_and_the_first_id_is_kept(word: object) -> None:
    reply = answer({**STARTING, "id": "other", "status": word, "logs": "10%|#\n 47%|####"})
    outcome, upstream = polled(replicate, "p1", reply, **ASK, watched=True, asked_s_ago=10)
    assert isinstance(outcome, Pending)
    assert (outcome.upstream_id, upstream.reports) == ("p1", [Progress(47)])
    assert replicate.NEXT_S < outcome.after_s <= replicate.CAP_S


@pytest.mark.parametrize(
    ("document", "code", "scope"),
    [
        ({"status": "failed", "error": "NSFW content detected."}, "forbidden", "task"),
        ({"status": "failed", "error": "The input or output was flagged as sensitive."}, "forbidden", "task"),
        ({"status": "failed", "error": "CUDA out of memory"}, "api_error", "channel"),
        ({"status": "failed", "error": None}, "api_error", "channel"),
        ({"status": "failed", "error": {"a": 1}}, "api_error", "channel"),
        ({"status": "failed", "error": "Prediction timed out"}, "timeout", "channel"),
        ({"status": "canceled"}, "api_error", "channel"),
        ({"status": "aborted"}, "timeout", "channel"),
    ],
)
def test_work_that_failed_says_why(document: dict[str, Any], code: str, scope: str) -> None:
    outcome, _ = polled(replicate, "p1", answer({**STARTING, **document}), **ASK)
    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.scope) == (code, scope)
    assert outcome.message


@pytest.mark.parametrize("reply", [*NONSENSE.values(), Reply(500), Reply(401), Reply(429)],
                         ids=[*NONSENSE, "500", "401", "429"])  # fmt: skip
def test_a_look_that_failed_says_nothing_about_the_work(reply: Reply) -> None:
    outcome, _ = polled(replicate, "p1", reply, **ASK)
    assert isinstance(outcome, Unknown | Pending), outcome


def test_work_the_upstream_does_not_know_is_gone() -> None:
    outcome, _ = polled(replicate, "p1", Reply(404, b'{"detail":"Not found"}'), **ASK)
    assert isinstance(outcome, Failed)
    assert outcome.status == 404


# -- what was lost, and what is not wanted


def listed(*predictions: dict[str, Any], next: str | None = None) -> Reply:
    return answer({"previous": None, "next": next, "results": list(predictions)})


def made(ago: float = 119, **more: Any) -> dict[str, Any]:
    at = datetime.fromtimestamp(Clock().now_ms() / 1000 - ago, UTC).isoformat().replace("+00:00", "Z")
    return {**STARTING, "model": "acme/paint", "version": "hidden", "created_at": at, **more}


def lost(*replies: Reply, ago: float = 120) -> tuple[Outcome | Absent, list[str]]:
    outcome, upstream = reconciled(replicate, *replies, **ASK, asked_s_ago=ago)
    return outcome, [one.path for one in upstream.requests]


def test_a_lost_prediction_is_found_by_its_input_and_its_time() -> None:
    others = [made(id="x", input={"prompt": "a ship"}), made(id="y", ago=4000), made(id="z", model="acme/other")]
    outcome, paths = lost(listed(made(), *others), answer({**STARTING, "status": "processing"}))
    assert isinstance(outcome, Pending)
    assert (outcome.upstream_id, paths) == ("p1", ["/v1/predictions", "/v1/predictions/p1"])


def test_a_prediction_that_is_not_listed_is_absent_once_it_would_be() -> None:
    assert isinstance(lost(listed(made(ago=4000)))[0], Absent)
    assert isinstance(lost(listed())[0], Absent)
    assert isinstance(lost(listed(), ago=5)[0], Unknown)


def test_the_list_is_read_as_far_back_as_it_matters_and_only_on_the_channels_host() -> None:
    page = listed(made(id="x", input={}), next="https://evil.example/v1/predictions?cursor=c%2F1")
    outcome, paths = lost(page, listed(made(ago=4000)))
    assert isinstance(outcome, Absent)
    assert paths == ["/v1/predictions"] * 2
    assert isinstance(lost(page)[0], Unknown)


def test_a_list_that_does_not_decide_leaves_it_unknown() -> None:
    undecided = (
        listed(made(), made(id="p2")), listed(made(data_removed=True)), listed(made(created_at=None)), Reply(500),
        Reply(404), *NONSENSE.values(),
    )  # fmt: skip
    for reply in undecided:
        assert isinstance(lost(reply)[0], Unknown), reply


def test_work_that_is_not_wanted_is_cancelled() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response({**STARTING, "status": "canceled"}, status=200 if "p1" in request.path else 404)

    async def work() -> tuple[list[bool], list[str]]:
        async with Handled(handler) as upstream:
            call = upstream.asks(**ASK)
            return [await replicate.cancel(call, one) for one in ("p1", "p2")], upstream.seen

    assert run(work()) == ([True, False], ["POST /v1/predictions/p1/cancel", "POST /v1/predictions/p2/cancel"])
