"""The one JSON shape of a task, spliced from stored bytes: neither body is decoded on the way out.

The document is that of the wire: no `status`; times are Unix seconds with millisecond precision;
`started_at` once a worker took it; `finished_at`, `duration` (from acceptance) and `elapsed` (from the
start) only at the end; `response` is `{}` until then, because clients take anything else for the result.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from bide.clock import storage_id
from bide.tasks.store import Record

_text = msgspec.json.Encoder().encode


def document(record: Record, api_id: str, top: Mapping[str, Any] | None = None) -> bytes:
    """The bytes of a task document. `top`: further keys of it."""
    head = _head(record.type, api_id, record.application_id, record.user_id, record.credential_id)
    trace = _text(record.trace_id).decode()
    times = f'"created_at":{_seconds(record.created_at)}'
    if record.started_at is not None:
        times += f',"started_at":{_seconds(record.started_at)}'
    if record.finished_at is not None:
        started = record.created_at if record.started_at is None else record.started_at
        times += (
            f',"finished_at":{_seconds(record.finished_at)}'
            f',"duration":{_seconds(record.finished_at - record.created_at)}'
            f',"elapsed":{_seconds(record.finished_at - started)}'
        )
    begin = f'{{"_id":"{storage_id(record.id)}","id":"{record.id}","trace_id":{trace},{head},{times},"request":'
    more = b"," + _text(top)[1:-1] if top else b""
    return b"".join((begin.encode(), record.request, b',"response":', record.response or b"{}", more, b"}"))


@lru_cache(maxsize=4_096)
def _head(kind: str, api_id: str, application_id: str, user_id: str, credential_id: str) -> str:
    fields = {"type": kind, "api_id": api_id, "application_id": application_id, "user_id": user_id,
              "credential_id": credential_id}  # fmt: skip
    return _text(fields).decode()[1:-1]


def _seconds(milliseconds: int) -> str:
    """`1764000000125` → `1764000000.125`, without the rounding of binary fractions."""
    whole, rest = divmod(max(milliseconds, 0), 1000)
    return f"{whole}.{rest:03}"


def response(record: Record) -> msgspec.Raw | dict[str, Any] | None:
    """The response of a task for those who manage it, without the bytes of any file. None while it is open.

    What a caller got as base64 is gone, and what stands for it in the stored answer is of no use to anybody.
    """
    if record.response is None:
        return None
    if b'"b64_json"' not in record.response:
        return msgspec.Raw(record.response)
    found: dict[str, Any] = msgspec.json.decode(record.response)
    for item in found.get("data", ()):
        item.pop("b64_json", None)
    return found
