"""A gateway in one process whose upstreams and clock a test holds in its hands.

    def test_something(on_both: Settings) -> None:
        upstream = Scripted(Pending("up-1", 5.0), poll=[done])

        async def test(world: World) -> None:
            task_id = await world.submit()
            await world.work()
            ...

        run(on_both, test, upstream)

Everything but the upstream is the real thing: database, storage, address guard, HTTP client. The clock stands
still until a test moves it, so a lease ends, a poll is due or a deadline passes exactly when the test says so.
"""

import asyncio
import contextlib
import io
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import structlog.testing
from PIL import Image

from bide.accounts.limits import LIFTED
from bide.accounts.store import Caller
from bide.app import open_gateway
from bide.callbacks import store as deliveries
from bide.callbacks.hosts import Hosts
from bide.callbacks.store import Owed
from bide.channels.load import Channel, Channels
from bide.clock import Clock, uuid7
from bide.credits import ledger
from bide.credits.pricing import MICRO
from bide.db import Tx, write_one
from bide.flow import callback, poll, submit, work
from bide.flow.settle import Ending
from bide.flow.submit import Accepted, Submission
from bide.flow.work import Watch
from bide.gateway import Gateway
from bide.providers.base import Asset, Call, Outcome, Succeeded
from bide.settings import ChannelSettings, Settings
from bide.tasks import attempts, inspect, store
from bide.tasks.store import Work

_TRUE_CHANCE = random.SystemRandom()
START_MS = 1_764_000_000_125
LEASE_S = 60.0
"""Longer than any test: a lease ends because the test moves the clock, and never by itself."""

CALLER = Caller("credential-1", "application-1", "user-1", None, False, None, "", limits=LIFTED)


CREDIT = 1_000 * MICRO


async def add_tenant(tx: Tx, caller: Caller, credit: int = CREDIT) -> None:
    """The rows behind a caller, with micro-credits to spend; what it may do is in the caller itself."""
    user, application = caller.user_id, caller.application_id
    if await tx.rows("SELECT 1 FROM applications WHERE id = $1", application):
        return
    if not await tx.rows("SELECT 1 FROM users WHERE id = $1", user):
        await tx.run("INSERT INTO users (id, name, created_at) VALUES ($1, $1, $2)", user, START_MS)
    await tx.run(
        "INSERT INTO applications (id, user_id, name, scope, service, created_at, updated_at)"
        " VALUES ($1, $2, $1, $3, $4, $5, $5)",
        application, user, "Individual" if caller.service else "Global", caller.service, START_MS,
    )  # fmt: skip
    await ledger.grant(tx, f"grant-{application}", application, credit, START_MS, "a test")


def png(side: int = 2) -> bytes:
    """A small real picture."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), "teal").save(file, "PNG")
    return file.getvalue()


PNG = png()


class StillClock(Clock):
    """Time that passes only when it is told to, or when somebody sleeps. Chance is in the middle."""

    def __init__(self) -> None:
        self.now, self.slept = START_MS, list[float]()
        self.luck = 0.5

    def now_ms(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.now / 1000

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.pass_s(seconds)
        await asyncio.sleep(0)

    def chance(self) -> float:
        return self.luck

    # Ids stay unique when hypothesis seeds the shared generator anew for each example.

    def lease_id(self) -> int:
        return _TRUE_CHANCE.getrandbits(62)

    def new_id(self, at_ms: int) -> str:
        return uuid7(at_ms, _TRUE_CHANCE.getrandbits(74))

    def pass_s(self, seconds: float) -> None:
        self.now += round(seconds * 1000)


class PassingClock(StillClock):
    """The real time, for tests that run the worker's own loops."""

    def now_ms(self) -> int:
        return Clock.now_ms(self)

    def monotonic(self) -> float:
        return Clock.monotonic(self)

    async def sleep(self, seconds: float) -> None:
        await Clock.sleep(self, seconds)


Answer = Outcome | Exception | Callable[[Call], Awaitable[Outcome]]


async def picture(call: Call, data: bytes = PNG, **about: Any) -> Asset:
    """A picture written to where the call says."""
    sink = call.sink()
    await sink.write(data)
    return Asset(stored=await sink.close(), about=about)


async def done(call: Call) -> Outcome:
    """The picture, at once."""
    return Succeeded((await picture(call),))


class Scripted:
    """An upstream that answers what it was told to, in order, then `done`; it remembers what it was asked.

    An answer is an outcome, an exception to raise, or a function of the call.
    """

    CAPABILITIES = frozenset({"image.generate", "image.edit"})

    def __init__(
        self, *submit: Answer, poll: Iterable[Answer] = (), name: str = "first", takes_our_id: bool = False,
        base_url: str = "http://127.0.0.1:9", **settings: Any,
    ) -> None:  # fmt: skip
        self.TAKES_OUR_ID = takes_our_id
        self.settings = ChannelSettings(name=name, provider="scripted", base_url=base_url, **settings)
        self.calls: list[Call] = []
        self.polls: list[str] = []
        self._submit, self._poll = list(submit), list(poll)

    @property
    def submitted(self) -> list[str]:
        """Task ids in the order in which they were submitted."""
        return [call.task_id for call in self.calls]

    async def submit(self, call: Call) -> Outcome:
        self.calls.append(call)
        return await _answer(self._submit.pop(0) if self._submit else done, call)

    async def poll(self, call: Call, upstream_id: str) -> Outcome:
        self.polls.append(upstream_id)
        return await _answer(self._poll.pop(0) if self._poll else done, call)

    def channel(self, gateway: Gateway) -> Channel:
        one = self.settings
        session = gateway.outbound.channel_session(one.base_url, "a-key", one.timeout_s)
        can = frozenset(one.capabilities) or self.CAPABILITIES
        return Channel(one, self, can, "a-key", one.options, session, applications=frozenset(one.applications))


