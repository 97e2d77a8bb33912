"""`openai_images` against a stand-in of OpenAI that nobody here wrote: the npm package `@copilotkit/aimock`.

Skipped where Node is not there or the package cannot be had.
"""

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.client import Client, Part
from tests.system.loopback import picture, receiver
from tests.system.processes import channel, running, until

PACKAGE = "@copilotkit/aimock@1.43.0"
HERE = Path(__file__).parent.parent / "aimock"
INSTALL_S = 60
GENERATE = "/openai/images/generations"


@pytest.fixture(scope="module")
def aimock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The stand-in's address."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        pytest.skip("node and npm are not there")
    directory = tmp_path_factory.mktemp("aimock")
    (directory / "package.json").write_text("{}")
    install = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=0"]
    try:
        subprocess.run([*install, PACKAGE], cwd=directory, capture_output=True, timeout=INSTALL_S, check=True)
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"{PACKAGE} cannot be installed: {type(error).__name__}")
    command = [node, str(HERE / "server.mjs"), str(directory), str(HERE / "fixtures.json")]
    log = directory / "server.log"
    with log.open("wb") as out:
        server = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=dict(os.environ))
    try:
        url = until(lambda: next((line for line in log.read_text().splitlines() if line.startswith("http")), ""), 20)
        yield url
    finally:
        server.kill()
        server.wait(10)


@pytest.fixture(scope="module")
def client(aimock: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    directory = tmp_path_factory.mktemp("gateway")
    channel(directory, f"{aimock}/v1")
    with running("serve", directory, attempts_max=1) as serve:
        yield serve.client(checked=True)


def posts(aimock: str, prompt: str) -> list[Any]:
    """The journal's entries of POSTs with this prompt."""
    with urllib.request.urlopen(f"{aimock}/__aimock/journal?limit=1000", timeout=10) as answer:
        found = json.load(answer)
    return [entry for entry in found if entry.get("method") == "POST" and prompt in json.dumps(entry)]


def test_a_picture_is_stored_and_asked_for_exactly_once(client: Client, aimock: str) -> None:
    answer = client.post(GENERATE, {"prompt": "one lighthouse"})
    assert answer.status == 200, answer
    path = answer.json["data"][0]["url"].removeprefix(client.url)
    assert client.get(path).body == picture()
    assert len(posts(aimock, "one lighthouse")) == 1


def test_two_pictures_are_two_files(client: Client, aimock: str) -> None:
    answer = client.post(GENERATE, {"prompt": "[two] lighthouses", "n": 2})
    assert len({item["url"] for item in answer.json["data"]}) == 2
    assert len(posts(aimock, "[two] lighthouses")) == 1


@pytest.mark.parametrize(("word", "status", "code"), [
    ("[moderation]", 403, "forbidden"), ("[boom]", 500, "api_error"), ("[rate]", 429, "too_many_requests"),
    ("[quota]", 500, "api_error"),
])  # fmt: skip
def test_an_error_is_mapped_and_the_post_is_not_repeated(
    client: Client, aimock: str, word: str, status: int, code: str
) -> None:
    answer = client.post(GENERATE, {"prompt": f"{word} lighthouse"})
    assert (answer.status, answer.code) == (status, code)
    assert len(posts(aimock, f"{word} lighthouse")) == 1


def test_a_task_is_called_back_and_asked_for_exactly_once(client: Client, aimock: str) -> None:
    with receiver() as received:
        body = {"prompt": "a later lighthouse", "callback_url": received.url}
        task_id = client.post(GENERATE, body).json["task_id"]
        assert until(lambda: received.of(task_id), 20)[0].json["success"] is True
    assert len(posts(aimock, "a later lighthouse")) == 1


def test_an_edit_with_files_is_answered(client: Client, aimock: str) -> None:
    parts: list[Part] = [("prompt", "an edited lighthouse"), ("image[]", ("a.png", picture(), "image/png")),
                         ("mask", ("m.png", picture(alpha=True), "image/png"))]  # fmt: skip
    answer = client.form("/openai/images/edits", parts)
    assert answer.status == 200, answer
    assert client.get(answer.json["data"][0]["url"].removeprefix(client.url)).body == picture()
