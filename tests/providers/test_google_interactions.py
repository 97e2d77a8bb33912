"""What is sent to Google's Interactions, and what becomes of their answers. The server is real."""

import asyncio
import base64
import json
from typing import Any

import pytest

from bide.providers import google_interactions
from bide.providers.base import Failed, Outcome, Pending, Provider, Source, Succeeded
from bide.providers.google_interactions import cancel, poll, submit

from .asked import MP3, MP4, NONSENSE, PAGE, Many, kind
from .upstream import KEY, PNG, PNG64, Reply, answer, given, run

MP464, MP364 = base64.b64encode(MP4).decode(), base64.b64encode(MP3).decode()
QUEUED = answer({"id": "int-1", "status": "queued"})
URI = "https://generativelanguage.googleapis.com/v1/files/1:download?alt=media"


def submitted(reply: Reply = QUEUED, **call: Any) -> tuple[Outcome, Many]:
    async def work() -> tuple[Outcome, Many]:
        async with Many(reply) as upstream:
            outcome = await submit(upstream.film(**call))
            assert len(upstream.lines) <= 1
            assert "open" not in upstream.store.states
            return outcome, upstream

    return run(work())


def polled(reply: Reply, **call: Any) -> tuple[Outcome, Many]:
    async def work() -> tuple[Outcome, Many]:
        async with Many(reply) as upstream:
            outcome = await poll(upstream.film(**call), "int-1")
            assert set(upstream.lines) == {"GET /v1/interactions/int-1"}
            assert "open" not in upstream.store.states
            return outcome, upstream

    return run(work())


def sent(**call: Any) -> Any:
    outcome, upstream = submitted(**call)
    assert outcome == Pending("int-1", 5.0)
    return upstream.requests[0].json


def test_the_module_is_a_provider() -> None:
    provider: Provider = google_interactions
    assert "video.generate" in provider.CAPABILITIES
    assert "music.generate" in provider.CAPABILITIES
    assert not provider.TAKES_OUR_ID


# -- what is sent


def test_a_film_is_asked_for_in_the_background_with_an_address_for_its_end() -> None:
    outcome, upstream = submitted(
        model="gemini-omni-1.2-flash", duration=10, aspect_ratio="9:16", resolution="1080p",
        callback_url="https://gateway.test/cb/1",
    )  # fmt: skip
    assert outcome == Pending("int-1", 5.0)
    assert upstream.lines == ["POST /v1/interactions"]
    assert upstream.requests[0].json == {
        "model": "gemini-omni-1.2-flash", "input": "a boat", "background": True, "store": True,
        "response_format": [{"type": "video", "aspect_ratio": "9:16", "resolution": "1080p", "duration": "10s",
                             "delivery": "uri"}],
        "generation_config": {"video_config": {"task": "text_to_video"}},
        "webhook_config": {"uris": ["https://gateway.test/cb/1"],
                           "user_metadata": {"attempt": "0199aaaa-0000-7000-8000-000000000001"}},
    }  # fmt: skip
    assert upstream.requests[0].headers["x-goog-api-key"] == KEY
    assert "Authorization" not in upstream.requests[0].headers


def test_options_change_what_is_sent() -> None:
    options = {"background": False, "seconds": [4, 6], "response_format": {"delivery": "inline"},
               "extra": {"store": False}, "auth": "bearer"}  # fmt: skip
    outcome, upstream = submitted(options=options, duration=30)
    assert kind(outcome) == "pending"
    body = upstream.requests[0].json
    assert (body["background"], body["store"]) == (False, False)
    assert body["response_format"] == [{"type": "video", "duration": "6s", "delivery": "inline"}]
    assert upstream.requests[0].headers["Authorization"] == f"Bearer {KEY}"


TEXT = {"type": "text", "text": "a boat"}
PICTURE = {"type": "image", "data": PNG64, "mime_type": "image/png"}
FILM = {"type": "video", "data": MP464, "mime_type": "video/mp4"}
FOLLOWED = {"video_id": (Source("i", "videos", "video", {}, (given("video", MP4, "a.mp4", "video/mp4"),)),)}


