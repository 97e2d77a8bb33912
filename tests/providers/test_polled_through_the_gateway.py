"""Each polled provider behind the whole gateway: a service's request, the upstream's answers, and the file."""

import base64
from collections.abc import Awaitable, Callable
from typing import Any

from bide.providers import comfyui
from bide.settings import ChannelSettings, Settings
from tests.services.world import Shop, serve
from tests.world import PNG

from .asked import MP3, MP4, Routed
from .test_comfyui import EMPTY, NOTHING, OPTIONS, history, image
from .test_google_veo import NAME
from .upstream import KEY, Reply, Upstream, answer

MODEL = "projects/p/locations/us-central1/publishers/google/models/veo-3.1-generate-001"


def through(
    settings: Settings, upstream: Upstream, provider: str, test: Callable[[Shop], Awaitable[None]], **channel: Any
) -> None:
    """Runs a test with a gateway whose only channel is `provider` at the upstream."""

    async def inside(shop: Shop) -> None:
        async with upstream:
            found = shop.world.gateway.channels.named("upstream")
            assert found is not None
            found.http = shop.world.gateway.outbound.channel_session(upstream.url, KEY, 20.0)  # the port is known now
            await test(shop)

    one = ChannelSettings(name="upstream", provider=provider, base_url="http://127.0.0.1:9/v1", key=KEY, **channel)
    serve(settings, inside, channels=(one,))


async def made(shop: Shop, path: str, **body: Any) -> dict[str, Any]:
    """The response of a task that succeeded, however long its polls lie apart."""
    task_id = (await shop.ask(path, **{"async": True, **body})).json["task_id"]
    for _ in range(10):
        await shop.world.work()
        shop.world.clock.pass_s(30)
    found = await shop.retrieve(path, task_id)
    assert found["response"].get("success") is True, found
    return dict(found["response"])


def test_a_film_of_the_agent_platform_reaches_a_caller_of_veo(on_sqlite: Settings) -> None:
    film = {"bytesBase64Encoded": base64.b64encode(MP4).decode(), "mimeType": "video/mp4"}
    upstream = Routed({
        f"POST {MODEL}:predictLongRunning": answer({"name": NAME}),
        f"POST {MODEL}:fetchPredictOperation": [
            answer({"name": NAME}), Reply(503), answer({"name": NAME, "done": True, "response": {"videos": [film]}})],
    })  # fmt: skip

    async def test(shop: Shop) -> None:
        response = await made(shop, "/veo/videos", prompt="a paper boat", model="veo31-fast", aspect_ratio="9:16")
        assert await shop.file(response["data"][0]["video_url"]) == MP4
        assert [line.rpartition(":")[2] for line in upstream.lines] == ["predictLongRunning"] + 3 * [
            "fetchPredictOperation"
        ]
        assert upstream.requests[0].json["parameters"]["aspectRatio"] == "9:16"

    through(on_sqlite, upstream, "google_veo", test, options={"project": "p"},
            model_map={"veo31-fast": "veo-3.1-generate-001"})  # fmt: skip


def interaction(kind: str, data: bytes) -> Routed:
    content = [{"type": kind, "data": base64.b64encode(data).decode(), "mime_type": f"{kind}/x"}]
    return Routed({
        "POST interactions": answer({"id": "int-1", "status": "queued"}),
        "GET interactions/int-1": [
            answer({"id": "int-1", "status": "in_progress"}),
            answer({"id": "int-1", "status": "completed", "steps": [{"type": "model_output", "content": content}]})],
    })  # fmt: skip


def test_a_film_of_omni_reaches_a_caller_of_sora(on_sqlite: Settings) -> None:
    upstream = interaction("video", MP4)

    async def test(shop: Shop) -> None:
        response = await made(shop, "/sora/videos", prompt="a paper boat", duration=10)
        assert await shop.file(response["data"][0]["video_url"]) == MP4
        assert upstream.lines.count("POST /v1/interactions") == 1
        assert upstream.requests[0].json["response_format"][0]["duration"] == "10s"

    through(on_sqlite, upstream, "google_interactions", test)


def test_a_song_of_lyria_reaches_a_caller_of_suno(on_sqlite: Settings) -> None:
    upstream = interaction("audio", MP3)

    async def test(shop: Shop) -> None:
        response = await made(shop, "/suno/audios", action="generate", prompt="a harbour at night")
        assert await shop.file(response["data"][0]["audio_url"]) == MP3
        assert upstream.lines.count("POST /v1/interactions") == 1

    through(on_sqlite, upstream, "google_interactions", test, model_map={"*": "lyria-3.5"})


class Comfy(Routed):
    """Knows work by the id that it was sent with."""

    def __init__(self, *outputs: dict[str, Any]) -> None:
        super().__init__({"GET queue": EMPTY, "GET view": Reply(200, PNG)})
        self._outputs = {"9": {"images": list(outputs)}}

    async def _answer(self, request: Any) -> Any:
        if request.method == "POST" and request.path == "/v1/prompt":
            id = (await request.json())["prompt_id"]
            self.routes["POST prompt"] = [answer({"prompt_id": id, "number": 1, "node_errors": {}})]
            done = history(self._outputs).body
            assert isinstance(done, bytes)
            named = Reply(200, done.replace(b"0199aaaa-0000-7000-8000-000000000001", id.encode()))
            self.routes["GET queue"] = [answer({"queue_running": [[0, id, {}]], "queue_pending": []}), EMPTY]
            self.routes[f"GET history/{id}"] = [NOTHING, named]
        elif request.path.startswith("/v1/history/"):
            self.routes.setdefault(f"GET {request.path.removeprefix('/v1/')}", [NOTHING])
        return await super()._answer(request)


def test_pictures_of_a_workflow_reach_a_caller_of_openai(on_sqlite: Settings) -> None:
    upstream = Comfy(image("a.png"), image("b.png"))

    async def test(shop: Shop) -> None:
        response = await made(shop, "/openai/images/generations", prompt="a paper boat", n=2, size="1024x1024")
        assert [await shop.file(one["url"]) for one in response["data"]] == [PNG, PNG]
        assert upstream.lines.count("POST /v1/prompt") == 1
        assert comfyui.TAKES_OUR_ID

    through(on_sqlite, upstream, "comfyui", test, options=OPTIONS, capabilities=("image.generate",))


def test_a_picture_made_in_the_background_reaches_a_caller_of_openai(on_sqlite: Settings) -> None:
    picture = {"type": "image_generation_call", "result": base64.b64encode(PNG).decode()}
    upstream = Routed({
        "POST responses": answer({"id": "resp_1", "status": "queued"}),
        "GET responses/resp_1": [
            answer({"id": "resp_1", "status": "in_progress"}),
            answer({"id": "resp_1", "status": "completed", "output": [picture]})],
    })  # fmt: skip

    async def test(shop: Shop) -> None:
        response = await made(shop, "/openai/images/generations", prompt="a paper boat", quality="high")
        assert await shop.file(response["data"][0]["url"]) == PNG
        assert upstream.lines.count("POST /v1/responses") == 1

    through(on_sqlite, upstream, "openai_images", test, options={"responses_model": "gpt-text"})
