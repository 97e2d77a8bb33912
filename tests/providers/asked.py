"""More of `polled`: the lines of all requests, films and sounds that storage knows, and answers that say nothing.

    async with Many(answer({"id": "1"}), answer({"status": "working"})) as upstream:
        outcome = await provider.submit(upstream.film(action="generate"))
        assert upstream.lines == ["POST /v1/jobs"]
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aiohttp import web

from bide.providers.base import Absent, Call, Failed, Outcome, Pending, Succeeded, Unknown

from .polled import Polled
from .upstream import MAGIC, Reply

MP4 = b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(range(256)) * 4
MP3 = b"ID3\x04\0\0\0\0\0\0" + bytes(range(256)) * 4
MAGIC.update({MP4[:12]: "video/mp4", MP3[:4]: "audio/mpeg"})  # what storage knows besides pictures

PAGE = Reply(200, b"<html><title>Welcome</title></html>", {"Content-Type": "text/html"})
NONSENSE = (
    PAGE, Reply(200), Reply(200, b"[]"), Reply(200, b"7"), Reply(200, b'"yes"'), Reply(200, b"null"),
    Reply(200, b"[" * 100_000), Reply(200, b'{"id":', then="cut"), Reply(200, b"{}"),
    Reply(200, b'{"id":{},"name":[],"status":7,"prompt_id":1,"output":3,"steps":{}}'),
)  # fmt: skip
"""Answers that say nothing about the work."""


class Many(Polled):
    """`lines`: method, path and query of every request, in order."""

    def __init__(self, *replies: Reply, total_s: float = 20.0) -> None:
        super().__init__(*replies, total_s=total_s)
        self.lines: list[str] = []

    def film(self, *, capability: str = "video.generate", key: str | None = None, **call: Any) -> Call:
        """A call for a film of a boat; further arguments as `asks`."""
        asked = self.asks(capability=capability, **{"model": "a-model", "prompt": "a boat", **call})
        return asked if key is None else replace(asked, key=key)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.lines.append(f"{request.method} {request.path_qs}")
        return await super()._answer(request)


class Routed(Many):
    """Answers by method and path: each with its replies in order, the last for ever; else 404."""

    def __init__(self, routes: Mapping[str, Reply | list[Reply]]) -> None:
        super().__init__()
        self.routes = {name: replies if isinstance(replies, list) else [replies] for name, replies in routes.items()}

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        route = f"{request.method} {request.path.removeprefix('/v1/')}"
        replies = self.routes.get(route, [Reply(404)])
        self._replies = [replies.pop(0) if len(replies) > 1 else replies[0]]
        return await super()._answer(request)


def kind(outcome: Outcome | Absent) -> str:
    """`pending`, `succeeded`, `unknown`, `absent`, or code and scope of a failure."""
    if isinstance(outcome, Failed):
        return f"{outcome.code} {outcome.scope}"
    names = {Pending: "pending", Succeeded: "succeeded", Unknown: "unknown", Absent: "absent"}
    return names[type(outcome)]
