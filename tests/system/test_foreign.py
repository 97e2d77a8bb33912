"""What belongs to somebody else is answered as what does not exist: the same bytes, in the same time."""

import json
import socket
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.databases import PostgresServer
from tests.system.client import Answer, Client
from tests.system.processes import Process, running, until
from tests.system.tenants import Tenant, Tenants

GENERATE, TASKS = "/openai/images/generations", "/openai/tasks"
UNKNOWN = "0199aaaa-0000-7000-8000-000000000001"
WITHIN = 1.25
"""How far two medians of one run may be apart. Reading the foreign document below costs several times an answer."""
TRIES = 3


@dataclass
class Two:
    """A gateway with two users: what one has, the other must not notice."""

    serve: Process
    tenants: Tenants
    owner: Tenant
    stranger: Tenant
    running: str
    finished: str

    @property
    def mine(self) -> Client:
        return self.serve.client(self.owner.token)

    @property
    def theirs(self) -> Client:
        return self.serve.client(self.stranger.token)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    directory, url = tmp_path_factory.mktemp("foreign"), ""
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        url = server.new_database()
    with running("serve", directory, database_url=url, json_bytes_max=4_000_000) as serve:
        tenants = Tenants(directory, url)
        owner, stranger = tenants.add(), tenants.add()
        client = serve.client(owner.token)
        body = {"prompt": "[delay:3000] a boat", "async": True, "trace_id": "order-1"}
        open_task = client.post(GENERATE, body).json["task_id"]
        # As large as may be, so that whoever reads it takes notice. What a field means nothing for is kept as it is.
        large = {**body, "prompt": "a boat", "trace_id": "order-2", "notes": "x" * 3_000_000}
        finished = client.post(GENERATE, large).json["task_id"]
        until(lambda: client.task(finished)["response"], 20, "the task to end")
        yield Two(serve, tenants, owner, stranger, open_task, finished)


def same(one: Answer, other: Answer) -> bool:
    """Whether two answers are the same bytes, trace ids and dates aside."""
    apart = {"x-trace-id", "date"}

    def shown(answer: Answer) -> Any:
        return answer.status, {k: v for k, v in answer.headers.items() if k not in apart}, list(answer.headers)

    return shown(one) == shown(other) and one.body == other.body


def pairs(two: Two) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Bodies that name a thing of the owner's, beside the same for what nobody has."""
    found: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for task_id, trace_id in ((two.running, "order-1"), (two.finished, "order-2")):
        names = (("id", task_id, UNKNOWN), ("task_id", task_id, UNKNOWN), ("trace_id", trace_id, "no"))
        for name, mine, nobodys in names:
            found.append(({name: mine}, {name: nobodys}))
            found.append(({"action": "delete", name: mine}, {"action": "delete", name: nobodys}))
        for action in ("retrieve_batch", "delete"):
            found.append(({"action": action, "ids": [task_id]}, {"action": action, "ids": [UNKNOWN]}))
            found.append(({"action": action, "trace_ids": [trace_id]}, {"action": action, "trace_ids": ["no"]}))
    for name, value in (("user_id", two.owner.user_id), ("application_id", two.owner.application_id)):
        found.append(({"action": "retrieve_batch", name: value}, {"action": "retrieve_batch", name: UNKNOWN}))
    return found


def test_a_wrong_owners_answer_is_byte_for_byte_that_of_an_unknown_id(two: Two) -> None:
    for foreign, unknown in pairs(two):
        one, other = two.theirs.post(TASKS, foreign), two.theirs.post(TASKS, unknown)
        asked = foreign.get("id", foreign.get("task_id"))
        if foreign.get("action") == "delete" and asked:
            # What is deleted by its id is answered with the id that was asked for.
            assert one.json == {"id": asked, "deleted": False}
            other = replace(other, body=other.body.replace(UNKNOWN.encode(), asked.encode()))
        else:
            assert one.json in ({}, {"items": [], "count": 0}, {"success": True, "deleted": []})
        assert same(one, other), (foreign, one, other)
        assert one.status == 200
    assert two.mine.task(two.running)["id"] == two.running
    assert two.mine.task(two.finished)["id"] == two.finished


