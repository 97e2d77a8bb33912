"""Limits over the four processes of a real server, on both databases: exact, and true about when to come back."""

import asyncio
import json
import math
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.databases import PostgresServer
from tests.system.client import Answer, Client
from tests.system.processes import Process, running, until
from tests.system.tenants import Tenant, Tenants

GENERATE, TASKS = "/openai/images/generations", "/openai/tasks"
PROCESSES = 4
CACHE_S = 0.2
HELD = {"prompt": "[delay:3000] a boat", "async": True}
DRY = {"prompt": "a boat", "dry_run": True}
POLL = {"id": "x"}


@dataclass
class Server:
    serve: Process
    tenants: Tenants

    def tenant(self, **limits: float) -> Tenant:
        """A tenant of its own with these limits and no others."""
        return self.tenants.add(limits={"*": {"submits_per_s": 0, "polls_per_s": 0, "concurrent": 0, **limits}})

    def client(self, tenant: Tenant) -> Client:
        return self.serve.client(tenant.token)

    def at_once(self, tenant: Tenant, count: int, body: dict[str, Any]) -> "list[Answer]":
        """That many submits at the same time, each on a connection of its own."""
        return asyncio.run(_at_once(self.serve, tenant, count, body))

    def open_tasks(self, tenant: Tenant) -> list[str]:
        rows = self.tenants.rows("SELECT id FROM tasks JOIN queue ON queue.task_id = tasks.id WHERE user_id = $1",
                                 tenant.user_id)  # fmt: skip
        return [row[0] for row in rows]


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory, url = tmp_path_factory.mktemp("limits"), ""
    if request.param == "postgres":
        postgres: PostgresServer = request.getfixturevalue("postgres_server")
        url = postgres.new_database()
    with running("serve", directory, "--processes", str(PROCESSES), database_url=url, cache_s=CACHE_S) as serve:
        until(lambda: len(serve.events("listening")) == PROCESSES, 60, "all processes to listen")
        yield Server(serve, Tenants(directory, url))


# -- many requests at once


async def _at_once(serve: Process, tenant: Tenant, count: int, body: dict[str, Any]) -> list[Answer]:
    return list(await asyncio.gather(*(ask(serve, tenant, GENERATE, body) for _ in range(count))))


async def ask(serve: Process, tenant: Tenant, path: str, body: dict[str, Any]) -> Answer:
    """One request on a new connection, which any of the processes may take."""
    client, raw = serve.client(tenant.token), json.dumps(body).encode()
    reader, writer = await asyncio.open_connection(client.host, client.port)
    try:
        writer.write(
            f"POST {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {tenant.token}\r\nconnection: close\r\n"
            f"content-length: {len(raw)}\r\n\r\n".encode() + raw
        )
        head, _, answered = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    status, *lines = head.decode().split("\r\n")
    pairs = (line.partition(": ") for line in lines)
    return Answer(int(status.split()[1]), {name.lower(): value for name, _, value in pairs}, answered)


def refused(answers: list[Answer], said: str) -> int:
    """How many were refused, each with a message that says the limit and a time to wait."""
    found = [answer for answer in answers if answer.status != 200]
    for answer in found:
        assert (answer.status, answer.code) == (429, "too_many_requests"), answer
        assert said in answer.json["error"]["message"], answer
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["x-trace-id"] == answer.json["trace_id"]
    return len(found)


# -- rates


@pytest.mark.parametrize(("path", "body", "name"), [
    (TASKS, POLL, "polls_per_s"), (GENERATE, DRY, "submits_per_s"),
])  # fmt: skip
def test_no_more_are_admitted_than_the_rate_allows_whichever_process_is_asked(
    server: Server, path: str, body: dict[str, Any], name: str
) -> None:
    per_s = burst = 10
    tenant = server.tenant(**{name: per_s})

    async def one_after_another(until_at: float, answers: list[Answer]) -> None:
        while time.monotonic() < until_at or len(answers) < 4 * burst:
            answers.append(await ask(server.serve, tenant, path, body))

    async def flood() -> tuple[list[Answer], float]:
        answers: list[Answer] = []
        began = time.monotonic()
        await asyncio.gather(*(one_after_another(began + 2.0, answers) for _ in range(24)))
        return answers, time.monotonic() - began

    answers, seconds = asyncio.run(flood())
    admitted = len(answers) - refused(answers, "10 per second")
    assert burst < admitted <= math.floor(burst + per_s * seconds)
    assert len(answers) > 2 * admitted, "too few asked to prove anything"


