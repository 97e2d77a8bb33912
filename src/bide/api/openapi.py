"""`/openapi.json`: all that this gateway answers, made from its catalogue, its settings and its errors.

OpenAPI 3.1. A test of the suite holds every answer against it, so it must be complete and true. Extensions:
`x-event-schema` is the JSON of each `data:` line of an event stream, `x-line-schema` that of a line of an answer that
comes line by line.
"""

from typing import Any

from bide.api import listed, request_schemas, schemas
from bide.api.schemas import Schema, ref
from bide.catalog.load import Catalog, Operation, Service
from bide.errors import ERRORS, GatewayError
from bide.settings import Settings

DESCRIPTION = """\
Pictures, films and sounds as durable tasks. A call either waits for its result or, with `callback_url` or `async`,
has a `task_id` at once; the result is then polled for at the tasks path of the service, or POSTed to the callback.

Every path also exists below `/v1`. Every answer has the header `x-trace-id`. An error is
`{"error": {"code", "message"}, "trace_id"}`; the code is what programs should look at.

Of several things that are wrong, the first of this order is answered: {order}.

A JSON body has at most {json_bytes_max:,} bytes and {json_depth_max} levels, a multipart body {upload_bytes_max:,}
bytes. Text must be UTF-8 without NUL. Unknown fields are kept on the task and have no effect.
"""

ORDER = (
    "no_api", "no_token", "invalid_token", "token_expired", "disabled", "token_mismatched", "too_many_requests",
    "bad_request", "used_up", "forbidden",
)  # fmt: skip
"""Of several things that are wrong, the first of these is answered."""

_NOT_OF_CALLS = ("no_api", "not_found")
"""Errors of paths that do not exist; a path described here does."""
_NOT_OF_TASKS = (*_NOT_OF_CALLS, "api_not_implemented", "used_up", "forbidden")


def document(catalog: Catalog, settings: Settings, version: str) -> dict[str, Any]:
    """The OpenAPI document as JSON-ready dicts."""
    paths: dict[str, Any] = {}
    for service in catalog.services.values():
        for operation in service.operations.values():
            for path in operation.paths:
                paths[path] = {"post": _operation(operation, path)}
                if operation.listed.entries:
                    paths[path] |= listed.described(operation, _operation_id(path), _errors(_NOT_OF_TASKS))
        for path in service.tasks_paths:
            paths[path] = {"post": _tasks(service, path, settings.batch_ids_max)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "bide",
            "version": version,
            "summary": "A self-hosted gateway for generative media.",
            "description": _description(settings),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": settings.public_url.rstrip("/") or "/"}],
        "security": [{"token": []}],
        "tags": [
            *({"name": service.name, "description": service.summary} for service in catalog.services.values()),
            {"name": "gateway", "description": "Results, health and this document. No token needed."},
        ],
        "paths": paths | _gateway_paths(),
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "headers": _HEADERS,
            "responses": _error_responses(),
            "requestBodies": {_id(op): _body(op) for op in _operations(catalog)}
            | {"tasks": _tasks_body(settings.batch_ids_max)},
            "schemas": _schemas(catalog, settings),
        },
    }


def _description(settings: Settings) -> str:
    text = DESCRIPTION.replace("{order}", ", ".join(f"`{code}`" for code in ORDER))
    for name in ("json_bytes_max", "upload_bytes_max", "json_depth_max"):
        value = getattr(settings, name)
        text = text.replace(f"{{{name}:,}}", f"{value:,}").replace(f"{{{name}}}", str(value))
    return text


def _operations(catalog: Catalog) -> list[Operation]:
    return [operation for service in catalog.services.values() for operation in service.operations.values()]


def _id(operation: Operation) -> str:
    """`openai/images/generations` → `openai_images_generations`."""
    return operation.key.replace("/", "_").replace("-", "_")


def _operation_id(path: str) -> str:
    return path.strip("/").replace("/", "_").replace("-", "_")


# -- operations

