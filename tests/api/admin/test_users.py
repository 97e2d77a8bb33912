"""Users over the management API: who may see and make them, and that bad input is a sentence and never a failure."""

import uuid
from typing import Any

import pytest

from bide.settings import Settings
from tests.api.admin.world import BUSINESS_TOKEN, OTHER, Admin, manage
from tests.world import CALLER

SLASHES = pytest.mark.parametrize("end", ["", "/"])


@SLASHES
def test_a_superuser_makes_lists_and_shows_users(on_both: Settings, end: str) -> None:
    async def test(admin: Admin) -> None:
        admin.world.clock.pass_s(1)
        answer = await admin.root.post(f"/users{end}", {"name": "Zoë"})
        assert answer.status == 201
        made = answer.json
        assert made == {"id": made["id"], "name": "Zoë", "created_at": "2025-11-24T16:00:01.125Z", "erased_at": None}
        listed = await admin.root.ok("GET", f"/users{end}")
        assert listed["count"] == 3
        assert [one["name"] for one in listed["items"]][-1] == "Zoë"  # ids made by hand sort after those with a time
        shown = await admin.root.ok("GET", f"/users/{made['id']}{end}")
        assert shown == made | {"applications": []}

    manage(on_both, test)


def test_pages_go_both_ways(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        made = []
        for number in range(3):
            admin.world.clock.pass_s(1)
            made.append((await admin.root.ok("POST", "/users", {"name": f"n{number}"}))["id"])
        first = await admin.root.ok("GET", "/users", ordering="created_at", limit=2)
        assert (first["count"], [one["id"] for one in first["items"]]) == (5, made[:2])
        last = await admin.root.ok("GET", "/users", offset=2, limit=200)
        assert [one["id"] for one in last["items"]] == made[::-1]
        for wrong in ({"limit": 0}, {"limit": 201}, {"limit": "ten"}, {"offset": -1}, {"ordering": "name"}):
            assert (await admin.root.get("/users", **wrong)).code == "bad_request"

    manage(on_both, test)


def test_a_user_is_shown_with_its_applications_and_balances(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        shown = await admin.mine.ok("GET", f"/users/{CALLER.user_id}")
        (application,) = shown["applications"]
        assert (application["id"], application["remaining_amount"]) == (CALLER.application_id, 1000)
        assert [one["name"] for one in application["credentials"]] == ["hand-made"]

    manage(on_both, test)


def test_an_ordinary_token_sees_its_own_user_alone_and_makes_none(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        listed = await admin.mine.ok("GET", "/users")
        assert (listed["count"], [one["id"] for one in listed["items"]]) == (1, [CALLER.user_id])
        unknown = await admin.mine.get(f"/users/{uuid.uuid4()}")
        other = await admin.mine.get(f"/users/{OTHER.user_id}")
        assert unknown.without_trace == other.without_trace
        assert unknown.code == "not_found"
        assert (await admin.mine.post("/users", {"name": "more"})).code == "not_found"
        assert (await admin.mine.get("/users", user_id=OTHER.user_id)).code == "not_found"
        assert (await admin.root.ok("GET", "/users", user_id=OTHER.user_id))["count"] == 1

    manage(on_both, test)


def test_a_name_is_taken_once(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        await admin.root.ok("POST", "/users", {"name": "Ada"})
        refused = await admin.root.post("/users", {"name": "Ada"})
        assert (refused.status, refused.code) == (400, "bad_request")
        assert "name" in refused.message

    manage(on_both, test)


BODIES: list[Any] = [
    {}, {"name": ""}, {"name": " "}, {"name": "n" * 101}, {"name": "a\nb"}, {"name": "a\x00b"}, {"name": 5},
    {"name": None}, {"name": ["a"]}, {"name": {"a": 1}}, {"name": True}, {"name": "a", "more": 1}, [], "text", 5,
    b"{", b"\xff", b'{"name": NaN}', b'{"name": "a", "name": "b"}', b'{"name": "\\ud800"}', b"[" * 10_000,
    b'{"name": "' + b"n" * 70_000 + b'"}', {"name": "495aef5a-8aca-46cc-8065-74351a4c6cd7"}, {"name": "erased-x"},
]  # fmt: skip


def test_bad_bodies_are_refused_in_a_sentence(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        for body in BODIES:
            answer = await admin.root.post("/users", body)
            assert answer.status in (400, 413), (body, answer)
            assert len(answer.message) > 10
        assert (await admin.root.ok("GET", "/users"))["count"] == 2

    manage(on_both, test)


PATHS = [("GET", "/users"), ("GET", "/users/x"), ("POST", "/users"), ("GET", "/applications"),
         ("GET", "/applications/x"), ("POST", "/applications"), ("PATCH", "/applications/x"),
         ("POST", "/applications/x/top-up"), ("POST", "/applications/x/update-allow-consume-global"),
         ("GET", "/credentials"), ("POST", "/credentials"), ("GET", "/credentials/x"), ("PATCH", "/credentials/x"),
         ("DELETE", "/credentials/x"), ("POST", "/credentials/x/rotate"), ("GET", "/platform-tokens"),
         ("GET", "/platform-tokens/me"), ("POST", "/platform-tokens"), ("DELETE", "/platform-tokens/x")]  # fmt: skip


def test_every_path_asks_for_a_platform_token_before_it_looks_at_anything_else(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        for method, path in PATHS:
            for token in ("", BUSINESS_TOKEN, "platform-v1-x", "platform-v1-" + "0" * 32, "t" * 300):
                answer = await admin.with_token(token).request(method, path, b"not JSON")
                assert answer.code == ("invalid_token" if token else "no_token"), (method, path, token)

    manage(on_both, test)


def test_a_path_or_a_query_that_no_database_can_keep_is_no_failure(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        for path in ("/users/a\x00b", "/applications/\x00", "/credentials/a\x00", "/users/" + "é" * 500):
            assert (await admin.root.get(path)).code == "not_found"
        for path in ("/users", "/applications", "/credentials", "/platform-tokens"):
            assert (await admin.root.get(path, user_id="a\x00b")).code == "bad_request"
            assert (await admin.root.ok("GET", path, user_id="' OR 1=1 --"))["count"] == 0

    manage(on_both, test)


def test_a_method_that_is_not_there_is_405(on_sqlite: Settings) -> None:
    async def test(admin: Admin) -> None:
        answer = await admin.root.request("PUT", "/users", {})
        assert (answer.status, answer.code) == (405, "no_api")
        assert "GET" in answer.headers["allow"]

    manage(on_sqlite, test)
