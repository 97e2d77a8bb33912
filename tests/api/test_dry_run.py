"""`dry_run`: what a request would cost, who would pay and who would do it; and nothing happens."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.databases import PostgresServer
from tests.system.client import Answer, Client, Part
from tests.system.loopback import picture, pictures
from tests.system.processes import Process, running, until
from tests.system.tenants import Tenant, Tenants

GENERATE, EDIT, TASKS = "/openai/images/generations", "/openai/images/edits", "/openai/tasks"
PRICE = 0.14
"""Credits for one picture of this model."""
BODY = {"prompt": "a boat", "model": "nano-banana"}
TABLES = ("tasks", "queue", "endings", "attempts", "deliveries", "idempotency", "usage", "ledger", "balances",
          "spending", "task_counts")  # fmt: skip


@dataclass
class Server:
    serve: Process
    tenants: Tenants
    directory: Path
    image: str
    client: Client
    """Checks every answer against the document; each request says itself who asks."""

    def post(self, tenant: Tenant, path: str, body: Any, **headers: str) -> Answer:
        return self.client.post(path, body, authorization=f"Bearer {tenant.token}", **headers)

    def form(self, tenant: Tenant, parts: list[Part]) -> Answer:
        return self.client.form(EDIT, parts, authorization=f"Bearer {tenant.token}")

    def snapshot(self) -> tuple[dict[str, int], list[str]]:
        """How many rows there are, and every file with its size; logs and the database's own aside."""
        counts = ", ".join(f"(SELECT count(*) FROM {table})" for table in TABLES)
        rows = dict(zip(TABLES, self.tenants.rows(f"SELECT {counts}")[0], strict=True))
        data = self.directory / "data"
        files = [f"{path.relative_to(data)} {path.stat().st_size}" for path in data.rglob("*") if path.is_file()
                 and not path.name.startswith("bide.db") and path.name != "rates"]  # fmt: skip
        return rows, sorted(files)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory, url = tmp_path_factory.mktemp("dry"), ""
    if request.param == "postgres":
        postgres: PostgresServer = request.getfixturevalue("postgres_server")
        url = postgres.new_database()
    with running("serve", directory, database_url=url, cache_s=0) as serve, pictures(one=picture()) as image:
        yield Server(serve, Tenants(directory, url), directory, f"{image}/one", serve.client(None, checked=True))


