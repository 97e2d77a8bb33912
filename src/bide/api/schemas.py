"""JSON Schemas (2020-12) of answers, task documents and errors. Pure; `bide.api.openapi` puts them together."""

from collections.abc import Mapping
from typing import Any

from bide.accounts.store import GLOBAL, INDIVIDUAL
from bide.api import template_schemas
from bide.catalog.entries import TOP_STATE
from bide.catalog.load import Operation
from bide.errors import ERRORS, GatewayError

Schema = dict[str, Any]

UUID = {"type": "string", "pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"}
SECONDS = {"type": "number", "minimum": 0}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def closed(properties: Mapping[str, Any], required: tuple[str, ...] | None = None, description: str = "") -> Schema:
    """An object with these properties and no others; all of them are required unless `required` says which."""
    schema: Schema = {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties if required is None else required),
        "additionalProperties": False,
    }
    return {"description": description, **schema} if description else schema


# -- answers


def error(types: list[type[GatewayError]]) -> Schema:
    """The error envelope with the codes of these errors."""
    codes = sorted({one.code for one in types})
    inner = closed({"code": {"type": "string", "enum": codes}, "message": {"type": "string", "minLength": 1}})
    return closed({"error": inner, "trace_id": {"type": "string"}})


FAILURE = closed(
    {
        "success": {"const": False},
        "task_id": UUID,
        "trace_id": {"type": "string"},
        "error": closed({
            "code": {"type": "string", "description": f"One of {', '.join(sorted(ERRORS))}, or an upstream's own."},
            "message": {"type": "string"},
        }),
    },
    description="A task that failed: its `response`, and the body of its callback.",
)  # fmt: skip

ACCEPTED = closed(
    {"success": {"const": True}, "task_id": UUID, "trace_id": {"type": "string"}},
    description="Accepted. The task is on disk; poll for it, or wait for the callback.",
)

_CREDITS = {"type": "number", "minimum": 0}

QUOTE = closed(
    {
        "success": {"const": True},
        "dry_run": {"const": True},
        "trace_id": {"type": "string"},
        "type": {"type": "string", "description": "The type the task would have."},
        "price": closed({
            "amount": {**_CREDITS, "description": "Credits, if all units succeed: `unit_amount` times `units`."},
            "unit_amount": {**_CREDITS, "description": "Credits for each unit that succeeds."},
            "units": {"type": "integer", "minimum": 1},
            "unit": {"type": "string", "description": "What is counted, such as `Count` or `Second`."},
        }),
        "covered": {"type": "boolean", "description": "`false`: the request itself would be answered `used_up`."},
        "balances": {
            "type": "array", "maxItems": 2,
            "description": "Who would pay, and how much; none if nothing would be paid.",
            "items": closed({
                "application_id": {"type": "string"},
                "scope": {"enum": [INDIVIDUAL, GLOBAL], "description": "`Global`: the general balance."},
                "amount": {"type": "number", "exclusiveMinimum": 0, "description": "Credits."},
            }),
        },
        "channel": {"type": ["string", "null"], "description": "Which would be asked first; null: none is ready."},
        "expected_s": {"type": "number", "exclusiveMinimum": 0, "description": "Seconds it usually takes."},
    },
    description="What a request with `dry_run` would cost. Nothing was made or charged.",
)  # fmt: skip

_USAGE = {"type": "object", "description": "What the upstream counted (tokens), as it said."}
_IMAGE: Schema = {
    **closed(
        {
            "url": {"type": "string", "format": "uri", "description": "Address of the picture; needs no token."},
            "b64_json": {"type": "string", "description": "The picture in base64."},
            "revised_prompt": {"type": "string", "description": "What was really drawn, where the upstream says."},
        },
        required=(),
    ),
    "anyOf": [{"required": ["url"]}, {"required": ["b64_json"]}],
}
_IMAGES: Schema = {
    "created": {"type": "integer", "minimum": 0, "description": "Unix time in seconds; 0 for some models."},
    "data": {"type": "array", "minItems": 1, "items": _IMAGE},
    "model": {"type": "string"},
    "background": {"type": "string"},
    "output_format": {"type": "string"},
    "quality": {"type": "string"},
    "size": {"type": "string"},
    "usage": _USAGE,
}

_RESULTS: Mapping[str, tuple[Schema, tuple[str, ...]]] = {"openai_images": (_IMAGES, ("created", "data"))}
"""Per shape of the catalogue: the properties of the answer, and those that are always there."""


def shape_name(operation: Operation) -> str:
    """What the schemas of an operation's answers are named by: those of one fixed shape share theirs."""
    if operation.entry.shape in _RESULTS:
        return operation.entry.shape
    return operation.key.replace("/", "_").replace("-", "_")


def _result(operation: Operation) -> tuple[Schema, tuple[str, ...]]:
    """The properties of the answer, and those that are always there."""
    if operation.entry.shape in _RESULTS:
        return _RESULTS[operation.entry.shape]
    made = template_schemas.table(operation.template, operation.fields)
    return made["properties"], tuple(made["required"])