_IDEMPOTENCY_KEY = {
    "name": "idempotency-key", "in": "header", "required": False, "schema": {"type": "string", "maxLength": 255},
    "description": "A name of your own for this request: sent again with the same body it answers the same task.",
}  # fmt: skip


def _operation(operation: Operation, path: str) -> dict[str, Any]:
    entry = operation.entry
    described: dict[str, Any] = {
        "operationId": _operation_id(path),
        "tags": [operation.service],
        "summary": entry.title,
        "description": _about(operation),
        "parameters": [_IDEMPOTENCY_KEY, *request_schemas.headers(operation)],
        "requestBody": {"$ref": f"#/components/requestBodies/{_id(operation)}"},
        "responses": {"200": _answer(operation), **_errors(_NOT_OF_CALLS)},
    }
    if "callback_url" in operation.fields:
        described["callbacks"] = {"finished": {"{$request.body#/callback_url}": {"post": _callback(operation)}}}
    return described


def _about(operation: Operation) -> str:
    entry = operation.entry
    waits = "Waits for the result" if entry.inline else "Answers at once with a `task_id`"
    but = ", unless `callback_url` or `async` is given." if entry.inline else ", unless `async` is `false`."
    kept = "" if entry.inline_stored or not entry.inline else " A call that waits leaves no task to look up."
    kept += (
        " With `accept: application/x-ndjson` it says how far it is, a JSON object per line, the result last; "
        "`callback_url` then has every line as well." if entry.lines else ""
    )
    return (
        f"{entry.summary} {waits}{but}{kept} Task type `{entry.type}`; usually {entry.expected_s:g} s, at most "
        f"{entry.run_s_max:g} s."
    )


def _body(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if "json" in operation.entry.accepts:
        content["application/json"] = {
            "schema": ref(f"{_id(operation)}_request"),
            "example": request_schemas.example(operation),
        }
    if "multipart" in operation.entry.accepts:
        content["multipart/form-data"] = {"schema": ref(f"{_id(operation)}_form")}
    return {"required": True, "content": content}


def _answer(operation: Operation) -> dict[str, Any]:
    inline = ref(_answer_schema(operation))
    content: dict[str, Any] = {"application/json": {"schema": {"anyOf": [inline, ref("accepted"), ref("quote")]}}}
    if events := _events(operation):
        # No `schema`: some tools hold the whole body against it, others each event.
        content["text/event-stream"] = {"x-event-schema": ref(events)}
    if lines := _lines(operation):
        content["application/x-ndjson"] = {"x-line-schema": {"anyOf": [*lines, ref("accepted"), ref("failure")]}}
    return {
        "description": "The result; or, for a call that does not wait, the `task_id`; or, with `stream`, events; or, "
        "with `dry_run`, the price.",
        "headers": _header_refs("x-trace-id"),
        "content": content,
    }


def _events(operation: Operation) -> str:
    """The schema of the events of a streamed answer; empty: it is not streamed."""
    entry = operation.entry
    return "event_chat" if entry.chat else f"event_{entry.stream_prefix}" if entry.stream_prefix else ""


def _callback(operation: Operation) -> dict[str, Any]:
    return {
        "summary": "The task is finished.",
        "description": "Sent at least once; `webhook-id` is the same in every attempt. Any 2xx ends it, 410 too.",
        "security": [],
        "parameters": [
            {"name": name, "in": "header", "required": required, "schema": {"type": "string"}, "description": text}
            for name, required, text in (
                ("webhook-id", True, "Stays the same over all attempts."),
                ("webhook-timestamp", True, "Unix time of this attempt."),
                ("webhook-signature", False, "Standard Webhooks signature, where a secret is set."),
            )
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": ref(_callback_schema(operation))}},
        },
        "responses": {"2XX": {"description": "Received."}, "410": {"description": "Not wanted any more."}},
    }


def _answer_schema(operation: Operation) -> str:
    return f"{'stored' if operation.entry.inline_stored else 'inline'}_answer_{schemas.shape_name(operation)}"


def _lines(operation: Operation) -> list[Schema]:
    return [ref(f"line_{schemas.shape_name(operation)}")] if operation.entry.lines else []


def _callback_schema(operation: Operation) -> str:
    return f"callback_{operation.entry.callback}_{schemas.shape_name(operation)}"


# -- tasks


def _tasks(service: Service, path: str, limit_max: int) -> dict[str, Any]:
    content = {
        "schema": {
            "anyOf": [
                ref(f"{service.name}_task"),
                {**schemas.closed({}), "description": "No such task of the caller."},
                ref(f"{service.name}_tasks"),
                ref("deleted"),
            ]
        }
    }
    return {
        "operationId": _operation_id(path),
        "tags": [service.name],
        "summary": "Look up tasks, or delete them",
        "description": "One task (`retrieve`) or a list of them (`retrieve_batch`). Never charged. A task that is "
        "not there, or belongs to somebody else, is `{}`. A task is finished when `response` is not empty. `delete` "
        "takes finished tasks out with their files and callbacks, whatever names them, at most the newest "
        f"{limit_max}: ask again until `deleted` is empty. If one of them has not ended, nothing is deleted.",
        "requestBody": {"$ref": "#/components/requestBodies/tasks"},
        "responses": {
            "200": {
                "description": "The task, `{}`, a page of tasks, or what was deleted.",
                "headers": _header_refs("x-trace-id"),
                "content": {"application/json": content},
            },
            **_errors(_NOT_OF_TASKS),
        },
    }


def _tasks_body(limit_max: int) -> dict[str, Any]:
    return {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [schemas.retrieve(), schemas.retrieve_batch(limit_max), schemas.delete(limit_max)]
                },
                "examples": {
                    "one": {"value": {"action": "retrieve", "trace_id": "order-7731"}},
                    "several": {"value": {"action": "retrieve_batch", "type": "images", "limit": 12}},
                    "gone": {"value": {"action": "delete", "trace_ids": ["order-7731"]}},
                },
            }
        },
    }


