"""Pictures made in the background, and Azure's paths and header. The server is real."""

import asyncio
import json
from typing import Any

import pytest

from bide.providers.base import Failed, Outcome, Pending, Succeeded
from bide.providers.openai_images import cancel, poll, submit

from .asked import NONSENSE, PAGE, Many, kind
from .upstream import ANSWER, KEY, PNG, PNG64, Reply, answer, given, run

BACKGROUND = {"responses_model": "gpt-text"}
AZURE = {"api_version": "2025-04-01-preview"}
QUEUED = answer({"id": "resp_1", "status": "queued"})


def submitted(reply: Reply = QUEUED, **call: Any) -> tuple[Outcome, Many]:
    async def work() -> tuple[Outcome, Many]:
        async with Many(reply) as upstream:
            asked = {"capability": "image.generate", "model": "gpt-image-2.6-flare", "quality": "high",
                     "options": BACKGROUND, **call}  # fmt: skip
            outcome = await submit(upstream.film(**asked))
            assert len(upstream.lines) == 1
            assert "open" not in upstream.store.states
            assert KEY not in repr(outcome)
            return outcome, upstream

    return run(work())


def polled(reply: Reply, **call: Any) -> tuple[Outcome, Many]:
    async def work() -> tuple[Outcome, Many]:
        async with Many(reply) as upstream:
            asked = {"capability": "image.generate", "options": BACKGROUND, **call}
            outcome = await poll(upstream.film(**asked), "resp_1")
            assert "open" not in upstream.store.states
            assert KEY not in repr(outcome)
            return outcome, upstream

    return run(work())


# -- Azure


@pytest.mark.parametrize(("capability", "line"), [
    ("image.generate", "POST /v1/deployments/my%20flare/images/generations?api-version=2025-04-01-preview"),
    ("image.edit", "POST /v1/deployments/my%20flare/images/edits?api-version=2025-04-01-preview"),
])  # fmt: skip
def test_azure_has_a_path_for_each_deployment_and_a_header_of_its_own(capability: str, line: str) -> None:
    inputs = (given("image", PNG),) if capability == "image.edit" else ()
    outcome, upstream = submitted(
        answer(ANSWER), capability=capability, model="my flare", options=AZURE, inputs=inputs
    )
    assert kind(outcome) == "succeeded"
    assert upstream.lines == [line]
    assert upstream.requests[0].headers["api-key"] == KEY
    assert "Authorization" not in upstream.requests[0].headers


def test_azure_may_be_shown_a_bearer_token_and_its_newer_paths_the_key() -> None:
    _, upstream = submitted(answer(ANSWER), options={**AZURE, "auth": "bearer"})
    assert upstream.requests[0].headers["Authorization"] == f"Bearer {KEY}"
    assert "api-key" not in upstream.requests[0].headers
    _, upstream = submitted(answer(ANSWER), options={"auth": "api_key"})
    assert upstream.lines == ["POST /v1/images/generations"]
    assert upstream.requests[0].headers["api-key"] == KEY


def test_a_deployments_name_is_one_part_of_the_path() -> None:
    _, upstream = submitted(answer(ANSWER), model="../../x?y", options=AZURE)
    assert upstream.lines[0].startswith("POST /v1/deployments/..%2F..%2Fx%3Fy/images/generations?api-version=")


@pytest.mark.parametrize(("reply", "expected"), [
    (Reply(400, b'{"error":{"code":"contentFilter","message":"x"}}'), "forbidden task"),
    (Reply(400, b'{"error":{"code":"x","innererror":{"code":"ResponsibleAIPolicyViolation"}}}'), "forbidden task"),
    (Reply(404, b'{"error":{"code":"DeploymentNotFound","message":"The API deployment does not exist."}}'),
     "api_error channel"),
    (Reply(401, b'{"error":{"code":"401","message":"Access denied due to invalid subscription key"}}'),
     "api_error channel"),
])  # fmt: skip
def test_azures_refusals_are_understood(reply: Reply, expected: str) -> None:
    assert kind(submitted(reply, options=AZURE)[0]) == expected


