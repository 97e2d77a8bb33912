"""What is sent to the two dialects of Suno's wrappers, and what becomes of their answers. The server is real."""

from datetime import UTC, datetime
from typing import Any

import pytest

from bide.providers import suno_proxy
from bide.providers.base import Failed, Pending, Provider, Succeeded, Unknown

from .polled import TASK, polled, reconciled, roles, source, submitted, the_item
from .upstream import KEY, Reply, answer

MARK = f" #{TASK[-8:]}"
SONG: dict[str, Any] = {"capability": "music.generate", "model": "chirp-v4", "action": "generate",
                        "prompt": "a harbour", "custom": False, "instrumental": False}  # fmt: skip
CUSTOM: dict[str, Any] = {**SONG, "prompt": None, "custom": True, "lyric": "[Verse] la", "title": "Lights",
                          "style": "folk", "negative_tags": "metal"}  # fmt: skip
WRAPPER: dict[str, Any] = {**SONG, "options": {"dialect": "wrapper"}}
OK = answer({"code": "success", "message": "", "data": "t-1"})
ABOUT = {"clip": "c-1", "task": "t-0"}


def clip(id: str = "a", status: str = "complete", **more: Any) -> dict[str, Any]:
    return {"id": id, "title": "Lights", "image_url": f"http://cdn.test/{id}.jpg", "lyric": "la", "tags": "folk",
            "audio_url": f"http://cdn.test/{id}.mp3", "video_url": "", "status": status, "duration": 90.5,
            "created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z"), "prompt": "[Verse] la",
            "gpt_description_prompt": "a harbour", "error_message": None, **more}  # fmt: skip


def told(status: str, data: Any = None, **more: Any) -> Reply:
    return answer({"code": "success", "message": "", "data": {
        "task_id": "other", "action": "MUSIC", "status": status, "fail_reason": "", "progress": "30%", "data": data,
        **more}})  # fmt: skip


def test_the_module_is_a_provider() -> None:
    provider: Provider = suno_proxy
    assert not provider.TAKES_OUR_ID
    assert "music.generate" in provider.CAPABILITIES


# -- what a relay is sent


def test_a_relay_is_asked_with_its_key() -> None:
    outcome, upstream = submitted(suno_proxy, OK, callback_url="https://here.test/cb/1", **SONG)
    assert outcome == Pending("t-1", 15.0)
    (asked,) = upstream.requests
    assert asked.path == "/v1/suno/submit/music"
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert asked.json == {"gpt_description_prompt": "a harbour", "make_instrumental": False, "mv": "chirp-v4",
                          "notify_hook": "https://here.test/cb/1"}  # fmt: skip


@pytest.mark.parametrize(
    ("request_fields", "path", "body"),
    [
        (CUSTOM, "music", {"prompt": "[Verse] la", "title": "Lights", "tags": "folk", "negative_tags": "metal",
                           "make_instrumental": False, "mv": "chirp-v4"}),
        ({**CUSTOM, "lyric": None, "lyric_prompt": "rain"}, "music",
         {"gpt_description_prompt": "rain", "title": "Lights", "tags": "folk", "negative_tags": "metal",
          "make_instrumental": False, "mv": "chirp-v4"}),
        ({**CUSTOM, "action": "extend", "continue_at": 30.5, "negative_tags": None,
          "sources": {"audio_id": (source(ABOUT),)}}, "music",
         {"prompt": "[Verse] la", "title": "Lights", "tags": "folk", "make_instrumental": False, "mv": "chirp-v4",
          "continue_clip_id": "c-1", "continue_at": 30.5, "task_id": "t-0"}),
        ({"capability": "music.lyrics", "model": "default", "prompt": "rain"}, "lyrics", {"prompt": "rain"}),
    ],
)  # fmt: skip
def test_what_a_relay_is_asked_for(request_fields: dict[str, Any], path: str, body: dict[str, Any]) -> None:
    _, upstream = submitted(suno_proxy, OK, **request_fields)
    assert upstream.requests[0].path == f"/v1/suno/submit/{path}"
    assert upstream.requests[0].json == body


