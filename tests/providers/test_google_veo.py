"""What is sent to Google's Veo, and what becomes of its operations. The server is real."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bide.providers import google_keys, google_veo
from bide.providers.base import Failed, Input, Outcome, Pending, Progress, Provider, Source, Succeeded
from bide.providers.google_veo import poll, submit

from .asked import MP4, NONSENSE, PAGE, Many, kind
from .upstream import KEY, PNG, PNG64, Reply, answer, given, run

NAME = "projects/p/locations/us-central1/publishers/google/models/veo-3.1-generate-001/operations/op-1"
AGENT = {"project": "p"}
DEVELOPER = {"shape": "developer"}
MP464 = base64.b64encode(MP4).decode()


def submitted(reply: Reply, **call: Any) -> tuple[Outcome, Many]:
    async def work() -> tuple[Outcome, Many]:
        async with Many(reply) as upstream:
            outcome = await submit(upstream.film(**{"options": AGENT, "model": "veo-3.1-generate-001", **call}))
            assert len(upstream.lines) <= 1
            return outcome, upstream

    return run(work())


def polled(reply: Reply, name: str = NAME, *, bytes_max: int | None = None, **call: Any) -> tuple[Outcome, Many]:
    async def work() -> tuple[Outcome, Many]:
        async with Many(reply) as upstream:
            upstream.store.bytes_max = bytes_max or upstream.store.bytes_max
            outcome = await poll(upstream.film(**{"options": AGENT, **call}), name)
            assert "open" not in upstream.store.states
            return outcome, upstream

    return run(work())


def sent(**call: Any) -> Any:
    outcome, upstream = submitted(answer({"name": NAME}), **call)
    assert outcome == Pending(NAME, 10.0)
    return upstream.requests[0].json


def test_the_module_is_a_provider() -> None:
    provider: Provider = google_veo
    assert sorted(provider.CAPABILITIES) == ["video.extend", "video.generate"]
    assert not provider.TAKES_OUR_ID


# -- what is sent


def test_a_film_is_asked_for_at_the_agent_platform() -> None:
    outcome, upstream = submitted(
        answer({"name": NAME}), action="text2video", aspect_ratio="9:16", resolution="1080p", seed=7,
        negative_prompt="rain", generate_audio=True, translation=True,
        options={"project": "p", "location": "europe-west4", "parameters": {"personGeneration": "allow_adult"}},
    )  # fmt: skip
    assert outcome == Pending(NAME, 10.0)
    assert upstream.lines == ["POST /v1/projects/p/locations/europe-west4/publishers/google/models/"
                              "veo-3.1-generate-001:predictLongRunning"]  # fmt: skip
    assert upstream.requests[0].json == {
        "instances": [{"prompt": "a boat"}],
        "parameters": {
            "sampleCount": 1, "durationSeconds": 8, "aspectRatio": "9:16", "resolution": "1080p", "seed": 7,
            "negativePrompt": "rain", "generateAudio": True, "personGeneration": "allow_adult",
        },
    }  # fmt: skip
    assert upstream.requests[0].headers["Authorization"] == f"Bearer {KEY}"
    assert upstream.requests[0].headers["Content-Length"] == str(len(upstream.requests[0].body))


@pytest.mark.parametrize(("options", "line"), [
    (DEVELOPER, "POST /v1/models/veo:predictLongRunning"),
    ({}, "POST /v1/publishers/google/models/veo:predictLongRunning"),
])  # fmt: skip
def test_an_api_key_goes_into_its_own_header_alone(options: dict[str, Any], line: str) -> None:
    _, upstream = submitted(answer({"name": "models/veo/operations/1"}), options=options, model="veo")
    assert upstream.lines == [line]
    assert upstream.requests[0].headers["x-goog-api-key"] == KEY
    assert "Authorization" not in upstream.requests[0].headers


def test_a_model_of_the_callers_is_one_part_of_the_path() -> None:
    _, upstream = submitted(answer({"name": NAME}), model="../../x?y#z")
    assert upstream.lines == ["POST /v1/projects/p/locations/us-central1/publishers/google/models/"
                              "..%2F..%2Fx%3Fy%23z:predictLongRunning"]  # fmt: skip


def pictures(*names: str) -> tuple[Input, ...]:
    return tuple(given(name, PNG) for name in names)


FILE = {"bytesBase64Encoded": PNG64, "mimeType": "image/png"}
ASSET = {"image": FILE, "referenceType": "asset"}


@pytest.mark.parametrize(("names", "request_fields", "expected"), [
    (("image_urls",), {"action": "image2video"}, {"image": FILE}),
    (("image_urls", "image_urls"), {"action": "image2video"}, {"image": FILE, "lastFrame": FILE}),
    (("start_image_url", "end_image_url"), {}, {"image": FILE, "lastFrame": FILE}),
    (("end_image_url",), {}, {"lastFrame": FILE}),
    (("image_urls", "image_urls"), {"action": "ingredients2video"}, {"referenceImages": [ASSET, ASSET]}),
    (("image_urls",) * 4, {}, {"referenceImages": [ASSET] * 3}),
    (("image_url", "reference_image_urls"), {}, {"image": FILE, "referenceImages": [ASSET]}),
])  # fmt: skip
def test_pictures_are_sent_as_what_they_are_for(
    names: tuple[str, ...], request_fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert sent(inputs=pictures(*names), **request_fields)["instances"] == [{"prompt": "a boat", **expected}]


@pytest.mark.parametrize(("request_fields", "expected"), [
    ({"duration": 15, "size": "small", "orientation": "portrait"}, (8, "9:16", "720p")),
    ({"duration": 4, "size": "1792x1024"}, (4, "16:9", "1080p")),
    ({"duration": 5, "aspect_ratio": "1:1", "mode": "4k"}, (6, "16:9", "4k")),
    ({"duration": "4", "resolution": "480p", "aspect_ratio": "3:4"}, (4, "9:16", "720p")),
    ({"duration": -1, "resolution": 7, "aspect_ratio": "x"}, (8, "16:9", None)),
])  # fmt: skip
def test_what_other_services_call_it_becomes_what_the_model_makes(
    request_fields: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    parameters = sent(**request_fields)["parameters"]
    assert (parameters["durationSeconds"], parameters["aspectRatio"], parameters.get("resolution")) == expected


def test_an_earlier_film_is_made_longer() -> None:
    files = (given("thumbnail", PNG), given("video", MP4, "a.mp4", "video/mp4"))
    sources = {"video_id": (Source("item-1", "videos", "video", {}, files),)}
    body = sent(capability="video.extend", sources=sources, prompt="it sails on")
    assert body == {
        "instances": [{"prompt": "it sails on", "video": {"bytesBase64Encoded": MP464, "mimeType": "video/mp4"}}],
        "parameters": {"sampleCount": 1},
    }  # fmt: skip


@pytest.mark.parametrize("call", [
    {"action": "get1080p"}, {"resolution": "gif"}, {"capability": "video.extend"}, {"action": "extend"},
])  # fmt: skip
def test_what_it_cannot_do_is_refused_unasked_so_that_another_channel_may(call: dict[str, Any]) -> None:
    outcome, upstream = submitted(answer({"name": NAME}), **call)
    assert (kind(outcome), upstream.lines) == ("bad_request channel", [])


# -- service accounts


def key_file(private: rsa.RSAPrivateKey) -> str:
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return json.dumps({"type": "service_account", "client_email": "me@p.test", "private_key": pem,
                       "private_key_id": "k1", "project_id": "from-the-file"}, indent=1)  # fmt: skip


def test_a_service_account_signs_its_own_token() -> None:
    private = rsa.generate_private_key(65537, 2048)
    key = key_file(private)

    async def work() -> Many:
        async with Many(answer({"name": NAME})) as upstream:
            assert kind(await submit(upstream.film(options={}, key=key))) == "pending"
            return upstream

    upstream = run(work())
    assert "/projects/from-the-file/locations/us-central1/" in upstream.lines[0]
    token = upstream.requests[0].headers["Authorization"].removeprefix("Bearer ")
    text, _, signature = token.rpartition(".")
    private.public_key().verify(unplain(signature), text.encode(), PKCS1v15(), SHA256())
    header, claims = (json.loads(unplain(part)) for part in text.split("."))
    assert header == {"alg": "RS256", "typ": "JWT", "kid": "k1"}
    assert claims["iss"] == claims["sub"] == "me@p.test"
    assert claims["scope"] == "https://www.googleapis.com/auth/cloud-platform"
    assert claims["exp"] - claims["iat"] == 3600


def unplain(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize("key", [
    "{", "{}", '{"client_email":"a","private_key":"b"}', '{"client_email":1,"private_key":2}',
])  # fmt: skip
def test_a_key_file_that_is_none_is_the_channels_fault_and_nothing_is_asked(key: str) -> None:
    async def work() -> None:
        async with Many(answer({"name": NAME})) as upstream:
            call = upstream.film(options=AGENT, key=key)
            outcome = await submit(call)
            assert isinstance(outcome, Failed)
            assert (kind(outcome), outcome.cool_s, upstream.lines) == ("api_error channel", 3600, [])
            assert kind(await poll(call, NAME)) == "unknown"

    run(work())


def test_a_token_is_signed_again_every_quarter_of_an_hour() -> None:
    key = key_file(rsa.generate_private_key(65537, 2048))
    assert google_keys.signed(key, 900) == google_keys.signed(key, 900) != google_keys.signed(key, 1800)


# -- what is answered to a submission


def google(code: int, status: str, message: str) -> Reply:
    return Reply(code, json.dumps({"error": {"code": code, "message": message, "status": status}}).encode())


@pytest.mark.parametrize(("reply", "expected"), [
    (google(400, "INVALID_ARGUMENT", "Unsupported duration"), "bad_request task"),
    (google(400, "INVALID_ARGUMENT", "The prompt violates our usage policy"), "forbidden task"),
    (google(401, "UNAUTHENTICATED", "Request had invalid authentication credentials."), "api_error channel"),
    (google(403, "PERMISSION_DENIED", "Permission denied on resource project p"), "api_error channel"),
    (google(404, "NOT_FOUND", "Publisher Model `veo-9` is not found."), "api_error channel"),
    (google(429, "RESOURCE_EXHAUSTED", "Quota exceeded for requests per minute."), "too_many_requests channel"),
    (google(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, check billing"), None),
    (google(500, "INTERNAL", "Internal error encountered."), "api_error channel"),
    (google(503, "UNAVAILABLE", "The service is currently unavailable."), "api_error channel"),
    (Reply(502, b"<html>Bad gateway</html>"), "unknown"),
    (Reply(504), "unknown"),
    (Reply(then="reset"), "unknown"),
    (Reply(302, b"", {"location": "/elsewhere"}), "api_error channel"),
    (answer({"error": {"code": 3, "message": "bad"}}), "bad_request task"),
    (answer({"name": "https://elsewhere.test/operations/1"}), "unknown"),
    (answer({"name": "projects/../operations/1"}), "unknown"),
    (answer({"name": "//elsewhere.test/operations/1"}), "unknown"),
    (answer({"name": "models/veo"}), "unknown"),
])  # fmt: skip
def test_a_submission_is_answered_once(reply: Reply, expected: str | None) -> None:
    outcome, upstream = submitted(reply)
    assert len(upstream.lines) == 1
    assert expected is None or kind(outcome) == expected
    assert KEY not in repr(outcome)
    assert kind(outcome) not in ("pending", "succeeded")


@pytest.mark.parametrize("reply", NONSENSE)
def test_nonsense_after_a_submission_leaves_its_outcome_open(reply: Reply) -> None:
    assert kind(submitted(reply)[0]) == "unknown"


def test_a_connection_that_is_refused_was_no_submission() -> None:
    async def work() -> Outcome:
        async with Many(answer({})) as upstream:
            call = upstream.film(options=AGENT)
            await upstream._runner.cleanup()
            return await submit(call)

    outcome = run(work())
    assert isinstance(outcome, Failed)
    assert (outcome.scope, outcome.retryable) == ("channel", True)


def test_secrets_in_an_error_are_shown_to_nobody() -> None:
    outcome, _ = submitted(google(400, "INVALID_ARGUMENT", f"bad key={KEY} for AIzaSyA12345678901234567890123"))
    assert KEY not in repr(outcome)
    assert "AIza" not in repr(outcome)


# -- what is answered to a poll


def test_an_operation_at_the_agent_platform_is_asked_for_with_a_post() -> None:
    outcome, upstream = polled(answer({"name": NAME}), model="another-by-now")
    assert outcome == Pending(NAME, 10.0)
    assert upstream.lines == ["POST /v1/projects/p/locations/us-central1/publishers/google/models/"
                              "veo-3.1-generate-001:fetchPredictOperation"]  # fmt: skip
    assert upstream.requests[0].json == {"operationName": NAME}


def test_an_old_operation_is_asked_for_less_often() -> None:
    outcome, _ = polled(answer({"name": NAME, "done": False}), asked_s_ago=100)
    assert outcome == Pending(NAME, 20.0)


def test_the_id_stays_that_of_the_submission_and_progress_is_told() -> None:
    changed = answer({"name": "models/x/operations/other", "done": False, "metadata": {"progressPercent": 40}})
    outcome, upstream = polled(changed, watched=True)
    assert outcome == Pending(NAME, 10.0)
    assert upstream.reports == [Progress(40)]


def test_a_film_in_the_answer_goes_into_storage_in_pieces() -> None:
    videos = [{"bytesBase64Encoded": MP464, "mimeType": "video/mp4"}]
    body = json.dumps({"name": NAME, "done": True, "response": {"raiMediaFilteredCount": 0, "videos": videos}})
    pieces = [body[at : at + 97].encode() for at in range(0, len(body), 97)]
    outcome, upstream = polled(Reply(200, pieces), duration=6)
    assert isinstance(outcome, Succeeded)
    (item,) = outcome.items
    assert [asset.role for asset in item.assets] == ["video"]
    assert upstream.store.of(item.assets[0].stored) == MP4
    assert outcome.units == item.fields["seconds"] == 6


def done(response: Any) -> Reply:
    return answer({"name": NAME, "done": True, "response": response})


def test_a_film_at_an_address_is_fetched_with_the_key() -> None:
    uri = "https://generativelanguage.googleapis.com/v1beta/files/1:download?alt=media"
    reply = done({"generateVideoResponse": {"generatedSamples": [{"video": {"uri": uri}}]}})
    outcome, upstream = polled(reply, "models/veo/operations/1", options=DEVELOPER)
    assert upstream.lines == ["GET /v1/models/veo/operations/1"]
    assert isinstance(outcome, Succeeded)
    assert outcome.items[0].assets[0].url == uri
    assert outcome.items[0].assets[0].headers == {"Authorization": "", "x-goog-api-key": KEY}


@pytest.mark.parametrize(("reply", "expected"), [
    (done({"raiMediaFilteredCount": 1, "raiMediaFilteredReasons": ["violence"]}), "forbidden task"),
    (done({"generateVideoResponse": {"raiMediaFilteredCount": 1}}), "forbidden task"),
    (done({"videos": [{"gcsUri": "gs://b/o"}]}), "api_error channel"),
    (done({"videos": [{"bytesBase64Encoded": "aGVsbG8="}]}), "api_error task"),
    (done({"videos": [{"bytesBase64Encoded": ""}]}), "api_error channel"),
    (done({"generatedSamples": [{"video": {"uri": "file:///etc/passwd"}}]}), "api_error channel"),
    (done({"videos": "x", "generatedSamples": {}, "raiMediaFilteredCount": []}), "api_error channel"),
    (done(None), "api_error channel"),
    (answer({"done": True, "error": {"code": 3, "message": "no"}}), "bad_request task"),
    (answer({"done": True, "error": {"code": 4, "message": "late"}}), "timeout channel"),
    (answer({"done": True, "error": {"code": 7, "message": "no"}}), "api_error channel"),
    (answer({"done": True, "error": {"code": 8, "message": "busy"}}), "too_many_requests channel"),
    (answer({"done": True, "error": {"code": 13, "message": "oops"}}), "api_error channel"),
    (answer({"done": "yes"}), "pending"),
    (answer({"status": "ELSEWHERE"}), "pending"),
    (google(404, "NOT_FOUND", "operation not found"), "api_error task"),
    (google(401, "UNAUTHENTICATED", "expired"), "unknown"),
    (google(500, "INTERNAL", "oops"), "unknown"),
    (Reply(200, b'{"done": true, "response": {"videos": [{"bytesBase64Encoded": "' + MP464.encode(), then="cut"),
     "unknown"),
    (Reply(then="reset"), "unknown"), (PAGE, "unknown"),
])  # fmt: skip
def test_an_operation_is_what_it_says(reply: Reply, expected: str) -> None:
    outcome, upstream = polled(reply)
    assert kind(outcome) == expected
    assert len(upstream.lines) == 1
    assert "closed" not in upstream.store.states


@pytest.mark.parametrize("reply", NONSENSE)
def test_nonsense_never_ends_a_film(reply: Reply) -> None:
    assert kind(polled(reply)[0]) in ("unknown", "pending")


def test_a_film_that_is_too_large_and_an_answer_without_end_are_given_up() -> None:
    reply = done({"videos": [{"bytesBase64Encoded": MP464}]})
    assert kind(polled(reply, bytes_max=100)[0]) == "api_error task"
    assert kind(polled(reply, answer_bytes_max=100)[0]) == "unknown"


@pytest.mark.parametrize("name", ["https://elsewhere.test/operations/1", "a/../operations/1", "x", "/operations/1"])
def test_an_id_that_is_no_name_of_an_operation_is_never_asked_for(name: str) -> None:
    outcome, upstream = polled(answer({}), name)
    assert (kind(outcome), upstream.lines) == ("api_error task", [])