# -- the background: what is sent


def test_a_slow_picture_is_asked_for_in_the_background() -> None:
    outcome, upstream = submitted(size="1536x1024", output_format="webp", n=1, user="u1", style="vivid")
    assert outcome == Pending("resp_1", 10.0)
    assert upstream.lines == ["POST /v1/responses"]
    assert upstream.requests[0].json == {
        "model": "gpt-text", "background": True, "store": True, "user": "u1",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "a boat"}]}],
        "metadata": {"attempt": "0199aaaa-0000-7000-8000-000000000001"},
        "tools": [{"type": "image_generation", "model": "gpt-image-2.6-flare", "size": "1536x1024", "quality": "high",
                   "output_format": "webp"}],
        "tool_choice": {"type": "image_generation"},
    }  # fmt: skip
    assert upstream.requests[0].headers["Authorization"] == f"Bearer {KEY}"


def test_pictures_to_edit_go_along_as_data() -> None:
    inputs = (given("image", PNG), given("mask", PNG), given("image", PNG))
    _, upstream = submitted(capability="image.edit", inputs=inputs, options=BACKGROUND | AZURE)
    assert upstream.lines == ["POST /v1/responses?api-version=2025-04-01-preview"]
    assert upstream.requests[0].headers["api-key"] == KEY
    body, data = upstream.requests[0].json, f"data:image/png;base64,{PNG64}"
    assert body["input"][0]["content"][1:] == [{"type": "input_image", "image_url": data}] * 2
    assert body["tools"][0]["input_image_mask"] == {"image_url": data}


@pytest.mark.parametrize("call", [
    {"quality": "low"}, {"quality": "auto"}, {"n": 2}, {"options": {}},
    {"options": {**BACKGROUND, "responses_for": ["max"]}},
])  # fmt: skip
def test_other_pictures_are_asked_for_as_ever(call: dict[str, Any]) -> None:
    outcome, upstream = submitted(answer(ANSWER), **call)
    assert kind(outcome) == "succeeded"
    assert upstream.lines == ["POST /v1/images/generations"]


# -- the background: what is answered


@pytest.mark.parametrize(("reply", "expected"), [
    (Reply(400, b'{"error":{"message":"Blocked","code":"moderation_blocked"}}'), "forbidden task"),
    (Reply(400, b'{"error":{"message":"Bad","type":"invalid_request_error","param":"size"}}'), "bad_request task"),
    (Reply(404, b'{"error":{"message":"The model does not exist","code":"model_not_found"}}'), "api_error channel"),
    (Reply(429, b'{"error":{"message":"Slow","code":"rate_limit_exceeded"}}'), "too_many_requests channel"),
    (Reply(429, b'{"error":{"message":"Pay","code":"insufficient_quota"}}'), "api_error channel"),
    (Reply(504), "unknown"), (Reply(then="reset"), "unknown"), (answer({"id": "../x"}), "unknown"),
    (answer({"id": "resp_1", "status": "failed", "error": {"code": "server_error", "message": "x"}}),
     "api_error channel"),
    (answer({"error": {"code": "invalid_prompt", "message": "x"}}), "forbidden task"),
    (answer({"id": "resp_1", "status": ["odd"]}), "pending"),
])  # fmt: skip
def test_a_submission_is_answered_once(reply: Reply, expected: str) -> None:
    assert kind(submitted(reply)[0]) == expected


@pytest.mark.parametrize("reply", NONSENSE)
def test_nonsense_after_a_submission_leaves_its_outcome_open(reply: Reply) -> None:
    assert kind(submitted(reply)[0]) == "unknown"


@pytest.mark.parametrize("reply", NONSENSE)
def test_nonsense_never_ends_the_work(reply: Reply) -> None:
    assert kind(polled(reply)[0]) in ("unknown", "pending")


