"""Answers that say nothing, by name, and an upstream whose answers a test computes."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from .polled import Polled
from .upstream import Reply

NONSENSE = {
    "html": Reply(200, b"<html><title>Welcome</title></html>", {"Content-Type": "text/html"}),
    "empty": Reply(200, b""),
    "list": Reply(200, b"[1,2]"),
    "null": Reply(200, b"null"),
    "number": Reply(200, b"7"),
    "wrong types": Reply(200, b'{"id":{},"request_id":[],"status":7,"progress":"x","seconds":[],"logs":{}}'),
    "cut": Reply(200, b'{"id":"a"', then="cut"),
    "reset": Reply(then="reset"),
    "deep": Reply(200, b'{"id":' * 5_000),
    "endless": Reply(200, b'"' + b"x" * 2_000_000),
}


class Handled(Polled):
    """An upstream whose answers a test computes; `asks` are methods and paths with their queries."""

    def __init__(self, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> None:
        super().__init__()
        self.seen: list[str] = []
        self._computed = handler
        self._handler = self._noted

    async def _noted(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(f"{request.method} {request.raw_path}")
        return await self._computed(request)
