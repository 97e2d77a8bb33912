"""Models of other people through a whole gateway: each provider behind a facade that knows nothing of it.

One upstream on the loopback plays all four dialects; each is reached by the channel of its own models.
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image

from bide.providers.media import video
from tests.system.client import Client
from tests.system.loopback import picture, receiver
from tests.system.processes import running, until

KEY = "sk-of-the-channel-0123456789"
CHANNELS = """
[[channels]]
name = "films"
provider = "openai_videos"
base_url = "{url}/v1"
key = "{key}"
models = ["sora-*"]

[[channels]]
name = "predictions"
provider = "replicate"
base_url = "{url}/replicate"
key = "{key}"
models = ["acme/*"]

[[channels]]
name = "own-model"
provider = "cog"
base_url = "{url}/cog"
models = ["mine"]
[channels.options.fields]
width = "width"

[[channels]]
name = "queue"
provider = "fal"
base_url = "{url}/fal"
key = "{key}"
models = ["fal-ai/*"]
"""


class Dialects:
    """What the upstream was asked, and what it answers: work is done when it is looked at the second time."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[tuple[str, str, Any]] = []
        self.looks: dict[str, int] = {}
        film = Image.new("RGB", (64, 64), "teal")
        self.film = video.film([video.Shot(film, 0.2)], size=(64, 64), title="a boat", comment="")

    def of(self, method: str, path: str) -> list[tuple[str, str, Any]]:
        return [one for one in self.asked if one[0] == f"{method} {path}"]

    def answer(self, asked: str, body: bytes) -> tuple[int, Any]:
        method, _, path = asked.partition(" ")
        if path.endswith(("/content", "film.mp4")):
            return 200, self.film
        if path.endswith("picture.png"):
            return 200, picture()
        if method == "PUT":
            return 200, {"status": "succeeded", "output": [f"{self.url}/cog/picture.png"]}
        if method == "POST":
            return 200, {
                "id": "work-1", "request_id": "work-1", "status": "starting",
                "status_url": "https://queue.fal.run/fal-ai/film/requests/work-1/status",
            }  # fmt: skip
        self.looks[path] = self.looks.get(path, 0) + 1
        done = self.looks[path] > 1
        if path == "/v1/videos/work-1":
            return 200, {"id": "another", "status": "completed" if done else "processing", "seconds": "4"}
        if path == "/replicate/predictions/work-1":
            output = [f"{self.url}/replicate/picture.png"] if done else None
            return 200, {"id": "work-1", "status": "succeeded" if done else "processing", "output": output}
        if path == "/fal/fal-ai/film/requests/work-1/status":
            return 200 if done else 202, {"status": "COMPLETED" if done else "IN_PROGRESS"}
        if path == "/fal/fal-ai/film/requests/work-1":
            return 200, {"video": {"url": f"{self.url}/fal/film.mp4", "content_type": "video/mp4"}}
        return 404, {"detail": "not found"}


@pytest.fixture(scope="module")
def dialects() -> Iterator[Dialects]:
    played = Dialects()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            """Silent."""

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            asked = f"{self.command} {self.path}"
            played.asked.append((asked, self.headers.get("authorization", ""), json.loads(body) if body else None))
            status, told = played.answer(asked, body)
            raw = told if isinstance(told, bytes) else json.dumps(told).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = do_PUT = _any

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        played.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield played
        finally:
            server.shutdown()
            thread.join(10)


@pytest.fixture(scope="module")
def client(dialects: Dialects, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    directory = tmp_path_factory.mktemp("gateway")
    (directory / "bide.toml").write_text(CHANNELS.format(url=dialects.url, key=KEY), "utf-8")
    with running("serve", directory) as serve:
        yield serve.client(checked=True)


def ended(client: Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The response that a callback brings."""
    with receiver() as received:
        task_id = client.post(path, {**body, "callback_url": received.url}).json["task_id"]
        response: dict[str, Any] = until(lambda: received.of(task_id), 30, "a callback")[0].json
    assert response["success"] is True, response
    return response


def kept(client: Client, url: str) -> bytes:
    """A file of a result, served by the gateway."""
    assert url.startswith(client.url)
    return bytes(client.get(url.removeprefix(client.url)).body)


def test_a_sora_film_from_a_server_with_v1_videos(client: Client, dialects: Dialects) -> None:
    asked = {"prompt": "a boat", "model": "sora-2", "version": "2.0", "duration": 4, "size": "1280x720"}
    response = ended(client, "/sora/videos", asked)
    assert kept(client, response["data"][0]["video_url"]) == dialects.film
    ((_, key, sent),) = dialects.of("POST", "/v1/videos")
    assert (key, sent["seconds"], sent["size"]) == (f"Bearer {KEY}", "4", "1280x720")


def test_a_flux_picture_from_predictions(client: Client, dialects: Dialects) -> None:
    response = ended(client, "/flux/images", {"prompt": "a boat", "model": "acme/paint", "size": "16:9"})
    assert kept(client, response["data"][0]["image_url"]) == picture()
    ((_, key, sent),) = dialects.of("POST", "/replicate/models/acme/paint/predictions")
    assert (key, sent["input"]) == (f"Bearer {KEY}", {"prompt": "a boat", "aspect_ratio": "16:9"})


def test_a_flux_picture_from_a_model_of_ones_own(client: Client, dialects: Dialects) -> None:
    response = ended(client, "/flux/images", {"prompt": "a boat", "model": "mine", "size": "512x512"})
    assert kept(client, response["data"][0]["image_url"]) == picture()
    (put,) = [one for one in dialects.asked if one[0].startswith("PUT ")]
    assert put[0] == f"PUT /cog/predictions/{response['task_id']}"
    assert put[2] == {"input": {"prompt": "a boat", "width": 512}}


def test_a_veo_film_from_a_queue(client: Client, dialects: Dialects) -> None:
    response = ended(client, "/veo/videos", {"prompt": "a boat", "model": "fal-ai/film/fast"})
    assert kept(client, response["data"][0]["video_url"]) == dialects.film
    ((_, key, sent),) = dialects.of("POST", "/fal/fal-ai/film/fast")
    assert (key, sent) == (f"Key {KEY}", {"prompt": "a boat", "aspect_ratio": "16:9", "resolution": "720p"})
