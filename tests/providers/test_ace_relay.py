"""What is sent to a relay of this gateway's own wire, and what becomes of its answers. The server is real."""

from typing import Any

import pytest

from bide.catalog.load import load
from bide.providers import ace_relay, ace_relay_routes
from bide.providers.ace_relay_routes import ROUTES
from bide.providers.base import ALLOWS, Absent, Asset, Failed, Pending, Provider, Succeeded, Unknown

from .polled import TASK, polled, reconciled, roles, source, submitted, the_item
from .upstream import KEY, PNG, PNG64, Reply, answer, given

GRID = {
    "success": True, "task_id": "t-1", "trace_id": TASK, "image_id": "1300", "progress": 100,
    "image_url": "http://files.test/s.png", "image_width": 512, "image_height": 512,
    "raw_image_url": "http://files.test/r.png", "raw_image_width": 1024, "raw_image_height": 1024,
    "actions": ["upscale1", "reroll"], "sub_image_urls": ["http://files.test/1.png", "http://files.test/2.png"],
}  # fmt: skip
VEO: dict[str, Any] = {"capability": "video.generate", "model": "veo31-fast", "action": "text2video",
                       "prompt": "a boat", "aspect_ratio": "16:9", "resolution": "720p"}  # fmt: skip
IMAGINE: dict[str, Any] = {"capability": "grid.generate", "action": "generate", "prompt": "a boat", "mode": "fast",
                           "hd": False, "split_images": False, "translation": False}  # fmt: skip
SONG: dict[str, Any] = {"capability": "music.generate", "model": "chirp-v4", "action": "generate",
                        "prompt": "a harbour", "custom": False, "instrumental": False}  # fmt: skip


def task(response: Any, **more: Any) -> Reply:
    return answer({"_id": "x", "id": "t-1", "trace_id": TASK, "created_at": 1.5, "response": response,
                   "request": {"image_url": "http://caller.test/a.png"}, **more})  # fmt: skip


def done(response: Any) -> Reply:
    return task(response, finished_at=1764000091.9, started_at=1764000000.4)


def test_the_module_is_a_provider() -> None:
    provider: Provider = ace_relay
    assert not provider.TAKES_OUR_ID
    assert {"image.generate", "grid.generate", "music.generate", "video.generate"} <= provider.CAPABILITIES


# -- where a call goes


def test_the_routes_are_those_of_the_catalogue() -> None:
    """Every operation that is sold has a route with its fields, by the capability's names."""
    by_path = {one.path: one for one in ROUTES}
    for service in load().services.values():
        for path, operation in service.operations.items():
            if path == "chat/completions":
                continue  # its pictures are asked for as any other
            route = by_path[f"{service.name}/{path}"]
            becomes = operation.entry.becomes
            fields = {becomes.get(name, name): name for name in operation.fields if name not in operation.gateway}
            assert route.fields == set(fields), route.path
            kept = {name for name, one in operation.fields.items() if one.required or one.default is not None}
            kept = {ours for ours, its in fields.items() if its in kept}
            assert route.always == kept, route.path
            assert route.names == {ours: its for ours, its in fields.items() if ours != its}
            assert operation.entry.capability in route.can
            assert {one.capability for one in operation.entry.abilities} - route.can <= {"image.edit"}


def test_every_operation_finds_its_own_route_with_its_defaults() -> None:
    """Those with the same fields are told apart by the model, or by what made their source."""
    for service in load().services.values():
        for path, operation in service.operations.items():
            if path in ("chat/completions", "images/edits") or service.name == "headshots":
                continue  # `images/edits` has all that headshots has
            defaults = {name: one.default for name, one in operation.fields.items() if one.default is not None}
            every = {name: one.example for name, one in operation.fields.items() if one.required} | defaults
            values = operation.for_provider(every)
            follows = service.name if operation.items else ""
            model = operation.model(values)
            found = ace_relay_routes.find(operation.entry.capability, list(values), model, service=follows)
            assert found is not None
            if path == "upload":
                assert found.path == "suno/upload"  # as `producer/upload`, of which there are the same words
            else:
                assert found.path == f"{service.name}/{path}", (values, model)


def test_a_relay_is_asked_where_the_caller_asked() -> None:
    for capability, facade in (("image.edit", "headshots/generate"), ("music.upload", "producer/upload")):
        found = ace_relay_routes.find(capability, ["prompt", "n", "audio_url"], "", facade=facade)
        assert found is not None
        assert found.path == facade