def test_the_answer_is_the_same_while_the_owner_has_just_looked(two: Two) -> None:
    """A finished document is in memory then."""
    small = two.mine.post(GENERATE, {"prompt": "a boat", "async": True}).json["task_id"]
    until(lambda: two.mine.task(small)["response"], 20, "the task to end")
    for _ in range(3):
        assert two.mine.task(small)["id"] == small
        one, other = two.theirs.post(TASKS, {"id": small}), two.theirs.post(TASKS, {"id": UNKNOWN})
        assert same(one, other)
        assert one.body == b"{}"


def test_tasks_are_the_users_whichever_of_its_applications_asks(two: Two) -> None:
    """By the protocol visibility is the user's; `application_id` only narrows a list."""
    other = two.tenants.add(of=two.owner)
    client = two.serve.client(other.token)
    assert client.task(two.running) == two.mine.task(two.running)
    assert client.post(TASKS, {"trace_id": "order-2"}).json["id"] == two.finished
    listed = client.post(TASKS, {"action": "retrieve_batch", "application_id": two.owner.application_id}).json
    assert {two.running, two.finished} <= {item["id"] for item in listed["items"]}
    own = client.post(TASKS, {"action": "retrieve_batch", "application_id": other.application_id})
    assert own.json == {"items": [], "count": 0}


def test_a_trace_id_of_several_users_finds_each_its_own(two: Two) -> None:
    task_id = two.theirs.post(GENERATE, {"prompt": "a boat", "async": True, "trace_id": "order-1"}).json["task_id"]
    assert two.theirs.post(TASKS, {"trace_id": "order-1"}).json["id"] == task_id
    assert two.mine.post(TASKS, {"trace_id": "order-1"}).json["id"] == two.running
    gone = {"action": "delete", "trace_id": "order-1"}
    until(lambda: two.theirs.task(task_id)["response"], 20, "the task to end")
    assert two.theirs.post(TASKS, gone).json["deleted"] == [task_id]
    assert two.mine.task(two.running)["id"] == two.running


@pytest.mark.parametrize(("named", "requests"), [
    ("id", 2_000), ("trace_id", 2_000), ("ids", 300), ("trace_ids", 300),
])  # fmt: skip
def test_a_wrong_owner_is_answered_as_fast_as_an_unknown_id(two: Two, named: str, requests: int) -> None:
    """Medians of the same run, asked in turn: what the machine does meanwhile touches both alike."""
    action = {"action": "retrieve_batch"} if named.endswith("s") else {}
    mine, nobodys = (two.finished, UNKNOWN) if named.startswith("id") else ("order-2", "order-0")
    wrap = [mine], [nobodys]
    bodies = [{**action, named: value} for value in (wrap if named.endswith("s") else (mine, nobodys))]
    seen = []
    for _ in range(TRIES):
        foreign, unknown = (statistics.median(times) for times in _timed(two, bodies, requests))
        seen.append(foreign / unknown)
        if 1 / WITHIN <= seen[-1] <= WITHIN:
            return
    raise AssertionError(f"a foreign task takes {seen} times as long as an unknown one")


def test_the_comparison_of_times_would_see_a_document_that_is_read(two: Two) -> None:
    """Its own proof: the owner, for whom the document is read, is told from an unknown id."""
    times = _timed(two, [{"id": two.finished}, {"id": UNKNOWN}], 50, two.owner.token)
    known, unknown = (statistics.median(one) for one in times)
    assert known / unknown > WITHIN


def _timed(two: Two, bodies: list[dict[str, Any]], requests: int, token: str = "") -> list[list[float]]:
    """Seconds of each answer by body, asked in turn over one connection."""
    wires = [_wire(json.dumps(body).encode(), token or two.stranger.token) for body in bodies]
    times: list[list[float]] = [[] for _ in wires]
    with socket.create_connection((two.theirs.host, two.theirs.port), timeout=30) as connection:
        for number in range(requests):
            # Each is as often the first of its turn as the other.
            for at in range(len(wires)) if number % 2 else reversed(range(len(wires))):
                began = time.perf_counter()
                connection.sendall(wires[at])
                _read(connection)
                times[at].append(time.perf_counter() - began)
    return times


def _wire(body: bytes, token: str) -> bytes:
    head = f"POST {TASKS} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _read(connection: socket.socket) -> None:
    """One whole answer, which has a content length."""
    head, _, body = connection.recv(1_000_000).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    left = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]) - len(body)
    while left:
        left -= len(connection.recv(min(left, 1_000_000)))