def test_a_retry_after_is_true(server: Server) -> None:
    """Whoever waits as long as it was told is admitted; polls and submits count apart."""
    tenant = server.tenant(polls_per_s=0.4, submits_per_s=0.7)
    client = server.client(tenant)
    kinds = ((TASKS, POLL, 3), (GENERATE, DRY, 2))
    for _ in range(2):
        told = {}
        for path, body, most in kinds:
            while (answer := client.post(path, body)).status == 200:
                pass
            assert refused([answer], "per second") == 1
            wait_s = int(answer.headers["retry-after"])
            assert 1 <= wait_s <= most
            told[path] = time.monotonic() + wait_s
        for path, body, _ in kinds:
            time.sleep(max(told[path] - time.monotonic(), 0))
            assert client.post(path, body).status == 200, "a client that waited was refused"


def test_a_refusal_for_a_rate_takes_nothing(server: Server) -> None:
    """Asking on and on does not put off the next one that is admitted."""
    tenant = server.tenant(polls_per_s=1)
    client = server.client(tenant)
    for _ in range(3):
        until(lambda: client.post(TASKS, POLL).status == 429, 30, "to be refused")
        until(lambda: client.post(TASKS, POLL).status == 200, 30, "to be admitted while asking all the time")


# -- tasks open at once


def test_so_many_are_accepted_as_may_be_open_and_another_when_one_ends(server: Server) -> None:
    tenant = server.tenant(concurrent=5)
    answers = server.at_once(tenant, 200, HELD)
    assert refused(answers, "at most 5 ") == 195
    open_now = {answer.json["task_id"] for answer in answers if answer.status == 200}
    assert set(server.open_tasks(tenant)) == open_now
    assert refused(server.at_once(tenant, 20, HELD), "at most 5 ") == 20

    server.tenants.bide("task", "cancel", min(open_now))
    assert refused(server.at_once(tenant, 50, HELD), "at most 5 ") == 49
    assert len(server.open_tasks(tenant)) == 5

    other = server.tenants.another(tenant)  # the same application, counted apart
    assert refused(server.at_once(other, 50, HELD), "at most 5 ") == 45
    assert len(server.open_tasks(tenant)) == 10


def test_the_limits_of_an_application_change_while_it_is_at_them(server: Server) -> None:
    tenant = server.tenant(concurrent=2)
    assert refused(server.at_once(tenant, 20, HELD), "at most 2 ") == 18

    def change(concurrent: int) -> None:
        limits = json.dumps({"openai/images": {"concurrent": concurrent}, "openai": {"submits_per_s": 0}})
        server.tenants.bide("application", "update", tenant.application_id, "--limits", limits)
        time.sleep(2 * CACHE_S)  # so long a process may go by what it knew; asking would show it of some of them

    change(3)
    assert refused(server.at_once(tenant, 20, HELD), "at most 3 ") == 19
    change(0)
    assert refused(server.at_once(tenant, 20, HELD), "") == 0
    change(1)
    assert refused(server.at_once(tenant, 20, HELD), "at most 1 ") == 20
    assert len(server.open_tasks(tenant)) == 23


def test_the_catalogues_limit_holds_where_an_application_has_none_of_its_own(server: Server) -> None:
    tenant = server.tenants.add(limits=None)
    answers = server.at_once(tenant, 40, HELD)
    assert refused(answers, "at most 10 ") == 30


def test_calls_that_wait_count_while_they_are_open(server: Server) -> None:
    tenant = server.tenant(concurrent=3)
    found: list[list[Answer]] = []
    waiting = {"prompt": "[delay:3000] a boat"}
    thread = threading.Thread(target=lambda: found.append(server.at_once(tenant, 30, waiting)))
    thread.start()
    until(lambda: len(server.open_tasks(tenant)) == 3, 30, "three to be open")
    client = server.client(tenant)
    assert refused([client.post(GENERATE, HELD)], "at most 3 ") == 1
    for task_id in server.open_tasks(tenant):  # ended by somebody else: nobody has to wait for an upstream here
        server.tenants.bide("task", "cancel", task_id)
    thread.join(60)
    assert not thread.is_alive()
    assert Counter(answer.status for answer in found[0]) == {429: 27, 500: 3}
    assert client.post(GENERATE, {"prompt": "a boat"}).status == 200
    assert refused(server.at_once(tenant, 30, HELD), "at most 3 ") == 27
