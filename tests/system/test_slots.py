"""A bounded channel under real processes that are killed with signal 9: never more than the bound is open there."""

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.books import prove
from tests.system.loopback import Upstream, _Handler, _serving
from tests.system.processes import Process, channel, running, started, until

GENERATE = "/openai/images/generations"
BOUND = 3
TASKS = 60
QUICK = {"lease_s": 2, "worker_poll_s": 0.1}
WORKERS = ("one", "two", "three")


class Bounded(Upstream):
    """Counts how many it is asked at once."""

    def __init__(self) -> None:
        super().__init__((0.05, 0.2))
        self.most, self._now, self._counting = 0, 0, threading.Lock()

    def handle(self, body: bytes) -> bytes:
        with self._counting:
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            return super().handle(body)
        finally:
            with self._counting:
                self._now -= 1


@contextlib.contextmanager
def bounded() -> Iterator[Bounded]:
    found = Bounded()

    class Handler(_Handler):
        def do_POST(self) -> None:
            self.answer(200, found.handle(self.read()))

    with _serving(Handler) as url:
        found.url = f"{url}/v1"
        yield found


def test_three_workers_that_are_killed_at_random_keep_the_bound_and_lose_nothing(
    tmp_path: Path, database_url: str
) -> None:
    chance = random.Random(7)
    settings = {**QUICK, "database_url": database_url, "data_dir": tmp_path / "shared"}
    with bounded() as asked, contextlib.ExitStack() as stack:
        nodes: dict[str, Process] = {}

        def start(name: str) -> None:
            channel(tmp_path / name, asked.url, concurrency=BOUND)
            nodes[name] = stack.enter_context(started("worker", tmp_path / name, **settings))

        channel(tmp_path / "front", asked.url, concurrency=BOUND)
        front = stack.enter_context(running("api", tmp_path / "front", **settings)).client()
        for name in WORKERS:
            start(name)
        ids = [front.post(GENERATE, {"prompt": f"picture {n}", "async": True}).json["task_id"] for n in range(TASKS)]
        for _ in range(4):
            time.sleep(chance.uniform(0.3, 0.8))  # when it dies is what the test draws
            victim = chance.choice(WORKERS)
            nodes[victim].wait_ready()
            nodes[victim].kill()
            start(victim)

        def ended() -> dict[str, dict[str, object]] | None:
            found = front.tasks(ids)
            assert set(found) == set(ids)
            return found if all("finished_at" in one for one in found.values()) else None

        documents = until(ended, 60, "every task to end")
        outcomes = Counter(
            "succeeded" if one["response"]["success"] else one["response"]["error"]["code"]  # type: ignore[index]
            for one in documents.values()
        )
        assert set(outcomes) <= {"succeeded", "timeout"}
        assert outcomes["succeeded"] >= TASKS - 4 * BOUND
        assert asked.most <= BOUND
        assert max(asked.asked.values()) == 1
        prove(tmp_path, **settings)
