"""Platform tokens: made and ended over the management API; nobody makes one that can do more than itself."""

import re
import uuid
from typing import Any

from bide.accounts import platform
from bide.settings import Settings
from tests.api.admin.world import OTHER, Admin, manage
from tests.world import CALLER

TOKEN = re.compile(r"platform-v1-[0-9a-f]{32}")


def test_a_token_says_whose_it_is(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        for client, user_id, superuser in ((admin.mine, CALLER.user_id, False), (admin.root, OTHER.user_id, True)):
            for path in ("/platform-tokens/me", "/platform-tokens/me/"):
                me = await client.ok("GET", path)
                assert me == {"id": me["id"], "user_id": user_id, "name": user_id, "superuser": superuser,
                              "expired_at": None}  # fmt: skip

    manage(on_both, test)


def test_an_empty_body_makes_an_ordinary_token_for_whoever_asks(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        for client, user_id in ((admin.mine, CALLER.user_id), (admin.root, OTHER.user_id)):
            for body in (None, {}):
                answer = await client.post("/platform-tokens/", body)
                made = answer.json
                assert answer.status == 201
                assert TOKEN.fullmatch(made["token"])
                me = await admin.with_token(made["token"]).ok("GET", "/platform-tokens/me/")
                assert (me["id"], me["user_id"], me["superuser"]) == (made["id"], user_id, False)

    manage(on_both, test)


def test_a_list_shows_no_token(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        admin.world.clock.pass_s(1)
        made = await admin.mine.ok("POST", "/platform-tokens")
        answer = await admin.mine.get("/platform-tokens/")
        newest = answer.json["items"][0]
        assert newest == made | {"token": f"platform-v1-…{made['token'][-4:]}"}
        assert made["token"].encode() not in answer.body
        assert answer.json["count"] == 2
        assert (await admin.mine.ok("GET", "/platform-tokens", ordering="created_at"))["items"][-1] == newest
        assert (await admin.root.ok("GET", "/platform-tokens"))["count"] == 3
        assert (await admin.root.ok("GET", "/platform-tokens", user_id=CALLER.user_id, limit=1))["count"] == 2

    manage(on_both, test)


def test_only_a_superuser_makes_tokens_for_others_and_for_superusers(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        body = {"user_id": CALLER.user_id, "superuser": True}
        made = await admin.root.ok("POST", "/platform-tokens", body)
        assert (made["user_id"], made["superuser"]) == (CALLER.user_id, True)
        assert (await admin.with_token(made["token"]).ok("GET", "/users"))["count"] == 2
        refused = await admin.mine.post("/platform-tokens", {"superuser": True})
        assert (refused.code, "superuser" in refused.message) == ("bad_request", True)
        unknown = [await admin.mine.post("/platform-tokens", {"user_id": one}) for one in ("user-2", "user-9")]
        assert unknown[0].without_trace == unknown[1].without_trace
        assert unknown[0].code == "not_found"
        assert (await admin.root.post("/platform-tokens", {"user_id": "user-9"})).code == "not_found"
        assert (await admin.mine.ok("POST", "/platform-tokens", {"user_id": CALLER.user_id}))["superuser"] is False

    manage(on_both, test)


def test_a_token_ends_at_once_and_only_by_its_own_user_or_a_superuser(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        root = (await admin.root.ok("GET", "/platform-tokens/me"))["id"]
        refused = [await admin.mine.delete(f"/platform-tokens/{one}/") for one in (root, str(uuid.uuid4()))]
        assert refused[0].without_trace == refused[1].without_trace
        assert refused[0].code == "not_found"
        for client in (admin.mine, admin.root):
            made = await admin.mine.ok("POST", "/platform-tokens")
            answer = await client.delete(f"/platform-tokens/{made['id']}/")
            assert (answer.status, answer.body) == (204, b"")
            assert (await admin.with_token(made["token"]).get("/users")).code == "invalid_token"
            assert (await client.delete(f"/platform-tokens/{made['id']}/")).code == "not_found"

    manage(on_both, test)


def test_a_token_can_expire(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        body = {"expired_at": "2025-11-24T16:00:10Z"}
        made = await admin.mine.ok("POST", "/platform-tokens", body)
        assert made["expired_at"] == "2025-11-24T16:00:10.000Z"
        client = admin.with_token(made["token"])
        assert (await client.get("/platform-tokens/me")).status == 200
        admin.world.clock.pass_s(10)
        assert (await client.get("/platform-tokens/me")).code == "token_expired"

    manage(on_both, test)


BODIES: list[Any] = [
    {"superuser": "yes"}, {"superuser": 1}, {"superuser": None}, {"user_id": 5}, {"user_id": ["user-1"]},
    {"user_id": "a\x00"}, {"expired_at": "soon"}, {"expired_at": True}, {"expired_at": 1e300}, {"token": "x"},
    {"name": "x"}, [], [1], "x", b"{", b"nul",
]  # fmt: skip


def test_bad_bodies_are_refused_in_a_sentence(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        for client in (admin.mine, admin.root):
            for body in BODIES:
                answer = await client.post("/platform-tokens", body)
                assert (answer.status, answer.code) == (400, "bad_request"), (body, answer)
        assert (await admin.root.ok("GET", "/platform-tokens"))["count"] == 2

    manage(on_both, test)


def test_a_user_makes_so_many_tokens_and_no_more(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        made = [(await admin.mine.ok("POST", "/platform-tokens/"))["id"] for _ in range(platform.WORKING_MAX - 1)]
        assert (await admin.mine.post("/platform-tokens/")).code == "bad_request"
        assert (await admin.root.post("/platform-tokens/", {"user_id": "user-1"})).status == 201
        for one in made[:2]:
            await admin.mine.delete(f"/platform-tokens/{one}/")
        assert (await admin.mine.post("/platform-tokens/")).status == 201

    manage(on_both, test)
