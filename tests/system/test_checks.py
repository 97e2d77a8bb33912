"""Who may, in the order of checks: each refusal on each route, alone and together with what is checked after it.

A case is a set of things that are wrong with one request; the first of them in the published order is answered.
"""

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from bide.errors import ERRORS
from bide.settings import SettingsError, load
from tests.databases import PostgresServer
from tests.system.client import Answer, Client, Part
from tests.system.loopback import picture, pictures
from tests.system.processes import Process, running, until
from tests.system.tenants import LIFTED, Tenant, Tenants

LEVELS: dict[str, tuple[str, ...]] = {
    "no_token": ("no token", "no bearer"),
    "invalid_token": ("unknown", "revoked", "platform token"),
    "token_expired": ("expired",),
    "disabled": ("credential off", "application off"),
    "token_mismatched": ("another service", "other operations", "another host"),
    "too_many_requests": ("rate", "concurrency"),
    "bad_request": ("body",),
    "used_up": ("balance", "cap"),
    "forbidden": ("moderation",),
}
"""Codes in the order of checks, and the ways to be refused with each."""
CODE_OF = {wrong: code for code, ways in LEVELS.items() for wrong in ways}
NOT_OF_TASKS = {"concurrency", "balance", "cap", "moderation"}
PLATFORM_TOKEN = "platform-v1-0123456789abcdef0123456789abcdef"
SLOW = 0.001
"""Submits and polls a second: one, and then none for a quarter of an hour."""


def _cases() -> Iterator[frozenset[str]]:
    """Each thing that can be wrong: alone, with each of the next level, and with all that come later."""
    levels = list(LEVELS.values())
    for at, ways in enumerate(levels):
        later = [one for level in levels[at + 1 :] for one in level]
        for wrong in ways:
            yield frozenset({wrong})
            yield from (frozenset({wrong, one}) for one in (levels[at + 1] if later else ()))
            if later:
                yield frozenset({wrong, *later})


CASES = sorted(set(_cases()), key=sorted)


def first(case: frozenset[str], without: Collection[str] = ()) -> str | None:
    """The code that is due; None: the request is in order."""
    left = [wrong for wrong in CODE_OF if wrong in case and wrong not in without]
    return CODE_OF[left[0]] if left else None


@dataclass
class Edge:
    """A running gateway, and a token for every case."""

    serve: Process
    tenants: Tenants
    client: Client
    image: str
    made: dict[frozenset[str], Tenant] = field(default_factory=dict)

    def tenant(self, case: frozenset[str]) -> Tenant:
        """A token that is wrong as the case says, except for what the request itself has wrong."""
        key = case - {"no token", "no bearer", "unknown", "platform token", "body", "moderation"}
        if key not in self.made:
            self.made[key] = self._make(key)
        return self.made[key]

    def _make(self, case: frozenset[str]) -> Tenant:
        per_s = SLOW if "rate" in case else 0
        limits = {"submits_per_s": per_s, "polls_per_s": per_s, "concurrent": 1 if "concurrency" in case else 0}
        tenant = self.tenants.add(limits={"*": limits})
        sent = {"authorization": f"Bearer {tenant.token}"}
        if "concurrency" in case:
            body = {"prompt": "[delay:3000] a boat", "async": True}
            assert self.client.post(GENERATE, body, **sent).status == 200
        elif "rate" in case:
            assert self.client.post(GENERATE, {"prompt": "a boat", "dry_run": True}, **sent).status == 200
        if "rate" in case:
            assert self.client.post(TASKS, {"id": "x"}, **sent).status == 200
        for sql in (CHANGES[wrong] for wrong in case if wrong in CHANGES):
            self.change(sql, tenant)
        return tenant

    def change(self, sql: str, tenant: Tenant) -> None:
        key = tenant.credential_id if "credentials" in sql else tenant.application_id
        column = "application_id" if "balances" in sql else "id"
        self.tenants.run(f"{sql} WHERE {column} = $1", key)

    def ask(self, route: "Route", case: frozenset[str], tenant: Tenant) -> Answer:
        """One request that is wrong as the case says."""
        token = {"unknown": "f" * 32, "platform token": PLATFORM_TOKEN}
        given = next((token[wrong] for wrong in token if wrong in case), tenant.token)
        headers = {"authorization": "Basic YTpi" if "no bearer" in case else f"Bearer {given}"}
        return route.send(self, case, {} if "no token" in case else headers)


CHANGES = {
    "revoked": "UPDATE credentials SET revoked_at = 1",
    "expired": "UPDATE credentials SET expires_at = 1",
    "credential off": "UPDATE credentials SET disabled = 1",
    "application off": "UPDATE applications SET disabled = 1",
    "another service": "UPDATE applications SET service = 'another', scope = 'Individual'",
    "other operations": "UPDATE credentials SET allowed_api_ids = '[\"0b6f2f0e-0000-4000-8000-000000000000\"]'",
    "another host": "UPDATE credentials SET host = 'elsewhere.test'",
    "balance": "UPDATE balances SET used = granted - held",
    "cap": "UPDATE credentials SET limited_amount = 1",
}