@pytest.mark.parametrize(("call", "task", "parts"), [
    ({"inputs": (given("image_urls", PNG),)}, "image_to_video", [TEXT, PICTURE]),
    ({"inputs": (given("image_urls", PNG),) * 2, "action": "ingredients2video"}, "reference_to_video",
     [TEXT, PICTURE, PICTURE]),
    ({"video_urls": ["https://a.test/b.mp4"]}, "edit", [TEXT, {"type": "video", "uri": "https://a.test/b.mp4"}]),
    ({"capability": "video.extend", "sources": FOLLOWED}, "extend", [TEXT, FILM]),
    ({"action": "remix", "sources": FOLLOWED}, "edit", [TEXT, FILM]),
    ({"capability": "video.edit", "sources": FOLLOWED, "prompt": "", "motion_type": "DOLLY_IN"}, "edit",
     [{"type": "text", "text": "The same scene, with this movement of the camera: dolly in."}, FILM]),
    ({"capability": "video.upsample", "sources": FOLLOWED, "prompt": "", "action": "4k"}, "upscale", [FILM]),
])  # fmt: skip
def test_the_task_follows_from_what_is_given(call: dict[str, Any], task: str, parts: list[Any]) -> None:
    body = sent(**call)
    assert body["generation_config"] == {"video_config": {"task": task}}
    assert body["input"] == parts


@pytest.mark.parametrize("call", [
    {"action": "lipsync"}, {"resolution": "gif"}, {"capability": "video.upsample", "action": "gif"}, {"prompt": ""},
    {"capability": "video.extend"}, {"action": "get1080p"},
    {"capability": "video.edit", "sources": FOLLOWED, "action": "remove", "image_mask": "x"},
    {"capability": "music.generate", "action": "cover"}, {"capability": "music.generate", "prompt": ""},
    {"capability": "music.generate", "action": "generate", "audio_urls": ["https://a.test/b.mp3"]},
])  # fmt: skip
def test_what_it_cannot_do_is_refused_unasked_so_that_another_channel_may(call: dict[str, Any]) -> None:
    outcome, upstream = submitted(**call)
    assert (kind(outcome), upstream.lines) == ("bad_request channel", [])


def test_a_song_is_told_in_one_text() -> None:
    body = sent(
        capability="music.generate", model="lyria-3.5", prompt="a harbour", style="folk", negative_tags="drums",
        title="Tide", vocal_gender="f", duration=90, lyric="[Verse]\nwater",
    )  # fmt: skip
    assert body["input"] == (
        "a harbour\nStyle: folk\nWithout: drums\nTitle: Tide\nSung by a female voice.\nAbout 90 seconds long.\n"
        "Lyrics:\n[Verse]\nwater"
    )
    assert body["response_format"] == [{"type": "audio", "delivery": "uri"}]
    assert "generation_config" not in body
    body = sent(capability="music.generate", prompt="x", instrumental=True, lyric="not sung", action="generate")
    assert body["input"] == "x\nInstrumental, nobody sings."
    assert sent(capability="music.generate", prompt="", lyric_prompt="rain", title="R")["input"] == (
        "Title: R\nLyrics about: rain"
    )


# -- what is answered


def google(code: int, status: str, message: str) -> Reply:
    return Reply(code, json.dumps({"error": {"code": code, "message": message, "status": status}}).encode())


def done(*content: Any, status: str = "completed", **more: Any) -> Reply:
    steps = [{"type": "user_input", "content": [{"type": "image", "data": PNG64}]},
             {"type": "model_output", "content": list(content)}, {"type": "thought"}]  # fmt: skip
    return answer({"id": "int-1", "status": status, "steps": steps, **more})


