"""Real processes and real money: what is admitted, charged and released, by several processes, some of which die."""

import asyncio
import contextlib
import itertools
import json
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from os import kill
from pathlib import Path
from typing import Any, NamedTuple

from bide.accounts import store as accounts
from bide.accounts.limits import LIFTED
from bide.clock import Clock
from bide.credits import ledger
from bide.credits.ledger import Balance
from bide.db import Tx, connect, write_one
from bide.db.migrate import prepare
from bide.settings import Settings
from tests.books import prove
from tests.system.client import Client
from tests.system.loopback import upstream
from tests.system.processes import Process, channel, is_alive, running, until
from tests.world import CALLER, add_tenant

GENERATE = "/openai/images/generations"
ORDER = {"prompt": "a boat", "model": "a-model", "async": True}
PRICE = 400_000
"""Micro-credits of a picture by a model that no rule speaks of."""
TOKEN = "fedcba9876543210fedcba9876543210"
APPLICATION = "the-application"
QUICK = {"lease_s": 2, "worker_poll_s": 0.1}


class Books:
    """What a database says, asked from outside of the gateway."""

    def __init__(self, directory: Path, database_url: str) -> None:
        self._directory, self._url = directory, database_url
        self._settings = Settings(data_dir=str(directory / "data"), database_url=database_url)

    def tenant(self, credit: int) -> None:
        """An application without limits and with so many micro-credits, and its token."""

        async def make(tx: Tx) -> None:
            await add_tenant(tx, replace(CALLER, application_id=APPLICATION), credit)
            await tx.run("UPDATE applications SET limits = $1 WHERE id = $2", json.dumps(LIFTED), APPLICATION)
            await accounts.add_credential(tx, Clock(), APPLICATION, CALLER.user_id, "tests", TOKEN)

        async def run() -> None:
            db = await connect(self._settings)
            await prepare(db, Clock())
            await write_one(db, make)
            await db.close()

        asyncio.run(run())

    def read(self, sql: str) -> list[tuple[Any, ...]]:
        async def run() -> list[tuple[Any, ...]]:
            db = await connect(self._settings)
            try:
                return [tuple(row) for row in await db.rows(sql)]
            finally:
                await db.close()

        return asyncio.run(run())

    def balance(self) -> Balance:
        async def run() -> Balance:
            db = await connect(self._settings)
            try:
                return (await ledger.balances(db, [APPLICATION]))[APPLICATION]
            finally:
                await db.close()

        return asyncio.run(run())

    def at_rest(self) -> bool:
        """No task is open."""
        return self.read("SELECT count(*) FROM queue") == [(0,)]

    def audit(self) -> None:
        """It may be proved while the gateway runs."""
        prove(self._directory, database_url=self._url or None)


class Seen(NamedTuple):
    status: int
    code: str
    task_id: str


def submit(client: Client) -> Seen:
    answer = client.post(GENERATE, ORDER)
    if answer.status == 200:
        return Seen(200, "", answer.json["task_id"])
    return Seen(answer.status, answer.code, "")


def test_of_a_thousand_orders_at_once_with_credit_for_a_hundred_a_hundred_are_admitted(
    tmp_path: Path, database_url: str
) -> None:
    """Four processes on one database, and nobody limits how fast the orders come."""
    books = Books(tmp_path, database_url)
    books.tenant(100 * PRICE + PRICE - 1)
    with (
        running("serve", tmp_path, "--processes", "4", database_url=database_url or None) as serve,
        ThreadPoolExecutor(40) as pool,
    ):  # fmt: skip
        client = serve.client(TOKEN)
        seen = list(pool.map(submit, itertools.repeat(client, 1_000)))
        assert Counter((one.status, one.code) for one in seen) == {(200, ""): 100, (403, "used_up"): 900}
        until(books.at_rest, 60, "every task to end")
        documents = client.tasks([one.task_id for one in seen if one.task_id])
        assert [one["response"]["success"] for one in documents.values()] == [True] * 100
        assert books.balance() == Balance(100 * PRICE + PRICE - 1, 100 * PRICE, 0)
        books.audit()
    books.audit()


class Load:
    """Callers that order all the time, and remember every task they were promised."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.others: Counter[tuple[int, str]] = Counter()

    @contextlib.contextmanager
    def on(self, client: Client, callers: int = 6) -> Iterator[None]:
        over = threading.Event()
        with ThreadPoolExecutor(callers) as pool:
            futures: list[Future[None]] = [pool.submit(self._order, client, over) for _ in range(callers)]
            try:
                yield
            finally:
                over.set()
        for future in futures:
            future.result()

    def _order(self, client: Client, over: threading.Event) -> None:
        while not over.wait(0.01):
            try:
                seen = submit(client)
            except OSError:
                continue  # the process died that would have answered
            if seen.task_id:
                self.ids.append(seen.task_id)
            else:
                self.others[seen.status, seen.code] += 1


def kill_some(serve: Process, chance: random.Random) -> None:
    """Between one and all of the processes die; the supervisor starts others."""
    children = serve.children()
    for pid in chance.sample(children, chance.randint(1, len(children))):
        kill(pid, signal.SIGKILL)
        until(lambda pid=pid: not is_alive(pid), 10, "a death")  # type: ignore[misc]


def test_when_processes_are_killed_again_and_again_what_is_charged_is_what_succeeded(
    tmp_path: Path, database_url: str
) -> None:
    chance, load, books = random.Random(7), Load(), Books(tmp_path, database_url)
    books.tenant(400 * PRICE)
    with upstream((0.0, 0.4)) as asked:
        channel(tmp_path, asked.url)
        with running("serve", tmp_path, "--processes", "3", database_url=database_url or None, **QUICK) as serve:
            client = serve.client(TOKEN)
            with load.on(client):
                for _ in range(3):
                    time.sleep(chance.uniform(0.2, 0.6))  # when they die is what the test draws
                    kill_some(serve, chance)
                    books.audit()  # also in the midst of it
                    until(lambda: len(serve.children()) == 3, 30, "new processes")
            until(books.at_rest, 60, "every task to end")
            assert set(load.others) <= {(403, "used_up")}
            documents = client.tasks(load.ids)
            assert len(load.ids) == len(documents) > 20
            assert all("finished_at" in one for one in documents.values())
            books.audit()
    ended = dict(books.read("SELECT status, count(*) FROM usage GROUP BY status"))
    assert set(ended) <= {200, 504}
    assert books.balance() == Balance(400 * PRICE, ended[200] * PRICE, 0)
    assert sum(ended.values()) >= len(load.ids)
    assert max(asked.asked.values()) >= ended[200]