GENERATE, EDIT, TASKS = "/openai/images/generations", "/openai/images/edits", "/openai/tasks"
Sender = Callable[[Edge, str, frozenset[str], dict[str, str]], Answer]


@dataclass(frozen=True)
class Route:
    path: str
    sender: Sender

    def send(self, edge: Edge, case: frozenset[str], headers: dict[str, str]) -> Answer:
        return self.sender(edge, self.path, case, headers)


def _prompt(case: frozenset[str]) -> str:
    return "[moderation] a boat" if "moderation" in case else "a boat"


def _generation(edge: Edge, path: str, case: frozenset[str], headers: dict[str, str]) -> Answer:
    return edge.client.post(path, b"not json" if "body" in case else {"prompt": _prompt(case)}, **headers)


def _edit(edge: Edge, path: str, case: frozenset[str], headers: dict[str, str]) -> Answer:
    body = {"prompt": _prompt(case), **({} if "body" in case else {"image": edge.image})}
    return edge.client.post(path, body, **headers)


def _form(edge: Edge, path: str, case: frozenset[str], headers: dict[str, str]) -> Answer:
    parts: list[Part] = [("image", ("a.png", picture(), "image/png"))]
    return edge.client.form(path, parts if "body" in case else [("prompt", _prompt(case)), *parts], **headers)


def _poll(edge: Edge, path: str, case: frozenset[str], headers: dict[str, str]) -> Answer:
    return edge.client.post(path, {} if "body" in case else {"id": "x"}, **headers)


def _aliases(path: str) -> tuple[str, ...]:
    return (path, f"/v1{path}", path.replace("/openai", "/v1"))


ROUTES = [
    *(Route(path, _generation) for path in _aliases(GENERATE)), *(Route(path, _edit) for path in _aliases(EDIT)),
    *(Route(path, _form) for path in _aliases(EDIT)), Route(TASKS, _poll), Route(f"/v1{TASKS}", _poll),
]  # fmt: skip


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    directory = tmp_path_factory.mktemp("checks")
    settings: dict[str, Any] = {"cache_s": 0, "platform_token": PLATFORM_TOKEN}
    with running("serve", directory, **settings) as serve, pictures(one=picture()) as url:
        # One client without a token: every request here says itself who asks.
        yield Edge(serve, Tenants(directory), serve.client(None, checked=True), f"{url}/one")


@pytest.mark.parametrize("case", CASES, ids=lambda case: ", ".join(one for one in CODE_OF if one in case))
def test_of_all_that_is_wrong_the_first_in_order_is_answered_on_every_route(edge: Edge, case: frozenset[str]) -> None:
    tenant = edge.tenant(case)
    for route in ROUTES:
        polls = route.sender is _poll
        due = first(case, NOT_OF_TASKS if polls else ())
        answer = edge.ask(route, case, tenant)
        where = f"{route.path} {route.sender.__name__}: {answer}"
        if due is None:
            assert (answer.status, answer.json) == (200, {}), where
            continue
        assert (answer.code, answer.status) == (due, ERRORS[due].status), where
        assert answer.json["trace_id"] == answer.headers["x-trace-id"], where
        assert ("retry-after" in answer.headers) == (answer.status == 429), where
        if answer.status == 429:
            of_rate = "rate" in case
            assert int(answer.headers["retry-after"]) >= 1, where
            said = f"{SLOW:g} per second" if of_rate else "at most 1 "
            assert said in answer.json["error"]["message"], where


def test_every_code_of_a_submit_is_provoked_here() -> None:
    elsewhere = {  # not of tokens, bodies and balances: see test_wire.py, test_bad_input.py, test_slow_clients.py
        "no_api", "not_found", "request_timeout", "request_too_large", "api_error", "unavailable", "timeout",
        "api_not_implemented",
    }  # fmt: skip
    assert set(LEVELS) == set(ERRORS) - elsewhere


@pytest.mark.parametrize("path", ["/openai/images/nothing", "/another/tasks", "/v1/tasks", "/openai/tasks/"])
def test_a_path_that_is_not_there_comes_before_everything_else(edge: Edge, path: str) -> None:
    everything = frozenset(CODE_OF) - {"no token", "no bearer", "unknown", "revoked", "platform token"}
    token = edge.tenant(everything).token
    for headers in ({}, {"authorization": "Bearer unknown"}, {"authorization": f"Bearer {token}"}):
        answer = edge.client.post(path, b"not json", **headers)
        assert (answer.status, answer.code) == (404, "no_api")


