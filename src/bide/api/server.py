"""The HTTP server: uvicorn, with a deadline for requests that do not arrive.

uvicorn bounds the time between requests, but not the time a request takes to arrive. A connection that sends
nothing, drips its headers or stops in the middle of its body is closed here: the clock starts when the
connection or a message begins, and large bodies get a second more for each 256 KiB that did arrive.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bide.api.answers import envelope
from bide.clock import Clock
from bide.errors import BadRequest, GatewayError, RequestTimeout, RequestTooLarge

HEAD_BYTES_MAX = 64 * 1024
BYTES_PER_SECOND = 256 * 1024
LOOK_EVERY_S = 5.0

_REASONS = {400: b"Bad Request", 408: b"Request Timeout", 413: b"Content Too Large"}


class Protocol(HttpToolsProtocol):
    """One connection, with the time since when a request is awaited."""

    began = 0.0
    received = 0
    unfinished = True
    in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.began = self.loop.time()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.received += len(data)  # after: a message that begins in these bytes has set it to nothing
        if self.in_head and self.received > HEAD_BYTES_MAX:
            self.refuse(RequestTooLarge(f"The request's head has more than {HEAD_BYTES_MAX:,} bytes."))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.began, self.received, self.unfinished, self.in_head = self.loop.time(), 0, True, True

    def on_headers_complete(self) -> None:
        self.in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.unfinished = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What is not HTTP gets the envelope too."""
        self.refuse(BadRequest("The request is not valid HTTP."))

    def expire(self, now: float, read_s: float) -> None:
        """Closes the connection if its request is overdue. A request that waits behind another is not late."""
        if self.unfinished and not self.pipeline and now - self.began > read_s + self.received / BYTES_PER_SECOND:
            self.refuse(RequestTimeout())

    def refuse(self, error: GatewayError) -> None:
        """Answers, if nothing was answered yet, and closes."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            clock = Clock()
            trace_id = clock.new_id(clock.now_ms())
            body = envelope(error, trace_id)
            self.transport.write(
                b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nx-trace-id: %s\r\n"
                b"connection: close\r\n\r\n%s"
                % (error.status, _REASONS[error.status], len(body), trace_id.encode(), body)
            )
        self.transport.close()


async def close_overdue(connections: set[Any], read_s: float) -> None:
    """Looks at all connections from time to time, for ever: no timer per request."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(min(LOOK_EVERY_S, read_s / 2))
        now = loop.time()
        for connection in list(connections):
            connection.expire(now, read_s)
