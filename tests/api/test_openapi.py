"""`/openapi.json` is valid, says the same as the code that checks bodies, and the contract helper sees deviations."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from bide.api.answers import encode
from bide.api.openapi import document
from bide.catalog import shape
from bide.catalog.load import Operation, load
from bide.errors import ERRORS, BadRequest
from bide.settings import Settings
from tests.catalog.bodies import EDITS_REFUSED, EDITS_TAKEN, REFUSED, TAKEN
from tests.contract import check_answer

CATALOG = load()
DOCUMENT = document(CATALOG, Settings(public_url="https://gateway.example.com/"), "1.2.3")
GENERATE = CATALOG.by_path["/openai/images/generations"]
EDIT = CATALOG.by_path["/openai/images/edits"]
TASK, TRACE = "0190c0a0-0000-7000-8000-000000000001", "order-7731"
HEADERS = {"content-type": "application/json", "x-trace-id": TRACE}


def schema_accepts(name: str, body: dict[str, Any]) -> bool:
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    return Draft202012Validator(schema).is_valid(body)


def test_the_document_is_valid_openapi_and_json() -> None:
    OpenAPIV31SpecValidator(json.loads(json.dumps(DOCUMENT, allow_nan=False))).validate()
    assert DOCUMENT["info"]["version"] == "1.2.3"
    assert DOCUMENT["servers"] == [{"url": "https://gateway.example.com"}]
    assert "{" not in DOCUMENT["info"]["description"].replace('{"error": {"code", "message"}, "trace_id"}', "")


def test_every_path_of_the_gateway_is_described() -> None:
    ours = {"/files/{day}/{name}", "/healthz", "/readyz", "/metrics", "/openapi.json", "/llms.txt", "/docs"}
    assert set(DOCUMENT["paths"]) == {*CATALOG.by_path, *CATALOG.tasks_paths, *ours}


def test_every_schema_is_used_and_every_reference_leads_somewhere() -> None:
    text = json.dumps(DOCUMENT)
    for kind in ("schemas", "responses", "requestBodies", "headers"):
        for name in DOCUMENT["components"][kind]:
            assert f'"#/components/{kind}/{name}"' in text, name


def test_every_field_is_described_in_every_body_that_takes_it() -> None:
    for operation in CATALOG.by_path.values():
        name = operation.key.replace("/", "_").replace("-", "_")
        described = DOCUMENT["components"]["schemas"][f"{name}_request"]["properties"]
        aliases = {alias for field in operation.fields.values() for alias in field.aliases}
        assert set(described) == {*operation.fields, *aliases}
        assert all("description" in one or one == {"type": "null"} for one in described.values())
    form = DOCUMENT["components"]["schemas"]["openai_images_edits_form"]["properties"]
    assert set(form) == {*EDIT.fields, "image[]"}


def test_every_error_code_is_described_where_it_can_occur() -> None:
    described = DOCUMENT["paths"]["/openai/images/generations"]["post"]["responses"]
    assert set(described) == {"200", "400", "401", "403", "408", "413", "429", "500", "503", "504"}
    codes = {
        code
        for name, schema in DOCUMENT["components"]["schemas"].items() if name.startswith("error_")
        for code in schema["properties"]["error"]["properties"]["code"]["enum"]
    }  # fmt: skip
    assert codes == set(ERRORS)


BODIES = [(GENERATE, body) for body in TAKEN] + [(GENERATE, body) for body, _ in REFUSED]
BODIES += [(EDIT, body) for body, _ in EDITS_TAKEN] + [(EDIT, body) for body, _ in EDITS_REFUSED]
BODIES += [(EDIT, {"image": "https://example.com/a", **body}) for body in TAKEN if body.get("quality") is None]


@pytest.mark.parametrize(("operation", "body"), BODIES, ids=range(len(BODIES)))
def test_schema_and_check_agree_on_a_body(operation: Operation, body: dict[str, Any]) -> None:
    body = {"prompt": "a boat", **body}
    try:
        operation.check(body)
        taken = True
    except BadRequest as error:
        taken = False
        if "pixels in all" in str(error) or "is 1.0;" in str(error):
            return  # arithmetic is beyond a schema, and 1.0 is an integer to it
    assert schema_accepts(f"{operation.key.replace('/', '_')}_request", body) is taken


# -- answers


IMAGES = {"created": 1764000037, "data": [{"url": "https://f/1.png"}], "model": "gpt-image-1"}
STORED = shape.task_response(TASK, TRACE, IMAGES)
DONE = {
    "_id": "0" * 24, "id": TASK, "trace_id": TRACE, "type": "images_generations", "api_id": GENERATE.entry.api_id,
    "application_id": "a", "user_id": "u", "credential_id": "c", "created_at": 1764000000.125,
    "started_at": 1764000000.41, "finished_at": 1764000091.91, "duration": 91.785, "elapsed": 91.5,
    "request": {"prompt": "a boat"}, "response": STORED,
}  # fmt: skip
RUNNING = {k: v for k, v in DONE.items() if k not in ("finished_at", "duration", "elapsed")} | {"response": {}}
FAILED = DONE | {"response": shape.failure(TASK, TRACE, "task_failed", "No.")}
ERROR = {"error": {"code": "bad_request", "message": "`n` is 11."}, "trace_id": TRACE}

GOOD: list[tuple[str, str, int, dict[str, str], Any]] = [
    ("POST", "/openai/images/generations", 200, {}, shape.inline_answer(GENERATE, STORED)),
    ("POST", "/v1/images/edits", 200, {}, shape.accepted(TASK, TRACE)),
    ("POST", "/v1/openai/images/edits", 400, {}, ERROR),
    ("POST", "/v1/openai/images/edits", 429, {"retry-after": "3"},
     {"error": {"code": "too_many_requests", "message": "m"}, "trace_id": TRACE}),
    ("POST", "/openai/tasks", 200, {}, {}),
    ("POST", "/openai/tasks", 200, {}, DONE),
    ("POST", "/v1/openai/tasks", 200, {}, RUNNING),
    ("POST", "/v1/openai/tasks", 200, {}, FAILED),
    ("POST", "/openai/tasks", 200, {}, {"items": [DONE, RUNNING, FAILED], "count": 17}),
    ("POST", "/openai/tasks", 200, {}, {"items": [], "count": 0}),
    ("GET", "/healthz", 200, {}, {"status": "ok"}),
    ("GET", "/readyz?full=1", 200, {}, {"status": "ready"}),
    ("GET", "/readyz", 503, {}, {"error": {"code": "unavailable", "message": "m"}, "trace_id": TRACE}),
    ("GET", "/metrics", 200, {"content-type": "text/plain; version=0.0.4"}, b"# HELP x\n"),
    ("GET", "/openapi.json", 200, {}, DOCUMENT),
    ("GET", "/files/2026-01-02/00112233445566778899aabbccddeeff.png", 206, {"content-type": "image/png"}, b"\x89PNG"),
    ("GET", "/files/2026-01-02/00112233445566778899aabbccddeeff.png", 304, {}, b""),
    ("HEAD", "/files/2026-01-02/00112233445566778899aabbccddeeff.png", 200, {"content-type": "image/png"}, b""),
    ("GET", "/files/x/y", 404, {}, {"error": {"code": "not_found", "message": "m"}, "trace_id": TRACE}),
    ("GET", "/nothing", 404, {}, {"error": {"code": "no_api", "message": "m"}, "trace_id": TRACE}),
    ("HEAD", "/healthz", 200, {}, b""),
    ("GET", "/openai/tasks", 405, {}, {"error": {"code": "no_api", "message": "m"}, "trace_id": TRACE}),
    ("POST", "/openai/images/generations", 200, {"content-type": "text/event-stream; charset=utf-8"},
     b'event: image_generation.completed\ndata: {"type":"image_generation.completed","b64_json":"AA==",'
     b'"created_at":1,"size":"1x1","quality":"low","background":"auto","output_format":"png"}\n\ndata: [DONE]\n\n'),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "status", "headers", "body"), GOOD, ids=range(len(GOOD)))
def test_a_true_answer_is_described(
    method: str, path: str, status: int, headers: dict[str, str], body: Any
) -> None:
    raw = body if isinstance(body, bytes) else encode(body)
    check_answer(DOCUMENT, method, path, status, HEADERS | headers, raw)


BAD: list[tuple[str, str, int, dict[str, str], Any, str]] = [
    ("POST", "/openai/tasks", 200, {}, DONE | {"status": "done"}, "'status' was unexpected"),
    ("POST", "/openai/tasks", 200, {}, DONE | {"response": {}}, "non-empty"),
    ("POST", "/openai/tasks", 200, {}, RUNNING | {"response": STORED}, "/response: .* expected to be empty"),
    ("POST", "/openai/tasks", 200, {}, RUNNING | {"duration": 1.0}, "is a dependency of 'duration'"),
    ("POST", "/openai/tasks", 200, {}, {**DONE, "created_at": "now"}, "/created_at: 'now' is not of type 'number'"),
    ("POST", "/openai/tasks", 200, {}, {"items": [DONE | {"id": "x"}], "count": 1}, "/items/0/id: 'x' does not"),
    ("POST", "/openai/tasks", 404, {}, {}, "answered 404, which is not described"),
    ("POST", "/openai/images/generations", 200, {}, STORED, "'task_id' was unexpected"),
    ("POST", "/openai/images/generations", 200, {}, {"success": True, "trace_id": "t", "created": 1, "data": [{}]},
     "/data"),
    ("POST", "/openai/images/generations", 400, {}, {**ERROR, "success": False}, "'success' was unexpected"),
    ("POST", "/openai/images/generations", 401, {}, ERROR, "/error/code: 'bad_request' is not one of"),
    ("POST", "/openai/images/generations", 400, {"x-trace-id": ""}, ERROR, "header x-trace-id"),
    ("POST", "/openai/images/generations", 429, {}, ERROR, "without the header retry-after"),
    ("POST", "/openai/images/generations", 200, {"content-type": "text/html"}, b"<p>", "content type 'text/html'"),
    ("POST", "/openai/images/generations", 200, {}, b"<p>", "a body that is not JSON"),
    ("POST", "/openai/images/generations", 200, {"content-type": "text/event-stream"}, b'data: {"type":"x"}\n\n',
     "event: /"),
    ("HEAD", "/files/a/b", 200, {}, b"x", "with a body"),
    ("GET", "/files/a/b", 200, {"content-type": "text/html"}, b"x", "content type"),
    ("GET", "/nothing", 200, {}, {}, "not in the document: 404 is due"),
    ("GET", "/openai/tasks", 200, {}, {}, "not in the document: 405 is due"),
    ("HEAD", "/healthz", 200, {}, b"x", "with a body"),
    ("GET", "/nothing", 404, {}, {"detail": "Not Found"}, "'detail' was unexpected|required property"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "status", "headers", "body", "words"), BAD, ids=range(len(BAD)))
def test_an_answer_that_is_not_described_is_seen(
    method: str, path: str, status: int, headers: dict[str, str], body: Any, words: str
) -> None:
    raw = body if isinstance(body, bytes) else encode(body)
    with pytest.raises(AssertionError, match=words):
        check_answer(DOCUMENT, method, path, status, HEADERS | headers, raw)


def test_an_answer_without_a_trace_id_is_seen() -> None:
    with pytest.raises(AssertionError, match="without the header x-trace-id"):
        check_answer(DOCUMENT, "GET", "/healthz", 200, {"Content-Type": "application/json"}, b'{"status":"ok"}')


@pytest.mark.parametrize("setting", ["nested", "flat"])
def test_the_callback_is_described_in_the_shape_of_the_setting(setting: str) -> None:
    described = document(CATALOG, Settings(callback_shape=setting), "1")
    schema = {
        "$ref": "#/components/schemas/callback_nested_openai_images", "components": described["components"],
    }  # fmt: skip
    validator = Draft202012Validator(schema)
    validator.validate(shape.callback_body(GENERATE, TASK, TRACE, STORED, setting))
    validator.validate(shape.failure(TASK, TRACE, "forbidden", "No."))
    other = "flat" if setting == "nested" else "nested"
    assert not validator.is_valid(shape.callback_body(GENERATE, TASK, TRACE, STORED, other))
