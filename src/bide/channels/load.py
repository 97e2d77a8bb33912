"""The channels of this process: configured accounts at upstreams, with their HTTP session and their health.

Those of `bide.toml` are made here, once; those that are configured while the gateway runs come and go with their
rows (`bide.channels.follow`).
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from bide.channels.choose import Candidate, accepts, choose
from bide.channels.health import Health
from bide.clock import Clock
from bide.errors import NotImplementedHere
from bide.outbound.client import Outbound
from bide.providers import registry
from bide.providers.base import Provider
from bide.settings import ChannelSettings, Settings, SettingsError


@dataclass(slots=True, weakref_slot=True)
class Channel:
    """One configured account."""

    settings: ChannelSettings
    provider: Provider
    capabilities: frozenset[str]
    key: str
    options: dict[str, Any]
    http: aiohttp.ClientSession
    health: Health = field(default_factory=Health)
    """As this process sees it."""
    full_until: float = 0.0
    """Until when (monotonic seconds) this process thinks that no slot is free; only the database knows."""
    drained: bool = False
    """It was disabled or removed: it takes no new work, and is kept for what is open there."""
    applications: frozenset[str] = frozenset()
    """Ids of those that may use it; empty: every one. Until the names among the settings' are looked up they stand
    here as they are."""

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def resends(self) -> bool:
        """Whether a submission whose outcome is not known may be sent again."""
        return self.provider.TAKES_OUR_ID or self.settings.on_unknown == "resend"

    @property
    def apart(self) -> bool:
        """Whether it is asked by a worker for its provider alone."""
        return bool(getattr(self.provider, "APART", False))

    @property
    def gated(self) -> bool:
        """Whether an attempt needs a slot (`bide.tasks.waiting`): how many are open, or begun, is bounded."""
        return self.settings.concurrency > 0 or self.settings.rate_per_minute > 0

    def is_at(self, url: str) -> bool:
        """Whether an address is on the channel's own host, which its operator vouches for."""
        base, other = urlsplit(self.settings.base_url), urlsplit(url)
        return bool(base.netloc) and (base.scheme, base.netloc) == (other.scheme, other.netloc)


class Channels:
    """All channels of this process."""

    def __init__(self, channels: Iterable[Channel], clock: Clock) -> None:
        self._clock = clock
        self._by_name: dict[str, Channel] = {}
        self._taking: tuple[Channel, ...] = ()
        self.set(channels)

    def set(self, channels: Iterable[Channel]) -> None:
        """These and no others, from now on; also to be called when one is drained, or no longer."""
        self._by_name = {channel.name: channel for channel in channels}
        self._taking = tuple(channel for channel in self._by_name.values() if not channel.drained)

    @property
    def all(self) -> tuple[Channel, ...]:
        return tuple(self._by_name.values())

    @property
    def taking(self) -> tuple[Channel, ...]:
        """Those that take new work."""
        return self._taking

    def named(self, name: str) -> Channel | None:
        """The channel of what is open there already."""
        return self._by_name.get(name)

    def taking_named(self, name: str) -> Channel | None:
        """The channel for new work that only this one can do; None also when it takes none."""
        channel = self._by_name.get(name)
        return None if channel is None or channel.drained else channel

    def choose(
        self, capability: str, model: str, tried: Collection[str] = (), application: str = ""
    ) -> Channel | None:
        """A channel for one attempt of an application's task, not one of `tried`; None when none is left."""
        if len(self._taking) == 1 and not tried:
            (only,) = self._taking
            if capability in only.capabilities and not only.settings.models and not only.applications:
                return only
        now = self._clock.monotonic()
        name = choose(self._candidates(model, now), capability, model, tried=tried, now=now,
                      chance=self._clock.chance(), application=application)  # fmt: skip
        return None if name is None else self._by_name[name]

    def ordered(
        self, capability: str, model: str, tried: Collection[str] = (), application: str = ""
    ) -> list[Channel]:
        """All that may be asked now, the first choice first: those that are awake, or else those that rest."""
        if len(self._taking) == 1:
            only = self.choose(capability, model, tried, application)
            return [] if only is None else [only]
        found: list[Channel] = []
        past, now = set(tried), self._clock.monotonic()
        while (one := self.choose(capability, model, past, application)) is not None:
            rests = one.health.rests_until(model) > now
            if found and rests and found[0].health.rests_until(model) <= now:
                break
            found.append(one)
            past.add(one.name)
        return found

    def require(self, capability: str, model: str, application: str = "") -> None:
        """Raises `NotImplementedHere` when no channel could ever answer."""
        if not any(
            accepts(one.capabilities, one.settings.models, capability, model, one.applications, application)
            for one in self._taking
        ):
            with_model = f" with the model {model!r}" if model else ""
            raise NotImplementedHere(f"No channel of this gateway offers {capability}{with_model}.")

    def _candidates(self, model: str, now: float) -> list[Candidate]:
        return [
            Candidate(one.name, one.capabilities, one.settings.models, one.settings.weight,
                      one.health.rests_until(model), one.settings.priority, one.settings.cost, one.applications,
                      one.full_until > now)
            for one in self._taking
        ]  # fmt: skip

    async def close(self) -> None:
        for channel in self._by_name.values():
            await channel.http.close()


def load(settings: Settings, outbound: Outbound, clock: Clock) -> Channels:
    """The channels of the settings. Raises `SettingsError` with a sentence that names the channel."""
    channels: list[Channel] = []
    for one in registry.default_channels(settings):
        if any(one.name == other.name for other in channels):
            raise SettingsError(f"channels: there are two channels named {one.name!r}")
        try:
            channels.append(build(settings, one, outbound))
        except SettingsError as error:
            raise SettingsError(f"channels: {one.name}: {error}") from None
    return Channels(channels, clock)


def check(one: ChannelSettings) -> Provider:
    """The provider of a channel whose settings make sense. Raises `SettingsError` with a sentence."""
    provider = registry.find(one.provider)
    unknown = sorted(set(one.capabilities) - provider.CAPABILITIES)
    if unknown:
        can = ", ".join(sorted(provider.CAPABILITIES))
        raise SettingsError(f"{one.provider} cannot do {unknown[0]!r}; it can: {can}")
    if getattr(provider, "APART", False) and (one.concurrency or one.rate_per_minute):
        raise SettingsError(f"{one.provider} does one task at a time in each of its workers: it has no concurrency "
                            "and no rate_per_minute")  # fmt: skip
    for name in ("base_url", "proxy"):
        address = getattr(one, name)
        if address and not _is_http(address):
            shown = repr(address) if "@" not in address else "what it is"
            raise SettingsError(f"{name} {shown} is not an http(s) address")
    return provider


def _is_http(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, a literal address that is none
        return False


def build(settings: Settings, one: ChannelSettings, outbound: Outbound) -> Channel:
    """A channel with its session. Raises `SettingsError` with a sentence."""
    provider, key = check(one), one.key
    if one.key_file:
        try:
            key = Path(one.key_file).read_text("utf-8").strip()
        except OSError as error:
            raise SettingsError(f"key_file: {error.strerror}: {one.key_file}") from None
    try:
        session = outbound.channel_session(one.base_url, key, one.timeout_s, connect_s=one.connect_s, proxy=one.proxy)
    except ValueError as error:
        raise SettingsError(f"base_url: {error}") from None
    return Channel(
        settings=one,
        provider=provider,
        capabilities=frozenset(one.capabilities) or provider.CAPABILITIES,
        key=key,
        options=registry.options(settings, one),
        http=session,
        applications=frozenset(one.applications),
    )