def test_a_token_for_one_operation_may_use_it_and_poll_but_do_nothing_else(edge: Edge) -> None:
    described = edge.client.get("/openapi.json").json["paths"]
    assert {GENERATE, EDIT} <= set(described)
    edits = edge.tenants.add(allowed_api_ids=json.dumps(["c7d1b9a4-2e63-4f7b-8a0d-91e5c4b7f3d2"]))
    headers = {"authorization": f"Bearer {edits.token}"}
    body = {"prompt": "a boat", "image": edge.image, "async": True}
    task_id = edge.client.post(EDIT, body, **headers).json["task_id"]
    assert edge.client.post(TASKS, {"id": task_id}, **headers).json["id"] == task_id
    assert edge.client.post(GENERATE, body, **headers).code == "token_mismatched"


def test_a_token_for_one_host_works_there_whatever_the_port_and_the_case(edge: Edge) -> None:
    tenant = edge.tenants.add(host="images.example.com")
    for host, fits in (
        ("images.example.com", True), ("Images.Example.COM:8443", True), ("example.com", False),
        ("images.example.com.evil.test", False), ("127.0.0.1", False), ("[::1]:80", False),
    ):  # fmt: skip
        answer = edge.client.post(TASKS, {"id": "x"}, authorization=f"Bearer {tenant.token}", host=host)
        assert (answer.status == 200) is fits, (host, answer)
        assert fits or answer.code == "token_mismatched"


def test_a_refused_request_leaves_nothing_behind(edge: Edge) -> None:
    tenant = edge.tenants.add(credits=0)
    headers = {"authorization": f"Bearer {tenant.token}"}
    for route in ROUTES[:9]:
        assert route.send(edge, frozenset({"balance"}), headers).code == "used_up"
    for table in ("tasks", "usage", "ledger", "spending"):
        key = {"ledger": "application_id", "spending": "credential_id"}.get(table, "user_id")
        value = {"ledger": tenant.application_id, "spending": tenant.credential_id}.get(table, tenant.user_id)
        rows = edge.tenants.rows(f"SELECT count(*) FROM {table} WHERE {key} = $1", value)
        assert rows[0][0] == 0, table


# -- what changes is known everywhere


def test_nothing_is_kept_of_a_token_for_longer_than_two_seconds() -> None:
    assert load({})[0].cache_s <= 2
    with pytest.raises(SettingsError, match="BIDE_CACHE_S"):
        load({"BIDE_CACHE_S": "2.1"})


@pytest.fixture(params=["SQLite, one server of two processes", "PostgreSQL, two servers"])
def nodes(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[tuple[list[Process], Tenants]]:
    """Processes that share a database, with the default settings."""
    if "SQLite" in request.param:
        with running("serve", tmp_path, "--processes", "2") as serve:
            until(lambda: len(serve.events("listening")) == 2, 20, "both to listen")
            yield [serve], Tenants(tmp_path)
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = server.new_database()
    with (
        running("serve", tmp_path / "a", database_url=url) as one,
        running("serve", tmp_path / "b", database_url=url) as other,
    ):
        yield [one, other], Tenants(tmp_path / "a", url)


def test_what_is_revoked_switched_off_expired_or_lowered_is_soon_refused_on_every_node(
    nodes: tuple[list[Process], Tenants]
) -> None:
    serves, tenants = nodes
    due = {
        "revoked": "invalid_token", "rotated": "invalid_token", "off": "disabled", "application off": "disabled",
        "expired": "token_expired", "lowered": "too_many_requests",
    }  # fmt: skip
    made = {name: tenants.add(limits=LIFTED) for name in due}

    def asked(name: str, serve: Process) -> str:
        """`200`, or the code of the refusal."""
        answer = serve.client(made[name].token).post(TASKS, {"id": "x"})
        return "200" if answer.status == 200 else answer.code

    def everywhere(name: str, wanted: str) -> bool:
        """New connections come to any of the processes of a server."""
        return all(asked(name, serve) == wanted for serve in serves for _ in range(12))

    for name in due:  # all of them know all of these now
        assert everywhere(name, "200")
    tenants.bide("credential", "revoke", made["revoked"].credential_id)
    tenants.bide("credential", "rotate", made["rotated"].credential_id, "--quiet")
    tenants.bide("credential", "update", made["off"].credential_id, "--disable")
    tenants.bide("application", "disable", made["application off"].application_id)
    tenants.bide("credential", "update", made["expired"].credential_id, "--expires-in", "0.000001")
    lowered = json.dumps({"*": {"polls_per_s": SLOW}})
    tenants.bide("application", "update", made["lowered"].application_id, "--limits", lowered)
    for name, code in due.items():
        until(lambda name=name, code=code: everywhere(name, code), 30, f"what is {name} to be refused")  # type: ignore[misc]
    tenants.bide("credential", "update", made["off"].credential_id, "--enable")
    tenants.bide("application", "enable", made["application off"].application_id)
    tenants.bide("credential", "update", made["expired"].credential_id, "--never-expires")
    tenants.bide("application", "update", made["lowered"].application_id, "--limits", json.dumps(LIFTED))
    for name in ("off", "application off", "expired", "lowered"):
        until(lambda name=name: everywhere(name, "200"), 30, f"what was {name} to be let in again")  # type: ignore[misc]
