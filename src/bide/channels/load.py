"""The channels of this process: configured accounts at upstreams, with their HTTP session and their health."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from bide.channels.choose import Candidate, accepts, choose
from bide.clock import Clock
from bide.errors import NotImplementedHere
from bide.outbound.client import Outbound
from bide.providers import registry
from bide.providers.base import Provider
from bide.settings import ChannelSettings, Settings, SettingsError

RESTS_MAX = 1_000


@dataclass(slots=True)
class Channel:
    """One configured account.

    `rests` is its health as this process sees it: until when (monotonic seconds) it is better not asked for a
    model. Kept per model, so that a caller who invents one does not make the channel rest for all others.
    """

    settings: ChannelSettings
    provider: Provider
    capabilities: frozenset[str]
    key: str
    options: dict[str, Any]
    http: aiohttp.ClientSession
    slots: asyncio.Semaphore | None
    """Held while the channel is asked: bounds the calls that are open at once. None: no bound."""
    rests: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def resends(self) -> bool:
        """Whether a submission whose outcome is not known may be sent again."""
        return self.provider.TAKES_OUR_ID or self.settings.on_unknown == "resend"

    def rest(self, model: str, until: float) -> None:
        if len(self.rests) >= RESTS_MAX:
            self.rests.clear()
        self.rests[model] = max(until, self.rests.get(model, 0.0))

    def is_at(self, url: str) -> bool:
        """Whether an address is on the channel's own host, which its operator vouches for."""
        base, other = urlsplit(self.settings.base_url), urlsplit(url)
        return bool(base.netloc) and (base.scheme, base.netloc) == (other.scheme, other.netloc)


class Channels:
    """All channels of this process."""

    def __init__(self, channels: list[Channel], clock: Clock) -> None:
        self._by_name = {channel.name: channel for channel in channels}
        self._clock = clock

    def named(self, name: str) -> Channel | None:
        return self._by_name.get(name)

    def choose(self, capability: str, model: str, tried: Collection[str] = ()) -> Channel | None:
        """A channel for one attempt, not one of `tried`; None when none is left."""
        if len(self._by_name) == 1 and not tried:
            (only,) = self._by_name.values()
            if capability in only.capabilities and not only.settings.models:
                return only
        name = choose(self._candidates(model), capability, model, tried=tried, now=self._clock.monotonic(),
                      chance=self._clock.chance())  # fmt: skip
        return None if name is None else self._by_name[name]

    def require(self, capability: str, model: str) -> None:
        """Raises `NotImplementedHere` when no channel could ever answer."""
        every = self._by_name.values()
        if not any(accepts(one.capabilities, one.settings.models, capability, model) for one in every):
            with_model = f" with the model {model!r}" if model else ""
            raise NotImplementedHere(f"No channel of this gateway offers {capability}{with_model}.")

    def _candidates(self, model: str) -> list[Candidate]:
        return [
            Candidate(one.name, one.capabilities, one.settings.models, one.settings.weight, one.rests.get(model, 0.0))
            for one in self._by_name.values()
        ]

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
            channels.append(_channel(settings, one, outbound))
        except SettingsError as error:
            raise SettingsError(f"channels: {one.name}: {error}") from None
    return Channels(channels, clock)


def _channel(settings: Settings, one: ChannelSettings, outbound: Outbound) -> Channel:
    provider = registry.find(one.provider)
    unknown = sorted(set(one.capabilities) - provider.CAPABILITIES)
    if unknown:
        can = ", ".join(sorted(provider.CAPABILITIES))
        raise SettingsError(f"{one.provider} cannot do {unknown[0]!r}; it can: {can}")
    if one.base_url and urlsplit(one.base_url).scheme not in ("http", "https"):
        raise SettingsError(f"base_url {one.base_url!r} is not an http(s) address")
    key = one.key
    if one.key_file:
        try:
            key = Path(one.key_file).read_text("utf-8").strip()
        except OSError as error:
            raise SettingsError(f"key_file: {error.strerror}: {one.key_file}") from None
    return Channel(
        settings=one,
        provider=provider,
        capabilities=frozenset(one.capabilities) or provider.CAPABILITIES,
        key=key,
        options=registry.options(settings, one),
        http=outbound.channel_session(one.base_url, key, one.timeout_s),
        slots=asyncio.Semaphore(one.concurrency) if one.concurrency else None,
    )