async def _answer(answer: Answer, call: Call) -> Outcome:
    if isinstance(answer, Exception):
        raise answer
    return await answer(call) if callable(answer) else answer


class Held:
    """An answer that is held back until the test lets it `go`; `asked` is set when it is waited for."""

    def __init__(self, answer: Answer = done) -> None:
        self.answer = answer
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def __call__(self, call: Call) -> Outcome:
        self.asked.set()
        await self.go.wait()
        return await _answer(self.answer, call)


@dataclass
class World:
    """One process of the gateway, and what a test does with it."""

    gateway: Gateway
    clock: StillClock
    hosts: Hosts
    documents: poll.Documents
    logs: list[Any]
    caller: Caller = field(default=CALLER)
    seeded: set[str] = field(default_factory=set)
    """Applications that are there."""
    seeding: asyncio.Lock = field(default_factory=asyncio.Lock)

    # -- the verbs, one pass each

    async def submit(self, callback_url: str | None = None, *, trace_id: str = "a-trace", **body: Any) -> str:
        """A task for a caller that does not wait; answers its id."""
        return (await self.accept(callback_url, trace_id=trace_id, **body)).task_id

    async def accept(
        self, callback_url: str | None = None, *, waits: bool = False, trace_id: str = "a-trace",
        operation: str = "images/generations", caller: Caller | None = None, key: str | None = None, **body: Any,
    ) -> Accepted:  # fmt: skip
        body = {"prompt": "a paper boat", **body}
        if callback_url is not None:
            body["callback_url"] = callback_url
        found = self.gateway.catalog.operation("openai", operation)
        await self.seed(caller or self.caller)
        return await submit.submit(self.gateway, Submission(
            caller=caller or self.caller, operation=found, values=dict(found.check(body)),
            request=msgspec.json.encode(body), uploads=None, trace_id=trace_id, base_url="http://gateway.test",
            waits=waits, callback_url=callback_url, idempotency_key=key, body_hash=json.dumps(body) if key else "",
        ))  # fmt: skip

    async def seed(self, caller: Caller, credit: int = CREDIT) -> None:
        """Sees to it that a caller's application is there."""
        async with self.seeding:  # of several at once the first does it, and the others wait until it is done
            if caller.application_id not in self.seeded:
                await write_one(self.gateway.db, lambda tx: add_tenant(tx, caller, credit))
                self.seeded.add(caller.application_id)

    async def work(self) -> list[Ending | None]:
        """Claims what is due and works on it until all of it has ended or waits."""
        claimed = await work.work_once(self.gateway, 100)
        return list(await asyncio.gather(*(work.run(self.gateway, one) for one in claimed)))

    async def wait_for(self, accepted: Accepted, watch: Watch | None = None) -> Ending | None:
        """Works on the task of a caller that waits."""
        assert accepted.work is not None
        return await work.run(self.gateway, accepted.work, watch=watch or Watch(), fresh=accepted.fresh)

    async def deliver(self) -> int:
        """Sends the callbacks that are due; answers how many."""
        started: list[Owed] = []
        await callback.deliver_once(self.gateway, self.hosts, started.append)
        await asyncio.gather(*(callback.deliver(self.gateway, self.hosts, owed) for owed in started))
        return len(started)

    # -- workers that die

    async def claim(self) -> list[Work]:
        """Claims what is due for a worker of another process, which dies: nobody keeps its leases."""
        gateway = self.gateway
        lease = store.Lease(gateway.clock.lease_id(), gateway.task_leases.until())
        return await gateway.db.write(store.claim, store.Claim(gateway.clock.now_ms(), 100, lease))

    async def claim_one(self) -> Work:
        (claimed,) = await self.claim()
        return claimed

    async def claim_deliveries(self) -> list[Owed]:
        """Claims the callbacks that are due for a worker of another process, which dies."""
        gateway, hosts = self.gateway, Hosts(1000)
        claim = deliveries.ClaimDeliveries(gateway.clock.now_ms(), 100, gateway.clock.lease_id(),
                                           gateway.delivery_leases.until(), hosts.room, hosts.put_off_ms)  # fmt: skip
        claimed, _more = await gateway.db.write(deliveries.claim, claim)
        return claimed

    async def open_attempt(self, claimed: Work, channel: str = "first") -> None:
        """What a worker writes down before it asks."""
        item = (claimed.task.id, claimed.lease_id, channel, self.clock.now_ms())
        assert await self.gateway.db.write(store.open_attempts, item)

    def leases_end(self) -> None:
        self.clock.pass_s(LEASE_S + 0.001)

    # -- what is there

    async def document(self, task_id: str) -> dict[str, Any]:
        """What a poll answers now."""
        fresh = poll.Documents(0)
        return json.loads(await as_bytes(await poll.retrieve(self.gateway, fresh, "user-1", "openai", task_id, "")))

    async def ended(self, task_id: str) -> dict[str, Any]:
        """The stored response, of an inline call too."""
        found = await store.ending(self.gateway.db, task_id)
        assert found is not None
        return json.loads(found[1])

    async def response(self, task_id: str) -> dict[str, Any]:
        return (await self.document(task_id))["response"]

    async def error(self, task_id: str) -> str:
        """The error code a task ended with."""
        response = await self.response(task_id)
        assert response["success"] is False
        return response["error"]["code"]

    async def queued(self, task_id: str) -> "Queued | None":
        """The row of an open task."""
        row = await inspect.open_attempt(self.gateway.db, task_id)
        return None if row is None else Queued(*row)

    async def attempts(self, task_id: str) -> list[tuple[str, str]]:
        """Channel and outcome of each attempt that is over."""
        return [(one.channel, one.outcome) for one in await attempts.of_task(self.gateway.db, task_id)]

    def files(self) -> list[Path]:
        """Every result in storage."""
        root = Path(self.gateway.settings.data_dir) / "files"
        return [path for path in root.rglob("*") if path.is_file()]


