"""The parts of one process, put together once in `bide.app` and passed to every verb."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bide.catalog.load import Catalog
from bide.channels.load import Channel, Channels
from bide.clock import Clock
from bide.db import Database
from bide.outbound.client import Outbound
from bide.rates import Rates
from bide.settings import Settings
from bide.storage import Storage
from bide.storage.spool import Spool
from bide.tasks.durations import Durations
from bide.tasks.looks import Looks


class Wake:
    """Lets a loop sleep until there is something to do: now, or at a time it was told."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def now(self) -> None:
        self._event.set()

    def after(self, seconds: float) -> None:
        """Wakes in so many seconds; longer than a minute is left to the slow look."""
        if seconds < 60:
            asyncio.get_running_loop().call_later(max(seconds, 0.0), self._event.set)

    async def wait(self, seconds_max: float) -> None:
        """Returns when woken, or after `seconds_max`."""
        if not self._event.is_set():
            timer = asyncio.get_running_loop().call_later(seconds_max, self._event.set)
            try:
                await self._event.wait()
            finally:
                timer.cancel()
        self._event.clear()


class Together:
    """Writes that need a transaction of their own, and are too many to have one each: whoever asks while one is being
    committed is in the next."""

    MOST_AT_ONCE = 200

    def __init__(self, write: Callable[[list[Any]], Awaitable[Sequence[Any]]]) -> None:
        self._write = write
        self._waiting: list[tuple[Any, asyncio.Future[Any]]] = []
        self._sender: asyncio.Task[None] | None = None

    async def write(self, item: Any) -> Any:
        """The answer to one item. Raises what the write raised."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())
        return await answer

    async def _send(self) -> None:
        batch: list[tuple[Any, asyncio.Future[Any]]] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self.MOST_AT_ONCE], self._waiting[self.MOST_AT_ONCE :]
                try:
                    answers = await self._write([item for item, _ in batch])
                except Exception as error:
                    _resolve(batch, [error] * len(batch))
                else:
                    _resolve(batch, answers)
        finally:
            self._sender = None


def _resolve(batch: Sequence[tuple[Any, "asyncio.Future[Any]"]], answers: Sequence[Any]) -> None:
    for (_, future), answer in zip(batch, answers, strict=True):
        if future.done():
            continue  # who asked was cancelled; the write stands
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)


class Endings:
    """Who in this process waits for which task to end."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Event] = {}

    async def wait(self, task_id: str, seconds_max: float) -> None:
        """Returns when the task ended in this process, or after `seconds_max`: look in the database."""
        event = self._waiting.setdefault(task_id, asyncio.Event())
        try:
            async with asyncio.timeout(seconds_max):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting.pop(task_id, None)

    def tell(self, task_id: str) -> None:
        event = self._waiting.get(task_id)
        if event is not None:
            event.set()


Held = list[tuple[str, int, int]]
"""Leases: row id, lease id, when they end."""


class Leases:
    """The leases this process holds on rows of one table, kept while their work goes on."""

    def __init__(self, extend: Callable[[Held], Awaitable[object]], clock: Clock, lease_s: float) -> None:
        self._extend, self._clock, self._ms = extend, clock, int(lease_s * 1000)
        self._held: dict[str, tuple[int, int]] = {}
        self._looked = clock.now_ms()

    def until(self) -> int:
        """When a lease taken now ends."""
        return self._clock.now_ms() + self._ms

    def hold(self, row_id: str, lease_id: int, until_ms: int) -> None:
        """From now on the lease is kept. `until_ms` is what the row says: when a process is behind with its work,
        that may be over before it hears that the lease is its own."""
        self._held[row_id] = (lease_id, until_ms)
        if until_ms - self._clock.now_ms() < self._ms // 3:
            self._looked = 0  # the next claim looks first

    def drop(self, row_id: str) -> None:
        self._held.pop(row_id, None)

    def held(self, until_ms: int) -> Held:
        """All leases, as if they ended at a time."""
        return [(row_id, lease_id, until_ms) for row_id, (lease_id, _) in self._held.items()]

    def __len__(self) -> int:
        return len(self._held)

    async def keep(self) -> None:
        """Extends what has less than two thirds of its time left. Called three times per lease."""
        now = self._clock.now_ms()
        self._looked, soon, until = now, now + self._ms * 2 // 3, self.until()
        ending = [(row_id, lease_id, until) for row_id, (lease_id, end) in self._held.items() if end <= soon]
        if ending:
            await self._extend(ending)
            for row_id, lease_id, _ in ending:
                if self._held.get(row_id, (0, 0))[0] == lease_id:
                    self._held[row_id] = (lease_id, until)

    async def keep_overdue(self) -> None:
        """Before a claim: a process that was stopped for a while must not take its own work for a dead worker's.
        Nothing to do, nearly always."""
        if self._clock.now_ms() - self._looked > self._ms * 2 // 3:
            await self.keep()


@dataclass(frozen=True, slots=True)
class Gateway:
    """See `bide.app.open_gateway`."""

    settings: Settings
    clock: Clock
    db: Database
    outbound: Outbound
    catalog: Catalog
    storage: Storage
    spool: Spool
    channels: Channels
    rates: Rates
    task_leases: Leases
    delivery_leases: Leases
    entries: Together
    """Tasks that ask for a slot (`bide.tasks.waiting.enter`)."""
    provider: str = ""
    """The one whose channels this process works for, and no others; empty: all that have no worker of their own."""
    tasks_due: Wake = field(default_factory=Wake)
    deliveries_due: Wake = field(default_factory=Wake)
    endings: Endings = field(default_factory=Endings)
    slots_free: Wake = field(default_factory=Wake)
    """A slot of a channel may be free."""
    turns: Endings = field(default_factory=Endings)
    """Who waits here for a slot."""
    heard: Endings = field(default_factory=Endings)
    """Who waits here for an upstream to call back."""
    looks: Looks = field(default_factory=Looks)
    durations: Durations = field(default_factory=Durations)

    def leaves(self, channel: Channel) -> bool:
        """Whether a channel is to be asked by another process."""
        return channel.settings.provider != self.provider if self.provider else channel.apart