def test_a_renamed_model_goes_to_the_service_of_its_new_name() -> None:
    fields = ["prompt", "model", "duration", "size", "orientation"]
    for renamed, path in ((False, "sora/videos"), (True, "veo/videos")):
        found = ace_relay_routes.find("video.generate", fields, "veo31", renamed=renamed)
        assert found is not None
        assert found.path == path


def test_the_operator_says_where_to_ask() -> None:
    _, upstream = submitted(ace_relay, answer({"task_id": "t-1"}), capability="image.generate", prompt="a boat",
                            options={"paths": {"image.generate": "flux/images"}}, n=2, model="x")  # fmt: skip
    assert upstream.requests[0].path == "/v1/flux/images"
    assert upstream.requests[0].json["count"] == 2


# -- what is sent


def test_a_submission_is_asynchronous_and_carries_our_id() -> None:
    outcome, upstream = submitted(
        ace_relay, answer({"success": True, "task_id": "t-1", "trace_id": TASK}), **VEO,
        image_urls=["http://caller.test/a.png"], callback_url="https://here.test/cb/1", nonsense=1, translation=None,
    )  # fmt: skip
    assert outcome == Pending("veo/t-1", 5.0)
    (asked,) = upstream.requests
    assert asked.path == "/v1/veo/videos"
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert asked.json == {
        "action": "text2video", "prompt": "a boat", "aspect_ratio": "16:9", "resolution": "720p",
        "model": "veo31-fast", "image_urls": ["http://caller.test/a.png"], "trace_id": TASK, "async": True,
        "callback_url": "https://here.test/cb/1",
    }  # fmt: skip


def test_no_callback_is_asked_for_where_nobody_could_be_called() -> None:
    _, upstream = submitted(ace_relay, answer({"task_id": 17}), **IMAGINE)
    assert "callback_url" not in upstream.requests[0].json


def test_a_follow_up_names_the_relays_own_ids() -> None:
    about = {"id": "1300", "service": "midjourney"}
    _, upstream = submitted(ace_relay, answer({"task_id": "t-2"}), capability="grid.generate", action="upscale1",
                            image_id="ours", sources={"image_id": (source(about),)})  # fmt: skip
    assert upstream.requests[0].json["image_id"] == "1300"
    songs = (source({"id": "a", "service": "suno"}), source({"id": "b", "service": "suno"}))
    _, upstream = submitted(ace_relay, answer({"task_id": "t-2"}), capability="music.generate", action="mashup",
                            model="chirp-v4", mashup_audio_ids=["1", "2"],
                            sources={"mashup_audio_ids": songs})  # fmt: skip
    assert upstream.requests[0].json["mashup_audio_ids"] == ["a", "b"]


def test_a_source_of_another_provider_is_refused_unasked() -> None:
    outcome, upstream = submitted(ace_relay, answer({}), capability="grid.seed", image_id="ours",
                                  sources={"image_id": (source({"views": []}),)})  # fmt: skip
    assert isinstance(outcome, Failed)
    assert (outcome.code, upstream.asked) == ("bad_request", 0)


def test_pictures_to_edit_are_sent_as_a_form() -> None:
    inputs = (given("image", PNG), given("image", PNG, "b.png"), given("mask", PNG))
    outcome, upstream = submitted(ace_relay, answer({"task_id": "t-1"}), capability="image.edit", model="gpt-image-2",
                                  inputs=inputs, prompt="red", n=2, image=[{"file": 0}])  # fmt: skip
    assert outcome == Pending("openai/t-1", 3.0)
    (asked,) = upstream.requests
    assert asked.path == "/v1/openai/images/edits"
    texts = {name: data.decode() for name, filename, _, data in asked.parts if filename is None}
    assert texts == {"prompt": "red", "n": "2", "model": "gpt-image-2", "trace_id": TASK, "async": "true"}
    assert [(name, data) for name, filename, _, data in asked.parts if filename] == [
        ("image", PNG), ("image", PNG), ("mask", PNG),
    ]  # fmt: skip


# -- what comes back at once