@pytest.mark.parametrize(("reply", "expected"), [
    (answer({"id": "int-1", "status": "in_progress"}), "pending"),
    (answer({"id": "int-1", "status": "some_new_word"}), "pending"),
    (answer({"id": "int-1"}), "pending"),
    (done({"type": "video", "uri": URI}), "succeeded"),
    (answer({"status": "failed", "errors": [{"code": "content_policy_violation", "message": "No."}]}),
     "forbidden task"),
    (google(400, "INVALID_ARGUMENT", "Unknown task"), "bad_request task"),
    (google(401, "UNAUTHENTICATED", "API key not valid"), "api_error channel"),
    (google(404, "NOT_FOUND", "models/x is not found"), "api_error channel"),
    (google(429, "RESOURCE_EXHAUSTED", "Slow down"), "too_many_requests channel"),
    (google(500, "INTERNAL", "oops"), "api_error channel"),
    (answer({"error": {"code": 8, "message": "busy"}}), "too_many_requests channel"),
    (Reply(504), "unknown"), (Reply(then="reset"), "unknown"), (answer({"id": "../x"}), "unknown"),
])  # fmt: skip
def test_a_submission_is_answered_once(reply: Reply, expected: str) -> None:
    outcome, upstream = submitted(reply)
    assert kind(outcome) == expected
    assert len(upstream.lines) == 1


def test_a_quota_that_is_used_up_lets_the_channel_rest() -> None:
    outcome, _ = submitted(google(429, "RESOURCE_EXHAUSTED", "x"))
    assert isinstance(outcome, Failed)
    assert (outcome.scope, outcome.cool_s) == ("channel", 5.0)
    outcome, _ = submitted(google(402, "", "out of credits"))
    assert isinstance(outcome, Failed)
    assert (outcome.scope, outcome.cool_s) == ("channel", 900.0)


@pytest.mark.parametrize("reply", NONSENSE)
def test_nonsense_after_a_submission_leaves_its_outcome_open(reply: Reply) -> None:
    assert kind(submitted(reply)[0]) == "unknown"


@pytest.mark.parametrize("reply", NONSENSE)
def test_nonsense_never_ends_the_work(reply: Reply) -> None:
    assert kind(polled(reply)[0]) in ("unknown", "pending")


def test_the_id_stays_that_of_the_submission_and_old_work_is_asked_for_less_often() -> None:
    assert polled(answer({"id": "other", "status": "queued"}))[0] == Pending("int-1", 5.0)
    assert polled(answer({"id": "other", "status": "queued"}), asked_s_ago=100)[0] == Pending("int-1", 15.0)


def test_a_film_at_an_address_is_fetched_with_the_key() -> None:
    outcome, _ = polled(done({"type": "text", "text": "Here"}, {"type": "video", "uri": URI}), duration=5)
    assert isinstance(outcome, Succeeded)
    (item,) = outcome.items
    assert [(asset.role, asset.url) for asset in item.assets] == [("video", URI)]
    assert item.assets[0].headers == {"Authorization": "", "x-goog-api-key": KEY}
    assert (item.fields["seconds"], outcome.units) == (5, 5)


def test_a_film_in_the_answer_goes_into_storage_and_what_was_given_does_not() -> None:
    outcome, upstream = polled(done({"type": "video", "data": MP464, "mime_type": "video/mp4"}))
    assert isinstance(outcome, Succeeded)
    assert upstream.store.of(outcome.items[0].assets[0].stored) == MP4
    assert sorted(upstream.store.states) == ["aborted", "closed"]


def test_a_larger_film_has_the_id_of_the_film_it_is() -> None:
    outcome, _ = polled(done({"type": "video", "uri": URI}), capability="video.upsample", video_id="item-7")
    assert isinstance(outcome, Succeeded)
    assert outcome.items[0].same_as == "item-7"


