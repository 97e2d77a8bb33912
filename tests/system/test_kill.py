"""Real processes are killed with signal 9 at any moment: no task is lost or asked for twice, the books stay right."""

import contextlib
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.books import prove
from tests.databases import PostgresServer
from tests.system.client import Client
from tests.system.loopback import Receiver, Upstream, receiver, upstream
from tests.system.processes import Process, channel, running, started, until

GENERATE = "/openai/images/generations"
CALLERS = 4
QUICK = {"lease_s": 2, "worker_poll_s": 0.1}
"""Leases end soon, so that a loop of deaths is short; the take-over itself is timed with the default."""


class Callers:
    """Submit all the time, most with a callback, some waiting; `answered` has every task id that was handed out."""

    def __init__(self, callback_url: str) -> None:
        self.answered: dict[str, str] = {}
        self._callback_url = callback_url
        self._numbers = itertools.count()

    @contextlib.contextmanager
    def busy(self, client: Client) -> Iterator[None]:
        """While open, callers submit to this server; they give up when it is gone."""
        over = threading.Event()
        with ThreadPoolExecutor(CALLERS) as pool:
            callers: list[Future[None]] = [pool.submit(self._submit, client, over) for _ in range(CALLERS)]
            try:
                yield
            finally:
                over.set()
        for caller in callers:
            caller.result()

    def _submit(self, client: Client, over: threading.Event) -> None:
        while not over.wait(0.01):
            number = next(self._numbers)
            body = {"prompt": f"picture {number}"}
            if number % 7:
                body["callback_url"] = self._callback_url
            try:
                answer = client.post(GENERATE, body)
            except OSError:
                return
            assert answer.status in (200, 504), answer
            if "callback_url" in body:
                self.answered[answer.json["task_id"]] = body["prompt"]


def check_the_books(client: Client, callers: Callers, asked: Upstream, received: Receiver) -> None:
    """Every task that was ever answered is there, ended, was called back, and was asked for at most once."""
    ids = list(callers.answered)
    assert len(ids) > 20

    def ended() -> dict[str, dict[str, Any]] | None:
        documents = client.tasks(ids)
        assert set(documents) == set(ids)
        return documents if all("finished_at" in one for one in documents.values()) else None

    documents = until(ended, 30, "every task to end")
    assert documents is not None
    until(lambda: set(received.by_task()) >= set(ids), 30, "a callback of every task")
    assert max(asked.asked.values()) == 1
    callbacks = received.by_task()
    outcomes: Counter[str] = Counter()
    for task_id, prompt in callers.answered.items():
        response = documents[task_id]["response"]
        outcomes["succeeded" if response["success"] else response["error"]["code"]] += 1
        assert all(callback.json["success"] == response["success"] for callback in callbacks[task_id])
        if response["success"]:
            assert asked.asked[prompt] == 1
            assert client.get(urlsplit(response["data"][0]["url"]).path).status == 200
    assert set(outcomes) <= {"succeeded", "timeout"}
    assert outcomes["succeeded"]


def test_a_gateway_that_is_killed_again_and_again_loses_nothing_and_asks_nothing_twice(tmp_path: Path) -> None:
    chance = random.Random(2)
    with upstream((0.0, 0.3)) as asked, receiver() as received:
        channel(tmp_path, asked.url)
        callers = Callers(received.url)
        for _ in range(3):
            with running("serve", tmp_path, **QUICK) as serve, callers.busy(serve.client()):
                time.sleep(chance.uniform(0.1, 0.6))  # when it dies is what the test draws
                serve.kill()
        with running("serve", tmp_path, **QUICK) as serve:
            check_the_books(serve.client(), callers, asked, received)
            prove(tmp_path)
        prove(tmp_path)


