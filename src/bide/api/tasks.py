"""`POST /{service}/tasks`: `retrieve` and `retrieve_batch`, the most frequent requests of all, and `delete`. Free."""

from typing import Any

import msgspec

from bide.api.answers import Headers, Receive, Send, send_json, send_json_parts
from bide.api.body import parse_body
from bide.api.read import read_body
from bide.api.turns import Turns
from bide.catalog.load import Service
from bide.catalog.sentences import shown
from bide.errors import BadRequest
from bide.flow.erase import delete
from bide.flow.poll import Base64, Documents, Parts, filled, retrieve, retrieve_batch
from bide.gateway import Gateway
from bide.tasks.search import WALK_MAX, Filter

LIMIT = 12
OFFSET_MAX = 10_000_000
TEXT_MAX = 256


async def answer(
    gateway: Gateway, documents: Documents, turns: Turns, service: Service, user_id: str, headers: Headers,
    receive: Receive, send: Send, trace_id: str,
) -> int:  # fmt: skip
    """Answers one request. Errors are raised."""
    settings = gateway.settings
    body = parse_body(await read_body(receive, headers, settings.json_bytes_max), settings.json_depth_max)
    action = _text(body, "action") or "retrieve"
    found: bytes | Base64 | Parts
    if action == "retrieve":
        task_id, alias, by_trace = _text(body, "id"), _text(body, "task_id"), _text(body, "trace_id")
        task_id = task_id or alias
        if not task_id and not by_trace:
            raise BadRequest("`id` or `trace_id` is missing: name the task.")
        found = await retrieve(gateway, documents, user_id, service.name, task_id, by_trace)
    elif action == "retrieve_batch":
        found = await _batch(gateway, turns, service, user_id, body)
    elif action == "delete":
        found = await _delete(gateway, documents, service, user_id, body)
    else:
        raise BadRequest(f'`action` is {shown(action)}; it must be "retrieve", "retrieve_batch" or "delete".')
    if isinstance(found, Base64):
        document = await filled(gateway, found)
        await send_json_parts(send, document.size, document.parts, trace_id)
    elif isinstance(found, Parts):
        await _send_unsized(send, found, trace_id)
    else:
        await send_json(send, 200, found, trace_id)
    return 200


async def _send_unsized(send: Send, found: Parts, trace_id: str) -> None:
    """Without a content length the server sends chunks."""
    headers = [(b"content-type", b"application/json"), (b"x-trace-id", trace_id.encode("ascii"))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    async for part in found.parts:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _batch(
    gateway: Gateway, turns: Turns, service: Service, user_id: str, body: dict[str, Any]
) -> bytes | Parts:
    most = gateway.settings.batch_ids_max
    ids, trace_ids = _texts(body, "ids", most), _texts(body, "trace_ids", most)
    limit = _whole(body, "limit", 1, most, min(len(ids) + len(trace_ids), most) or LIMIT)
    offset = _whole(body, "offset", 0, OFFSET_MAX, 0)
    kind, application_id, other = _text(body, "type"), _text(body, "application_id"), _text(body, "user_id")
    wanted = Filter(
        user_id=user_id, service=service.name, ids=ids, trace_ids=trace_ids,
        types=service.types(kind) if kind else (), application_id=application_id,
        created_at_min=_milliseconds(body, "created_at_min"), created_at_max=_milliseconds(body, "created_at_max"),
    )  # fmt: skip
    if other and other != user_id:
        return b'{"items":[],"count":0}'  # what is not the caller's does not exist
    if (ids and not trace_ids) or (wanted.is_walk and wanted.is_counted and offset + limit <= WALK_MAX):
        return await retrieve_batch(gateway, wanted, offset, limit)
    async with turns.of(user_id):  # it may look through all the tasks there are of a user
        return await retrieve_batch(gateway, wanted, offset, limit)


FILTERS = ("type", "application_id", "created_at_min", "created_at_max", "offset", "limit")
"""Fields of `retrieve_batch` that would narrow what is found: whoever sends one with `delete` expects it to count."""


async def _delete(
    gateway: Gateway, documents: Documents, service: Service, user_id: str, body: dict[str, Any]
) -> bytes:
    """`{"success": true, "deleted": [ids…]}`, newest first. What is not there, or not the caller's, is not listed.
    For a single `id` and nothing else that names tasks: `{"id", "deleted": whether it was there}`."""
    most = gateway.settings.batch_ids_max
    for name in FILTERS:
        if body.get(name) not in (None, ""):
            raise BadRequest(f"`{name}` is not taken by `delete`: name the tasks by their ids or trace ids.")
    ids = {*_texts(body, "ids", most), _text(body, "id"), _text(body, "task_id")} - {""}
    trace_ids = {*_texts(body, "trace_ids", most), _text(body, "trace_id")} - {""}
    if not ids and not trace_ids:
        raise BadRequest("`id`, `ids`, `trace_id` or `trace_ids` is missing: name the tasks.")
    wanted = Filter(user_id=user_id, service=service.name, ids=tuple(sorted(ids)), trace_ids=tuple(sorted(trace_ids)))
    foreign = _text(body, "user_id") not in ("", user_id)  # what is not the caller's does not exist
    deleted = [] if foreign else await delete(gateway, wanted, most, documents.forget)
    if len(ids) == 1 and not trace_ids and not body.get("ids"):
        (only,) = ids
        return msgspec.json.encode({"id": only, "deleted": only in deleted})
    return msgspec.json.encode({"success": True, "deleted": deleted})


def _text(body: dict[str, Any], name: str) -> str:
    """A text; null and empty count as not given."""
    value = body.get(name)
    if value is None:
        return ""
    if type(value) is not str:
        raise BadRequest(f"`{name}` is {shown(value)}; it must be a string.")
    if len(value) > TEXT_MAX:
        raise BadRequest(f"`{name}` is longer than {TEXT_MAX} characters.")
    return value


def _texts(body: dict[str, Any], name: str, most: int) -> tuple[str, ...]:
    value = body.get(name)
    if value is None:
        return ()
    if type(value) is not list or any(type(one) is not str or len(one) > TEXT_MAX for one in value):
        raise BadRequest(f"`{name}` must be a list of strings of at most {TEXT_MAX} characters.")
    if len(value) > most:
        raise BadRequest(f"`{name}` has {len(value)} entries; at most {most} are accepted.")
    return tuple(dict.fromkeys(one for one in value if one))


def _whole(body: dict[str, Any], name: str, least: int, most: int, default: int) -> int:
    value = body.get(name)
    if value is None:
        return default
    if type(value) is not int or not least <= value <= most:
        raise BadRequest(f"`{name}` is {shown(value)}; it must be a whole number from {least} to {most}.")
    return value


def _milliseconds(body: dict[str, Any], name: str) -> int | None:
    """A time in Unix seconds, in milliseconds."""
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e12:
        raise BadRequest(f"`{name}` is {shown(value)}; it must be a time in Unix seconds.")
    return round(value * 1000)