def test_a_result_that_comes_at_once_is_taken() -> None:
    outcome, _ = submitted(ace_relay, answer(GRID), **IMAGINE)
    item = the_item(outcome)
    assert roles(item) == {
        "thumbnail": ["http://files.test/s.png"], "raw": ["http://files.test/r.png"],
        "part": ["http://files.test/1.png", "http://files.test/2.png"],
    }  # fmt: skip
    assert item.about == {"id": "1300", "service": "midjourney", ALLOWS: {"action": ["upscale1", "reroll"]}}
    assert item.fields == {
        "image_width": 512, "image_height": 512, "raw_image_width": 1024, "raw_image_height": 1024,
        "actions": ["upscale1", "reroll"],
    }  # fmt: skip


def test_pictures_in_base64_are_stored() -> None:
    other = {"url": "http://f.test/1.png", "revised_prompt": "x"}
    reply = answer({"created": 5, "data": [{"b64_json": PNG64}, other]})
    outcome, upstream = submitted(ace_relay, reply, capability="image.generate", prompt="a boat", n=2)
    assert isinstance(outcome, Succeeded)
    assert upstream.store.of(outcome.assets[0].stored) == PNG
    assert outcome.assets[1] == Asset(url="http://f.test/1.png", about={"revised_prompt": "x"})
    assert (outcome.units, outcome.response) == (2, {"created": 5})


@pytest.mark.parametrize(
    ("capability", "request_fields", "document", "response"),
    [
        ("image.describe", {"image_url": "http://a.test/a.png"}, {"descriptions": ["a", "b"]},
         {"descriptions": ["a", "b"]}),
        ("prompt.shorten", {"prompt": "a"}, {"prompts": ["b"]}, {"prompts": ["b"]}),
        ("text.translate", {"content": "一"}, {"content": "a"}, {"content": "a"}),
        ("music.style", {"prompt": "a"}, {"success": True, "data": {"upsampled_tags": "b"}}, {"upsampled_tags": "b"}),
        ("music.lyrics", {"prompt": "a", "model": "default"},
         {"success": True, "data": [{"text": "la", "title": "T", "tags": ["x"], "status": "complete"}]},
         {"text": "la", "title": "T", "tags": ["x"],
          "variants": [{"text": "la", "title": "T", "tags": ["x"], "status": "complete"}]}),
    ],
)  # fmt: skip
def test_words_come_at_once(capability: str, request_fields: Any, document: Any, response: Any) -> None:
    outcome, upstream = submitted(ace_relay, answer(document), capability=capability, **request_fields)
    assert outcome == Succeeded(response=response)
    if capability in ("image.describe", "prompt.shorten", "text.translate"):
        assert "async" not in upstream.requests[0].json


@pytest.mark.parametrize(
    ("status", "document", "code", "scope", "retryable"),
    [
        (400, {"error": {"code": "bad_request", "message": "no such size"}}, "bad_request", "task", False),
        (403, {"error": {"code": "forbidden", "message": "no"}}, "forbidden", "task", False),
        (403, {"error": {"code": "used_up", "message": "pay sk-secret-123456"}}, "api_error", "channel", False),
        (401, {"error": {"code": "token_expired", "message": "x"}}, "api_error", "channel", False),
        (400, {"error": {"code": "api_not_implemented", "message": "x"}}, "api_error", "channel", False),
        (429, {"error": {"code": "too_many_requests", "message": "slow"}}, "too_many_requests", "channel", True),
        (500, {"error": {"code": "api_error", "message": "x"}}, "api_error", "channel", True),
        (200, {"success": False, "error": {"code": "bad_request", "message": "x"}}, "bad_request", "task", False),
        (404, {"detail": "Model no longer available"}, "api_error", "channel", False),
    ],
)  # fmt: skip
def test_refusals(status: int, document: Any, code: str, scope: str, retryable: bool) -> None:
    reply = answer(document)
    outcome, upstream = submitted(ace_relay, Reply(status, reply.body), **VEO)
    assert isinstance(outcome, Failed), outcome
    assert (outcome.code, outcome.scope, outcome.retryable) == (code, scope, retryable)
    assert "secret-123456" not in outcome.message
    assert upstream.asked == 1


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, b"<html><title>Welcome</title></html>"), Reply(200, b""), answer([1]), answer({}), answer("t-1"),
        answer({"task_id": None}), answer({"task_id": {"a": 1}}), Reply(200, b'{"task_', then="cut"),
        Reply(then="reset"), Reply(502, b"<html></html>"), Reply(200, b"[" + b"1," * 2_000_000),
        Reply(504, b'{"error": {"code": "timeout", "message": "x"}}'),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_unknown_and_asked_once(reply: Reply) -> None:
    outcome, upstream = submitted(ace_relay, reply, **VEO)
    assert isinstance(outcome, Unknown), outcome
    assert upstream.asked == 1


