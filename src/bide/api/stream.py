"""`stream: true`: partial pictures and the result as server-sent events, in OpenAI's format.

Until the first event there is no answer yet, so a refusal still has its proper status. If that takes long, the
stream is opened with a comment, and comments keep it open: proxies cut connections that are silent.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pybase64

from bide.api.answers import Send, encode, send_error
from bide.errors import GatewayError, from_code
from bide.flow import results
from bide.flow.submit import Accepted, Submission
from bide.flow.waiting import ended
from bide.flow.work import Watch
from bide.gateway import Gateway
from bide.providers.base import Partial

SILENT_S = 10.0
_ABOUT = ("size", "quality", "background", "output_format")


class Events:
    """The answer, opened with its first event."""

    def __init__(self, send: Send, trace_id: str) -> None:
        self._send, self._trace_id = send, trace_id
        self.is_open = False

    async def write(self, data: bytes) -> None:
        if not self.is_open:
            self.is_open = True
            headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store"),
                       (b"x-trace-id", self._trace_id.encode("ascii"))]  # fmt: skip
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def event(self, name: str, data: dict[str, Any]) -> None:
        await self.write(b"event: %s\ndata: %s\n\n" % (name.encode(), encode(data)))

    async def event_parts(self, name: str, parts: AsyncIterator[bytes]) -> None:
        await self.write(b"event: %s\ndata: " % name.encode())
        async for part in parts:
            await self.write(part)
        await self.write(b"\n\n")

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})


async def stream(gateway: Gateway, wanted: Submission, accepted: Accepted, send: Send, trace_id: str) -> int:
    """Works on the task and streams what happens; answers the HTTP status."""
    prefix = wanted.operation.entry.stream_prefix
    partials: asyncio.Queue[Partial] = asyncio.Queue(maxsize=1)  # the upstream waits for a caller who reads slowly
    spooled = wanted.idempotency_key is None
    watch = Watch(progress=partials.put, partial_images=wanted.values.get("partial_images") or 0, spooled=spooled)
    out = Events(send, trace_id)
    working = asyncio.create_task(ended(gateway, accepted, watch))
    response: dict[str, Any] = {}
    try:
        async for partial in _until(working, partials, out):
            data = pybase64.b64encode_as_string(partial.data)
            about = _about(wanted, {}) | {"created_at": gateway.clock.now_ms() // 1000}
            await out.event(f"{prefix}.partial_image", {
                "type": f"{prefix}.partial_image", "b64_json": data, "partial_image_index": partial.index, **about,
            })  # fmt: skip
        response = await working
        if not response["success"]:
            failed = response["error"]
            return await _fail(out, send, from_code(failed["code"], failed["message"]), trace_id)
        await _complete(gateway, wanted, response, out, f"{prefix}.completed")
        await out.end()
        return 200
    except GatewayError as error:
        return await _fail(out, send, error, trace_id)
    finally:
        if not working.done():  # the process is stopping: the task is taken over by another
            working.cancel()
        if spooled:
            results.release(gateway, response)


async def _until(
    working: "asyncio.Task[dict[str, Any]]", partials: "asyncio.Queue[Partial]", out: Events
) -> AsyncIterator[Partial]:
    """Partial pictures as they come, until the work is over; a comment when nothing came for a while."""
    while True:
        coming = asyncio.ensure_future(partials.get())
        try:
            await asyncio.wait({working, coming}, timeout=SILENT_S, return_when=asyncio.FIRST_COMPLETED)
            if coming.done():
                yield coming.result()
            elif working.done():
                return
            else:
                await out.write(b": waiting\n\n")
        finally:
            coming.cancel()


async def _complete(
    gateway: Gateway, wanted: Submission, response: dict[str, Any], out: Events, name: str
) -> None:
    response = await results.with_base64(gateway, response, keep_url=False)
    for item in response["data"]:
        event = {"type": name, "b64_json": item["b64_json"], "created_at": response["created"]}
        event |= _about(wanted, response) | {"usage": response.get("usage") or _NO_USAGE}
        await out.event_parts(name, results.fill(gateway, encode(event)).parts)


_NO_USAGE = {
    "input_tokens": 0, "output_tokens": 0, "total_tokens": 0,
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
}  # fmt: skip


def _about(wanted: Submission, response: dict[str, Any]) -> dict[str, Any]:
    assumed = {"size": "auto", "quality": "auto", "background": "auto", "output_format": "png"}
    return {name: response.get(name) or wanted.values.get(name) or assumed[name] for name in _ABOUT}


async def _fail(out: Events, send: Send, error: GatewayError, trace_id: str) -> int:
    """The proper status if nothing was sent yet, else an `error` event."""
    if not out.is_open:
        await send_error(send, error, trace_id)
        return error.status
    failed = {"code": error.code, "message": str(error), "type": error.code, "param": None}
    await out.event("error", {"type": "error", "error": failed, "trace_id": trace_id})
    await out.end()
    return 200