def quoted(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["dry_run"] is True
    assert "task_id" not in answer.json
    found: dict[str, Any] = answer.json
    return found


def test_it_answers_price_payer_channel_and_duration(server: Server) -> None:
    tenant = server.tenants.add(credits=1)
    found = quoted(server.post(tenant, GENERATE, {**BODY, "n": 3, "dry_run": True, "trace_id": "order-1"}))
    assert found == {
        "success": True, "dry_run": True, "trace_id": "order-1", "type": "images_generations",
        "price": {"amount": 0.42, "unit_amount": PRICE, "units": 3, "unit": "Count"}, "covered": True,
        "balances": [{"application_id": tenant.application_id, "scope": "Individual", "amount": 0.42}],
        "channel": "sandbox", "expected_s": 60,
    }  # fmt: skip


@pytest.mark.parametrize("more", [
    {}, {"async": True}, {"callback_url": "http://127.0.0.1:9/x"}, {"stream": True}, {"response_format": "b64_json"},
    {"stream": True, "partial_images": 2}, {"async": False},
], ids=str)  # fmt: skip
def test_however_the_answer_is_asked_for_nothing_happens(server: Server, more: dict[str, Any]) -> None:
    tenant = server.tenants.add(credits=1)
    before = server.snapshot()
    for path, body in ((GENERATE, BODY), (EDIT, {**BODY, "image": server.image})):
        found = quoted(server.post(tenant, path, {**body, **more, "dry_run": True}, idempotency_key="k"))
        assert (found["price"]["amount"], found["covered"]) == (PRICE, True)
    parts: list[Part] = [
        ("prompt", "a boat"), ("model", "nano-banana"), ("dry_run", "true"),
        ("image[]", ("a.png", picture(), "image/png")), ("image[]", ("b.png", picture(), "image/png")),
        *((name, str(value)) for name, value in more.items()),
    ]  # fmt: skip
    assert quoted(server.form(tenant, parts))["type"] == "images_edits"
    assert server.snapshot() == before
    assert server.post(tenant, TASKS, {"action": "retrieve_batch"}).json == {"items": [], "count": 0}


def test_the_price_that_is_shown_is_the_one_that_is_charged(server: Server) -> None:
    tenant = server.tenants.add(credits=100)
    for body in (BODY, {**BODY, "n": 2}, {"prompt": "a boat", "model": "gpt-image-1", "quality": "high"},
                 {"prompt": "a boat", "model": "dall-e-2", "size": "256x256"}):  # fmt: skip
        amount = quoted(server.post(tenant, GENERATE, {**body, "dry_run": True}))["price"]["amount"]
        task_id = server.post(tenant, GENERATE, {**body, "async": True}).json["task_id"]
        until(lambda task_id=task_id: server.post(tenant, TASKS, {"id": task_id}).json["response"], 20)  # type: ignore[misc]
        charged = server.tenants.rows("SELECT deducted_amount FROM usage WHERE id = $1", task_id)
        assert [row[0] for row in charged] == [round(amount * 1_000_000)]


def test_the_balances_are_split_as_the_charge_will_be(server: Server) -> None:
    general = server.tenants.add(credits=1, service=None)
    tenant = server.tenants.add(credits=0.1, of=general, application={"allow_consume_global": 1})
    found = quoted(server.post(tenant, GENERATE, {**BODY, "dry_run": True}))
    assert found["balances"] == [
        {"application_id": tenant.application_id, "scope": "Individual", "amount": 0.1},
        {"application_id": general.application_id, "scope": "Global", "amount": 0.04},
    ]
    assert server.post(tenant, GENERATE, BODY).status == 200
    both = [tenant.application_id, general.application_id]
    used = "SELECT application_id, sum(used) FROM balances WHERE application_id = ANY($1) GROUP BY application_id"
    rows = [(row[0], int(row[1])) for row in server.tenants.rows(used, both)]
    assert dict(rows) == {tenant.application_id: 100_000, general.application_id: 40_000}
    now = quoted(server.post(tenant, GENERATE, {**BODY, "dry_run": True}))
    assert now["balances"] == [{"application_id": general.application_id, "scope": "Global", "amount": PRICE}]


def test_a_general_application_pays_by_itself(server: Server) -> None:
    tenant = server.tenants.add(credits=1, service=None)
    found = quoted(server.post(tenant, GENERATE, {**BODY, "dry_run": True}))
    assert found["balances"] == [{"application_id": tenant.application_id, "scope": "Global", "amount": PRICE}]


@pytest.mark.parametrize("short", ["balance", "cap", "general balance without leave"])
def test_what_is_not_covered_is_said_and_is_what_the_request_would_be_refused_for(server: Server, short: str) -> None:
    tenant = server.tenants.add(credits=1 if short == "cap" else 0.139999,
                                limited_amount=139_999 if short == "cap" else None)  # fmt: skip
    if short == "general balance without leave":
        server.tenants.add(credits=10, of=tenant, service=None)
    found = quoted(server.post(tenant, GENERATE, {**BODY, "dry_run": True}))
    assert (found["covered"], found["balances"], found["price"]["amount"]) == (False, [], PRICE)
    assert server.post(tenant, GENERATE, BODY).code == "used_up"


def test_what_is_held_by_open_tasks_is_not_there(server: Server) -> None:
    tenant = server.tenants.add(credits=0.2)
    dry = {**BODY, "dry_run": True}
    assert quoted(server.post(tenant, GENERATE, dry))["covered"] is True
    held = server.post(tenant, GENERATE, {**BODY, "prompt": "[delay:3000] a boat", "async": True}).json["task_id"]
    assert quoted(server.post(tenant, GENERATE, dry))["covered"] is False
    server.tenants.bide("task", "cancel", held)
    assert quoted(server.post(tenant, GENERATE, dry))["covered"] is True


@pytest.mark.parametrize("body", [
    {"prompt": ""}, {}, {"prompt": "a boat", "n": 0}, {"prompt": "a boat", "size": "1x"},
    {"prompt": "a boat", "callback_url": "http://10.0.0.1/x"}, {"prompt": "a boat", "async": "maybe"},
], ids=str)  # fmt: skip
def test_a_bad_request_is_refused_all_the_same(server: Server, body: dict[str, Any]) -> None:
    tenant = server.tenants.add()
    assert server.post(tenant, GENERATE, {**body, "dry_run": True}).code == "bad_request"
    assert server.post(tenant, EDIT, {**body, "dry_run": True}).code == "bad_request"
    for value in ("perhaps", 1, "true"):
        assert server.post(tenant, GENERATE, {"prompt": "a boat", "dry_run": value}).code == "bad_request"


def test_a_form_with_a_bad_picture_is_refused_and_leaves_no_file(server: Server) -> None:
    tenant = server.tenants.add()
    before = server.snapshot()
    parts: list[Part] = [("prompt", "a boat"), ("dry_run", "True"), ("image", ("a.png", b"no picture", "image/png"))]
    assert server.form(tenant, parts).code == "bad_request"
    assert server.snapshot() == before


@pytest.mark.parametrize("value", [False, None])
def test_false_is_no_dry_run(server: Server, value: Any) -> None:
    tenant = server.tenants.add()
    assert "data" in server.post(tenant, GENERATE, {**BODY, "dry_run": value}).json
    parts: list[Part] = [("prompt", "a boat"), ("dry_run", "false"), ("image", ("a.png", picture(), "image/png"))]
    assert "data" in server.form(tenant, parts).json
