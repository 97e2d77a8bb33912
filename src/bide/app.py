"""Where the parts are put together: the gateway, the server that answers, the worker that works.

`bide serve` runs both in one process; `bide api` and `bide worker` one each. All state is in the database, so
a process that is killed at any moment loses nothing: what it held is due again.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn

from bide import db as database
from bide import metrics
from bide.api.routes import Api
from bide.api.server import Protocol, close_overdue
from bide.callbacks import store as callbacks
from bide.callbacks.hosts import Hosts
from bide.callbacks.signing import keys
from bide.catalog.load import of_settings as load_catalog
from bide.channels.follow import Follower
from bide.channels.load import load as load_channels
from bide.clock import Clock
from bide.credits import audit
from bide.db import DatabaseError, write_one
from bide.db.migrate import prepare
from bide.flow import callback, expected, sweep, work
from bide.flow.slots import HandOut
from bide.gateway import Gateway, Leases, Together
from bide.log import log
from bide.outbound.client import Outbound
from bide.providers import registry
from bide.rates import open_rates
from bide.settings import Settings, SettingsError
from bide.storage import open_storage
from bide.storage.spool import Spool
from bide.tasks import store, waiting

SPOOLED = 4 * 1024 * 1024
"""Bytes of one spooled file that stay in memory, as long as all of them together have no more than 16 times that."""

AUDIT_FIRST_S = 60.0
"""The first audit comes soon after the start, when a crash may have been the reason for it."""


@contextlib.asynccontextmanager
async def open_gateway(
    settings: Settings, clock: Clock | None = None, provider: str = ""
) -> AsyncIterator[Gateway]:
    """All parts of one process, opened in order and closed in reverse. `provider`: it works for its channels alone.
    Raises `GatewayError` with a sentence."""
    if provider and not getattr(registry.find(provider), "APART", False):
        raise SettingsError(f"{provider} has no worker of its own: every worker works for its channels")
    clock = clock or Clock()
    try:
        keys(settings.webhook_secret)
    except ValueError as error:
        raise SettingsError(f"BIDE_WEBHOOK_SECRET: {error}") from None
    async with contextlib.AsyncExitStack() as stack:
        db = await database.connect(settings)
        stack.push_async_callback(db.close)
        try:
            await prepare(db, clock)
        except db.errors as error:
            raise DatabaseError(f"The database cannot be prepared: {error}") from error
        outbound = Outbound(settings, clock)
        stack.push_async_callback(outbound.close)
        storage = open_storage(settings, clock)
        stack.push_async_callback(storage.close)
        spool = Spool(Path(settings.data_dir) / "spool", clock, memory_max=SPOOLED, memory_total_max=16 * SPOOLED)
        stack.push_async_callback(spool.close)
        rates = await open_rates(settings, clock)
        stack.push_async_callback(rates.close)
        background = _Background()
        stack.push_async_callback(background.cancel)
        gateway = Gateway(
            settings=settings, clock=clock, db=db, outbound=outbound, catalog=load_catalog(settings), storage=storage,
            spool=spool, channels=load_channels(settings, outbound, clock), rates=rates,
            task_leases=Leases(partial(db.write, store.extend), clock, settings.lease_s),
            delivery_leases=Leases(partial(db.write, callbacks.extend), clock, settings.lease_s),
            entries=Together(lambda entries: write_one(db, lambda tx: waiting.enter(tx, entries))), provider=provider,
        )  # fmt: skip
        follower = Follower(settings, db, outbound, clock, gateway.channels)
        await follower.look()
        stack.push_async_callback(_close_providers, gateway)
        background.spawn(_again(partial(_keep_leases, gateway)))
        background.spawn(_again(partial(_learn_durations, gateway)))
        background.spawn(_again(follower.follow))
        yield gateway


async def _close_providers(gateway: Gateway) -> None:
    """Ends what providers keep running beside this process."""
    for provider in {id(one.provider): one.provider for one in gateway.channels.all}.values():
        if (close := getattr(provider, "close", None)) is not None:
            await close()


class _Background:
    """Tasks of the event loop that nobody awaits; what goes wrong in one is logged, never lost."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background work failed", exc_info=error)

    async def finish(self, seconds_max: float) -> None:
        """Waits for all of it, or for so long."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=max(seconds_max, 0.0))

    async def cancel(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*list(self._tasks), return_exceptions=True)


class Worker:
    """Works on tasks and delivers callbacks until it is stopped. One for a provider works on its tasks alone, one
    at a time."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._hosts = Hosts(gateway.settings.callback_concurrency)
        self._draining, self._stopping, self._until = False, False, 0.0
        self._tasks, self._deliveries, self._loops = _Background(), _Background(), _Background()

    def start(self) -> None:
        gateway = self._gateway
        gateway.db.on_wake("tasks", gateway.tasks_due.now)
        gateway.db.on_wake("deliveries", gateway.deliveries_due.now)
        loops = [self._work, self._hand_out, self._deliver, self._sweep, self._sweep_orphans, self._audit]
        for loop in loops[:1] if gateway.provider else loops:
            self._loops.spawn(_again(loop))

    def drain(self) -> None:
        """Takes no new task from now on; callbacks are still delivered until `stop`. The grace time begins."""
        if not self._draining:
            self._until = asyncio.get_running_loop().time() + self._gateway.settings.stop_grace_s
        self._draining = True
        self._gateway.tasks_due.now()

    async def stop(self) -> None:
        """Finishes what it holds. What is not done in time is left: with its lease given back if nobody is being
        asked, so that another worker takes it at once, else until the lease ends."""
        gateway, loop = self._gateway, asyncio.get_running_loop()
        self.drain()
        await self._tasks.finish(self._until - loop.time())
        self._stopping = True
        gateway.deliveries_due.now()
        await self._deliveries.finish(self._until - loop.time())
        now = gateway.clock.now_ms()
        tasks, deliveries = gateway.task_leases.held(now), gateway.delivery_leases.held(now)
        for left in (self._loops, self._tasks, self._deliveries):
            await left.cancel()
        with contextlib.suppress(DatabaseError):
            await gateway.db.write(store.release, tasks)
            await gateway.db.write(callbacks.release, deliveries)

    # The loops. One pass of each is a function of `bide.flow`, which is what tests call.

    async def _work(self) -> None:
        gateway = self._gateway
        most = 1 if gateway.provider else gateway.settings.worker_concurrency
        while not self._draining:
            free = most - len(self._tasks)
            claimed = await work.work_once(gateway, free) if free > 0 else []
            for one in claimed:
                self._tasks.spawn(self._run(one, wake=free <= len(claimed)))
            if len(claimed) < work.CLAIM_MAX:
                await gateway.tasks_due.wait(gateway.settings.worker_poll_s)

    async def _run(self, one: store.Work, *, wake: bool) -> None:
        """Runs a task; a worker that was full looks for the next when it is done."""
        try:
            await work.run(self._gateway, one)
        finally:
            if wake:
                self._gateway.tasks_due.now()

    async def _hand_out(self) -> None:
        gateway, hand_out = self._gateway, HandOut(self._gateway)
        while not self._stopping:
            if not await hand_out.once():
                await gateway.slots_free.wait(gateway.settings.worker_poll_s)

    async def _deliver(self) -> None:
        gateway, hosts = self._gateway, self._hosts
        while not self._stopping:
            if not await callback.deliver_once(gateway, hosts, self._start_delivery):
                await gateway.deliveries_due.wait(gateway.settings.worker_poll_s)

    def _start_delivery(self, owed: callbacks.Owed) -> None:
        self._deliveries.spawn(callback.deliver(self._gateway, self._hosts, owed))

    async def _sweep(self) -> None:
        clock = self._gateway.clock
        while not self._stopping:
            more = await sweep.sweep_once(self._gateway)
            await clock.sleep(sweep.PAUSE_S if more else sweep.EVERY_S * (0.5 + clock.chance()))

    async def _sweep_orphans(self) -> None:
        clock = self._gateway.clock
        while not self._stopping:
            await clock.sleep(sweep.ORPHANS_EVERY_S * (0.5 + clock.chance()))
            await sweep.sweep_orphans_once(self._gateway)

    async def _audit(self) -> None:
        """Proves the books of what ended since the time before, and of all that is open."""
        db, clock, every_s = self._gateway.db, self._gateway.clock, self._gateway.settings.audit_s
        if not every_s:
            return
        since = await audit.horizon(db, clock.now_ms() - int(2000 * every_s))
        await clock.sleep(min(every_s, AUDIT_FIRST_S) * (0.5 + clock.chance()))
        while not self._stopping:
            now = clock.now_ms()
            begin, since = since, await audit.horizon(db, now)
            report = await audit.audit(db, now, begin)
            metrics.audit({name: check.problems for name, check in report.checks.items()}, now / 1000)
            for problem in report.problems:
                log.error("the books are wrong", check=problem.check, what=problem.what, detail=problem.detail)
            await clock.sleep(every_s * (0.5 + clock.chance()))