def result(operation: Operation) -> Schema:
    """The answer by itself, as it stands below `data` of a nested callback."""
    properties, required = _result(operation)
    return closed(properties, required)


def inline_answer(operation: Operation) -> Schema:
    """What a caller gets who waited."""
    return result(operation) if operation.entry.bare else _enveloped(operation, operation.entry.inline_stored)


def _enveloped(operation: Operation, stored: bool) -> Schema:
    properties, required = _result(operation)
    envelope: Schema = {"success": {"const": True}, "trace_id": {"type": "string"}}
    if stored:
        envelope["task_id"] = UUID
    return closed({**envelope, **properties}, (*envelope, *required))


def task_response(operation: Operation) -> Schema:
    """The `response` of a task that succeeded."""
    return _enveloped(operation, True)


def progress_line(operation: Operation) -> Schema:
    """One line of an answer that is streamed: the answer as far as it is known."""
    properties, _ = _result(operation)
    known: Schema = {"success": {"const": True}, "task_id": UUID, "trace_id": {"type": "string"},
                     "progress": {"type": "integer", "minimum": 0, "maximum": 100}}  # fmt: skip
    return closed({**properties, **known}, tuple(known))


def callback_body(operation: Operation, *, nested: bool) -> Schema:
    """The body POSTed for a task that succeeded."""
    if not nested:
        return task_response(operation)
    return closed({**ACCEPTED["properties"], "data": result(operation)})


def stream_event(prefix: str) -> Schema:
    """The JSON in one `data:` line of a streamed answer: a partial picture, a finished one, or an error."""
    common: Schema = {
        "b64_json": {"type": "string"},
        "created_at": {"type": "integer"},
        "size": {"type": "string"},
        "quality": {"type": "string"},
        "background": {"type": "string"},
        "output_format": {"type": "string"},
    }
    partial = {"type": {"const": f"{prefix}.partial_image"}, "partial_image_index": {"type": "integer", "minimum": 0}}
    completed = {"type": {"const": f"{prefix}.completed"}}
    failed = {"error": {"type": "object", "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
                        "required": ["code", "message"]}}  # fmt: skip
    return {
        "anyOf": [
            {"type": "object", "properties": {**partial, **common}, "required": [*partial, *common]},
            {"type": "object", "properties": {**completed, **common, "usage": _USAGE},
             "required": [*completed, *common]},
            {"type": "object", "properties": failed, "required": ["error"]},
        ]
    }  # fmt: skip


CHAT_CHUNK: Schema = {
    "anyOf": [
        {
            "type": "object",
            "properties": {
                "id": {"type": "string"}, "object": {"const": "chat.completion.chunk"},
                "created": {"type": "integer"}, "model": {"type": "string"}, "choices": {"type": "array"},
                "usage": _USAGE,
            },
            "required": ["id", "object", "created", "model", "choices"],
        },
        {"type": "object", "properties": {"error": {"type": "object", "required": ["code", "message"]}},
         "required": ["error"]},
    ]
}  # fmt: skip
"""The JSON in one `data:` line of a streamed chat completion; the last line is `[DONE]`."""


# -- tasks


def task(operations: list[Operation]) -> Schema:
    """The task document of a service."""
    shapes = sorted({shape_name(operation) for operation in operations})
    properties: Schema = {
        "_id": {"type": "string", "pattern": "^[0-9a-f]{24}$"},
        "id": UUID,
        "trace_id": {"type": "string", "description": "The caller's own, or one that was made."},
        "type": {"enum": sorted({operation.type for operation in operations})},
        "api_id": UUID,
        "application_id": {"type": "string"},
        "user_id": {"type": "string"},
        "credential_id": {"type": "string"},
        "created_at": {**SECONDS, "description": "Unix time in seconds."},
        "started_at": {**SECONDS, "description": "Once a worker took it."},
        "finished_at": {**SECONDS, "description": "At the end, whether it succeeded or failed."},
        "duration": {**SECONDS, "description": "`finished_at - created_at`, at the end."},
        "elapsed": {**SECONDS, "description": "`finished_at - started_at`, at the end."},
        "request": {"type": "object", "description": "The body as it was sent."},
        "response": {
            "description": "`{}` until the end; then the result, or what went wrong.",
            "anyOf": [
                {"type": "object", "maxProperties": 0},
                *(ref(f"task_response_{shape}") for shape in shapes),
                ref("failure"),
            ],
        },
    }
    repeated = {key: _repeated(key) for one in operations for key in one.entry.top}
    repeated |= {one.entry.status_in: _status() for one in operations if one.entry.status_in}
    properties |= repeated
    late = ("started_at", "finished_at", "duration", "elapsed", *repeated)
    schema = closed(properties, tuple(name for name in properties if name not in late))
    schema["dependentRequired"] = {
        "finished_at": ["duration", "elapsed"], "duration": ["finished_at"], "elapsed": ["finished_at"],
    }  # fmt: skip
    schema["if"] = {"required": ["finished_at"]}
    schema["then"] = {"properties": {"response": {"minProperties": 1}}}
    schema["else"] = {"properties": {"response": {"maxProperties": 0}}}
    return schema


