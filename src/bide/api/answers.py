"""How every answer leaves: JSON bytes, the error envelope, `x-trace-id` on all of them."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from bide.errors import GatewayError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_JSON = (b"content-type", b"application/json")
encode = msgspec.json.Encoder().encode


def envelope(error: GatewayError, trace_id: str) -> bytes:
    """The one shape of an error: `{"error": {"code", "message"}, "trace_id"}`."""
    return encode({"error": {"code": error.code, "message": str(error)}, "trace_id": trace_id})


RETRY_AFTER_S = 1.0
"""Said with a 429 where nobody knows better, such as one that an upstream answered."""
ROUNDING_S = 0.00001
"""What a wait may be above a whole number of seconds without being a second more. No request travels as fast."""


def error_headers(error: GatewayError) -> dict[str, str]:
    """`Retry-After`, in whole seconds, rounded up: always with 429, else where the error knows when to try again."""
    after_s = RETRY_AFTER_S if error.retry_after_s is None and error.status == 429 else error.retry_after_s
    return {} if after_s is None else {"retry-after": str(max(1, math.ceil(after_s - ROUNDING_S)))}


async def send_json(send: Send, status: int, body: bytes, trace_id: str, more: Headers | None = None) -> None:
    headers = [_JSON, (b"content-length", b"%d" % len(body)), (b"x-trace-id", trace_id.encode("ascii"))]
    if more:
        headers += more
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_error(send: Send, error: GatewayError, trace_id: str) -> None:
    more = [(name.encode(), value.encode()) for name, value in error_headers(error).items()]
    await send_json(send, error.status, envelope(error, trace_id), trace_id, more)


async def send_json_parts(send: Send, size: int, parts: AsyncIterator[bytes], trace_id: str) -> None:
    """A JSON body of `size` bytes that is sent as it comes."""
    headers = [_JSON, (b"content-length", b"%d" % size), (b"x-trace-id", trace_id.encode("ascii"))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    async for part in parts:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