# -- what the wrapper is sent


def test_the_wrapper_is_asked_with_a_cookie_and_never_to_wait() -> None:
    outcome, upstream = submitted(suno_proxy, answer([clip("a", "submitted"), clip("b", "queued")]), **WRAPPER)
    assert outcome == Pending("a,b", 15.0)
    (asked,) = upstream.requests
    assert asked.path == "/v1/api/generate"
    assert asked.headers["Cookie"] == KEY
    assert "Authorization" not in asked.headers
    assert asked.json == {"prompt": "a harbour", "make_instrumental": False, "model": "chirp-v4", "wait_audio": False}


@pytest.mark.parametrize(
    ("request_fields", "path", "body"),
    [
        (CUSTOM, "custom_generate",
         {"prompt": "[Verse] la", "title": f"Lights{MARK}", "tags": "folk", "negative_tags": "metal",
          "make_instrumental": False, "model": "chirp-v4", "wait_audio": False}),
        ({**CUSTOM, "title": "x" * 80, "style": None, "negative_tags": None}, "custom_generate",
         {"prompt": "[Verse] la", "title": "x" * 80, "make_instrumental": False, "model": "chirp-v4",
          "wait_audio": False}),
        ({**SONG, "action": "upload_extend", "continue_at": 9, "prompt": "on"}, "extend_audio",
         {"prompt": "on", "audio_id": "c-1", "continue_at": 9, "make_instrumental": False, "model": "chirp-v4",
          "wait_audio": False}),
        ({**SONG, "action": "concat"}, "concat", {"clip_id": "c-1"}),
        ({**SONG, "action": "stems"}, "generate_stems", {"audio_id": "c-1"}),
    ],
)  # fmt: skip
def test_what_the_wrapper_is_asked_for(request_fields: dict[str, Any], path: str, body: dict[str, Any]) -> None:
    outcome, upstream = submitted(suno_proxy, answer([clip("a", "submitted")]), options={"dialect": "wrapper"},
                                  sources={"audio_id": (source(ABOUT),)}, **request_fields)  # fmt: skip
    assert outcome == Pending("a", 15.0)
    assert upstream.requests[0].path == f"/v1/api/{path}"
    assert upstream.requests[0].json == body


