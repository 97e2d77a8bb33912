"""`accept: application/x-ndjson`: how far it is, and then the result, one JSON object per line.

Until the first line there is no answer yet, so a refusal still has its proper status; after it, a failure is the last
line. A line is repeated when nothing new was said for a while: proxies cut connections that are silent.
"""

import asyncio
from typing import Any

from bide.api.answers import Headers, Send, encode, send_error
from bide.api.read import header
from bide.catalog import shape
from bide.catalog.load import Operation
from bide.errors import GatewayError, from_code
from bide.flow.progress import Telling
from bide.flow.submit import Accepted, Submission
from bide.flow.waiting import ended
from bide.flow.work import Watch
from bide.gateway import Gateway
from bide.providers.base import Progress

MEDIA_TYPE = b"application/x-ndjson"
SILENT_S = 10.0

Json = dict[str, Any]


def wants_lines(operation: Operation, headers: Headers) -> bool:
    """Whether a caller wants lines, and there are any."""
    return operation.entry.lines and MEDIA_TYPE in header(headers, b"accept").lower()


class _Lines:
    """The answer, opened with its first line."""

    def __init__(self, send: Send, trace_id: str) -> None:
        self._send, self._trace_id = send, trace_id
        self.last: Json | None = None

    async def write(self, value: Json) -> None:
        if self.last is None:
            headers = [(b"content-type", MEDIA_TYPE), (b"cache-control", b"no-store"),
                       (b"x-trace-id", self._trace_id.encode("ascii"))]  # fmt: skip
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        self.last = value
        await self._send({"type": "http.response.body", "body": encode(value) + b"\n", "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})


async def single(send: Send, value: Json, trace_id: str) -> int:
    """A whole answer as one line."""
    out = _Lines(send, trace_id)
    await out.write(value)
    await out.end()
    return 200


async def lines(gateway: Gateway, wanted: Submission, accepted: Accepted, send: Send, trace_id: str) -> int:
    """Works on the task and says how far it is; answers the HTTP status."""
    out = _Lines(send, trace_id)
    telling = Telling(gateway, wanted.operation, wanted.values, accepted.task_id, wanted.trace_id, wanted.base_url,
                      wanted.callback_url)  # fmt: skip
    coming: asyncio.Queue[Json] = asyncio.Queue(maxsize=1)  # the upstream waits for a caller who reads slowly

    async def report(progress: Progress) -> None:
        value = telling.line(progress)
        await coming.put(value)
        await telling.tell(value)

    working = asyncio.create_task(ended(gateway, accepted, Watch(report=report)))
    try:
        await _follow(working, coming, out, telling.line(Progress(0)))
        response = await working
        if not response["success"] and out.last is None:
            failed = response["error"]
            return await _refuse(send, from_code(failed["code"], failed["message"]), trace_id)
        await out.write(shape.inline_answer(wanted.operation, response) if response["success"] else response)
    except GatewayError as error:
        if out.last is None:
            return await _refuse(send, error, trace_id)
        await out.write(shape.failure(accepted.task_id, wanted.trace_id, error.code, str(error)))
    finally:
        if not working.done():  # the process is stopping: the task is taken over by another
            working.cancel()
    await out.end()
    return 200


async def _follow(
    working: "asyncio.Task[Json]", coming: "asyncio.Queue[Json]", out: _Lines, nothing_yet: Json
) -> None:
    """Lines as they come, until the work is over and all of them are written."""
    while True:
        next_one = asyncio.ensure_future(coming.get())
        try:
            await asyncio.wait({working, next_one}, timeout=SILENT_S, return_when=asyncio.FIRST_COMPLETED)
            if next_one.done():
                await out.write(next_one.result())
            elif working.done():
                return
            else:
                await out.write(out.last or nothing_yet)
        finally:
            next_one.cancel()


async def _refuse(send: Send, error: GatewayError, trace_id: str) -> int:
    await send_error(send, error, trace_id)
    return error.status