def _repeated(key: str) -> Schema:
    """A key of the answer that a finished task repeats."""
    said = f"`{key}` of `response` once more, at the end."
    if key == TOP_STATE:
        state = {"id": UUID, "state": {"enum": ["succeeded", "failed"]}, "finished_at": SECONDS}
        return closed(state, description="How it ended, at the end.")
    return {"description": said}


def batch(items: Schema, operations: list[Operation]) -> Schema:
    """The answer of `retrieve_batch`."""
    count = {"type": "integer", "minimum": 0, "description": "All tasks that match, on this page or not."}
    again = {"total": count} if any(one.entry.status_in for one in operations) else {}
    return closed({"items": items, "count": count, **again})


def _status() -> Schema:
    """What has a `status` from the beginning, and is that of the response at the end."""
    properties: Schema = {"id": UUID, "status": {"enum": ["running", "succeeded", "failed"]}}
    return {"type": "object", "properties": properties, "required": list(properties),
            "description": "How it is; at the end what `response` has here too."}  # fmt: skip


_TEXT_MAX = 256
_OFFSET_MAX = 10_000_000


def _text(description: str) -> Schema:
    return {"type": ["string", "null"], "maxLength": _TEXT_MAX, "description": description}


def retrieve() -> Schema:
    """Body of `retrieve`. An empty text or null counts as left out; `trace_id` wins over `id`."""
    keys = ("id", "task_id", "trace_id")
    return {
        "type": "object",
        "properties": {
            "action": {"enum": ["retrieve", "", None], "default": "retrieve"},
            "id": _text("The `task_id` of the submit answer."),
            "task_id": _text("Another spelling of `id`."),
            "trace_id": _text("The caller's own name; the newest task with it is found, and it wins over `id`."),
        },
        "anyOf": [{"required": [name], "properties": {name: {"type": "string", "minLength": 1}}} for name in keys],
    }


def retrieve_batch(limit_max: int) -> Schema:
    """Body of `retrieve_batch`. All filters must match; of `ids` and `trace_ids`, either."""
    names = {
        "type": ["array", "null"], "maxItems": limit_max, "items": {"type": "string", "maxLength": _TEXT_MAX},
    }  # fmt: skip
    seconds = {"type": ["number", "null"], "minimum": -1e12, "maximum": 1e12,
               "description": "Unix time in seconds, inclusive."}  # fmt: skip
    return {
        "type": "object",
        "required": ["action"],
        "properties": {
            "action": {"const": "retrieve_batch"},
            "ids": names,
            "trace_ids": names,
            "application_id": _text("Tasks of this application."),
            "user_id": _text("The caller's own; nobody else's tasks are shown."),
            "type": _text("A task type, or a group of them such as `images`."),
            "offset": {"type": ["integer", "null"], "minimum": 0, "maximum": _OFFSET_MAX, "default": 0},
            "limit": {
                "type": ["integer", "null"], "minimum": 1, "maximum": limit_max, "default": 12,
                "description": "Left out: 12, or as many as ids are named.",
            },
            "created_at_min": seconds,
            "created_at_max": seconds,
        },
    }  # fmt: skip


def delete(limit_max: int) -> Schema:
    """Body of `delete`. Everything that is named goes; an empty text or null counts as left out."""
    one = ("id", "task_id", "trace_id")
    several = ("ids", "trace_ids")
    names = {
        "type": ["array", "null"], "maxItems": limit_max, "items": {"type": "string", "maxLength": _TEXT_MAX},
    }  # fmt: skip
    filters = ("type", "application_id", "created_at_min", "created_at_max", "offset", "limit")
    some = {"type": "string", "minLength": 1}
    return {
        "type": "object",
        "required": ["action"],
        "properties": {
            "action": {"const": "delete"},
            "id": _text("The `task_id` of the submit answer."),
            "task_id": _text("Another spelling of `id`."),
            "trace_id": _text("The caller's own name: all tasks that have it."),
            "ids": names,
            "trace_ids": names,
            "user_id": _text("Your own; of somebody else nothing is deleted."),
            **{name: {"enum": [None, ""], "description": "Not taken here."} for name in filters},
        },
        "anyOf": [
            *({"required": [name], "properties": {name: some}} for name in one),
            *({"required": [name], "properties": {name: {"type": "array", "contains": some}}} for name in several),
        ],
    }


def deleted(limit_max: int) -> Schema:
    """The answer to `delete`: of one `id`, or of whatever else names tasks."""
    one = closed({"id": {"type": "string", "minLength": 1, "maxLength": _TEXT_MAX}, "deleted": {"type": "boolean"}})
    ids = {"type": "array", "items": UUID, "maxItems": limit_max, "uniqueItems": True,
           "description": "What was there and is gone, newest first."}  # fmt: skip
    return {"anyOf": [one, closed({"success": {"const": True}, "deleted": ids})]}