@dataclass(frozen=True)
class Queued:
    """A row of `queue`."""

    state: str
    due_at: int
    lease_id: int | None
    deadline_at: int
    attempts: int
    channel: str | None
    upstream_id: str | None
    asked_at: int | None


async def as_bytes(found: "bytes | poll.Base64") -> bytes:
    """A document without the pictures that would be filled in."""
    return found if isinstance(found, bytes) else found.body


@contextlib.asynccontextmanager
async def opened(
    settings: Settings, *upstreams: Scripted, clock: StillClock | None = None, **more: Any
) -> AsyncIterator[World]:
    """A process of its own on the settings' database. `more` are further settings."""
    nobody = ChannelSettings(name="unused", provider="openai_images", base_url="http://127.0.0.1:9")
    settings = msgspec.structs.replace(settings, **{"channels": (nobody,), "lease_s": LEASE_S, **more})
    clock = clock or StillClock()
    with structlog.testing.capture_logs() as logs:
        async with open_gateway(settings, clock) as gateway:
            channels = [one.channel(gateway) for one in upstreams]
            gateway = replace(gateway, channels=Channels(channels, clock))
            hosts = Hosts(gateway.settings.callback_concurrency)
            yield World(gateway, clock, hosts, poll.Documents(gateway.settings.cache_bytes_max), logs)


def run(
    settings: Settings, test: Callable[[World], Awaitable[None]], *upstreams: Scripted, **more: Any
) -> None:
    """Runs a test in a world of its own; without upstreams there is one that always answers a picture."""

    async def inside() -> None:
        async with opened(settings, *(upstreams or (Scripted(),)), **more) as world:
            await test(world)

    asyncio.run(inside())


async def until(condition: Callable[[], Awaitable[bool]], seconds_max: float = 10.0) -> None:
    """Waits for something that is bound to become true; fails if it does not."""
    async with asyncio.timeout(seconds_max):
        while not await condition():  # noqa: ASYNC110 (what is waited for is often a row)
            await asyncio.sleep(0.005)


# -- receivers


@dataclass(frozen=True)
class Posted:
    """One request that a receiver got."""

    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        return json.loads(self.raw)


class Receiver:
    """A server on loopback that remembers what it got. `answers` are given in order, then 200."""

    def __init__(self, *answers: str) -> None:
        self.got: list[Posted] = []
        self.answers = list(answers)
        self.hangs = False
        self.arrived = asyncio.Event()
        self.url = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        raw = await reader.readexactly(int(headers.get("content-length", "0")))
        self.got.append(Posted(headers, raw))
        self.arrived.set()
        if self.hangs:
            await asyncio.Event().wait()
        status = self.answers.pop(0) if self.answers else "200 OK"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()


@contextlib.asynccontextmanager
async def serving(handler: Callable[..., Awaitable[None]]) -> AsyncIterator[str]:
    """A raw server on loopback: `handler` is called once for each connection. Yields its address."""
    under_way: set[asyncio.Task[Any]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        under_way.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await handler(reader, writer)
        finally:
            under_way.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=1024)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(under_way):
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


@contextlib.asynccontextmanager
async def receiving(*answers: str, hangs: bool = False) -> AsyncIterator[Receiver]:
    """A receiver of callbacks; `answers` look like `503 Busy`, or `429 Slow\\r\\nRetry-After: 7`."""
    receiver = Receiver(*answers)
    receiver.hangs = hangs
    async with serving(receiver.handle) as address:
        receiver.url = f"{address}/hook"
        yield receiver
