"""Facades over proxies: a caller of this gateway does not notice which upstream answers. The upstreams are real
servers that play recordings; everything else is the gateway itself."""

import contextlib
import io
import json
import threading
import wave
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from bide.settings import ChannelSettings, Settings
from tests.services.world import Shop, serve
from tests.world import PNG

Asked = list[tuple[str, Any]]
"""Path and JSON of each request that was not for a file."""


def _sound() -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(1600))
    return out.getvalue()


SOUND = _sound()


@contextlib.contextmanager
def playing(answer: Callable[[str, Any, str], Any]) -> Iterator[tuple[str, Asked]]:
    """A server that answers what a function of path, body and its own address says; and what it was asked."""
    asked: Asked = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            """Silent."""

        def do_GET(self) -> None:
            if self.path.startswith("/cdn/"):
                return self.send(PNG if self.path.endswith(".png") else SOUND, "application/octet-stream")
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            document = json.loads(body) if body else None
            asked.append((self.path, document))
            return self.send(json.dumps(answer(self.path, document, url)).encode(), "application/json")

        do_POST = do_GET

        def send(self, data: bytes, content_type: str) -> None:
            self.send_response(200)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield url, asked
        finally:
            server.shutdown()
            thread.join()


async def _made(shop: Shop, path: str, **body: Any) -> dict[str, Any]:
    """The response of a task that was looked at until it ended."""
    answer = await shop.ask(path, **{"async": True, **body})
    assert answer.status == 200, answer
    for _ in range(10):
        await shop.world.work()
        response = (await shop.retrieve(path, answer.json["task_id"]))["response"]
        if response:
            assert response["success"] is True, response
            return dict(response)
        shop.world.clock.pass_s(15)
    raise AssertionError("it never ends")


def channel(provider: str, base_url: str, **options: Any) -> tuple[ChannelSettings, ...]:
    one = ChannelSettings(name="proxy", provider=provider, base_url=base_url, key="a-key-of-ours", options=options)
    return (one,)


def test_midjourney_over_a_proxy_with_buttons(on_sqlite: Settings) -> None:
    looks: dict[str, int] = {}

    def answer(path: str, body: Any, url: str) -> Any:
        if path.startswith("/mj/submit/"):
            return {"code": 1, "description": "ok", "result": f"id-{path.rpartition('/')[2]}"}
        task_id = path.split("/")[3]
        looks[task_id] = looks.get(task_id, 0) + 1
        if looks[task_id] == 1:
            return {"id": task_id, "status": "IN_PROGRESS", "progress": "40%", "imageUrl": f"{url}/cdn/preview.png"}
        last = "upsample::2" if task_id == "id-imagine" else "pan_left::1"
        return {
            "id": task_id, "status": "SUCCESS", "imageUrl": f"{url}/cdn/grid.png", "seed": 4711, "prompt": "a boat",
            "imageUrls": [{"url": f"{url}/cdn/{n}.png"} for n in range(4)] if task_id == "id-imagine" else [],
            "buttons": [{"customId": f"MJ::JOB::{last}::uuid", "label": "U2"}], "width": 2, "height": 2,
        }  # fmt: skip

    with playing(answer) as (url, asked):

        async def test(shop: Shop) -> None:
            grid = await _made(shop, "/midjourney/imagine", prompt="a boat --turbo", split_images=True)
            for address in (grid["image_url"], grid["raw_image_url"], *grid["sub_image_urls"]):
                assert await shop.file(address) == PNG
            assert (len(grid["sub_image_urls"]), grid["actions"], grid["raw_image_width"]) == (4, ["upscale2"], 2)
            refused = await shop.refused("/midjourney/imagine", action="upscale1", image_id=grid["image_id"])
            assert "upscale2" in refused
            single = await _made(shop, "/midjourney/imagine", action="upscale2", image_id=grid["image_id"])
            assert await shop.file(single["raw_image_url"]) == PNG
            assert single["actions"] == ["pan_left"]
            seed = await shop.ask("/midjourney/seed", image_id=grid["image_id"])
            assert seed.json == {"seed": "4711"}

        serve(on_sqlite, test, channels=channel("mj_proxy", f"{url}/mj"))
    sent = [(path, body) for path, body in asked if "/submit/" in path]
    assert [path for path, _ in sent] == ["/mj/submit/imagine", "/mj/submit/action"]
    assert sent[0][1]["prompt"] == "a boat"
    assert sent[1][1]["taskId"] == "id-imagine"
    assert sent[1][1]["customId"] == "MJ::JOB::upsample::2::uuid"


def _clips(url: str, status: str, *ids: str) -> list[dict[str, Any]]:
    return [{"id": one, "title": "Lights", "status": status, "audio_url": f"{url}/cdn/{one}.wav", "lyric": "la",
             "image_url": f"{url}/cdn/{one}.png", "tags": "folk", "duration": 61.5} for one in ids]  # fmt: skip


async def _songs(shop: Shop) -> None:
    """Songs, and one that goes on."""
    first = await _made(shop, "/suno/audios", prompt="a harbour")
    assert [(one["title"], one["style"], one["duration"]) for one in first["data"]] == [("Lights", "folk", 61.5)] * 2
    for one in first["data"]:
        assert await shop.file(one["audio_url"]) == SOUND
        assert await shop.file(one["image_url"]) == PNG
    second = first["data"][1]["id"]
    longer = await _made(shop, "/suno/audios", action="extend", audio_id=second, continue_at=30, lyric="lo")
    assert len(longer["data"]) == 2


def test_songs_over_a_relay(on_sqlite: Settings) -> None:
    looks: list[str] = []

    def answer(path: str, body: Any, url: str) -> Any:
        if path == "/suno/submit/music":
            return {"code": "success", "data": "t-1"}
        looks.append(path)
        status, of_clip = ("IN_PROGRESS", "streaming") if len(looks) == 1 else ("SUCCESS", "complete")
        return {"code": "success", "data": {"status": status, "data": _clips(url, of_clip, "a", "b")}}

    with playing(answer) as (url, asked):
        serve(on_sqlite, _songs, channels=channel("suno_proxy", url))
    sent = [body for path, body in asked if path == "/suno/submit/music"]
    assert [one.get("gpt_description_prompt") for one in sent] == ["a harbour", None]
    assert (sent[1]["continue_clip_id"], sent[1]["task_id"], sent[1]["continue_at"]) == ("b", "t-1", 30)


def test_songs_over_a_wrapper(on_sqlite: Settings) -> None:
    looks: list[str] = []

    def answer(path: str, body: Any, url: str) -> Any:
        if body is not None:
            return _clips(url, "submitted", "a", "b")
        looks.append(path)
        return _clips(url, "streaming" if len(looks) == 1 else "complete", "b", "a")

    with playing(answer) as (url, asked):
        serve(on_sqlite, _songs, channels=channel("suno_proxy", url, dialect="wrapper"))
    assert [path for path, body in asked if body is not None] == ["/api/generate", "/api/extend_audio"]
    assert set(looks) == {"/api/get?ids=a,b"}
    assert next(body for path, body in asked if path == "/api/extend_audio")["audio_id"] == "a"