def done(*output: Any, status: str = "completed", **more: Any) -> Reply:
    return answer({"id": "resp_1", "object": "response", "status": status, "output": list(output), **more})


PICTURE = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": PNG64, "size": "1024x1024",
           "quality": "high", "output_format": "png", "revised_prompt": "a red boat"}  # fmt: skip


def test_a_picture_goes_into_storage_in_pieces() -> None:
    usage = {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}
    body = done({"type": "reasoning", "summary": []}, PICTURE, created_at=1795316790.5, usage=usage).body
    assert isinstance(body, bytes)
    outcome, upstream = polled(Reply(200, [body[at : at + 101] for at in range(0, len(body), 101)]))
    assert upstream.lines == ["GET /v1/responses/resp_1"]
    assert isinstance(outcome, Succeeded)
    (asset,) = outcome.assets
    assert upstream.store.of(asset.stored) == PNG
    assert asset.about == {"revised_prompt": "a red boat"}
    assert outcome.response == {"created": 1795316790, "usage": usage, "size": "1024x1024", "quality": "high",
                                "output_format": "png"}  # fmt: skip


def test_the_id_stays_that_of_the_submission_and_old_work_is_asked_for_less_often() -> None:
    working = answer({"id": "resp_2", "status": "in_progress"})
    assert polled(working)[0] == Pending("resp_1", 5.0)
    assert polled(working, asked_s_ago=300)[0] == Pending("resp_1", 15.0)


@pytest.mark.parametrize(("reply", "expected"), [
    (done({"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}), "forbidden task"),
    (done({"type": "message", "content": [{"type": "output_text", "text": "I cannot."}]}), "forbidden task"),
    (done(), "api_error channel"), (done({**PICTURE, "result": None}, 7), "api_error channel"),
    (done({**PICTURE, "result": "aGVsbG8="}), "api_error task"),
    (done(status="failed", error={"code": "image_content_policy_violation", "message": "x"}), "forbidden task"),
    (done(status="failed", error={"code": "rate_limit_exceeded", "message": "x"}), "too_many_requests channel"),
    (done(status="failed"), "api_error channel"), (done(status="cancelled"), "api_error channel"),
    (done(status="incomplete", incomplete_details={"reason": "content_filter"}), "forbidden task"),
    (done(status="incomplete", incomplete_details="x"), "api_error channel"),
    (done(status="dreaming"), "pending"),
    (Reply(404, b'{"error":{"message":"Response not found"}}'), "api_error task"),
    (Reply(500), "unknown"), (Reply(429), "unknown"), (PAGE, "unknown"), (Reply(then="reset"), "unknown"),
    (Reply(200, json.dumps({"output": [PICTURE]}).encode()[:-20], then="cut"), "unknown"),
])  # fmt: skip
def test_a_response_is_what_it_says(reply: Reply, expected: str) -> None:
    outcome, upstream = polled(reply)
    assert kind(outcome) == expected
    assert "closed" not in upstream.store.states


def test_an_answer_without_end_is_given_up() -> None:
    assert kind(polled(done(PICTURE), answer_bytes_max=100)[0]) == "unknown"


def test_without_a_text_model_there_is_nothing_to_ask_for() -> None:
    outcome, upstream = polled(done(PICTURE), options={})
    assert isinstance(outcome, Failed)
    assert upstream.lines == []


def test_the_upstream_is_told_that_nobody_waits() -> None:
    async def told(options: dict[str, Any]) -> tuple[bool, list[str]]:
        async with Many(answer({"id": "resp_1", "status": "cancelled"})) as upstream:
            return await cancel(upstream.film(capability="image.generate", options=options), "resp_1"), upstream.lines

    assert asyncio.run(told(BACKGROUND)) == (True, ["POST /v1/responses/resp_1/cancel"])
    assert asyncio.run(told({})) == (False, [])
