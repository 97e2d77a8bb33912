"""Starting, stopping and losing processes, as an operator sees it."""

import json
import os
import re
import shlex
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.system.client import Client
from tests.system.processes import TOKEN, is_alive, running, started, until

GENERATE = "/openai/images/generations"
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@linux
def test_a_process_that_is_killed_is_replaced_and_the_others_go_on(tmp_path: Path) -> None:
    with running("serve", tmp_path, "--processes", "2") as serve:
        client = serve.client()
        assert client.post(GENERATE, {"prompt": "a boat"}).json["success"] is True
        # One that dies before it listens never says so: the lines counted below would then be one short.
        until(lambda: len(serve.events("listening")) == 2, 20, "both to listen")
        children = two(serve.children())
        os.kill(children[0], signal.SIGKILL)
        until(lambda: two([pid for pid in serve.children() if pid != children[0]]), 20, "a new process")
        until(lambda: len(serve.events("listening")) == 3, 20, "the new process to listen")
        for _ in range(10):
            assert client.post(GENERATE, {"prompt": "a boat"}).json["success"] is True
        serve.terminate()
        assert serve.wait() == 0, serve.output()


def two(pids: list[int]) -> list[int]:
    return pids if len(pids) == 2 else []


@linux
def test_a_supervisor_that_is_killed_takes_its_processes_with_it(tmp_path: Path) -> None:
    with running("serve", tmp_path, "--processes", "2") as serve:
        children = until(lambda: two(serve.children()), 20, "two processes")
        until(lambda: len(serve.events("listening")) == 2, 20, "both to listen")
        serve.kill()
        until(lambda: not any(is_alive(pid) for pid in children), 10, "the processes to end")
        until(lambda: refuses(serve.url), 10, "their socket to be closed")


def refuses(url: str) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as free:
        free.settimeout(5)
        return free.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) != 0


@pytest.mark.parametrize("processes", ["1", "2"])
def test_the_first_start_shows_a_token_once_with_a_command_that_works(tmp_path: Path, processes: str) -> None:
    with running("serve", tmp_path, "--processes", processes, bootstrap_token=None) as serve:
        until(lambda: "curl" in serve.output(), 10, "the command")
        shown = serve.output()
        token = re.findall(r"export BIDE_TOKEN=([0-9a-f]{32})\n", shown)
        assert len(token) == 1
        url, headers, body = command(shown)
        assert url == f"{serve.url}{GENERATE}"
        assert headers["authorization"] == f"Bearer {token[0]}"
        answer = Client(serve.url, None).request("POST", GENERATE, body, headers)
        assert answer.json["success"] is True
        assert json.loads(body)["prompt"]
    with running("serve", tmp_path, "--processes", processes, bootstrap_token=None) as serve:
        assert serve.client(token[0]).post(GENERATE, {"prompt": "a boat"}).status == 200
        assert "token" not in serve.output().lower()
        assert "curl" not in serve.output()


def command(shown: str) -> tuple[str, dict[str, str], bytes]:
    """URL, headers and body of the curl command in a text, read as a shell would."""
    words = shlex.split(shown[shown.index("curl") :].replace("\\\n", " "))
    options = list(zip(words[2::2], words[3::2], strict=False))
    headers = dict(value.split(": ", 1) for name, value in options if name == "-H")
    (body,) = (value for name, value in options if name == "-d")
    return words[1], {name.lower(): value for name, value in headers.items()}, body.encode()


def test_a_bootstrap_token_works_also_where_there_is_an_owner_already_and_is_never_shown(tmp_path: Path) -> None:
    for token in (TOKEN, "another-token-of-the-operator"):
        with running("serve", tmp_path, bootstrap_token=token) as serve:
            assert serve.client(token).post("/openai/tasks", {"id": "x"}).json == {}
            assert token not in serve.output()


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize(("settings", "named"), [
    ({"callback_timeout_s": "soon"}, "BIDE_CALLBACK_TIMEOUT_S"),
    ({"port": "99999"}, "BIDE_PORT"),
    ({"callback_allow_private": "10.0.0.0/99"}, "BIDE_CALLBACK_ALLOW_PRIVATE"),
    ({"webhook_secret": "whsec_%%%"}, "BIDE_WEBHOOK_SECRET"),
    ({"no_such_thing": "1"}, "BIDE_NO_SUCH_THING"),
    ({"database_url": "mysql://localhost/x"}, "BIDE_DATABASE_URL"),
    ({"database_url": "postgresql://nobody:hidden-word@127.0.0.1:1/x"}, "BIDE_DATABASE_URL"),
    ({"storage_url": "ftp://somewhere"}, "BIDE_STORAGE_URL"),
    ({"config": "no-such-file.toml"}, "BIDE_CONFIG"),
    ({"bootstrap_token": "short"}, "BIDE_BOOTSTRAP_TOKEN"),
])  # fmt: skip
def test_a_wrong_setting_ends_the_start_with_one_sentence_that_names_it(
    tmp_path: Path, settings: dict[str, object], named: str, processes: str
) -> None:
    with started("serve", tmp_path, "--processes", processes, **settings) as serve:
        assert serve.wait() == 1, serve.output()
        said = serve.output()
        assert named in said
        assert len(said.strip().splitlines()) == 1
        assert said.startswith("bide: ")
        assert "hidden-word" not in said


def test_a_data_directory_that_cannot_be_made_ends_the_start_with_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with started("serve", tmp_path, data_dir=tmp_path / "file" / "data") as serve:
        assert serve.wait() == 1
        assert len(serve.output().strip().splitlines()) == 1, serve.output()


def test_a_port_that_is_taken_ends_the_start_with_one_sentence_that_names_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with started("serve", tmp_path, "--port", str(port)) as serve:
            assert serve.wait() == 1
            said = serve.output().strip()
            assert f"127.0.0.1:{port}" in said
            assert len(said.splitlines()) == 1
