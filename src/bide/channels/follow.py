"""The channels of this process follow the table: what is added, changed, disabled or removed anywhere is known here
within two seconds.

A look is one small query; rows are read when one of them has changed. A channel whose settings changed is made anew,
and the old one goes when the last call on it has ended: its session is closed when nobody holds the `Channel` any
more. A disabled or removed one takes no new work and stays, session and all, for what is open there. A row that
cannot be used here (its key was sealed with another secret key, its provider is not installed) is one that takes no
work and answers no question: what is open there waits until it can be, and is not given up.

A name that `bide.toml` has is that channel's. The sandbox that answers where nothing is configured takes no new
work as soon as anything is, disabled or not.
"""

import asyncio
import contextlib
import weakref
from dataclasses import dataclass
from typing import Final

import aiohttp

from bide.accounts import applications
from bide.channels import configured, store
from bide.channels.load import Channel, Channels, build
from bide.channels.secrets import Sealer
from bide.channels.store import Kept
from bide.clock import Clock
from bide.db import Database, Tx
from bide.errors import GatewayError
from bide.log import log
from bide.outbound.client import Outbound
from bide.providers.base import Call, Outcome, Unknown
from bide.settings import ChannelSettings, Settings
from bide.tasks import inspect

LOOK_S = 1.0
NAMES_S = 10.0
"""Between looks for applications that are named by their names, and for removed channels that may go."""
NAMED_MAX = 1_000
"""Applications of one name that may use a channel that names it."""
REMOVED_S = 60.0
"""Longer than any process takes to hear that it must not open anything there any more."""


class _Unusable:
    """Stands for the provider of a row that cannot be used here."""

    CAPABILITIES: Final = frozenset[str]()
    TAKES_OUR_ID: Final = False

    def __init__(self, reason: str) -> None:
        self.reason = reason

    async def submit(self, call: Call) -> Outcome:
        return Unknown(self.reason)

    async def poll(self, call: Call, upstream_id: str) -> Outcome:
        return Unknown(self.reason)

    async def reconcile(self, call: Call) -> Outcome:
        return Unknown(self.reason)


@dataclass(frozen=True, slots=True)
class _Here:
    """A row and what was made of it."""

    kept: Kept
    channel: Channel


class Follower:
    """Keeps `channels`, which has those of `bide.toml`, like the table."""

    def __init__(
        self, settings: Settings, db: Database, outbound: Outbound, clock: Clock, channels: Channels
    ) -> None:
        self._settings, self._db, self._outbound, self._clock = settings, db, outbound, clock
        self._channels = channels
        self._own, self._default = channels.all, not settings.channels
        self._sealer = Sealer(settings)
        self._versions: dict[str, int] = {}
        self._here: dict[str, _Here] = {}
        self._removed: list[Kept] = []
        self._named_at, self._removed_at = float("-inf"), clock.monotonic()
        self._closing = set[asyncio.Task[None]]()

    async def follow(self) -> None:
        """For ever: a look every second."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()

    async def look(self) -> None:
        """One look."""
        now, versions = self._clock.monotonic(), await store.versions(self._db)
        changed = versions != self._versions
        if changed:
            rows = await store.every(self._db)
            self._apply(rows)
            self._versions = {row.name: row.updated_at for row in rows}
        if changed or now >= self._named_at + NAMES_S:
            self._named_at = now
            await self._name_applications()
        if now >= self._removed_at + NAMES_S:
            self._removed_at = now
            await self._delete_removed()

    # -- rows to channels

    def _apply(self, rows: list[Kept]) -> None:
        taken = set() if self._default else {one.name for one in self._own}
        before, here = self._here, dict[str, _Here]()
        for row in rows:
            was = before.get(row.name)
            if row.name in taken:
                if was is None or was.kept != row:
                    log.warning("a channel of bide.toml hides one of the database", channel=row.name)
                continue
            channel = was.channel if was is not None and _same(was.kept, row) else self._made(row)
            channel.drained = row.disabled or row.removed_at is not None or isinstance(channel.provider, _Unusable)
            here[row.name] = _Here(row, channel)
        if self._default:
            for own in self._own:
                own.drained = any(row.removed_at is None for row in rows)
        self._here, self._removed = here, [row for row in rows if row.removed_at is not None]
        own_ones = [one for one in self._own if one.name not in here]
        self._channels.set([*own_ones, *(one.channel for one in here.values())])
        self._retire(before, here)

    def _made(self, row: Kept) -> Channel:
        try:
            return build(self._settings, configured.settings_of(self._sealer, row), self._outbound)
        except GatewayError as error:
            log.error("a channel cannot be used", channel=row.name, reason=str(error))
            unusable = _Unusable(f"The channel cannot be used: {error}")
            one = ChannelSettings(name=row.name, provider="")
            session = self._outbound.channel_session("", "", one.timeout_s)
            return Channel(one, unusable, unusable.CAPABILITIES, "", {}, session)

    def _retire(self, before: dict[str, _Here], here: dict[str, _Here]) -> None:
        loop, stay = asyncio.get_running_loop(), {id(one.channel) for one in here.values()}
        for one in before.values():
            if id(one.channel) not in stay:
                gone = weakref.finalize(one.channel, self._close_soon, loop, one.channel.http)
                gone.atexit = False

    def _close_soon(self, loop: asyncio.AbstractEventLoop, session: aiohttp.ClientSession) -> None:
        """Nobody holds the channel any more; called wherever that happened to be noticed."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and all sessions with it
            loop.call_soon_threadsafe(self._close, session)

    def _close(self, session: aiohttp.ClientSession) -> None:
        closing = asyncio.create_task(self._outbound.release(session))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    # -- now and then

    async def _name_applications(self) -> None:
        """Ids for the names of applications: one may be made, or renamed, at any time."""
        for channel in self._channels.all:
            if channel.settings.applications:
                ids = set(channel.settings.applications)
                for name in channel.settings.applications:
                    ids |= {one.id for one in await applications.named(self._db, name, NAMED_MAX)}
                channel.applications = frozenset(ids)

    async def _delete_removed(self) -> None:
        """Rows of removed channels at which nothing is open."""
        latest = self._clock.now_ms() - int(REMOVED_S * 1000)
        for row in self._removed:
            if row.removed_at is None or row.removed_at > latest or await inspect.open_at(self._db, row.name):
                continue
            await self._db.write(_delete, (row.name, row.removed_at))


def _same(one: Kept, other: Kept) -> bool:
    """Whether two versions of a row have the same settings."""
    return (one.settings, one.sealed) == (other.settings, other.sealed)


async def _delete(tx: Tx, items: list[tuple[str, int]]) -> list[bool]:
    return [await store.delete(tx, *item) for item in items]
