"""One smallest real call, and what was seen in words."""

import asyncio
import base64
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from bide.catalog.load import load as load_catalog
from bide.channels.load import build
from bide.channels.probe import SMALLEST, Saw, probe
from bide.clock import Clock
from bide.errors import BadRequest
from bide.outbound.client import Outbound
from bide.settings import ChannelSettings, Settings
from tests.world import PNG

KEY = "sk-very-secret-0123456789"
CATALOG = load_catalog()


def saw(one: ChannelSettings, **more: Any) -> Saw:
    async def inside() -> Saw:
        settings = Settings(sandbox_delay_s=0.0)
        outbound = Outbound(settings)
        try:
            return await probe(build(settings, one, outbound), CATALOG, settings, Clock(), **more)
        finally:
            await outbound.close()

    return asyncio.run(inside())


def upstream(answer: Callable[[web.Request], web.Response], **more: Any) -> tuple[Saw, list[dict[str, Any]]]:
    """What is seen at a real server, and the bodies it got."""
    got: list[dict[str, Any]] = []

    async def handle(request: web.Request) -> web.Response:
        got.append(await request.json())
        return answer(request)

    async def inside() -> Saw:
        app = web.Application()
        app.router.add_post("/v1/images/generations", handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        one = ChannelSettings(name="main", provider="openai_images", base_url=f"http://127.0.0.1:{port}/v1", key=KEY,
                              **more)  # fmt: skip
        settings = Settings()
        outbound = Outbound(settings)
        try:
            return await probe(build(settings, one, outbound), CATALOG, settings, Clock())
        finally:
            await outbound.close()
            await runner.cleanup()

    return asyncio.run(inside()), got


def picture(_: web.Request) -> web.Response:
    return web.json_response({"created": 1, "data": [{"b64_json": base64.b64encode(PNG).decode()}]})


def test_an_upstream_that_answers_did_it() -> None:
    found, got = upstream(picture, model_map={"gpt-image-1": "own-model"})
    assert (found.verdict, found.works, found.model) == ("answered", True, "own-model")
    assert found.words == "It did image.generate with 1 file."
    assert [(body["model"], body["prompt"]) for body in got] == [("own-model", "a grey circle")]


def test_a_refusal_is_told_with_its_code_and_never_with_the_key() -> None:
    def refuse(_: web.Request) -> web.Response:
        said = {"message": f"Incorrect API key provided: {KEY}.", "code": "invalid_api_key"}
        return web.json_response({"error": said}, status=401)

    found, got = upstream(refuse)
    assert (found.verdict, found.works, found.code, found.status) == ("refused", False, "api_error", 401)
    assert "HTTP 401" in found.words
    assert KEY not in str(found)
    assert len(got) == 1, "asked once"


def test_an_answer_that_is_cut_off_leaves_the_outcome_unknown() -> None:
    def cut(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    found, got = upstream(cut)
    assert (found.verdict, found.works, len(got)) == ("unknown", False, 1)
    assert found.words.startswith("Nobody knows")


def test_nobody_there_is_not_reachable() -> None:
    one = ChannelSettings(name="main", provider="openai_images", base_url="http://127.0.0.1:9/v1", key=KEY)
    found = saw(one)
    assert (found.verdict, found.words) == ("not_reachable", "It cannot be reached at http://127.0.0.1:9/v1.")


def test_work_that_goes_on_was_accepted() -> None:
    one = ChannelSettings(name="main", provider="sandbox", options={"delay_s": 60})
    found = saw(one, capability="image.generate")
    assert (found.verdict, found.works) == ("accepted", True)


@pytest.mark.parametrize("capability", SMALLEST)
def test_every_smallest_request_is_one_that_a_provider_takes(capability: str) -> None:
    found = saw(ChannelSettings(name="main", provider="sandbox"), capability=capability)
    assert found.verdict == "answered", found
    assert found.capability == capability


def test_the_cheapest_is_tried_unless_another_is_named() -> None:
    one = ChannelSettings(name="main", provider="sandbox")
    assert saw(one).capability == next(iter(SMALLEST))


def test_what_cannot_be_tried_is_said_before_anybody_is_asked() -> None:
    one = ChannelSettings(name="main", provider="sandbox", capabilities=("music.midi",))
    for more, said in (({}, "by itself"), ({"capability": "music.midi"}, "by itself"),
                       ({"capability": "image.generate"}, "does not offer")):  # fmt: skip
        with pytest.raises(BadRequest, match=said):
            saw(one, **more)