# -- errors


_HEADERS: dict[str, Any] = {
    "x-trace-id": {
        "required": True,
        "description": "The id of this request, for the log.",
        "schema": {"type": "string", "minLength": 1},
    },
    "retry-after": {"required": True, "description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}},
}


def _header_refs(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _by_status(without: tuple[str, ...] = ()) -> dict[int, list[type[GatewayError]]]:
    found: dict[int, list[type[GatewayError]]] = {}
    for error in ERRORS.values():
        if error.code not in without:
            found.setdefault(error.status, []).append(error)
    return dict(sorted(found.items()))


def _errors(without: tuple[str, ...]) -> dict[str, Any]:
    return {str(status): {"$ref": f"#/components/responses/error_{status}"} for status in _by_status(without)}


def _error_responses() -> dict[str, Any]:
    return {
        f"error_{status}": {
            "description": " ".join(f"`{error.code}`: {error.meaning}" for error in errors),
            "headers": _header_refs("x-trace-id", *(("retry-after",) if status == 429 else ())),
            "content": {"application/json": {"schema": ref(f"error_{status}")}},
        }
        for status, errors in _by_status().items()
    }


# -- the gateway itself


def _gateway_paths() -> dict[str, Any]:
    return {
        "/files/{day}/{name}": {
            "parameters": [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": pattern}}
                for name, pattern in (("day", "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"), ("name", "^[0-9a-f]{32}[.][0-9a-z]+$"))
            ],
            "get": _file("get"),
            "head": _file("head"),
        },
        "/healthz": {"get": _get("healthz", "The process runs", _json(_status("ok")))},
        "/readyz": {
            "get": _get(
                "readyz", "The process can answer", _json(_status("ready")),
                (500, 503),
            )
        },
        "/metrics": {
            "get": _get("metrics", "Prometheus metrics", {"text/plain": {"schema": {"type": "string"}}}, (500,))
        },
        "/openapi.json": {
            "get": _get("openapi", "This document", _json({"type": "object", "required": ["openapi", "paths"]}))
        },
        "/llms.txt": {"get": _page("llms", "The documentation as Markdown", "text/markdown")},
        "/docs": {"get": _page("docs", "The documentation as a page", "text/html")},
    }  # fmt: skip


def _status(word: str) -> Schema:
    return schemas.closed({"status": {"const": word}})


def _json(schema: Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _get(name: str, summary: str, content: dict[str, Any], errors: tuple[int, ...] = ()) -> dict[str, Any]:
    return {
        "operationId": name,
        "tags": ["gateway"],
        "summary": summary,
        "security": [],
        "responses": {
            "200": {"description": summary, "headers": _header_refs("x-trace-id"), "content": content},
            **{str(status): {"$ref": f"#/components/responses/error_{status}"} for status in errors},
        },
    }


def _page(name: str, summary: str, kind: str) -> dict[str, Any]:
    described = _get(name, summary, {kind: {"schema": {"type": "string"}}})
    unchanged = {"description": "Not changed since the `etag` the caller has.", "headers": _header_refs("x-trace-id")}
    return {**described, "responses": {**described["responses"], "304": unchanged}}


def _file(method: str) -> dict[str, Any]:
    """A result. Pictures, videos and sounds are sent as they are, whole or in part."""
    whole = method == "get"
    media: dict[str, Any] = {"content": {kind: {} for kind in ("image/*", "video/*", "audio/*")}} if whole else {}
    described: dict[str, Any] = {
        "200": {"description": "The file.", **media},
        "206": {"description": "The part asked for with `Range`.", **media},
        "304": {"description": "Not changed since the `etag` the caller has."},
        "416": {"description": "There is no such part."},
    }
    for response in described.values():
        response["headers"] = _header_refs("x-trace-id")
    for status in (404, 500, 503):
        bare = {"description": f"The {status} of GET without its body.", "headers": _header_refs("x-trace-id")}
        described[str(status)] = {"$ref": f"#/components/responses/error_{status}"} if whole else bare
    return {
        "operationId": f"{method}_file",
        "tags": ["gateway"],
        "summary": "A produced file" if whole else "What a produced file is",
        "description": "The name is unguessable and is the only key. Files are removed with their tasks.",
        "security": [],
        "responses": described,
    }


# -- schemas


def _schemas(catalog: Catalog, settings: Settings) -> dict[str, Schema]:
    found: dict[str, Schema] = {"accepted": schemas.ACCEPTED, "quote": schemas.QUOTE, "failure": schemas.FAILURE}
    found["deleted"] = schemas.deleted(settings.batch_ids_max)
    for status, errors in _by_status().items():
        found[f"error_{status}"] = schemas.error(errors)
    for service in catalog.services.values():
        operations = list(service.operations.values())
        found[f"{service.name}_task"] = schemas.task(operations)
        items = {"type": "array", "items": ref(f"{service.name}_task"), "maxItems": settings.batch_ids_max}
        found[f"{service.name}_tasks"] = schemas.batch(items, list(service.operations.values()))
        for operation in operations:
            found |= _schemas_of(operation, settings)
    return found


def _schemas_of(operation: Operation, settings: Settings) -> dict[str, Schema]:
    entry, name = operation.entry, _id(operation)
    nested = entry.callback == "nested" and settings.callback_shape == "nested"
    found = {
        _answer_schema(operation): schemas.inline_answer(operation),
        f"task_response_{schemas.shape_name(operation)}": schemas.task_response(operation),
        _callback_schema(operation): {
            "anyOf": [schemas.callback_body(operation, nested=nested), ref("failure"), *_lines(operation)]
        },
    }
    if entry.lines:
        found[f"line_{schemas.shape_name(operation)}"] = schemas.progress_line(operation)
    if "json" in entry.accepts:
        found[f"{name}_request"] = request_schemas.body(operation, form=False)
    if "multipart" in entry.accepts:
        found[f"{name}_form"] = request_schemas.body(operation, form=True)
    if entry.chat:
        found["event_chat"] = schemas.CHAT_CHUNK
    elif entry.stream_prefix:
        found[f"event_{entry.stream_prefix}"] = schemas.stream_event(entry.stream_prefix)
    return found