def test_an_endless_silence_is_unknown() -> None:
    outcome, _ = submitted(ace_relay, Reply(200, b"{", then="hang"), total_s=0.2, **VEO)
    assert isinstance(outcome, Unknown)


# -- a task


@pytest.mark.parametrize(
    "reply",
    [
        task({}), task(None), task({"success": True}), task({"success": False}), task([]),
        done({"data": [{"state": "processing", "video_url": "http://f.test/preview.mp4"}]}),
        task({"state": "queued"}), answer({}),
    ],
)  # fmt: skip
def test_a_task_that_is_not_done_is_looked_at_again(reply: Reply) -> None:
    outcome, upstream = polled(ace_relay, "veo/t-1", reply, asked_s_ago=10, **VEO)
    assert isinstance(outcome, Pending)
    assert outcome.upstream_id == "veo/t-1"
    assert 7.9 < outcome.after_s < 8.5
    (asked,) = upstream.requests
    assert (asked.path, asked.json) == ("/v1/veo/tasks", {"action": "retrieve", "id": "t-1"})
    assert asked.headers["X-Record-Exempt"] == "true"


@pytest.mark.parametrize("progress", [0.37, 37, "37%"])
def test_progress_is_told(progress: Any) -> None:
    _, upstream = polled(ace_relay, "veo/t-1", task({}, progress=progress), watched=True, **IMAGINE)
    assert [one.percent for one in upstream.reports] == [37]


def test_a_film_is_a_result() -> None:
    document = {"success": True, "data": [{"id": "v-1", "video_url": "http://f.test/1.mp4", "state": "succeeded",
                                           "created_at": "2026-01-02 10:00:00", "duration": 8.0}]}  # fmt: skip
    outcome, _ = polled(ace_relay, "veo/t-1", done(document), **VEO)
    item = the_item(outcome)
    assert roles(item) == {"video": ["http://f.test/1.mp4"]}
    assert item.about == {"id": "v-1", "service": "veo"}
    assert item.fields["seconds"] == 8.0
    assert isinstance(outcome, Succeeded)
    assert outcome.units == 8


def test_a_film_made_larger_is_still_that_film() -> None:
    document = {"success": True, "data": [{"id": "v-1", "video_url": "http://f.test/4k.mp4", "state": "succeeded"}]}
    outcome, _ = polled(ace_relay, "veo/t-1", done(document), capability="video.upsample", action="4k",
                        video_id="ours")  # fmt: skip
    assert the_item(outcome).same_as == "ours"


def test_a_task_is_looked_for_in_the_service_that_took_it() -> None:
    """The same call could be another's; of what it follows up nothing is known any more."""
    outcome, upstream = polled(ace_relay, "producer/t-1", done({"data": {"audio_url": "http://f.test/1.wav"}}),
                               capability="music.wav", audio_id="ours")  # fmt: skip
    assert upstream.requests[0].path == "/v1/producer/tasks"
    assert the_item(outcome).about["service"] == "producer"


def test_addresses_of_the_request_are_not_results() -> None:
    echoed = "http://caller.test/a.png"
    document = {"success": True, "data": {"video_url": "http://f.test/1.mp4", "image_url": echoed}}
    outcome, _ = polled(ace_relay, "veo/t-1", done(document), capability="video.talk", model="omnihuman-1.5",
                        image_url=echoed, audio_url="http://caller.test/a.mp3")  # fmt: skip
    assert roles(the_item(outcome)) == {"video": ["http://f.test/1.mp4"]}


def test_songs_that_succeeded_are_the_result_of_a_task_in_which_one_failed() -> None:
    document = {"success": False, "error": {"code": "api_error", "message": "one failed"}, "data": [
        {"id": "a", "state": "succeeded", "audio_url": "http://f.test/a.mp3", "title": "A", "duration": 90.5},
        {"id": "b", "state": "error", "audio_url": "http://f.test/b.mp3"},
    ]}  # fmt: skip
    outcome, _ = polled(ace_relay, "veo/t-1", done(document), **SONG)
    item = the_item(outcome)
    assert (item.about["id"], item.fields["title"], item.fields["duration"]) == ("a", "A", 90.5)


