"""Services as their callers see them: the whole application in one process, and the sandbox behind it.

    def test_something(on_both: Settings) -> None:
        async def test(shop: Shop) -> None:
            answer = await shop.ask("/veo/videos", prompt="a boat")
            ...

        serve(on_both, test)

Every answer is held against the gateway's own OpenAPI document. The clock stands still (see `tests.world`).
"""

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog.testing
from PIL import Image

from bide.accounts.store import Caller, add_credential
from bide.api.openapi import document
from bide.api.routes import Api
from bide.app import open_gateway
from bide.callbacks.hosts import Hosts
from bide.credits import audit
from bide.db import Tx, write_one
from bide.flow import poll
from bide.flow.results import FILES
from bide.providers.media import video
from bide.settings import Settings
from tests.api.admin.world import Answer, Client
from tests.contract import check_answer
from tests.world import CALLER, StillClock, World, add_tenant

OTHER = Caller("credential-2", "application-2", "user-2", None, False, None, "")
TOKENS = {"credential-1": "0123456789abcdef0123456789abcdef", "credential-2": "fedcba9876543210fedcba9876543210"}
"""Of the caller, and of somebody else."""
LIFTED = b'{"*":{"submits_per_s":0,"polls_per_s":0,"concurrent":0}}'


@dataclass(frozen=True)
class Shop:
    world: World
    mine: Client
    theirs: Client
    document: dict[str, Any]

    async def ask(self, path: str, client: Client | None = None, **body: Any) -> Answer:
        """One request; its answer is as the document says."""
        answer = await (client or self.mine).request("POST", path, body, base="")
        check_answer(self.document, "POST", path, answer.status, answer.headers, answer.body)
        return answer

    async def refused(self, path: str, **body: Any) -> str:
        """The sentence with which a request is refused as bad."""
        answer = await self.ask(path, **body)
        assert (answer.status, answer.code) == (400, "bad_request"), answer
        return answer.message

    async def work(self) -> None:
        """Works until nothing is due any more, waiting included."""
        for _ in range(20):
            if not await self.world.work():
                return
            self.world.clock.pass_s(5)
        raise AssertionError("it never ends")

    async def task(self, path: str, **body: Any) -> dict[str, Any]:
        """The document of a task that has ended, made by a request that does not wait."""
        answer = await self.ask(path, **{"async": True, **body})
        assert answer.status == 200, answer
        await self.work()
        return await self.retrieve(path, answer.json["task_id"])

    async def retrieve(self, path: str, task_id: str) -> dict[str, Any]:
        found = (await self.ask(f"/{path.split('/')[1]}/tasks", id=task_id)).json
        assert isinstance(found, dict)
        return found

    async def made(self, path: str, **body: Any) -> dict[str, Any]:
        """The response of a task that succeeded."""
        response = (await self.task(path, **body))["response"]
        assert response["success"] is True, response
        return response

    async def file(self, url: str) -> bytes:
        """A file by its address, as anybody gets it."""
        assert url.startswith("http://gateway.test/files/"), url
        opened_file = await self.world.gateway.storage.open(url.partition(FILES)[2])
        assert opened_file is not None
        return b"".join([chunk async for chunk in opened_file.chunks(0, opened_file.size)])

    async def film(self, url: str) -> video.Film:
        found = video.probe(await self.file(url))
        assert found is not None
        return found

    async def picture(self, url: str) -> Image.Image:
        return Image.open(io.BytesIO(await self.file(url)))

    async def charged(self) -> float:
        """Credits that were charged so far, all books proven."""
        report = await audit.audit(self.world.gateway.db, self.world.clock.now_ms())
        assert report.count == 0, report.problems
        rows = await self.world.gateway.db.rows("SELECT sum(deducted_amount) FROM usage")
        return int(rows[0][0] or 0) / 1_000_000


async def _seed(tx: Tx, world: World) -> None:
    for caller in (CALLER, OTHER):
        await add_tenant(tx, caller)
        await tx.run("UPDATE applications SET limits = $2 WHERE id = $1", caller.application_id, LIFTED.decode())
        await add_credential(tx, world.clock, caller.application_id, caller.user_id, caller.user_id,
                             TOKENS[caller.credential_id])  # fmt: skip


def serve(settings: Settings, test: Callable[[Shop], Awaitable[None]], **more: Any) -> None:
    """Runs a test with a gateway of its own. `more` are further settings."""

    async def inside() -> None:
        changed, clock = msgspec.structs.replace(settings, **more), StillClock()
        with structlog.testing.capture_logs() as logs:
            async with open_gateway(changed, clock) as gateway:
                world = World(gateway, clock, Hosts(changed.callback_concurrency), poll.Documents(0), logs)
                await write_one(gateway.db, lambda tx: _seed(tx, world))
                app, described = Api(gateway), json.loads(json.dumps(document(gateway.catalog, changed, "1")))
                mine, theirs = (Client(app, token) for token in TOKENS.values())
                await test(Shop(world, mine, theirs, described))

    asyncio.run(inside())
