"""Credentials over the management API, and what the gateway makes of them: caps, hosts, operations, rotation."""

import re
import uuid
from typing import Any

from bide.accounts import credentials
from bide.db import write_one
from bide.settings import Settings
from tests.api.admin.world import BUSINESS_TOKEN, OTHER, Admin, manage
from tests.world import CALLER

MINE = CALLER.application_id
CACHE_S = 2.1
"""A little more than a gateway goes on with what it knows of a token."""


async def make(admin: Admin, **body: Any) -> dict[str, Any]:
    return await admin.mine.ok("POST", "/credentials/", {"application_id": MINE, **body})


async def operations(admin: Admin) -> dict[str, str]:
    """Ids of the operations of the catalogue, by path."""
    found = admin.world.gateway.catalog.services["openai"].operations
    return {path: one.entry.api_id for path, one in found.items()}


def test_a_token_is_answered_once_and_masked_ever_after(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        answer = await admin.mine.post("/credentials/", {"application_id": MINE})
        assert answer.status == 201
        made = answer.json
        token, at = made["token"], "2025-11-24T16:00:00.125Z"
        assert re.fullmatch(r"[0-9a-f]{32}", token)
        masked = {
            "id": made["id"], "name": "default", "type": "Token", "token": f"…{token[-4:]}", "host": None,
            "limited_amount": None, "used_amount": 0, "expired_at": None, "allowed_api_ids": [],
            "application_id": MINE, "user_id": CALLER.user_id, "metadata": {}, "disabled": False, "created_at": at,
            "updated_at": at,
        }  # fmt: skip
        assert made == masked | {"token": token}
        assert await admin.mine.ok("GET", f"/credentials/{made['id']}") == masked
        for path in ("/credentials/", "/applications/", f"/applications/{MINE}", f"/users/{CALLER.user_id}"):
            answer = await admin.mine.get(path)
            assert made["id"].encode() in answer.body
            assert token.encode() not in answer.body
        assert (await admin.with_token(token).generate()).status == 200

    manage(on_both, test)


def test_all_that_can_be_set_is_kept_and_changed_and_taken_away(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        ids = list((await operations(admin)).values())
        fields = {
            "name": "Zoë", "limited_amount": 12.5, "expired_at": "2026-01-31T12:00:00.000Z",
            "host": "API.example.com", "metadata": {"team": ["red", 1, None]}, "allowed_api_ids": [ids[0], ids[0]],
        }  # fmt: skip
        kept = fields | {"host": "api.example.com", "allowed_api_ids": ids[:1]}
        made = await make(admin, **fields)
        assert {name: made[name] for name in kept} == kept
        admin.world.clock.pass_s(3)
        path = f"/credentials/{made['id']}"
        changed = await admin.mine.ok("PATCH", path, {"name": "Ada", "expired_at": 1_800_000_000})
        assert {**kept, "name": "Ada", "expired_at": "2027-01-15T08:00:00.000Z"}.items() <= changed.items()
        assert changed["updated_at"] == "2025-11-24T16:00:03.125Z"
        bare = {"limited_amount": None, "expired_at": None, "host": None, "metadata": None, "allowed_api_ids": None}
        after = await admin.mine.ok("PATCH", path, bare)
        assert {**bare, "metadata": {}, "allowed_api_ids": [], "name": "Ada"}.items() <= after.items()
        assert await admin.mine.ok("PATCH", path, {}) == after

    manage(on_both, test)


def test_lists_are_filtered_and_paged(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        made = []
        for number in range(4):
            admin.world.clock.pass_s(1)
            made.append((await make(admin, name=f"n{number}", host="a.example.com" if number == 2 else None))["id"])

        async def listed(client: Any = admin.mine, **query: Any) -> tuple[int, list[str]]:
            found = await client.ok("GET", "/credentials", **query)
            return found["count"], [one["id"] for one in found["items"] if one["name"] != "hand-made"]

        assert await listed() == (5, made[::-1])
        assert await listed(ordering="created_at") == (5, made)
        assert await listed(limit=2, offset=1) == (5, made[1:3][::-1])
        assert await listed(host="A.example.com") == (1, [made[2]])
        assert await listed(application_id=MINE) == (5, made[::-1])
        assert await listed(application_id=OTHER.application_id) == (0, [])
        assert await listed(granted="true") == (0, [])
        assert await listed(granted="false") == (5, made[::-1])
        assert await listed(admin.root) == (5, made[::-1])
        assert await listed(admin.root, user_id=OTHER.user_id) == (0, [])
        assert (await admin.mine.get("/credentials", granted="perhaps")).code == "bad_request"

    manage(on_both, test)


def test_another_owners_credential_is_answered_like_one_that_is_not_there(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        other = await admin.root.ok("POST", "/credentials", {"application_id": OTHER.application_id})
        ids = other["id"], str(uuid.uuid4())
        for method, end, body in (
            ("GET", "", None), ("PATCH", "", {"name": "mine now"}), ("POST", "/rotate/", None), ("DELETE", "", None),
        ):  # fmt: skip
            answers = [await admin.mine.request(method, f"/credentials/{one}{end}", body) for one in ids]
            assert answers[0].without_trace == answers[1].without_trace
            assert answers[0].code == "not_found"
        for application_id in (OTHER.application_id, str(uuid.uuid4())):
            answer = await admin.mine.post("/credentials", {"application_id": application_id})
            assert answer.code == "not_found"
        assert (await admin.with_token(other["token"]).generate()).status == 200

    manage(on_both, test)


# -- what the gateway makes of it


def test_a_new_token_takes_the_place_of_the_old_one(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        made = await make(admin)
        old = admin.with_token(made["token"])
        assert (await old.generate()).status == 200
        answer = await admin.mine.post(f"/credentials/{made['id']}/rotate/")
        assert answer.status == 200
        assert answer.json["id"] == made["id"]
        assert answer.json["token"] != made["token"]
        assert (await admin.with_token(answer.json["token"]).generate()).status == 200
        admin.world.clock.pass_s(CACHE_S)
        assert (await old.generate()).code == "invalid_token"

    manage(on_both, test)


def test_a_revoked_credential_is_gone_for_everybody_and_for_good(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        made = await make(admin)
        caller, path = admin.with_token(made["token"]), f"/credentials/{made['id']}"
        assert (await caller.generate()).status == 200
        answer = await admin.mine.delete(path)
        assert (answer.status, answer.body) == (204, b"")
        admin.world.clock.pass_s(CACHE_S)
        assert (await caller.generate()).code == "invalid_token"
        for method, end in (("GET", ""), ("PATCH", ""), ("POST", "/rotate"), ("DELETE", "")):
            body = {"disabled": False} if method == "PATCH" else None
            assert (await admin.root.request(method, path + end, body)).code == "not_found"
        assert made["id"] not in str(await admin.root.ok("GET", "/credentials"))

    manage(on_both, test)


def test_each_bound_of_a_credential_is_kept_by_the_gateway(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        ids = await operations(admin)
        for fields, code in (
            ({"limited_amount": 0}, "used_up"), ({"host": "elsewhere.example.com"}, "token_mismatched"),
            ({"host": "gateway.test"}, ""), ({"allowed_api_ids": [ids["images/edits"]]}, "token_mismatched"),
            ({"allowed_api_ids": [ids["images/generations"]]}, ""), ({"expired_at": "2025-01-01"}, "token_expired"),
            ({"disabled": True}, "disabled"), ({"limited_amount": 1000}, ""),
        ):  # fmt: skip
            answer = await admin.with_token((await make(admin, **fields))["token"]).generate()
            assert (answer.code if answer.status >= 400 else "") == code, fields

    manage(on_both, test)


def test_what_was_spent_is_shown_in_credits(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        made = await make(admin)
        assert (await admin.with_token(made["token"]).generate()).status == 200
        before = await admin.mine.ok("GET", f"/applications/{MINE}")
        await admin.world.work()
        after = await admin.mine.ok("GET", f"/applications/{MINE}")
        shown = await admin.mine.ok("GET", f"/credentials/{made['id']}")
        assert shown["used_amount"] == after["used_amount"] > 0
        assert (before["held_amount"], after["held_amount"]) == (after["used_amount"], 0)
        assert after["remaining_amount"] == 1000 - after["used_amount"]

    manage(on_both, test)


def test_a_business_token_manages_nothing_and_a_platform_token_generates_nothing(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        assert (await admin.with_token(BUSINESS_TOKEN).get("/credentials")).code == "invalid_token"
        for client in (admin.root, admin.mine):
            answer = await client.generate()
            assert (answer.status, answer.code) == (401, "invalid_token")

    manage(on_both, test)


# -- bad input

FIELDS: list[dict[str, Any]] = [
    {"name": ""}, {"name": None}, {"name": "n" * 101}, {"name": ["a"]}, {"name": "a\x07b"}, {"name": "\x00"},
    {"limited_amount": -1}, {"limited_amount": "5"}, {"limited_amount": True}, {"limited_amount": 1e13},
    {"limited_amount": 10**18}, {"limited_amount": 0.1234567}, {"limited_amount": [1]}, {"expired_at": "tomorrow"},
    {"expired_at": ""}, {"expired_at": -1}, {"expired_at": 1e300}, {"expired_at": "nan"}, {"expired_at": "inf"},
    {"expired_at": "0001-01-01T00:00:00+23:59"}, {"expired_at": "9999-12-31T23:59:59-23:59"},
    {"expired_at": "1e400"}, {"expired_at": True}, {"expired_at": {}}, {"expired_at": "9" * 5000}, {"host": ""},
    {"host": "a b"}, {"host": "http://a.example"}, {"host": "a.example:80"}, {"host": "h" * 300}, {"host": 5},
    {"host": "é.example"}, {"host": "a\n"}, {"metadata": []}, {"metadata": "x"}, {"metadata": {"a": "x" * 5000}},
    {"metadata": {"a\x00": 1}}, {"allowed_api_ids": "x"}, {"allowed_api_ids": ["x"]}, {"allowed_api_ids": [5]},
    {"allowed_api_ids": [None]}, {"allowed_api_ids": ["x"] * 2000}, {"allowed_api_ids": {}}, {"disabled": "no"},
    {"disabled": 0}, {"disabled": None}, {"token": "0" * 32}, {"user_id": "user-2"}, {"for_user_id": "user-2"},
    {"used_amount": 0},
]  # fmt: skip


def test_bad_bodies_are_refused_in_a_sentence_and_change_nothing(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        made = await make(admin)
        before = await admin.root.ok("GET", "/credentials")
        path = f"/credentials/{made['id']}"
        requests = [("PATCH", path, fields) for fields in FIELDS]
        requests += [("POST", "/credentials", {"application_id": MINE, **fields}) for fields in FIELDS]
        for body in ({}, {"application_id": None}, {"application_id": 5}, {"application_id": [MINE]}, [], b"{"):
            requests.append(("POST", "/credentials", body))
        requests += [("PATCH", path, {"application_id": MINE}), ("PATCH", path, []), ("PATCH", path, b"null"),
                     ("POST", f"{path}/rotate", {"token": "0" * 32}), ("POST", f"{path}/rotate", b"[")]  # fmt: skip
        for method, to, body in requests:
            answer = await admin.mine.request(method, to, body)
            assert answer.status == 400, (method, body, answer)
            assert (answer.code, len(answer.message) > 10) == ("bad_request", True)
        assert await admin.root.ok("GET", "/credentials") == before

    manage(on_both, test)


def test_an_owner_makes_so_many_credentials_and_no_more(on_both: Settings) -> None:
    """Who it does not belong to is told nothing of how many there are."""

    async def test(admin: Admin) -> None:
        db, body = admin.world.gateway.db, {"application_id": "application-1"}
        first = (await admin.mine.ok("POST", "/credentials/", body))["id"]
        await write_one(db, lambda tx: tx.each(
            "INSERT INTO credentials (id, application_id, user_id, name, token_hash, token_end, created_at,"
            " updated_at) VALUES ($1, 'application-1', 'user-1', 'made', $1, '', 0, 0)",
            [(f"made {number}",) for number in range(credentials.WORKING_MAX - 2)],
        ))  # fmt: skip
        assert (await admin.mine.post("/credentials/", body)).code == "bad_request"
        assert (await admin.root.post("/credentials/", body)).status == 201
        give = "UPDATE applications SET user_id = $1 WHERE id = 'application-1'"
        await write_one(db, lambda tx: tx.run(give, "user-2"))
        unknown = await admin.mine.post("/credentials/", {"application_id": "nobody"})
        assert unknown.without_trace == (await admin.mine.post("/credentials/", body)).without_trace
        await write_one(db, lambda tx: tx.run(give, "user-1"))
        for one in (first, "made 1"):
            assert (await admin.mine.delete(f"/credentials/{one}/")).status == 204
        assert (await admin.mine.post("/credentials/", body)).status == 201

    manage(on_both, test)
