"""Channels that come, change and go while the gateway runs: every process follows the table."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import structlog.testing

from bide import db as database
from bide.channels import configured, follow, store
from bide.channels.follow import Follower
from bide.channels.load import Channel, Channels, load
from bide.channels.secrets import Sealer
from bide.channels.store import Kept
from bide.db import Database, write_one
from bide.db.migrate import prepare
from bide.outbound.client import Outbound
from bide.providers.base import Unknown
from bide.settings import ChannelSettings, Settings
from tests.world import CALLER, StillClock, add_tenant

SECRET = "a secret key that is long enough for this"
BASE: dict[str, Any] = {"provider": "openai_images", "base_url": "https://api.example.com/v1"}


@dataclass
class Process:
    """One process that follows the table, and what is done to the table."""

    settings: Settings
    db: Database
    outbound: Outbound
    clock: StillClock
    channels: Channels
    follower: Follower
    logs: list[Any]

    async def look(self) -> None:
        await self.follower.look()

    async def add(self, name: str, **asked: Any) -> None:
        kept = configured.added(Sealer(self.settings), name, {**BASE, **asked}, self.clock.now_ms())
        assert await write_one(self.db, lambda tx: store.add(tx, kept)) is None

    async def change(self, name: str, changed: Callable[[Kept], Kept]) -> None:
        assert await write_one(self.db, lambda tx: store.change(tx, self.clock.now_ms(), name, changed)) is not None

    async def update(self, name: str, **asked: Any) -> None:
        await self.change(name, lambda kept: configured.changed(Sealer(self.settings), kept, asked))

    async def remove(self, name: str) -> None:
        await self.change(name, lambda kept: replace(kept, removed_at=self.clock.now_ms()))

    def here(self, name: str) -> Channel:
        found = self.channels.named(name)
        assert found is not None
        return found

    @property
    def taking(self) -> list[str]:
        return sorted(one.name for one in self.channels.taking)


def follows(settings: Settings, test: Callable[[Process], Awaitable[None]], *own: ChannelSettings) -> None:
    async def inside() -> None:
        with_key = replace_settings(settings, secret_key=SECRET, channels=own)
        clock = StillClock()
        db = await database.connect(with_key)
        await prepare(db, clock)
        outbound = Outbound(with_key)
        channels = load(with_key, outbound, clock)
        with structlog.testing.capture_logs() as logs:
            follower = Follower(with_key, db, outbound, clock, channels)
            await test(Process(with_key, db, outbound, clock, channels, follower, logs))
        await outbound.close()
        await db.close()

    asyncio.run(inside())


def replace_settings(settings: Settings, **more: Any) -> Settings:
    return Settings(**{name: getattr(settings, name) for name in settings.__struct_fields__} | more)


def test_a_channel_takes_work_after_one_look_and_has_its_key(on_both: Settings) -> None:
    async def test(process: Process) -> None:
        await process.look()
        assert process.taking == ["sandbox"]
        await process.add("main", key="sk-of-the-upstream", timeout_s=7.0, priority=3)
        await process.look()
        assert process.taking == ["main"]
        found = process.here("main")
        assert found.http.headers["Authorization"] == "Bearer sk-of-the-upstream"
        assert (found.settings.timeout_s, found.settings.priority) == (7.0, 3)
        assert "sk-of-the-upstream" not in str(process.logs)

    follows(on_both, test)


def test_the_sandbox_answers_only_where_nothing_is_configured_disabled_or_not(on_both: Settings) -> None:
    async def test(process: Process) -> None:
        await process.add("main")
        await process.change("main", lambda kept: replace(kept, disabled=True))
        await process.look()
        assert process.taking == []
        assert process.here("sandbox").drained, "what is open there is polled"
        await process.remove("main")
        await process.look()
        assert process.taking == ["sandbox"]

    follows(on_both, test)


def test_a_disabled_channel_takes_no_new_work_and_keeps_its_session(on_both: Settings) -> None:
    async def test(process: Process) -> None:
        await process.add("main")
        await process.look()
        before = process.here("main")
        for drained in (True, False):
            await process.change("main", lambda kept, now=drained: replace(kept, disabled=now))
            await process.look()
            assert process.here("main") is before
            assert (before.drained, before.http.closed) == (drained, False)
            assert (process.channels.taking_named("main") is None) is drained
            assert (process.channels.choose("image.generate", "m") is None) is drained

    follows(on_both, test)


def test_a_changed_channel_is_made_anew_and_the_old_session_closes_when_its_last_call_is_over(
    on_both: Settings,
) -> None:
    async def test(process: Process) -> None:
        await process.add("main", key="an-old-key")
        await process.look()
        held = process.here("main")
        session = held.http
        await process.update("main", key="a-new-key")
        await process.look()
        assert process.here("main").key == "a-new-key"
        gc.collect()
        await asyncio.sleep(0)
        assert not session.closed, "a call is under way"
        del held
        gc.collect()
        for _ in range(10):
            await asyncio.sleep(0)
        assert session.closed
        assert not process.here("main").http.closed

    follows(on_both, test)


def test_two_changes_in_one_millisecond_are_two_changes(on_both: Settings) -> None:
    async def test(process: Process) -> None:
        await process.add("main")
        for weight in (2.0, 3.0, 4.0):
            await process.update("main", weight=weight)
            await process.look()
            assert process.here("main").settings.weight == weight

    follows(on_both, test)


async def _queue(db: Database, clock: StillClock, channel: str) -> None:
    async def insert(tx: database.Tx) -> None:
        await add_tenant(tx, CALLER)
        await tx.run(
            "INSERT INTO queue (task_id, state, due_at, deadline_at, attempts, channel, upstream_id, asked_at,"
            " kept_ms, price, units, held, held_general)"
            " VALUES ('t', 'running', $1, $1, 1, $2, 'up-1', $1, 1, 0, 0, 0, 0)",
            clock.now_ms(), channel,
        )  # fmt: skip

    await write_one(db, insert)


def test_a_removed_channel_is_kept_until_nothing_is_open_there(on_both: Settings) -> None:
    async def test(process: Process) -> None:
        await process.add("main", key="a-key")
        await _queue(process.db, process.clock, "main")
        await process.look()
        await process.remove("main")
        for _ in range(3):
            process.clock.pass_s(follow.REMOVED_S)
            await process.look()
        assert process.here("main").key == "a-key"
        assert process.taking == ["sandbox"]
        assert await store.one(process.db, "main") is None
        await write_one(process.db, lambda tx: tx.run("DELETE FROM queue WHERE task_id = 't'"))
        process.clock.pass_s(follow.NAMES_S)
        await process.look()
        await process.look()
        assert process.channels.named("main") is None
        assert await store.every(process.db) == []

    follows(on_both, test)


def test_a_removed_channel_stays_long_enough_for_every_process_to_hear_of_it(on_both: Settings) -> None:
    async def test(process: Process) -> None:
        await process.add("main")
        await process.remove("main")
        process.clock.pass_s(follow.REMOVED_S - 1)
        await process.look()
        await process.look()
        assert process.channels.named("main") is not None
        process.clock.pass_s(follow.NAMES_S)
        await process.look()
        await process.look()
        assert process.channels.named("main") is None

    follows(on_both, test)


def test_a_name_of_the_settings_file_is_that_channels_and_the_other_is_said_to_be_hidden(on_both: Settings) -> None:
    async def test(process: Process) -> None:
        await process.add("main", priority=5)
        await process.add("more")
        await process.look()
        assert process.here("main").settings.priority == 0
        assert process.taking == ["main", "more"]
        (said,) = process.logs
        assert (said["log_level"], said["channel"]) == ("warning", "main")

    follows(on_both, test, ChannelSettings(name="main", **BASE))


def test_a_row_that_cannot_be_used_here_gives_up_nothing_and_takes_nothing(on_both: Settings) -> None:
    """On a machine with another secret key the work that is open at the channel waits; it does not fail."""

    async def test(process: Process) -> None:
        other = Sealer(Settings(secret_key="another secret key that is long enough"))
        kept = configured.added(other, "main", {**BASE, "key": "a-key-of-elsewhere"}, 1)
        await write_one(process.db, lambda tx: store.add(tx, kept))
        await process.look()
        await process.look()
        assert process.taking == []
        channel = process.here("main")
        call: Any = None
        assert isinstance(await channel.provider.poll(call, "up-1"), Unknown)
        (said,) = process.logs
        assert (said["log_level"], said["channel"]) == ("error", "main")
        assert "a-key-of-elsewhere" not in str(process.logs)
        await process.update("main", key="a-key-that-was-set-again")
        await process.look()
        assert process.taking == ["main"]

    follows(on_both, test)


def test_applications_may_be_named_by_name_also_before_they_are_made(on_both: Settings) -> None:
    async def test(process: Process) -> None:
        await process.add("main", applications=["a-shop", CALLER.application_id])
        await process.look()
        assert process.here("main").applications == {"a-shop", CALLER.application_id}
        shop = replace(CALLER, application_id="a-shop", user_id="user-9")
        await write_one(process.db, lambda tx: add_tenant(tx, shop))
        await write_one(process.db, lambda tx: tx.run("UPDATE applications SET id = 'id-9' WHERE id = 'a-shop'"))
        process.clock.pass_s(follow.NAMES_S)
        await process.look()
        assert "id-9" in process.here("main").applications

    follows(on_both, test)


def test_of_two_that_add_one_name_the_second_is_told_of_the_first(on_both: Settings) -> None:
    async def test(process: Process) -> None:
        await process.add("main", weight=2.0)
        again = configured.added(Sealer(process.settings), "main", BASE, 5)
        there = await write_one(process.db, lambda tx: store.add(tx, again))
        assert there is not None
        assert there == await store.one(process.db, "main")

    follows(on_both, test)
