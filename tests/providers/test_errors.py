"""Each row of the table of upstream errors, in each shape that is in use."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from bide.providers import errors, redact, words
from bide.providers.base import Failed, Unknown

KEY = "sk-proj-Zx81abcdEFGH"


def openai(
    message: str, code: Any = None, kind: str | None = "invalid_request_error", param: str | None = None
) -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}}).encode()


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


SAFETY = "Your request was rejected by the safety system. safety_violations=[violence]."
FINAL, CHANNEL, AGAIN = ("task", False), ("channel", False), ("channel", True)

REFUSALS: list[tuple[str, int, bytes, str, tuple[str, bool]]] = [
    ("moderation", 400, openai(SAFETY, "moderation_blocked", "image_generation_user_error"), "forbidden", FINAL),
    ("older moderation", 400, openai("No.", "content_policy_violation"), "forbidden", FINAL),
    ("responses moderation", 400, openai("No.", "image_content_policy_violation"), "forbidden", FINAL),
    ("invalid prompt", 400, openai("No.", "invalid_prompt"), "forbidden", FINAL),
    ("moderation through a proxy", 400, openai(SAFETY, "400", "image_generation_user_error"), "forbidden", FINAL),
    ("azure filter", 400, body(error={"code": "contentFilter", "message": "Filtered."}), "forbidden", FINAL),
    ("azure inner error", 400, body(error={"code": "BadRequest", "message": "No.", "innererror": {
        "code": "ResponsibleAIPolicyViolation"}}), "forbidden", FINAL),
    ("gateway like ours", 403, body(success=False, error={"code": "forbidden", "message": "No."}),
     "forbidden", FINAL),
    ("nsfw at run time", 500, body(detail="NSFW content detected. Try another prompt."), "forbidden", FINAL),
    ("bad size", 400, openai("Invalid size.", "invalid_value", param="size"), "bad_request", FINAL),
    ("no code at all", 400, openai("Invalid size."), "bad_request", FINAL),
    ("fields of fastapi", 422, body(detail=[{"loc": ["body", "n"], "msg": "Input should be 1", "type": "int"}]),
     "bad_request", FINAL),
    ("invalid image", 400, openai("Broken file.", "invalid_image_format"), "bad_request", FINAL),
    ("image too large", 400, openai("Too large.", "image_too_large"), "bad_request", FINAL),
    ("moderation field unknown", 400, openai("Unknown parameter: 'moderation'."), "bad_request", FINAL),
    ("moderation field wrong", 400, openai("moderation must be low", param="moderation"), "bad_request", FINAL),
    ("size of a local model", 500, body(detail="`height` has to be divisible by 8"), "bad_request", FINAL),
    ("body too large", 413, b"<html><head><title>413 Request Entity Too Large</title></head></html>",
     "bad_request", FINAL),
    ("google argument", 400, body(error={"code": 400, "message": "n", "status": "INVALID_ARGUMENT"}),
     "bad_request", FINAL),
    ("model gone", 404, openai("The model `x` does not exist", "model_not_found"), "api_error", CHANNEL),
    ("model retired", 410, body(error="This model is no longer available"), "api_error", CHANNEL),
    ("model as a value", 400, openai("Invalid value: 'dall-e-3'.", "invalid_value", param="model"),
     "api_error", CHANNEL),
    ("model in the text", 400, openai("The model `dall-e-2` has been deprecated."), "api_error", CHANNEL),
    ("no deployment", 404, body(error={"code": "DeploymentNotFound", "message": "No."}), "api_error", CHANNEL),
    ("no route", 404, b'{"detail":"Not Found"}', "api_error", CHANNEL),
    ("wrong key", 401, openai(f"Incorrect API key provided: {KEY}.", "invalid_api_key"), "api_error", CHANNEL),
    ("no code for the key", 401, openai("No."), "api_error", CHANNEL),
    ("not verified", 403, openai("Your organization must be verified to use the model."), "api_error", CHANNEL),
    ("azure firewall", 403, body(error={"code": "Forbidden", "message": "Firewall."}), "api_error", CHANNEL),
    ("google key", 400, body(error={"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}),
     "api_error", CHANNEL),
    ("gateway token", 401, body(error={"code": "token_expired", "message": "Old."}), "api_error", CHANNEL),
    ("gateway token off", 403, body(error={"code": "disabled", "message": "Off."}), "api_error", CHANNEL),
    ("no money", 429, openai("You exceeded your current quota.", "insufficient_quota", "insufficient_quota"),
     "api_error", CHANNEL),
    ("no money, code lost", 429, openai("You exceeded your current quota.", "429", "throttling_error_"),
     "api_error", CHANNEL),
    ("hard limit", 400, openai("Billing hard limit has been reached.", "billing_hard_limit_reached"),
     "api_error", CHANNEL),
    ("payment required", 402, b"", "api_error", CHANNEL),
    ("gateway used up", 403, body(error={"code": "used_up", "message": "Empty."}), "api_error", CHANNEL),
    ("rate", 429, openai("Rate limit reached.", "rate_limit_exceeded", "requests"), "too_many_requests", AGAIN),
    ("rate through a proxy", 429, openai("Slow.", "429", "throttling_error"), "too_many_requests", AGAIN),
    ("rate of google", 429, body(error={"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "n"}),
     "too_many_requests", AGAIN),
    ("busy", 409, body(detail="Already running a prediction"), "too_many_requests", AGAIN),
    ("server error with a body", 500, openai("The server had an error.", None, "server_error"), "api_error", AGAIN),
    ("starting up", 503, b"", "api_error", AGAIN),
    ("slow request", 408, b"", "api_error", AGAIN),
    ("origin down", 521, b"<html><title>Web server is down</title></html>", "api_error", AGAIN),
    ("redirect", 301, b"", "api_error", CHANNEL),
    ("method not allowed", 405, b"", "api_error", CHANNEL),
    ("odd refusal", 418, b"", "api_error", CHANNEL),
    ("moderation on a lost status", 502, openai(SAFETY, "moderation_blocked"), "forbidden", FINAL),
]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "said", "code", "fault"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS]
)
def test_a_refusal_is_read(status: int, said: bytes, code: str, fault: tuple[str, bool]) -> None:
    outcome = errors.from_answer(status, {"x-request-id": "req_7"}, said, key=KEY)
    assert isinstance(outcome, Failed)
    assert (outcome.code, (outcome.scope, outcome.retryable)) == (code, fault)
    assert outcome.message
    assert outcome.status == status
    assert outcome.detail.startswith(f"HTTP {status}; x-request-id: req_7")
    assert KEY not in outcome.message + outcome.detail


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (500, b""), (500, b"Internal Server Error"), (500, b"<html><title>500</title></html>"), (502, b""),
        (502, openai("bad gateway", 502, "cf_bad_gateway")), (504, b"upstream request timeout"),
        (504, body(error={"code": "timeout", "message": "Late."})), (524, b"<html>"), (599, b""),
        (408, body(error={"message": "litellm.Timeout: timed out", "type": None, "code": "408"})),
        (500, body(error={"message": "Request timed out.", "type": "server_error"})),
    ],
)  # fmt: skip
def test_an_answer_that_may_hide_finished_work_is_unknown(status: int, said: bytes) -> None:
    outcome = errors.from_answer(status, {"cf-ray": "8f"}, said)
    assert isinstance(outcome, Unknown)
    assert outcome.status == status
    assert outcome.message == errors.NOT_KNOWN
    assert "cf-ray: 8f" in outcome.detail


@pytest.mark.parametrize(
    ("status", "seconds"),
    [(404, 3600), (401, 3600), (402, 900), (429, 5), (400, 0), (503, 0), (301, 3600)],
)
def test_a_channel_rests_as_long_as_its_fault_lasts(status: int, seconds: float) -> None:
    outcome = errors.from_answer(status, {}, b"")
    assert isinstance(outcome, Failed)
    assert outcome.cool_s == seconds


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (body(error="Plain words"), "Plain words"),
        (body(error="Bad Request", message="The prompt is empty", statusCode=400), "The prompt is empty"),
        (body(detail="Plain words"), "Plain words"),
        (body(detail={"error": "Inner words"}), "Inner words"),
        (body(detail=[{"loc": ["body", "n"], "msg": "wrong"}, {"loc": [], "msg": "odd"}, "x"]), "n: wrong; odd; x"),
        (body(success=False, error={"code": "bad_request", "message": "Wrong size"}), "Wrong size"),
        (body(code=4, description="Wrong words"), "Wrong words"),
        (body(code=4, message="Wrong words"), "Wrong words"),
        (body(title="Bad input", detail="prompt is required", status=422), "prompt is required"),
        (body(title="Bad input", status=422), "Bad input"),
        (body(errors=[{"code": 7000, "message": "No route"}]), "No route"),
        (json.dumps([{"error": {"code": 400, "message": "In a list"}}]).encode(), "In a list"),
        (b'"just a string"', "just a string"),
        (b"<!doctype html><html><head><title>\n Oops  page </title><body>x</body></html>", "Oops page"),
        (b"<h1>No title</h1>", "No title"),
        (b"plain text", "plain text"),
        (b"\xff\xfe{", "��{"),
        (b"", "The upstream answered HTTP 400."),
        (b"{}", "{}"),
        (b"null", "null"),
        (openai("Wrong.", param="size"), "Wrong. (field size)"),
        (openai("Wrong size.", param="size"), "Wrong size."),
    ],
)
def test_every_shape_is_understood(said: bytes, message: str) -> None:
    outcome = errors.from_answer(400, {}, said)
    assert isinstance(outcome, Failed)
    assert outcome.message == message


@pytest.mark.parametrize(
    ("headers", "message", "seconds"),
    [
        ({"retry-after-ms": "1500", "retry-after": "9"}, "", 1.5),
        ({"retry-after": "7"}, "", 7),
        ({"retry-after": "7.5"}, "", 7.5),
        ({"retry-after": "3600"}, "", 120),
        ({"retry-after": "-5"}, "", None),
        ({"retry-after": "soon"}, "", None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, "", 30),
        ({"retry-after": "Wed, 21 Oct 2026 07:27:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, "", 0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, "", None),
        ({"x-ratelimit-reset-requests": "6m0s"}, "", 120),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "20ms"}, "", 1),
        ({"x-ratelimit-reset-requests": "90s", "x-ratelimit-remaining-requests": "3",
          "x-ratelimit-reset-tokens": "2s", "x-ratelimit-remaining-tokens": "0"}, "", 2),
        ({}, "Rate limit reached. Please try again in 1m2.5s.", 62.5),
        ({}, "Please try again in 250ms.", 0.25),
        ({}, "Slow down.", None),
        ({"retry-after": "1" * 400}, "", None),
    ],
)  # fmt: skip
def test_the_wait_is_read_wherever_it_stands(headers: dict[str, str], message: str, seconds: float | None) -> None:
    assert words.wait_s(headers, message) == seconds
    outcome = errors.from_answer(429, headers, openai(message, "rate_limit_exceeded"))
    assert isinstance(outcome, Failed)
    assert outcome.after_s == seconds
    assert outcome.cool_s == (5.0 if seconds is None else seconds)


@pytest.mark.parametrize(
    "hidden",
    [
        "sk-proj-abcDEF1234567890", "sk-abc*****wxyz", "r8_abcdefghijklmnop", "AIzaSyA1234567890abcdefghijklm",
        "eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.c2lnbmF0dXJl", "org-A1b2C3d4E5f6", "proj_9aBcDeFg12", "ada@example.org",
        "12345678-1234-1234-1234-1234567890ab",
    ],
)  # fmt: skip
def test_keys_and_accounts_are_taken_out(hidden: str) -> None:
    text = redact.for_caller(f"Refused for subscription {hidden}, see the manual")
    assert hidden not in text
    assert text.startswith("Refused for")
    assert text.endswith("see the manual")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abc.DEF-123456 was refused", "Authorization: Bearer [removed] was refused"),
        ("Incorrect API key provided: plain0key.", "Incorrect API key provided: [removed]"),
        ("see https://blob.example/a.png?sig=abc%2F&se=1 now", "see https://blob.example/a.png?[removed] now"),
        ("see https://me:pw@host.example/a now", "see https://host.example/a now"),
        ("see https://host.example/a.png now", "see https://host.example/a.png now"),
        ("organization 123456789 is over its limit", "organization [removed] is over its limit"),
        ("size 1024x1024, task-oriented user-friendly", "size 1024x1024, task-oriented user-friendly"),
        ("two\r\n\x00lines", "two lines"),
        ("my own key hunter2hunter2", "my own key [removed]"),
    ],
)
def test_a_message_for_the_caller_is_clean(text: str, shown: str) -> None:
    assert redact.for_caller(text, "hunter2hunter2") == shown


def test_long_words_are_cut_for_the_caller_and_kept_for_the_operator() -> None:
    long = "too many words " * 1000
    outcome = errors.from_answer(400, {}, openai(long))
    assert isinstance(outcome, Failed)
    assert len(outcome.message) == redact.MESSAGE_MAX
    assert len(outcome.detail) == errors.DETAIL_MAX
    hostile = errors.from_answer(400, {}, (b"http://" + b"a@" * 30_000))
    assert isinstance(hostile, Failed)


def test_what_speaks_of_our_account_is_not_told_to_the_caller() -> None:
    outcome = errors.from_answer(429, {}, openai("Jane's plan exceeded your current quota", "insufficient_quota"))
    assert isinstance(outcome, Failed)
    assert "Jane" not in outcome.message
    assert "Jane" in outcome.detail


@pytest.mark.parametrize(
    ("said", "numbers", "code", "scope"),
    [
        (words.Words("n", number=3), errors.GRPC, "bad_request", "task"),
        (words.Words("n", number=4), errors.GRPC, "timeout", "channel"),
        (words.Words("n", number=7), errors.GRPC, "api_error", "channel"),
        (words.Words("n", number=16), errors.GRPC, "api_error", "channel"),
        (words.Words("n", number=8), errors.GRPC, "too_many_requests", "channel"),
        (words.Words("n", number=4), errors.MIDJOURNEY, "bad_request", "task"),
        (words.Words("n", number=23), errors.MIDJOURNEY, "too_many_requests", "channel"),
        (words.Words("n", number=24), errors.MIDJOURNEY, "forbidden", "task"),
        (words.Words("Banned prompt detected"), None, "forbidden", "task"),
        (words.Words("Image denied by moderator"), None, "forbidden", "task"),
        (words.Words("n", codes=("generation_timeout",)), None, "timeout", "channel"),
        (words.Words("The task timed out"), None, "timeout", "channel"),
        (words.Words("n", number=429), None, "too_many_requests", "channel"),
        (words.Words("n", number=400), None, "bad_request", "task"),
        (words.Words("n", kind="invalid_request_error"), None, "bad_request", "task"),
        (words.Words("n", kind="server_error"), None, "api_error", "channel"),
        (words.Words("something broke"), None, "api_error", "channel"),
        (words.Words(), None, "api_error", "channel"),
    ],
)  # fmt: skip
def test_a_failure_told_in_a_document_is_read(said: words.Words, numbers: Any, code: str, scope: str) -> None:
    outcome = errors.from_words(said, numbers=numbers)
    assert (outcome.code, outcome.scope) == (code, scope)
    assert outcome.message


def test_every_rule_has_a_code_of_the_wire() -> None:
    tables = (errors.CODES, errors.TYPES, errors.STATUSES, errors.GRPC, errors.MIDJOURNEY)
    rules = {rule for table in tables for rule in table.values()} | {row[0] for row in errors.PATTERNS}
    assert {rule.code for rule in rules} <= {"forbidden", "bad_request", "api_error", "too_many_requests", "timeout"}
    assert all(code == code.lower() or code == "Forbidden" for code in errors.CODES)


# -- hostile bodies

HOSTILE = [
    "<title>", "<title", "<", "<a", "eyJ-", "eyJ.a", "eyJaaaaaa-", "a", "a@", "a@a.", "%.", "sk-", "sk-a ", "AIza-",
    "bearer ", "secret:", "password = ", "api key ", "org-", "org-a", "account ", "users id 12345678-", "http://",
    "http://a@", "http://a?", "try again in ", "try again in 1s", "1m", "violat", "model ", " ", "\0", "{", "[",
    "\\", "a_",
]  # fmt: skip


def patterns() -> Iterator[str]:
    for module in (words, redact):
        for value in vars(module).values():
            for one in value if isinstance(value, tuple) else (value,):
                if isinstance(one, re.Pattern):
                    yield one.pattern


def test_no_repetition_in_a_pattern_can_be_tried_again_and_again() -> None:
    """It has a bound of at most 500, or is possessive; so a long text costs one pass and not one per character."""
    found = list(patterns())
    assert len(found) > 10
    for pattern in found:
        plain = re.sub(r"\\.", "x", pattern)
        plain = re.sub(r"\[[^\]]*\]", "x", plain)
        assert not re.search(r"[*+](?![+])", re.sub(r"([}*+?])\+", r"\1", plain)), pattern
        for low, high, possessive in re.findall(r"\{(\d+)(?:,(\d*))?\}(\+?)", plain):
            assert possessive or int(high or low) <= 500, pattern
        assert not re.search(r"\{\d+,\}(?!\+)", plain), pattern


@pytest.mark.parametrize("shape", HOSTILE)
@pytest.mark.parametrize("before", ["", "<", "<title>", '{"error":"', "bearer ", "http://"])
def test_a_hostile_body_of_64_kib_becomes_a_short_message(shape: str, before: str) -> None:
    said = (before + shape * 65_536)[:65_536]
    document = json.dumps({"error": {"message": said, "code": said}}).encode()
    for text in (said.encode(), said.encode() + b'"}', document):
        outcome = errors.from_answer(400, {"retry-after": said[:8_000]}, text, key=KEY)
        assert isinstance(outcome, Failed)
        assert len(outcome.message) <= redact.MESSAGE_MAX
        assert len(outcome.detail) <= errors.DETAIL_MAX


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b"<html><TITLE lang=en>Up\xc4\xb0 there</TITLE>" + b"<p>x" * 9_000, "Up\u0130 there"),
        (b"<html>" + b" " * 5_000 + b"<title>Too far down</title>", "The upstream answered HTTP 400."),
        (b"<html><title>Cut off", "Cut off"),
        (b'{"code":' + b"1" * 60_000 + b"}", '{"code":' + "1" * 192),
        (b'{"detail":' * 300 + b'"deep"' + b"}" * 300, '{"detail":' * 20),
        (b'{"detail":[{"loc":5,"msg":"wrong"}]}', "wrong"),
    ],
    ids=["title", "far", "cut", "number", "deep", "loc"],
)
def test_odd_bodies_are_read_as_far_as_they_go(said: bytes, message: str) -> None:
    outcome = errors.from_answer(400, {}, said)
    assert isinstance(outcome, Failed)
    assert outcome.message == message


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("jwt-eyJhbGciOiJIUzI1NiJ9 was refused", "jwt-[removed] was refused"),
        ("sk-" + "a" * 3_000 + " was refused", "[removed] was refused"),
        ("at https://a.example/x?k=1, https://b.example/y#z and http://u:p@c.example?q=1",
         "at https://a.example/x?[removed] https://b.example/y?[removed] and http://c.example?[removed]"),
        ("at https://a.example/? and https://b.example", "at https://a.example/? and https://b.example"),
        ("mail " + "a" * 300 + "@example.org now", "mail [removed] now"),
        ("it is user-a1b2c3d4 or user-friendliest", "it is [removed] or user-friendliest"),
    ],
)  # fmt: skip
def test_long_and_odd_secrets_are_taken_out_whole(text: str, shown: str) -> None:
    assert redact.for_caller(text) == shown
