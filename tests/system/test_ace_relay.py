"""Two gateways in a row: the second is the first one's upstream, and has the sandbox."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.client import Client
from tests.system.processes import TOKEN, channel, running, until

BODIES: dict[str, dict[str, Any]] = {
    "openai/images/generations": {"prompt": "a boat", "model": "gpt-image-2"},
    "flux/images": {"prompt": "a boat", "model": "flux-dev", "action": "generate"},
    "midjourney/imagine": {"prompt": "a boat", "split_images": True},
    "suno/audios": {"prompt": "a harbour", "duration": 5},
    "veo/videos": {"prompt": "a boat", "model": "veo31-fast"},
    "kling/videos": {"prompt": "a boat", "duration": 5},
    "midjourney/shorten": {"prompt": "a very beautiful old boat"},
}


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The gateway that callers see."""
    directory = tmp_path_factory.mktemp("relay")
    with running("serve", directory / "behind") as behind:
        channel(directory / "front", behind.url, provider="ace_relay", key=TOKEN)
        with running("serve", directory / "front") as serve:
            yield serve.client(checked=True)


@pytest.fixture(scope="module")
def responses(front: Client) -> dict[str, Any]:
    """What became of every body, all submitted before the first is looked at."""
    ids: dict[str, str] = {}
    for path, body in BODIES.items():
        if path == "midjourney/shorten":
            continue
        answer = front.post(f"/{path}", {**body, "async": True})
        assert answer.status == 200, answer
        ids[path] = answer.json["task_id"]
    return {path: _ended(front, path, task_id) for path, task_id in ids.items()}


def _ended(front: Client, path: str, task_id: str) -> Any:
    service = path.partition("/")[0]

    def look() -> Any:
        return front.post(f"/{service}/tasks", {"id": task_id}).json["response"]

    response = until(look, 60, path)
    assert response["success"] is True, response
    return response


def _served(front: Client, url: str, kind: str) -> None:
    """The file is our own copy."""
    assert url.startswith(f"{front.url}/files/")
    answer = front.get(url.removeprefix(front.url))
    assert answer.status == 200
    assert answer.headers["content-type"].startswith(kind)
    assert answer.body


def test_pictures(front: Client, responses: dict[str, Any]) -> None:
    _served(front, responses["openai/images/generations"]["data"][0]["url"], "image/")
    _served(front, responses["flux/images"]["data"][0]["image_url"], "image/")


def test_a_grid_and_what_follows_it(front: Client, responses: dict[str, Any]) -> None:
    grid = responses["midjourney/imagine"]
    for url in (grid["image_url"], grid["raw_image_url"], *grid["sub_image_urls"]):
        _served(front, url, "image/")
    assert len(grid["sub_image_urls"]) == 4
    assert "upscale2" in grid["actions"]
    refused = front.post("/midjourney/imagine", {"action": "pan_left", "image_id": grid["image_id"]})
    assert refused.code == "bad_request"
    follow = front.post("/midjourney/imagine", {"action": "upscale2", "image_id": grid["image_id"], "async": True})
    single = _ended(front, "midjourney/imagine", follow.json["task_id"])
    _served(front, single["raw_image_url"], "image/")
    assert single["image_id"] != grid["image_id"]
    assert "pan_left" in single["actions"]
    seed = front.post("/midjourney/seed", {"image_id": grid["image_id"]})
    assert seed.json["seed"].isdigit()


def test_songs(front: Client, responses: dict[str, Any]) -> None:
    songs = responses["suno/audios"]["data"]
    assert len({song["id"] for song in songs}) == 2
    for song in songs:
        _served(front, song["audio_url"], "audio/")
        _served(front, song["image_url"], "image/")
        assert song["title"]
        assert song["duration"] == pytest.approx(5, abs=0.5)


def test_films(front: Client, responses: dict[str, Any]) -> None:
    _served(front, responses["veo/videos"]["data"][0]["video_url"], "video/mp4")
    _served(front, responses["kling/videos"]["video_url"], "video/mp4")


def test_a_film_made_larger_keeps_its_id(front: Client, responses: dict[str, Any]) -> None:
    film = responses["veo/videos"]["data"][0]["id"]
    accepted = front.post("/veo/upsample", {"video_id": film, "action": "1080p"})
    larger = _ended(front, "veo/upsample", accepted.json["task_id"])["data"][0]
    assert larger["id"] == film
    _served(front, larger["video_url"], "video/mp4")


def test_words_come_at_once(front: Client) -> None:
    answer = front.post("/midjourney/shorten", BODIES["midjourney/shorten"])
    assert answer.status == 200
    assert answer.json["prompts"]


def test_a_failure_behind_is_the_same_failure_in_front(front: Client) -> None:
    answer = front.post("/midjourney/shorten", {"prompt": "[fail:forbidden] a boat"})
    assert (answer.status, answer.code) == (403, "forbidden")
