"""A real upstream calls a real gateway back at the address that it was given."""

import socket
from pathlib import Path
from typing import Any

from tests.system.client import Client
from tests.system.processes import channel, running, until
from tests.system.relay import Job, Manners, call_back, relay


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def _ended(client: Client, task_id: str) -> dict[str, Any] | None:
    document: dict[str, Any] = client.post("/flux/tasks", {"id": task_id}).json
    return document if document.get("finished_at") else None


def test_what_an_upstream_calls_back_ends_the_task_at_once_and_garbage_does_no_harm(
    tmp_path: Path, database_url: str
) -> None:
    """The first look finds no such work, after which the next one would be half a minute away."""
    port = free_port()
    jobs: list[Job] = []

    def look(job: Job) -> str | None:
        jobs[:] = [job]
        return "forgotten" if job.polls == 1 else None

    base = f"http://127.0.0.1:{port}"
    with relay(Manners(look=look)) as upstream:
        channel(tmp_path, upstream.url, provider="ace_relay")
        with running(
            "serve", tmp_path, "--port", str(port), database_url=database_url or None, upstream_callback_url=base
        ) as serve:
            client = serve.client()
            task_id = client.post("/flux/images", {"prompt": "a boat", "async": True}).json["task_id"]
            until(lambda: jobs and jobs[0].polls, 30, "the first look")
            (job,) = jobs
            assert job.callback_url.startswith(f"{base}/cb/")
            assert [call_back(f"{base}/cb/{token}") for token in ("0" * 32, "x", "%00")] == [404] * 3
            assert _ended(client, task_id) is None

            def called() -> dict[str, Any] | None:
                # Until the answer to the first look is written down, there is nothing that can be brought forward.
                call_back(job.callback_url, b'{"id": "another", "success": false')
                return _ended(client, task_id)

            document = until(called, 29, "the task to end")
            assert document is not None
            assert document["response"]["success"] is True
            assert [call_back(job.callback_url), call_back(job.callback_url, method="GET")] == [404, 404]
            assert _ended(client, task_id) == document
    assert len(upstream.by_id) == 1