@pytest.mark.parametrize(
    ("response", "code"),
    [
        ({"success": False, "error": {"code": "bad_request", "message": "--x"}}, "bad_request"),
        ({"success": False, "error": {"code": "forbidden", "message": "x"}}, "forbidden"),
        ({"success": False, "error": {"code": "timeout", "message": "x"}}, "timeout"),
        ({"success": False, "error": "it broke"}, "api_error"),
        ({"success": False}, "api_error"),
        ({"state": "cancelled"}, "api_error"),
        ({"success": True, "data": []}, "api_error"),
        ({"success": True, "data": [{"video_url": "/tmp/film.mp4", "state": "succeeded"}]}, "api_error"),
        ({"success": True, "data": [{"video_url": 7}]}, "api_error"),
        ({}, "api_error"),
    ],
)  # fmt: skip
def test_a_task_that_failed(response: Any, code: str) -> None:
    outcome, _ = polled(ace_relay, "veo/t-1", done(response), **VEO)
    assert isinstance(outcome, Failed), outcome
    assert outcome.code == code


@pytest.mark.parametrize(
    "reply",
    [Reply(500, b"{}"), Reply(429), Reply(200, b"<html>"), answer([]), Reply(then="reset"),
     Reply(401, b'{"error": {"code": "invalid_token"}}')],
)  # fmt: skip
def test_a_look_that_fails_says_nothing_about_the_work(reply: Reply) -> None:
    outcome, _ = polled(ace_relay, "veo/t-1", reply, **VEO)
    assert isinstance(outcome, Unknown), outcome


def test_a_task_that_the_relay_has_forgotten_has_failed() -> None:
    for reply, ago in ((answer({}), 61), (Reply(404), 1)):
        outcome, _ = polled(ace_relay, "veo/t-1", reply, asked_s_ago=ago, **VEO)
        assert isinstance(outcome, Failed)
        assert outcome.code == "api_error"


def test_a_task_keeps_the_id_it_was_accepted_with() -> None:
    outcome, _ = polled(ace_relay, "veo/t-1", answer({"id": "t-9", "response": {}}), **VEO)
    assert isinstance(outcome, Pending)
    assert outcome.upstream_id == "veo/t-1"


# -- a lost submission


def test_a_lost_submission_is_found_by_our_id() -> None:
    outcome, upstream = reconciled(ace_relay, task({}), asked_s_ago=1, **VEO)
    assert isinstance(outcome, Pending)
    assert outcome.upstream_id == "veo/t-1"
    assert upstream.requests[0].json == {"action": "retrieve", "trace_id": TASK}
    film = {"success": True, "data": [{"id": "v-1", "video_url": "http://f.test/1.mp4"}]}
    outcome, _ = reconciled(ace_relay, done(film), **VEO)
    assert isinstance(outcome, Succeeded)


def test_a_submission_that_never_arrived_is_absent_after_a_while() -> None:
    early, _ = reconciled(ace_relay, answer({}), asked_s_ago=1, **VEO)
    assert isinstance(early, Unknown)
    late, _ = reconciled(ace_relay, answer({}), asked_s_ago=11, **VEO)
    assert isinstance(late, Absent)


@pytest.mark.parametrize("reply", [Reply(404), Reply(500), answer([]), answer({"detail": "x"})])
def test_what_is_no_answer_leaves_it_unknown(reply: Reply) -> None:
    outcome, _ = reconciled(ace_relay, reply, asked_s_ago=11, **VEO)
    assert isinstance(outcome, Unknown)


def test_pictures_in_openais_shape_may_have_been_made_without_a_task() -> None:
    call: dict[str, Any] = {"capability": "image.generate", "model": "gpt-image-2", "prompt": "a", "asked_s_ago": 11}
    assert isinstance(reconciled(ace_relay, answer({}), **call)[0], Unknown)
    assert isinstance(reconciled(ace_relay, answer({}), callback_url="https://here.test/", **call)[0], Unknown)


def test_the_task_of_an_earlier_attempt_is_not_taken_for_this_one() -> None:
    outcome, _ = reconciled(ace_relay, done({"success": False, "error": {"code": "api_error"}}), asked_s_ago=1, **VEO)
    assert isinstance(outcome, Unknown)