@pytest.mark.parametrize(
    ("dialect", "request_fields", "code"),
    [
        ("relay", {"action": "concat"}, "api_not_implemented"),
        ("wrapper", {"action": "cover"}, "api_not_implemented"),
        ("relay", {"capability": "music.timing"}, "api_not_implemented"),
        ("wrapper", {"custom": True, "lyric_prompt": "rain"}, "bad_request"),
        ("relay", {"action": "extend", "sources": {"audio_id": (source({"seed": 1}),)}}, "bad_request"),
        ("wrapper", {"action": "stems", "sources": {}}, "bad_request"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_refused_unasked(dialect: str, request_fields: dict[str, Any], code: str) -> None:
    call = {**SONG, "sources": {"audio_id": (source(ABOUT),)}, **request_fields}
    outcome, upstream = submitted(suno_proxy, OK, options={"dialect": dialect}, **call)
    assert isinstance(outcome, Failed)
    assert (outcome.code, upstream.asked) == (code, 0)


# -- what a submission is answered with


@pytest.mark.parametrize("document", [
    {"code": 1, "data": "t-1"}, {"code": 200, "data": {"task_id": "t-1"}}, {"code": "SUCCESS", "data": "t-1"},
])  # fmt: skip
def test_relays_say_yes_in_several_ways(document: Any) -> None:
    assert submitted(suno_proxy, answer(document), **SONG)[0] == Pending("t-1", 15.0)


REFUSED = [
    ({}, answer({"code": "error", "message": "prompt was flagged for moderation"}), "forbidden", "task", False),
    ({}, answer({"code": "error", "message": "no available channel sk-secret-123456"}), "api_error", "channel",
     False),
    ({}, answer({"code": 429, "message": "slow down"}), "too_many_requests", "channel", True),
    ({}, Reply(401, b'{"error": {"message": "bad key", "code": "invalid_api_key"}}'), "api_error", "channel", False),
    ({}, Reply(403, b'{"error": {"code": "insufficient_user_quota"}}'), "api_error", "channel", False),
    ({}, Reply(400, b'{"code": "invalid_request", "message": "no prompt"}'), "bad_request", "task", False),
    ({"dialect": "wrapper"}, Reply(402, b'{"error": "Insufficient credits"}'), "api_error", "channel", False),
    ({"dialect": "wrapper"}, Reply(429, b'{"error": "slow"}'), "too_many_requests", "channel", True),
    ({"dialect": "wrapper"}, Reply(404, b'{"error": "model not found"}'), "api_error", "channel", False),
    ({"dialect": "wrapper"}, answer({"error": "description flagged for moderation"}), "forbidden", "task", False),
]  # fmt: skip


@pytest.mark.parametrize(("options", "reply", "code", "scope", "retryable"), REFUSED)
def test_refusals(options: Any, reply: Reply, code: str, scope: str, retryable: bool) -> None:
    outcome, upstream = submitted(suno_proxy, reply, **{**SONG, "options": options})
    assert isinstance(outcome, Failed), outcome
    assert (outcome.code, outcome.scope, outcome.retryable) == (code, scope, retryable)
    assert "secret-123456" not in outcome.message
    assert upstream.asked == 1


@pytest.mark.parametrize("dialect", ["relay", "wrapper"])
@pytest.mark.parametrize(
    "reply",
    [Reply(200, b"<html>Welcome</html>"), Reply(200, b""), answer([]), answer([1]), answer({}), answer("x"),
     answer({"code": "success"}), answer({"code": "success", "data": [1]}), answer([{"id": "a,b"}]),
     Reply(200, b'[{"id', then="cut"), Reply(then="reset"), Reply(502), Reply(200, b"[" + b"1," * 2_000_000)],
)  # fmt: skip
def test_what_cannot_be_read_is_unknown_and_asked_once(dialect: str, reply: Reply) -> None:
    outcome, upstream = submitted(suno_proxy, reply, **{**SONG, "options": {"dialect": dialect}})
    assert isinstance(outcome, Unknown), outcome
    assert upstream.asked == 1


# -- work in a relay


@pytest.mark.parametrize("status", ["NOT_START", "queued", "IN_PROGRESS", "TEXT_SUCCESS", "first_success", "", "Odd"])
def test_a_relays_task_that_is_not_done(status: str) -> None:
    """Its clips may play already."""
    reply = told(status, [clip("a", "streaming")])
    outcome, upstream = polled(suno_proxy, "t/1", reply, asked_s_ago=10, watched=True, **SONG)
    assert isinstance(outcome, Pending)
    assert outcome.upstream_id == "t/1"
    assert 7.9 < outcome.after_s < 8.5
    assert [one.percent for one in upstream.reports] == [30]
    assert upstream.asked == 1


@pytest.mark.parametrize("code", ["success", 1, 200])
def test_songs_of_a_relay(code: Any) -> None:
    one = clip("a", "complete", lyric=None, prompt="", tags="", duration=None, image_large_url="http://cdn.test/l.jpg",
               metadata={"tags": "folk", "prompt": "la la", "duration": 120.25})  # fmt: skip
    bad = clip("b", "error", metadata={"error_message": "x"})
    reply = answer({"code": code, "data": {"task_id": "t-1", "status": "SUCCESS", "data": [one, bad, "x"]}})
    item = the_item(polled(suno_proxy, "t-1", reply, **SONG)[0])
    assert roles(item) == {"audio": ["http://cdn.test/a.mp3"], "image": ["http://cdn.test/a.jpg"],
                           "image_large": ["http://cdn.test/l.jpg"]}  # fmt: skip
    assert item.fields == {"title": "Lights", "lyric": "la la", "style": "folk", "prompt": "a harbour",
                           "duration": 120.25}  # fmt: skip
    assert item.about == {"clip": "a", "task": "t-1"}


def test_lyrics_of_a_relay() -> None:
    reply = told("SUCCESS", {"text": "la", "title": "T", "tags": "folk, slow", "id": "x", "status": "complete"})
    outcome, _ = polled(suno_proxy, "t-1", reply, capability="music.lyrics", prompt="rain")
    one = {"text": "la", "title": "T", "tags": ["folk", "slow"]}
    assert outcome == Succeeded(response={**one, "variants": [one]})


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (told("FAILURE", fail_reason="Tags were flagged for moderation"), "forbidden"),
        (told("failed", fail_reason="generation timeout"), "timeout"),
        (told("ERROR", [clip("a", "error", error_message="it broke")]), "api_error"),
        (told("SUCCESS", []), "api_error"),
        (told("SUCCESS", None), "api_error"),
        (told("SUCCESS", [clip("a", audio_url="/tmp/a.mp3")]), "api_error"),
        (told("SUCCESS", [clip("a", "error", error_message="flagged")]), "forbidden"),
    ],
)  # fmt: skip
def test_a_relays_task_that_failed(reply: Reply, code: str) -> None:
    outcome, _ = polled(suno_proxy, "t-1", reply, **SONG)
    assert isinstance(outcome, Failed), outcome
    assert outcome.code == code


@pytest.mark.parametrize("dialect", ["relay", "wrapper"])
@pytest.mark.parametrize("reply", [Reply(500), Reply(200, b"<html>"), answer(7), Reply(then="reset"), Reply(429),
                                   Reply(200, b"{", then="cut"), Reply(200, b"")])  # fmt: skip
def test_a_look_that_fails_says_nothing_about_the_work(dialect: str, reply: Reply) -> None:
    assert isinstance(polled(suno_proxy, "t-1", reply, **{**SONG, "options": {"dialect": dialect}})[0], Unknown)


@pytest.mark.parametrize(
    ("dialect", "reply"),
    [("relay", answer({"code": "task_not_exist", "message": "x"})),
     ("relay", answer({"code": "success", "data": None})),
     ("relay", Reply(400, b'{"code": "task_not_exist", "message": "x"}')), ("wrapper", answer([])),
     ("wrapper", answer([clip("z")]))],
)  # fmt: skip
def test_work_that_is_missing_is_given_time(dialect: str, reply: Reply) -> None:
    call = {**SONG, "options": {"dialect": dialect}}
    assert isinstance(polled(suno_proxy, "t-1", reply, asked_s_ago=5, **call)[0], Pending)
    assert isinstance(polled(suno_proxy, "t-1", reply, asked_s_ago=61, **call)[0], Failed)
    assert isinstance(polled(suno_proxy, "t-1", Reply(404), **call)[0], Failed)


# -- work in the wrapper


@pytest.mark.parametrize("clips", [
    [clip("a"), clip("b", "streaming")], [clip("a", "submitted"), clip("b", "error")], [clip("a"), clip("b", "odd")],
    [clip("a")],
])  # fmt: skip
def test_clips_are_as_far_as_the_slowest(clips: list[Any]) -> None:
    outcome, upstream = polled(suno_proxy, "a,b", answer(clips), asked_s_ago=20, **WRAPPER)
    assert isinstance(outcome, Pending)
    assert outcome.upstream_id == "a,b"
    assert upstream.queries == [{"ids": "a,b"}]


def test_songs_of_the_wrapper() -> None:
    clips = [clip("a", title=f"Lights{MARK}", duration="91.5"), clip("z"), clip("b", "error", error_message="x")]
    item = the_item(polled(suno_proxy, "a,b", answer(clips), **{**WRAPPER, **CUSTOM})[0])
    assert (item.fields["title"], item.fields["duration"]) == ("Lights", 91.5)
    assert item.about == {"clip": "a"}
    late, _ = polled(suno_proxy, "a,b", answer([clip("a")]), asked_s_ago=61, **WRAPPER)
    assert isinstance(late, Succeeded)


def test_clips_that_all_failed() -> None:
    clips = [clip("a", "error", error_message="Song Description flagged"), clip("b", "error")]
    outcome, _ = polled(suno_proxy, "a,b", answer(clips), **WRAPPER)
    assert isinstance(outcome, Failed)
    assert outcome.code == "forbidden"


def test_lyrics_of_the_wrapper_come_at_once() -> None:
    reply = answer({"text": "la", "title": "T", "status": "complete"})
    outcome, upstream = submitted(suno_proxy, reply, capability="music.lyrics", prompt="rain",
                                  options={"dialect": "wrapper"})  # fmt: skip
    assert outcome == Succeeded(response={"text": "la", "title": "T", "tags": [],
                                          "variants": [{"text": "la", "title": "T", "tags": []}]})  # fmt: skip
    assert upstream.requests[0].path == "/v1/api/generate_lyrics"


@pytest.mark.parametrize("document", [
    [{"word": "la", "start_s": 0.5}], {"aligned_words": [{"word": "la", "start_s": 0.5}]},
])  # fmt: skip
def test_times_of_words(document: Any) -> None:
    call: dict[str, Any] = {"capability": "music.timing", "options": {"dialect": "wrapper"},
                            "sources": {"audio_id": (source(ABOUT),)}}  # fmt: skip
    outcome, upstream = submitted(suno_proxy, answer(document), **call)
    assert upstream.queries == [{"song_id": "c-1"}]
    assert isinstance(outcome, Succeeded)
    assert outcome.response["aligned_words"] == [{"word": "la", "start_s": 0.5}]
    for reply in (Reply(500), Reply(404), answer({"error": "x"})):
        assert isinstance(submitted(suno_proxy, reply, **call)[0], Failed)


# -- lost submissions


def test_a_lost_submission_is_found_by_its_mark() -> None:
    listed = [clip("z"), 7, clip("a", "queued", title=f"Lights{MARK}"), clip("b", "queued", title=f"Lights{MARK}")]
    outcome, upstream = reconciled(suno_proxy, answer(listed), asked_s_ago=5, **{**WRAPPER, **CUSTOM})
    assert isinstance(outcome, Pending)
    assert outcome.upstream_id == "a,b"
    assert upstream.queries == [{"page": "0"}]


def test_a_lost_submission_without_a_title_is_found_by_its_words_if_it_is_the_only_one() -> None:
    old = clip("o", created_at="2020-01-01T00:00:00Z")
    pair = [clip("a"), clip("b"), old, clip("c", gpt_description_prompt="else"), clip("d", created_at=None)]
    outcome, _ = reconciled(suno_proxy, answer(pair), asked_s_ago=5, **WRAPPER)
    assert isinstance(outcome, Succeeded)
    assert [one.about["clip"] for one in outcome.items] == ["a", "b"]
    outcome, _ = reconciled(suno_proxy, answer([*pair, clip("e"), clip("f")]), asked_s_ago=5, **WRAPPER)
    assert isinstance(outcome, Unknown)


@pytest.mark.parametrize("reply", [answer([]), answer({}), Reply(404), Reply(500), Reply(200, b"<html>")])
def test_what_is_not_found_stays_unknown(reply: Reply) -> None:
    assert isinstance(reconciled(suno_proxy, reply, asked_s_ago=5, **WRAPPER)[0], Unknown)


def test_a_relay_cannot_be_asked_for_lost_submissions() -> None:
    outcome, upstream = reconciled(suno_proxy, answer([]), asked_s_ago=5, **SONG)
    assert isinstance(outcome, Unknown)
    assert upstream.asked == 0
