"""What never reached an upstream that makes things from models: the channel is left at once, and nothing is paid."""

import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from bide.providers import cog, fal, openai_videos, replicate
from bide.providers.base import Failed, Input, Outcome, Unknown

from .polled import Polled
from .upstream import Reply, run

ASKS: list[tuple[Any, dict[str, Any]]] = [
    (openai_videos, {"capability": "video.generate", "model": "sora-2"}),
    (replicate, {"capability": "video.generate", "model": "acme/film"}),
    (cog, {"capability": "video.generate", "model": "mine"}),
    (fal, {"capability": "video.generate", "model": "fal-ai/film"}),
]
NAMES = ["openai_videos", "replicate", "cog", "fal"]


@pytest.mark.parametrize(("provider", "ask"), ASKS, ids=NAMES)
def test_nobody_listening_is_a_channel_to_leave_at_once(provider: Any, ask: dict[str, Any]) -> None:
    async def work(url: str) -> Outcome:
        async with Polled() as upstream, aiohttp.ClientSession(url) as http:
            outcome: Outcome = await provider.submit(replace(upstream.asks(**ask, prompt="a boat"), http=http))
            return outcome

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        outcome = run(work(f"http://127.0.0.1:{taken.getsockname()[1]}/v1/"))
    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.scope, outcome.retryable) == ("api_error", "channel", True)


@pytest.mark.parametrize(("provider", "ask"), ASKS, ids=NAMES)
def test_a_request_that_breaks_off_while_it_is_written_has_begun_nothing(provider: Any, ask: dict[str, Any]) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"too short"

    shrunk = Input("image_urls", "a.png", "image/png", 1000, pieces)

    async def work() -> Outcome:
        async with Polled(Reply(then="hang"), total_s=5) as upstream:
            outcome: Outcome = await provider.submit(upstream.asks(**ask, prompt="a boat", inputs=(shrunk,)))
            return outcome

    outcome = run(work())
    assert isinstance(outcome, Failed)
    assert outcome.scope == "channel"


@pytest.mark.parametrize(("provider", "ask"), ASKS, ids=NAMES)
def test_silence_after_the_request_is_unknown(provider: Any, ask: dict[str, Any]) -> None:
    async def work() -> Outcome:
        async with Polled(Reply(then="hang"), total_s=0.3) as upstream:
            outcome: Outcome = await provider.submit(upstream.asks(**ask, prompt="a boat"))
            return outcome

    assert isinstance(run(work()), Unknown)