def test_nodes_on_one_database_that_are_killed_at_random_lose_nothing_and_ask_nothing_twice(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    chance = random.Random(5)
    settings = {**QUICK, "database_url": postgres_server.new_database()}
    roles = {"front": "api", "one": "worker", "other": "worker"}
    with upstream((0.0, 0.3)) as asked, receiver() as received, contextlib.ExitStack() as stack:
        callers = Callers(received.url)
        nodes: dict[str, Process] = {}

        def start(names: list[str]) -> None:
            for name in names:
                channel(tmp_path / name, asked.url)
                shared = {**settings, "data_dir": tmp_path / "shared"}
                nodes[name] = stack.enter_context(started(roles[name], tmp_path / name, **shared))
            for name in names:
                nodes[name].wait_ready()

        start(list(roles))
        for _ in range(3):
            with callers.busy(nodes["front"].client()):
                time.sleep(chance.uniform(0.1, 0.6))
                victims = chance.sample(list(roles), chance.randint(1, 3))
                for name in victims:
                    nodes[name].kill()
            start(victims)
        check_the_books(nodes["front"].client(), callers, asked, received)
        prove(tmp_path, **settings)


def test_another_worker_takes_over_within_ten_seconds_of_a_death(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    """With the default lease: a task whose upstream was asked, and a callback whose receiver was talking."""
    settings: dict[str, Any] = {"database_url": postgres_server.new_database(), "data_dir": tmp_path / "shared"}
    with upstream() as asked, receiver(holds_first=True) as received, contextlib.ExitStack() as stack:
        channel(tmp_path, asked.url)
        front = stack.enter_context(running("api", tmp_path, **settings)).client()
        victim = stack.enter_context(running("worker", tmp_path, **settings))
        held = front.post(GENERATE, {"prompt": "[hold] a boat", "async": True}).json["task_id"]
        called = front.post(GENERATE, {"prompt": "a tree", "callback_url": received.url}).json["task_id"]
        until(lambda: asked.asked["[hold] a boat"] and received.of(called), 20, "both to be under way")
        stack.enter_context(running("worker", tmp_path, **settings))
        victim.kill()
        died_at = time.time()

        document = until(lambda: _ended(front, held), 20, "the task to be taken over")
        until(lambda: len(received.of(called)) > 1, 20, "the callback to be sent again")

        assert document["finished_at"] - died_at < 10
        assert received.of(called)[1].at - died_at < 10
        assert document["response"]["error"]["code"] == "timeout"
        assert asked.asked["[hold] a boat"] == 1
        assert received.of(called)[0].headers["webhook-id"] == received.of(called)[1].headers["webhook-id"]
        prove(tmp_path, **settings)


def _ended(client: Client, task_id: str) -> dict[str, Any] | None:
    document = client.task(task_id)
    return document if "finished_at" in document else None


def test_a_graceful_stop_finishes_what_is_under_way_and_ends_with_0(tmp_path: Path) -> None:
    with upstream((1.0, 1.0)) as asked, receiver() as received, ThreadPoolExecutor(1) as pool:
        channel(tmp_path, asked.url)
        with running("serve", tmp_path) as serve:
            client = serve.client()
            waiting = pool.submit(client.post, GENERATE, {"prompt": "waits"})
            ids = [
                client.post(GENERATE, {"prompt": f"later {number}", "callback_url": received.url}).json["task_id"]
                for number in range(5)
            ]
            until(lambda: len(asked.asked) == 6, 10, "every call to be under way")
            serve.terminate()
            assert serve.wait() == 0, serve.output()
            assert waiting.result().json["success"] is True
        with running("serve", tmp_path) as serve:
            documents = serve.client().tasks(ids)
            assert [documents[task_id]["response"]["success"] for task_id in ids] == [True] * 5
            until(lambda: set(received.by_task()) == set(ids), 20, "the callbacks")
        prove(tmp_path)
        assert max(asked.asked.values()) == 1


def test_a_graceful_stop_leaves_what_takes_too_long_to_the_next_process(tmp_path: Path) -> None:
    with upstream() as asked:
        channel(tmp_path, asked.url)
        with running("serve", tmp_path, stop_grace_s=0.5, **QUICK) as serve:
            task_id = serve.client().post(GENERATE, {"prompt": "[hold] a boat", "async": True}).json["task_id"]
            until(lambda: asked.asked["[hold] a boat"], 10)
            serve.terminate()
            assert serve.wait() == 0, serve.output()
        with running("serve", tmp_path, **QUICK) as serve:
            client = serve.client()
            document = until(lambda: _ended(client, task_id), 20, "the task to end")
            assert document["response"]["error"]["code"] == "timeout"
        prove(tmp_path)
        assert asked.asked["[hold] a boat"] == 1