def test_songs_come_with_their_words() -> None:
    texts = [{"type": "text", "text": "[Verse]\nwater"}, {"type": "image", "data": PNG64}]
    reply = done(*texts, {"type": "audio", "data": MP364}, {"type": "audio", "uri": URI})
    outcome, upstream = polled(reply, capability="music.generate", prompt="a harbour", style="folk")
    assert isinstance(outcome, Succeeded)
    assert [[asset.role for asset in item.assets] for item in outcome.items] == [["audio"], ["audio"]]
    assert upstream.store.of(outcome.items[0].assets[0].stored) == MP3
    assert outcome.items[1].fields == {"title": "a harbour", "prompt": "a harbour", "lyric": "[Verse]\nwater",
                                       "style": "folk"}  # fmt: skip
    assert outcome.units == 1


def test_the_older_shape_of_answers_is_read_as_well() -> None:
    reply = answer({"status": "completed", "outputs": [{"type": "video", "uri": URI}]})
    assert kind(polled(reply)[0]) == "succeeded"


@pytest.mark.parametrize(("reply", "expected"), [
    (done({"type": "text", "text": "I cannot make that."}), "forbidden task"),
    (done(), "api_error channel"),
    (done({"type": "video", "uri": "gs://bucket/film"}), "api_error channel"),
    (done({"type": "video", "uri": "file:///etc/passwd"}), "api_error channel"),
    (done({"type": "video", "data": base64.b64encode(b"no film").decode()}), "api_error task"),
    (done({"type": "video", "data": {"a": 1}}), "api_error channel"),
    (done(status="failed", errors=[{"code": "resource_exhausted", "message": "busy"}]), "too_many_requests channel"),
    (done(status="failed", errors=[{"code": 3, "message": "bad"}]), "bad_request task"),
    (answer({"status": "FAILED", "steps": [{"type": "model_output", "error": {"code": "x", "message": "unsafe: "
            "violates our usage policies"}}]}), "forbidden task"),
    (answer({"status": "failed"}), "api_error channel"),
    (answer({"status": "incomplete"}), "api_error channel"),
    (answer({"status": "budget_exceeded"}), "api_error channel"),
    (answer({"status": "cancelled"}), "api_error channel"),
    (answer({"status": "requires_action"}), "api_error channel"),
    (answer({"status": "completed", "steps": "x", "outputs": 7}), "api_error channel"),
    (google(404, "NOT_FOUND", "no such interaction"), "api_error task"),
    (google(500, "INTERNAL", "oops"), "unknown"), (PAGE, "unknown"), (Reply(then="reset"), "unknown"),
])  # fmt: skip
def test_an_interaction_is_what_it_says(reply: Reply, expected: str) -> None:
    outcome, upstream = polled(reply)
    assert kind(outcome) == expected
    assert "closed" not in upstream.store.states


def test_an_answer_without_end_is_given_up_and_secrets_are_shown_to_nobody() -> None:
    assert kind(polled(done({"type": "video", "data": MP464}), answer_bytes_max=100)[0]) == "unknown"
    outcome, _ = submitted(google(400, "INVALID_ARGUMENT", f"bad key={KEY}"))
    assert KEY not in repr(outcome)


def test_the_upstream_is_told_that_nobody_waits() -> None:
    async def told(reply: Reply) -> tuple[bool, list[str]]:
        async with Many(reply) as upstream:
            return await cancel(upstream.film(), "int-1"), upstream.lines

    assert asyncio.run(told(answer({"id": "int-1", "status": "cancelled"}))) == (
        True, ["POST /v1/interactions/int-1/cancel"]
    )  # fmt: skip
    assert asyncio.run(told(google(409, "FAILED_PRECONDITION", "too late")))[0] is False


def test_an_account_that_cannot_sign_asks_nobody() -> None:
    async def work() -> None:
        async with Many(QUEUED) as upstream:
            call = upstream.film(key="{}")
            assert kind(await submit(call)) == "api_error channel"
            assert kind(await poll(call, "int-1")) == "unknown"
            assert await cancel(call, "int-1") is False
            assert upstream.lines == []

    run(work())
