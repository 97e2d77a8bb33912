"""The HTTP server: uvicorn, with a deadline for requests that do not arrive.

uvicorn bounds the time between requests, but not the time a request takes to arrive. A connection that sends
nothing, drips its headers or stops in the middle of its body is closed here: the clock starts when the
connection or a message begins, and large bodies get a second more for each 256 KiB that did arrive. What a
connection can make this process keep is bounded too: heads, trailers, and requests sent ahead.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bide.api.answers import envelope
from bide.clock import Clock
from bide.errors import BadRequest, GatewayError, RequestTimeout, RequestTooLarge, TooManyRequests

HEAD_BYTES_MAX = 64 * 1024
BYTES_PER_SECOND = 256 * 1024
PIPELINE_MAX = 32
"""Requests that wait behind another on one connection."""
LOOK_EVERY_S = 5.0

_REASONS = {400: b"Bad Request", 408: b"Request Timeout", 413: b"Content Too Large", 429: b"Too Many Requests"}


class Protocol(HttpToolsProtocol):
    """One connection, with the time since when a request is awaited.

    Nothing that arrives once the connection is being closed is parsed or kept.
    """

    began = 0.0
    answered = 0.0
    received = 0
    idle_bytes = 0
    moved = False
    unfinished = True
    in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.began = self.loop.time()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self.moved = False
        super().data_received(data)
        self.received += len(data)  # after: a message that begins in these bytes has set it to nothing
        # Heads, trailers, chunk extensions and empty lines: the parser may keep them until they are complete.
        self.idle_bytes = 0 if self.moved else self.idle_bytes + len(data)
        if self.idle_bytes > HEAD_BYTES_MAX:
            self.refuse(RequestTooLarge(f"The request's head has more than {HEAD_BYTES_MAX:,} bytes."))

    # Called by the parser, several times for one piece of data: each has to look whether the end has come.

    def on_message_begin(self) -> None:
        if self.transport.is_closing():
            return
        super().on_message_begin()
        self.began, self.received, self.unfinished, self.in_head = self.loop.time(), 0, True, True

    def on_url(self, url: bytes) -> None:
        if not self.transport.is_closing():
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Trailers come here too, after the head: nobody reads them, so they are not kept."""
        if self.in_head and not self.transport.is_closing():
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.transport.is_closing():
            return
        self.in_head, self.moved = False, True
        super().on_headers_complete()
        if len(self.pipeline) > PIPELINE_MAX:
            self.refuse(TooManyRequests())

    def on_body(self, body: bytes) -> None:
        if not self.transport.is_closing():
            self.moved = True
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.transport.is_closing():
            self.unfinished, self.moved = False, True
            super().on_message_complete()

    def on_response_complete(self) -> None:
        self.answered = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """What is not HTTP gets the envelope too."""
        self.refuse(BadRequest("The request is not valid HTTP."))

    def _unsupported_upgrade_warning(self) -> None:
        """The request is answered as if it asked for no other protocol; what follows it cannot be read."""
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def expire(self, now: float, read_s: float) -> None:
        """Closes the connection if its request is overdue, or the next one does not come.

        A request that waits behind another is not late. uvicorn's own timer for idle connections is stopped by
        any byte, an empty line too.
        """
        if self.pipeline:
            return
        if self.unfinished:
            if now - self.began > read_s + self.received / BYTES_PER_SECOND:
                self.refuse(RequestTimeout())
            return
        answered = self.cycle is not None and self.cycle.response_complete
        if answered and now - self.answered > self.timeout_keep_alive:
            self.transport.close()

    def refuse(self, error: GatewayError) -> None:
        """Answers, if nothing was answered yet, and closes."""
        if self.transport.is_closing():
            return
        # With a pipeline, the answer that is due is that of an earlier request and may be half sent.
        if not self.pipeline and (
            self.cycle is None or self.cycle.response_complete or not self.cycle.response_started
        ):
            clock = Clock()
            trace_id = clock.new_id(clock.now_ms())
            body = envelope(error, trace_id)
            self.transport.write(
                b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nx-trace-id: %s\r\n"
                b"connection: close\r\n\r\n%s"
                % (error.status, _REASONS[error.status], len(body), trace_id.encode(), body)
            )
        for cycle in (self.cycle, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True  # nothing more is sent after this
                cycle.message_event.set()
        self.pipeline.clear()
        self.transport.close()


async def close_overdue(connections: set[Any], read_s: float) -> None:
    """Looks at all connections from time to time, for ever: no timer per request."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(min(LOOK_EVERY_S, read_s / 2))
        now = loop.time()
        for connection in list(connections):
            connection.expire(now, read_s)
