"""A real upstream on the loopback that answers what a test recorded, and a storage in memory.

`Upstream(reply)` is the server while it is open, `upstream.call()` a call to it. `outcome_of(reply)` does
both and holds what is true of every outcome; `succeeded`, `failed` and `unknown` expect one kind.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import aiohttp
import msgspec
from aiohttp import web

from bide.providers.base import (
    Call,
    Failed,
    FileTooLarge,
    Input,
    NotMedia,
    Outcome,
    Partial,
    Stored,
    Succeeded,
    Unknown,
)
from bide.providers.openai_images import submit

KEY = "sk-test-0123456789abcdef"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 5
JPEG = b"\xff\xd8\xff\xe0" + bytes(range(255, -1, -1)) * 3
PNG64, JPEG64 = base64.b64encode(PNG).decode(), base64.b64encode(JPEG).decode()
USAGE = {
    "input_tokens": 12,
    "input_tokens_details": {"text_tokens": 12, "image_tokens": 0},
    "output_tokens": 272,
    "total_tokens": 284,
}
ANSWER = {
    "created": 1795316790,
    "size": "1024x1024",
    "quality": "low",
    "background": "opaque",
    "output_format": "png",
    "data": [{"b64_json": PNG64}],
    "usage": USAGE,
}
MAGIC = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}

T = TypeVar("T")


@dataclass(frozen=True)
class Reply:
    """What the upstream does: answers `body` in these pieces, and then ends as `then` says.

    `end`: properly · `cut`: the connection is closed with bytes missing · `reset`: no answer at all ·
    `hang`: nothing more comes until the client has gone.
    """

    status: int = 200
    body: bytes | list[bytes] = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    then: str = "end"


@dataclass
class Asked:
    """One request as it arrived. `parts`: name, file name, content type and bytes of a form."""

    path: str
    headers: Mapping[str, str]
    body: bytes = b""
    parts: list[tuple[str, str | None, str, bytes]] = field(default_factory=list)

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class MemorySink:
    def __init__(self, store: "MemoryStore") -> None:
        self._store = store
        self.data = bytearray()
        self.writes = 0
        self.state = "open"

    async def write(self, data: bytes) -> None:
        assert self.state == "open"
        self.writes += 1
        self.data += data
        if len(self.data) > self._store.bytes_max:
            raise FileTooLarge

    async def close(self) -> Stored:
        assert self.state == "open"
        for magic, content_type in MAGIC.items():
            if self.data.startswith(magic):
                self.state = "closed"
                return Stored(str(self._store.sinks.index(self)), len(self.data), content_type)
        raise NotMedia

    async def abort(self) -> None:
        assert self.state == "open"
        self.state = "aborted"


class MemoryStore:
    """Every sink that was opened, in order."""

    def __init__(self, bytes_max: int = 64 * 1024 * 1024) -> None:
        self.bytes_max = bytes_max
        self.sinks: list[MemorySink] = []
        self.opened = asyncio.Event()

    def open(self) -> MemorySink:
        self.sinks.append(MemorySink(self))
        self.opened.set()
        return self.sinks[-1]

    def of(self, stored: Stored | None) -> bytes:
        assert stored is not None
        sink = self.sinks[int(stored.name)]
        assert sink.state == "closed"
        return bytes(sink.data)

    @property
    def states(self) -> list[str]:
        return [sink.state for sink in self.sinks]


class Upstream:
    """Answers every request with the same reply, or with a handler's own."""

    def __init__(
        self, reply: Reply | None = None, *, total_s: float = 20.0,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None,
    ) -> None:  # fmt: skip
        self._reply = reply or Reply()
        self._total_s = total_s
        self._handler = handler
        self.requests: list[Asked] = []
        self.store = MemoryStore()
        self.partials: list[Partial] = []
        self.came = asyncio.Event()

    @property
    def asked(self) -> int:
        return len(self.requests)

    async def __aenter__(self) -> Self:
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", self._handler or self._answer)
        self._runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/v1/"
        self.http = aiohttp.ClientSession(
            self.url, headers={"Authorization": f"Bearer {KEY}"}, read_bufsize=256 * 1024,
            timeout=aiohttp.ClientTimeout(total=self._total_s),
        )  # fmt: skip
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.http.close()
        await self._runner.cleanup()

    def call(
        self, *, capability: str = "image.generate", model: str = "gpt-image-2", inputs: tuple[Input, ...] = (),
        options: Mapping[str, Any] | None = None, watched: bool = False, partial_images: int = 0,
        answer_bytes_max: int = 64 * 1024 * 1024, **request: Any,
    ) -> Call:  # fmt: skip
        """A call to this upstream; further arguments are fields of the caller's request."""
        return Call(
            task_id="0199aaaa-0000-7000-8000-000000000001", capability=capability, model=model,
            request={"prompt": "a boat", **request}, inputs=inputs, http=self.http, key=KEY,
            options=options or {}, sink=self.store.open, answer_bytes_max=answer_bytes_max,
            progress=self._progress if watched else None, partial_images=partial_images,
        )  # fmt: skip

    async def _progress(self, partial: Partial) -> None:
        self.partials.append(partial)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        await self._record(request)
        reply = self._reply
        transport = request.transport
        assert transport is not None
        if reply.then == "reset":
            transport.abort()
            return web.Response()
        pieces = [reply.body] if isinstance(reply.body, bytes) else reply.body
        response = web.StreamResponse(status=reply.status, headers=dict(reply.headers))
        if "content-type" not in {name.lower() for name in reply.headers}:
            response.content_type = "application/json"
        if reply.then == "cut":
            response.content_length = sum(map(len, pieces)) + 1000
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(0)
        if reply.then == "cut":
            transport.close()
        elif reply.then == "hang":
            await asyncio.Event().wait()
        else:
            await response.write_eof()
        return response

    async def _record(self, request: web.Request) -> None:
        asked = Asked(request.path, dict(request.headers))
        self.requests.append(asked)
        self.came.set()
        if request.content_type != "multipart/form-data":
            asked.body = await request.read()
            return
        async for part in await request.multipart():
            assert isinstance(part, aiohttp.BodyPartReader)
            data = bytes(await part.read())
            asked.parts.append((part.name or "", part.filename, part.headers.get("Content-Type", ""), data))


