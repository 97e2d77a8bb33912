"""Channels from the settings: what is wrong is said before the gateway starts."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bide.channels.load import Channels, load
from bide.clock import Clock
from bide.errors import NotImplementedHere
from bide.outbound.client import Outbound
from bide.providers import registry
from bide.settings import ChannelSettings, Settings, SettingsError

DIALECT = "openai_images"


def channel(name: str = "main", **more: Any) -> ChannelSettings:
    values = {"provider": DIALECT, "base_url": "https://api.example.com/v1", **more}
    return ChannelSettings(name=name, **values)


def use(test: Callable[[Channels], None], *channels: ChannelSettings) -> None:
    async def inside() -> None:
        settings = Settings(channels=channels)
        outbound = Outbound(settings)
        try:
            test(load(settings, outbound, Clock()))
        finally:
            await outbound.close()

    asyncio.run(inside())


def refusal(*channels: ChannelSettings) -> str:
    with pytest.raises(SettingsError) as refused:
        use(lambda _: None, *channels)
    return str(refused.value)


def test_a_channel_can_do_what_its_provider_can_unless_it_says_less() -> None:
    def test(channels: Channels) -> None:
        everything, drawing = channels.named("all"), channels.named("some")
        assert everything is not None
        assert drawing is not None
        assert everything.capabilities == registry.find(DIALECT).CAPABILITIES
        assert drawing.capabilities == {"image.generate"}

    use(test, channel("all"), channel("some", capabilities=("image.generate",)))


def test_a_channel_with_an_unknown_provider_is_refused_by_name() -> None:
    assert refusal(channel("main", provider="no_such")) == "channels: main: there is no provider 'no_such'"


@pytest.mark.parametrize("name", ["base", "errors", "../evil", "", "registry"])
def test_a_module_that_is_not_a_provider_is_not_taken_for_one(name: str) -> None:
    assert "provider" in refusal(channel(provider=name))


def test_a_channel_that_promises_what_its_provider_cannot_do_is_refused() -> None:
    assert "openai_images cannot do 'video.generate'; it can: " in refusal(channel(capabilities=("video.generate",)))


def test_two_channels_of_one_name_are_refused() -> None:
    assert refusal(channel(), channel()) == "channels: there are two channels named 'main'"


@pytest.mark.parametrize("url", ["ftp://example.com", "example.com/v1", "file:///etc/passwd"])
def test_a_base_url_that_is_not_http_is_refused(url: str) -> None:
    assert "is not an http(s) address" in refusal(channel(base_url=url))


def test_a_key_may_come_from_a_file_and_a_missing_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("  the-key\n")

    def test(channels: Channels) -> None:
        found = channels.named("main")
        assert found is not None
        assert found.key == "the-key"
        assert found.http.headers["Authorization"] == "Bearer the-key"

    use(test, channel(key_file=str(tmp_path / "key")))
    assert "key_file: No such file" in refusal(channel(key_file=str(tmp_path / "gone")))


def test_an_attempt_needs_a_slot_only_where_something_is_bounded() -> None:
    def test(channels: Channels) -> None:
        gated = {one.name: one.gated for one in channels.all}
        assert gated == {"free": False, "open": True, "rate": True}

    use(test, channel("free"), channel("open", concurrency=1), channel("rate", rate_per_minute=60))


def test_only_the_channels_own_origin_is_vouched_for() -> None:
    def test(channels: Channels) -> None:
        found = channels.named("main")
        assert found is not None
        assert found.is_at("https://api.example.com/files/1.png")
        for other in (
            "http://api.example.com/1.png", "https://api.example.com:8443/1.png", "https://example.com/1.png",
            "https://api.example.com.evil.test/1.png", "https://x@api.example.com/1.png", "", "/1.png",
        ):  # fmt: skip
            assert not found.is_at(other)

    use(test, channel())


def test_what_no_channel_can_do_is_refused_at_once() -> None:
    def test(channels: Channels) -> None:
        channels.require("image.generate", "dall-e-3")
        with pytest.raises(NotImplementedHere):
            channels.require("video.generate", "dall-e-3")
        with pytest.raises(NotImplementedHere):
            channels.require("image.generate", "gpt-image-1")
        assert channels.choose("image.generate", "gpt-image-1") is None
        assert channels.named("nobody") is None

    use(test, channel(models=("dall-e-*",)))


def test_a_channel_rests_for_the_model_that_failed_and_not_for_the_others() -> None:
    """A caller that invents a model must not put the channel to rest for everybody else."""

    def test(channels: Channels) -> None:
        first = channels.named("first")
        assert first is not None
        first.health.failed("dall-e-9", Clock().monotonic(), 1_000.0)
        for _ in range(20):
            chosen, other = (channels.choose("image.generate", model) for model in ("dall-e-9", "dall-e-3"))
            assert chosen is not None
            assert other is not None
            assert (chosen.name, other.name) == ("second", "first")

    use(test, channel("first", weight=1e9), channel("second", weight=1e-9))


def test_an_unknown_outcome_is_sent_again_only_where_that_is_harmless_or_was_ordered() -> None:
    def test(channels: Channels) -> None:
        careful, free = channels.named("careful"), channels.named("free")
        assert careful is not None
        assert free is not None
        assert (careful.resends, free.resends) == (False, True)

    use(test, channel("careful"), channel("free", on_unknown="resend"))
