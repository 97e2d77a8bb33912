"""`bide worker --provider diffusers` beside `bide serve`: real processes, and a stand-in for the library."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.providers.diffusers_calls import without_the_library
from tests.system.client import Client
from tests.system.processes import is_alive, running, started, until

GENERATE = "/openai/images/generations"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a model, and a channel that has it."""
    without_the_library(monkeypatch)
    folder = tmp_path / "model"
    folder.mkdir()
    named = f"options = {{ model = {json.dumps(str(folder))} }}"
    (tmp_path / "bide.toml").write_text(f'[[channels]]\nname = "local"\nprovider = "diffusers"\n{named}\n')
    return folder


def loads(model: Path) -> list[int]:
    """The processes that loaded the model."""
    file = model / "loads"
    return [int(line.split()[0]) for line in file.read_text().splitlines()] if file.exists() else []


def ended(client: Client, task_id: str) -> dict[str, Any]:
    def look() -> Any:
        return client.post("/openai/tasks", {"id": task_id}).json.get("response")

    return dict(until(look, 30, "the task to end"))


def test_a_caller_that_waits_is_given_what_the_worker_made(tmp_path: Path, model: Path) -> None:
    with running("serve", tmp_path) as serve, running("worker", tmp_path, "--provider", "diffusers") as worker:
        answer = serve.client().post(GENERATE, {"prompt": "a boat", "n": 2})
        assert answer.status == 200, answer
        assert len(answer.json["data"]) == 2
        assert loads(model) == worker.children()
        assert serve.children() == []
        worker.terminate()
        assert worker.wait() == 0, worker.output()
        assert not is_alive(loads(model)[0])


def test_kill_9_of_the_worker_takes_its_process_along_and_another_worker_ends_the_task(
    tmp_path: Path, model: Path
) -> None:
    with running("serve", tmp_path, lease_s=1) as serve:
        client = serve.client()
        with running("worker", tmp_path, "--provider", "diffusers", lease_s=1) as worker:
            task_id = client.post(GENERATE, {"prompt": "[deaf] a boat", "async": True}).json["task_id"]
            until(lambda: (model / "deaf").exists(), 20, "the model to work")
            (child,) = loads(model)
            worker.kill()
            until(lambda: not is_alive(child), 10, "its process to end")
        (model / "deaf").unlink()
        (model / "hears").touch()  # the next one is not deaf
        with running("worker", tmp_path, "--provider", "diffusers", lease_s=1):
            assert ended(client, task_id)["success"] is True
        assert len(loads(model)) == 2


def test_kill_9_of_the_process_that_computes_is_a_failure_that_is_tried_again(tmp_path: Path, model: Path) -> None:
    with running("serve", tmp_path) as serve, running("worker", tmp_path, "--provider", "diffusers") as worker:
        client = serve.client()
        task_id = client.post(GENERATE, {"prompt": "[deaf] a boat", "async": True}).json["task_id"]
        until(lambda: (model / "deaf").exists(), 20, "the model to work")
        (model / "hears").touch()
        os.kill(loads(model)[0], signal.SIGKILL)
        assert ended(client, task_id)["success"] is True
        assert loads(model)[1:] == worker.children()


def test_a_provider_without_workers_of_its_own_is_refused(tmp_path: Path) -> None:
    with started("worker", tmp_path, "--provider", "sandbox") as worker:
        assert worker.wait() != 0
        assert "no worker of its own" in worker.output()