def given(field_name: str, data: bytes, filename: str = "a.png", content_type: str = "image/png") -> Input:
    """A picture of the caller that is read in small pieces."""

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(data), 7000):
            yield data[at : at + 7000]

    return Input(field_name, filename, content_type, len(data), pieces)


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, 30))


def answer(document: Any, **headers: str) -> Reply:
    return Reply(200, json.dumps(document).encode(), headers)


async def ask(upstream: Upstream, **call: Any) -> Outcome:
    """Submits, and holds for every outcome: asked exactly once, no sink left open, no file unless it succeeded."""
    outcome = await submit(upstream.call(**call))
    assert upstream.asked == 1
    assert "open" not in upstream.store.states
    if not isinstance(outcome, Succeeded):
        assert "closed" not in upstream.store.states
    return outcome


def outcome_of(
    reply: Reply, *, bytes_max: int | None = None, total_s: float = 20.0, **call: Any
) -> tuple[Outcome, Upstream]:
    async def work() -> tuple[Outcome, Upstream]:
        async with Upstream(reply, total_s=total_s) as upstream:
            if bytes_max is not None:
                upstream.store.bytes_max = bytes_max
            return await ask(upstream, **call), upstream

    return run(work())


def succeeded(reply: Reply, **call: Any) -> tuple[Succeeded, Upstream]:
    outcome, upstream = outcome_of(reply, **call)
    assert isinstance(outcome, Succeeded), outcome
    return outcome, upstream


def failed(reply: Reply, **call: Any) -> Failed:
    outcome, _ = outcome_of(reply, **call)
    assert isinstance(outcome, Failed), outcome
    return outcome


def unknown(reply: Reply, **call: Any) -> Unknown:
    outcome, _ = outcome_of(reply, **call)
    assert isinstance(outcome, Unknown), outcome
    return outcome
