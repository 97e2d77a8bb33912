"""The management API in one process, without a socket: a superuser asks, and a user who sees its own account only.

    def test_something(on_both: Settings) -> None:
        async def test(admin: Admin) -> None:
            answer = await admin.root.get("/users/")
            ...

        manage(on_both, test)

The application is the whole one (`bide.api.routes.Api`), below it everything is as in `tests.world`.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from bide.accounts import platform
from bide.accounts.store import Caller, add_credential
from bide.api.admin.access import BASE
from bide.api.answers import Message
from bide.api.routes import Api
from bide.db import Tx, write_one
from bide.settings import Settings
from tests.world import CALLER, Scripted, World, add_tenant, opened

OTHER = Caller("credential-2", "application-2", "user-2", None, False, None, "")
"""Somebody whose things `CALLER` must not see."""

BUSINESS_TOKEN = "0123456789abcdef0123456789abcdef"
"""A token of `CALLER`'s application, for the gateway; its credential has the name `hand-made`."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of an error, in the one shape of errors."""
        assert self.status >= 400, self
        assert set(self.json) == {"error", "trace_id"}, self.body
        assert set(self.json["error"]) == {"code", "message"}, self.body
        return self.json["error"]["code"]

    @property
    def message(self) -> str:
        return self.json["error"]["message"]

    @property
    def without_trace(self) -> tuple[int, Any]:
        """What an answer says, whoever it was given to and whenever."""
        return self.status, {name: value for name, value in self.json.items() if name != "trace_id"}


@dataclass(frozen=True)
class Client:
    """Sends requests with one token (empty: without any)."""

    app: Api
    token: str
    headers: tuple[tuple[bytes, bytes], ...] = ()

    async def request(
        self, method: str, path: str, body: Any = None, query: dict[str, Any] | None = None, base: str = BASE
    ) -> Answer:
        """`body` is JSON, or bytes that are sent as they are."""
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        messages: list[Message] = []

        given: list[bytes] = []

        async def receive() -> Message:
            if given:
                await asyncio.Event().wait()  # whoever asks stays until it has the answer
            given.append(raw)
            return {"type": "http.request", "body": raw}

        async def send(message: Message) -> None:
            messages.append(message)

        headers = [(b"content-type", b"application/json"), (b"host", b"gateway.test"), *self.headers]
        if self.token:
            headers.append((b"authorization", f"Bearer {self.token}".encode()))
        await self.app({
            "type": "http", "method": method, "path": base + path, "raw_path": (base + path).encode(),
            "query_string": urlencode(query or {}, doseq=True).encode(), "headers": headers, "scheme": "http",
            "http_version": "1.1", "server": ("gateway.test", 80), "client": ("127.0.0.1", 1), "root_path": "",
            "state": {},
        }, receive, send)  # fmt: skip
        sent = b"".join(message.get("body", b"") for message in messages)
        pairs = {name.decode().lower(): value.decode() for name, value in messages[0]["headers"]}
        assert pairs["x-trace-id"]
        return Answer(messages[0]["status"], pairs, sent)

    async def get(self, path: str, **query: Any) -> Answer:
        return await self.request("GET", path, query=query)

    async def post(self, path: str, body: Any = None) -> Answer:
        return await self.request("POST", path, body)

    async def patch(self, path: str, body: Any) -> Answer:
        return await self.request("PATCH", path, body)

    async def delete(self, path: str) -> Answer:
        return await self.request("DELETE", path)

    async def generate(self, **body: Any) -> Answer:
        """A picture by the gateway itself, asked for with this token."""
        wanted = {"prompt": "a paper boat", "async": True, **body}
        return await self.request("POST", "/openai/images/generations", wanted, base="")

    async def ok(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """The JSON of an answer that must be a success."""
        answer = await self.request(method, path, body, query)
        assert 200 <= answer.status < 300, answer
        return answer.json if answer.body else None


@dataclass(frozen=True)
class Admin:
    world: World
    root: Client
    """A superuser's token, which belongs to `OTHER`."""
    mine: Client
    """An ordinary token of `CALLER`'s."""
    nobody: Client
    """No token."""

    def with_token(self, token: str) -> Client:
        return Client(self.root.app, token)

    @property
    def app(self) -> Api:
        return self.root.app

    @property
    def turns_taken(self) -> bool:
        """Whether a request of somebody has the turn."""
        return bool(self.app._turns._lines)


async def _seed(tx: Tx, world: World, tokens: tuple[str, str]) -> None:
    await add_tenant(tx, CALLER)
    await add_tenant(tx, OTHER)
    await platform.add(tx, world.clock, OTHER.user_id, tokens[0], superuser=True)
    await platform.add(tx, world.clock, CALLER.user_id, tokens[1], superuser=False)
    await add_credential(tx, world.clock, CALLER.application_id, CALLER.user_id, "hand-made", BUSINESS_TOKEN)


def manage(settings: Settings, test: Callable[[Admin], Awaitable[None]], *upstreams: Scripted, **more: Any) -> None:
    """Runs a test in a gateway of its own."""

    async def inside() -> None:
        async with opened(settings, *(upstreams or (Scripted(),)), **more) as world:
            tokens = platform.new_token(world.clock), platform.new_token(world.clock)
            await write_one(world.gateway.db, lambda tx: _seed(tx, world, tokens))
            app = Api(world.gateway)
            await test(Admin(world, Client(app, tokens[0]), Client(app, tokens[1]), Client(app, "")))

    asyncio.run(inside())
