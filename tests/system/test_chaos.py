"""An upstream where everything goes wrong that can, and processes that are killed with signal 9 all the while.

No task is lost, none is paid for twice, what is held is charged or released once, bounds of channels are kept.
"""

import contextlib
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tests.books import prove
from tests.system.client import Client
from tests.system.loopback import receiver
from tests.system.processes import Process, started, until
from tests.system.relay import Job, Manners, Relay, call_back, relay
from tests.system.tenants import Tenants
from tests.system.test_calls_back import free_port

BOUND = 5
ORDERS, CALLERS = 320, 4
CREDITS = 60.0
"""For most of the orders, and not for all."""
QUIET_S = 240.0
"""Until everything has ended. It takes some twenty seconds; the rest is for a machine that does other things."""
CHANNELS = """
[[channels]]
name = "bounded"
provider = "ace_relay"
base_url = "{url}"
key = "key-bounded"
models = ["flux-pro"]
concurrency = {bound}
[[channels]]
name = "one"
provider = "ace_relay"
base_url = "{url}"
key = "key-one"
models = ["flux-dev"]
[[channels]]
name = "other"
provider = "ace_relay"
base_url = "{url}"
key = "key-other"
models = ["flux-dev"]
"""


class Chaos:
    """What goes wrong is drawn. A submission is treated badly twice at most, a look or a search for it once, so that
    all of it has an end."""

    def __init__(self, seed: int) -> None:
        self._chance, self._tried = random.Random(seed), Counter[str]()

    def manners(self) -> Manners:
        return Manners(self.submission, self.look, self.search, self.fetch, lambda: self._chance.uniform(0.1, 3.0))

    def _one_of(self, share: float, *words: str) -> str | None:
        return self._chance.choice(words) if self._chance.random() < share else None

    def submission(self, mark: str) -> str | None:
        self._tried[mark] += 1
        if self._tried[mark] > 2:
            return None
        return self._one_of(0.4, "refused", "busy", "cut", "late", "lost", "garbled", "slow")

    def look(self, job: Job) -> str | None:
        if job.polls > 1:
            return self._one_of(0.2, "renamed")
        # What is told to be gone is not asked for again for long, unless it calls.
        bad = ("cut", "garbled", "busy", "empty", "renamed", "slow")
        return self._one_of(0.4, *bad, "forgotten") if calls(job) else self._one_of(0.4, *bad)

    def search(self, mark: str, times: int) -> str | None:
        return self._one_of(0.4, "cut", "garbled", "busy", "slow") if times == 1 else None

    def fetch(self, job: Job) -> str | None:
        return self._one_of(0.1, "cut", "busy", "garbled") if job.fetched == 1 else None


def calls(job: Job) -> bool:
    """Every third work is only found out by looking."""
    return int(job.id[1:]) % 3 > 0


@contextlib.contextmanager
def calling(upstream: Relay) -> Iterator[None]:
    """While open, what is done is called back: twice at once, and again until nobody knows the address."""
    over = threading.Event()

    def loop() -> None:
        known: dict[str, float] = {}
        while not over.wait(0.05):
            now = time.monotonic()
            with upstream.lock:
                due = [one for one in upstream.by_id.values()
                       if calls(one) and one.done_at <= now and known.get(one.id, 0.0) <= now]  # fmt: skip
            for job in due:
                told = [call_back(job.callback_url, body) for body in (b"{}", b'{"state": "failed", "id": 3')]
                assert set(told) <= {0, 200, 404}
                known[job.id] = float("inf") if told == [404, 404] else now + 1.0

    with ThreadPoolExecutor(1) as pool:
        caller = pool.submit(loop)
        try:
            yield
        finally:
            over.set()
    caller.result()


class Orders:
    """Callers that order all the time. `answered` has every task that was promised, and whether it is called back."""

    def __init__(self, callback_url: str) -> None:
        self.answered: dict[str, bool] = {}
        self.others: Counter[tuple[int, str]] = Counter()
        self._callback_url, self._numbers = callback_url, itertools.count()

    @contextlib.contextmanager
    def on(self, client: Client) -> Iterator[list[Future[None]]]:
        over = threading.Event()
        with ThreadPoolExecutor(CALLERS) as pool:
            futures = [pool.submit(self._order, client, over) for _ in range(CALLERS)]
            try:
                yield futures
            finally:
                over.set()
        for one in futures:
            one.result()

    def _order(self, client: Client, over: threading.Event) -> None:
        while (number := next(self._numbers)) < ORDERS and not over.wait(0.02):
            model, called = "flux-dev" if number % 12 else "flux-pro", number % 2 == 0
            body: dict[str, object] = {"prompt": f"picture {number}", "model": model}
            body |= {"callback_url": self._callback_url} if called else {"async": True}
            try:
                answer = client.post("/flux/images", body)
            except OSError:
                time.sleep(0.1)  # the process died that would have answered
                continue
            if answer.status == 200:
                self.answered[answer.json["task_id"]] = called
            else:
                self.others[answer.status, answer.code] += 1