async def _keep_leases(gateway: Gateway) -> None:
    while True:
        await asyncio.sleep(gateway.settings.lease_s / 3)
        await gateway.task_leases.keep()
        await gateway.delivery_leases.keep()


async def _learn_durations(gateway: Gateway) -> None:
    while True:
        await asyncio.sleep(expected.EVERY_S * (0.5 + gateway.clock.chance()))
        await expected.exchange_once(gateway)


async def _again(loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """A loop that goes on after an error, such as a database that is gone for a while."""
    while True:
        try:
            return await loop()
        except Exception:
            log.exception("loop failed")
            await asyncio.sleep(1)


# -- processes


class _Server(uvicorn.Server):
    """uvicorn, with a word when it listens and when it begins to stop."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready, self._stopping = ready, stopping

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn raises a signal again once it has stopped; that would end the process before its worker stopped."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping()
        await super().shutdown(sockets)


async def run_server(
    gateway: Gateway, listener: socket.socket, worker: Worker | None, ready: Callable[[], None]
) -> None:
    """Answers requests until SIGTERM or SIGINT, then finishes what is under way."""
    settings = gateway.settings
    config = uvicorn.Config(
        Api(gateway), http=Protocol, ws="none", lifespan="off", log_config=None, access_log=False,
        proxy_headers=False, server_header=False, timeout_keep_alive=settings.keep_alive_s,  # type: ignore[arg-type]
        timeout_graceful_shutdown=int(settings.stop_grace_s), backlog=BACKLOG,
    )  # fmt: skip
    server = _Server(config, ready, worker.drain if worker is not None else _nothing)
    looking = asyncio.create_task(close_overdue(server.server_state.connections, settings.request_read_s))
    if worker is not None:
        worker.start()
    try:
        await server.serve(sockets=[listener])
    finally:
        looking.cancel()
        if worker is not None:
            await worker.stop()


async def run_worker(gateway: Gateway, ready: Callable[[], None]) -> None:
    """Works until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    worker = Worker(gateway)
    worker.start()
    ready()
    await stop.wait()
    await worker.stop()


def _nothing() -> None:
    """An API process has no worker to drain."""


BACKLOG = 2048
UNREAD_MS = 60_000


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `SettingsError` when the address cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # a caller that stops reading its answer is given up by the system
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS)
    return listener
