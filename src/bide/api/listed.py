"""GET and DELETE on the path of an operation whose results are kept by name: the list of a user's personas, and
forgetting one. Free, and counted as looks for tasks (protocol: suno, section 4).

    GET     ?limit=50&offset=0&user_id=…   {"count": all of them, "items": [as the catalogue's `listed` says]}
    DELETE  ?persona_id=…&user_id=…        {"success": whether there was one}

Somebody else's `user_id` has none.
"""

from typing import Any
from urllib.parse import parse_qs

from bide.api import template_schemas
from bide.api.answers import Scope, Send, encode, send_json
from bide.api.schemas import Schema, closed
from bide.catalog.load import Operation
from bide.catalog.sentences import shown
from bide.catalog.template import Made, Name, fill, times
from bide.clock import time_of
from bide.db import Tx, write_one
from bide.errors import BadRequest
from bide.gateway import Gateway
from bide.tasks import items
from bide.tasks.items import ItemRow

METHODS = ("GET", "DELETE")
LIMIT, LIMIT_MAX, OFFSET_MAX = 50, 100, 1_000_000
TEXT_MAX = 256


async def answer(
    gateway: Gateway, operation: Operation, user_id: str, scope: Scope, send: Send, trace_id: str
) -> int:
    """Answers one request, status included. Raises `BadRequest`."""
    query = parse_qs(scope["query_string"].decode("utf-8", "replace"))
    if scope["method"] == "GET":
        found: dict[str, Any] = await _page(gateway, operation, user_id, query)
    else:
        found = {"success": await _forget(gateway, operation, user_id, query)}
    await send_json(send, 200, encode(found), trace_id)
    return 200


async def _page(gateway: Gateway, operation: Operation, user_id: str, query: dict[str, list[str]]) -> dict[str, Any]:
    limit, offset = _whole(query, "limit", LIMIT, 1, LIMIT_MAX), _whole(query, "offset", 0, 0, OFFSET_MAX)
    if _text(query, "user_id") not in ("", user_id):
        return {"count": 0, "items": []}
    rows = await items.listed(gateway.db, user_id, operation.service, offset, limit)
    count = await items.listed_count(gateway.db, user_id, operation.service)
    return {"count": count, "items": [_shown(operation, row) for row in rows]}


async def _forget(gateway: Gateway, operation: Operation, user_id: str, query: dict[str, list[str]]) -> bool:
    name = id_name(operation)
    item_id = _text(query, name)
    if not item_id:
        raise BadRequest(f"`{name}` is missing; it must be an id from the list that GET answers")
    if _text(query, "user_id") not in ("", user_id):
        return False

    async def forget(tx: Tx) -> bool:
        return await items.forget(tx, item_id, user_id, operation.service)

    return await write_one(gateway.db, forget)


def _shown(operation: Operation, row: ItemRow) -> dict[str, Any]:
    """What its provider keeps of it has the texts that are shown; its time is in its id."""
    made_at = time_of(row.id)
    made = Made({**row.about, "id": row.id, "user_id": row.user_id}, {}, {})
    return fill(operation.listed, {"time": times(made_at, made_at)}, [made])


def id_name(operation: Operation) -> str:
    """What the list calls the id of an entry, and a parameter of DELETE too."""
    return next(key for key, one in operation.listed.entries.items() if one == Name("item", "id"))


def _text(query: dict[str, list[str]], name: str) -> str:
    value = query.get(name, [""])[-1]
    if len(value) > TEXT_MAX or "\0" in value:
        raise BadRequest(f"`{name}` must be a text of at most {TEXT_MAX} characters")
    return value


def _whole(query: dict[str, list[str]], name: str, default: int, least: int, most: int) -> int:
    text = _text(query, name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 12 and least <= int(text) <= most):
        raise BadRequest(f"`{name}` is {shown(text)}; it must be a whole number from {least} to {most}")
    return int(text)


# -- as `/openapi.json` describes it


def described(operation: Operation, operation_id: str, errors: dict[str, Any]) -> dict[str, Any]:
    """The methods `get` and `delete` of its path."""
    entry = template_schemas.table(operation.listed, operation.fields)
    page = closed({"count": {"type": "integer", "minimum": 0}, "items": {"type": "array", "items": entry}})
    limit = {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT}
    offset = {"type": "integer", "minimum": 0, "maximum": OFFSET_MAX, "default": 0}
    of_user = _parameter("user_id", {"type": "string"}, "Your own user id; of somebody else's there are none.")
    return {
        "get": {
            "operationId": f"{operation_id}_list", "tags": [operation.service],
            "summary": "List those you made", "description": "The newest first. Never charged.",
            "parameters": [
                _parameter("limit", limit, "How many at most."),
                _parameter("offset", offset, "How many are left out."),
                of_user,
            ],
            "responses": {"200": _answered(page), **errors},
        },
        "delete": {
            "operationId": f"{operation_id}_delete", "tags": [operation.service],
            "summary": "Forget one of them", "description": "No later request can name it. Never charged.",
            "parameters": [
                {**_parameter(id_name(operation), {"type": "string"}, "Which."), "required": True}, of_user,
            ],
            "responses": {"200": _answered(closed({"success": {"type": "boolean"}})), **errors},
        },
    }  # fmt: skip


def _parameter(name: str, schema: Schema, text: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": text}


def _answered(schema: Schema) -> dict[str, Any]:
    return {
        "description": "Answered.",
        "headers": {"x-trace-id": {"$ref": "#/components/headers/x-trace-id"}},
        "content": {"application/json": {"schema": schema}},
    }