def test_nothing_is_lost_or_paid_for_twice_whatever_the_upstream_does_and_whoever_dies(
    tmp_path: Path, database_url: str
) -> None:
    chance, port = random.Random(3), free_port()
    settings = {
        "lease_s": 2, "worker_poll_s": 0.1, "database_url": database_url or None, "data_dir": tmp_path / "data",
        "upstream_callback_url": f"http://127.0.0.1:{port}",
    }  # fmt: skip
    roles: dict[str, tuple[str, ...]] = {"api": ("--port", str(port)), "worker": (), "worker-2": ()}
    with relay(Chaos(5).manners()) as upstream, receiver() as received, contextlib.ExitStack() as stack:
        nodes: dict[str, Process] = {}

        def start(*names: str) -> None:
            for name in names:
                directory = tmp_path / name
                directory.mkdir(exist_ok=True)
                (directory / "bide.toml").write_text(CHANNELS.format(url=upstream.url, bound=BOUND), "utf-8")
                node = started(name.partition("-")[0], directory, *roles[name], **settings)
                nodes[name] = stack.enter_context(node)
            for name in names:
                nodes[name].wait_ready()

        stack.enter_context(calling(upstream))
        start(*roles)
        tenants = Tenants(tmp_path, database_url)
        tenant = tenants.add(credits=CREDITS, service=None)
        orders = Orders(received.url)
        with orders.on(nodes["api"].client(tenant.token)) as ordering:
            for _ in range(4):
                time.sleep(chance.uniform(0.3, 0.7))  # when they die is what the test draws
                victims = chance.sample(list(roles), chance.randint(1, 2))
                for victim in victims:
                    nodes[victim].kill()
                start(*victims)
            until(lambda: all(one.done() for one in ordering), QUIET_S, "the last order")
        until(lambda: tenants.rows("SELECT count(*) FROM queue")[0][0] == 0, QUIET_S, "every task to end")

        wanted = {task_id for task_id, called in orders.answered.items() if called}
        until(lambda: set(received.by_task()) >= wanted, QUIET_S, "the callbacks")
        check(tenants, upstream, orders)
        prove(tmp_path, **settings)


def check(tenants: Tenants, upstream: Relay, orders: Orders) -> None:
    """Every task, every work of the upstream, and all the money."""
    ended = {row[0]: (row[1], row[2]) for row in tenants.rows("SELECT id, status, code FROM usage")}
    seen = json.dumps(Counter(str(one) for one in ended.values()))
    assert set(orders.answered) <= set(ended)
    assert len(ended) == tenants.rows("SELECT count(*) FROM tasks")[0][0] > 100
    assert set(orders.others) <= {(403, "used_up")}
    # What was promised twice would be paid twice: one work for a task at most, and one for each that succeeded.
    assert {len(jobs) for jobs in upstream.by_mark.values()} == {1}
    succeeded = {task_id for task_id, (status, _) in ended.items() if status == 200}
    assert succeeded <= set(upstream.by_mark) <= set(ended)
    assert len(succeeded) > len(ended) * 0.8, seen
    assert {code for _, code in ended.values()} <= {None, "timeout", "api_error", "too_many_requests"}, seen
    assert 0 < upstream.most_open["key-bounded"] <= BOUND
    refs = tenants.rows(
        "SELECT ref, sum(CASE WHEN kind = 'hold' THEN amount ELSE -amount END), count(*),"
        " sum(CASE WHEN kind = 'charge' THEN amount ELSE 0 END) FROM ledger WHERE kind <> 'grant' GROUP BY ref"
    )
    assert {row[0] for row in refs} == set(ended)
    assert {(int(row[1]), int(row[2])) for row in refs} == {(0, 2)}  # one hold, and one word about it
    assert {row[0] for row in refs if row[3]} == succeeded
    charged = {row[0]: int(row[1]) for row in tenants.rows("SELECT id, price * units FROM usage")}
    assert {row[0]: int(row[3]) for row in refs} == charged
    (used, held), *_ = tenants.rows("SELECT sum(used), sum(held) FROM balances")
    assert (int(used), int(held)) == (sum(charged.values()), 0)
