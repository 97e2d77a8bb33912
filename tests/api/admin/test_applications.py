"""Applications over the management API: subscribing, the free quota, top-ups, and what only a superuser may do."""

import uuid
from typing import Any

import pytest

from bide.accounts import applications
from bide.credits import ledger
from bide.settings import Settings
from tests.api.admin.world import BUSINESS_TOKEN, OTHER, Admin, manage
from tests.world import CALLER, START_MS

MINE = CALLER.application_id
FREE = 2
"""Credits that the catalogue grants a new subscriber of `openai`."""


async def subscribe(admin: Admin, **body: Any) -> dict[str, Any]:
    return await admin.mine.ok("POST", "/applications/", {"service_id": "openai", **body})


def test_an_application_has_the_fields_of_the_platform_and_its_amounts_are_credits(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        made = await subscribe(admin, name="Pictures", type="Usage", scope="Individual")
        at = "2025-11-24T16:00:00.125Z"
        assert made == {
            "id": made["id"], "service_id": "openai", "user_id": CALLER.user_id, "name": "Pictures", "type": "Usage",
            "scope": "Individual", "remaining_amount": FREE, "used_amount": 0, "held_amount": 0,
            "allow_consume_global": False, "paid": False, "expired_at": None, "created_at": at, "updated_at": at,
            "credentials": [], "role": "owner", "limits": None, "retention_days": None, "disabled": False,
        }  # fmt: skip
        assert START_MS == 1_764_000_000_125
        for client in (admin.mine, admin.root):
            assert await client.ok("GET", f"/applications/{made['id']}") == made
            assert made in (await client.ok("GET", "/applications/"))["items"]

    manage(on_both, test)


def test_only_the_first_application_of_a_service_comes_with_the_free_quota(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        amounts = [(await subscribe(admin))["remaining_amount"] for _ in range(3)]
        assert amounts == [FREE, 0, 0]
        assert (await admin.mine.ok("POST", "/applications", {"scope": "Global"}))["remaining_amount"] == 0
        other = await admin.root.ok("POST", "/applications", {"service_id": "openai"})
        assert (other["user_id"], other["remaining_amount"]) == (OTHER.user_id, FREE)
        moved = await ledger.movements(admin.world.gateway.db, f"free/{CALLER.user_id}/openai")
        assert [row[3] for row in moved] == [FREE * 1_000_000]

    manage(on_both, test)


def test_lists_are_filtered(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        one = await subscribe(admin)

        async def ids(**query: Any) -> list[str]:
            listed = await admin.mine.ok("GET", "/applications/", **query)
            assert listed["count"] == len(listed["items"])
            return sorted(item["id"] for item in listed["items"])

        everything = sorted([one["id"], MINE])
        assert await ids() == everything
        for query, wanted in (
            ({"service_id": "openai"}, [one["id"]]), ({"service_id": "suno"}, []), ({"scope": "Global"}, [MINE]),
            ({"scope": "Individual"}, [one["id"]]), ({"type": "Usage"}, everything), ({"type": "Period"}, []),
            ({"affiliation": "owner"}, everything), ({"affiliation": "granted"}, []),
            ({"user_id": CALLER.user_id}, everything),
        ):  # fmt: skip
            assert await ids(**query) == wanted, query
        assert (await admin.root.ok("GET", "/applications"))["count"] == 3
        assert (await admin.root.ok("GET", "/applications", user_id=CALLER.user_id))["count"] == 2
        assert (await admin.mine.get("/applications", affiliation="both")).code == "bad_request"

    manage(on_both, test)


def test_another_owners_application_is_answered_like_one_that_is_not_there(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        ids = OTHER.application_id, str(uuid.uuid4())
        for method, end, body in (
            ("GET", "", None), ("PATCH", "", {"name": "mine now"}), ("PATCH", "", {}),
            ("POST", "/update-allow-consume-global/", {"allow_consume_global": True}),
            ("POST", "/top-up/", {"amount": 1}),
        ):  # fmt: skip
            answers = [await admin.mine.request(method, f"/applications/{one}{end}", body) for one in ids]
            assert answers[0].without_trace == answers[1].without_trace
            assert answers[0].code == "not_found"
        for user_id in (OTHER.user_id, str(uuid.uuid4())):
            body = {"scope": "Global", "user_id": user_id}
            assert (await admin.mine.post("/applications", body)).code == "not_found"
            assert (await admin.mine.get("/applications", user_id=user_id)).code == "not_found"
        other = await admin.root.ok("GET", f"/applications/{OTHER.application_id}")
        assert (other["name"], other["remaining_amount"]) == (OTHER.application_id, 1000)

    manage(on_both, test)


def test_a_superuser_subscribes_for_others_who_are_there(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        made = await admin.root.ok("POST", "/applications", {"service_id": "openai", "user_id": CALLER.user_id})
        assert (made["user_id"], made["remaining_amount"]) == (CALLER.user_id, FREE)
        body = {"service_id": "openai", "user_id": str(uuid.uuid4())}
        assert (await admin.root.post("/applications", body)).code == "not_found"

    manage(on_both, test)


# -- changes


@pytest.mark.parametrize("switch", ["/update-allow-consume-global", "/update-allow-consume-global/", ""])
def test_the_owner_switches_the_fallback_and_the_general_balance_pays(on_both: Settings, switch: str) -> None:
    async def test(admin: Admin) -> None:
        made = await subscribe(admin)
        path = f"/applications/{made['id']}"
        await admin.root.ok("POST", f"{path}/top-up", {"amount": -FREE})
        created = await admin.mine.ok("POST", "/credentials", {"application_id": made["id"]})
        caller = admin.with_token(created["token"])
        assert (await caller.generate()).code == "used_up"
        method = "POST" if switch else "PATCH"
        changed = await admin.mine.ok(method, path + switch, {"allow_consume_global": True})
        assert changed["allow_consume_global"] is True
        admin.world.clock.pass_s(2.1)
        assert (await caller.generate()).status == 200
        await admin.mine.ok(method, path + switch, {"allow_consume_global": False})
        admin.world.clock.pass_s(2.1)
        assert (await caller.generate()).code == "used_up"

    manage(on_both, test)


def test_what_only_a_superuser_may_change(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        path = f"/applications/{MINE}"
        for field, value in (("disabled", True), ("limits", {"*": {"concurrent": 9}}), ("retention_days", 1.5)):
            refused = await admin.mine.patch(path, {"name": "new", field: value})
            assert refused.code == "bad_request"
            assert field in refused.message
            assert (await admin.root.ok("PATCH", path, {field: value}))[field] == value
            assert (await admin.mine.ok("GET", path))[field] == value
        assert (await admin.mine.ok("GET", path))["name"] == MINE
        reset = await admin.root.ok("PATCH", path, {"limits": None, "retention_days": None, "disabled": False})
        assert (reset["limits"], reset["retention_days"], reset["disabled"]) == (None, None, False)

    manage(on_both, test)


def test_a_disabled_application_is_refused_within_two_seconds(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        caller = admin.with_token(BUSINESS_TOKEN)
        assert (await caller.generate()).status == 200
        await admin.root.ok("PATCH", f"/applications/{MINE}", {"disabled": True})
        admin.world.clock.pass_s(2.1)
        assert (await caller.generate()).code == "disabled"
        await admin.root.ok("PATCH", f"/applications/{MINE}", {"disabled": False})
        admin.world.clock.pass_s(2.1)
        assert (await caller.generate()).status == 200

    manage(on_both, test)


def test_a_change_says_when_it_was_made_and_changes_nothing_else(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        before = await admin.mine.ok("GET", f"/applications/{MINE}")
        admin.world.clock.pass_s(5)
        after = await admin.mine.ok("PATCH", f"/applications/{MINE}", {"name": "Zoë"})
        assert after == before | {"name": "Zoë", "updated_at": "2025-11-24T16:00:05.125Z"}

    manage(on_both, test)


# -- credit


def test_a_top_up_is_exact_and_says_why_and_who(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        path, body = f"/applications/{MINE}/top-up/", {"amount": 0.000001, "memo": "a gift", "id": "order-1"}
        for _ in range(3):
            answer = await admin.root.ok("POST", path, body)
            assert answer["remaining_amount"] == 1000.000001
        assert (await admin.root.post(path, body | {"amount": 2})).code == "bad_request"
        (row,) = await ledger.movements(admin.world.gateway.db, f"grant/{MINE}/order-1")
        assert (row[0], row[2], row[3], row[5]) == ("grant", MINE, 1, f"a gift (by {OTHER.user_id})")
        await admin.root.ok("POST", path, {"amount": 5})
        assert (await admin.root.ok("POST", path, {"amount": 5}))["remaining_amount"] == 1010.000001

    manage(on_both, test)


def test_credit_other_than_the_free_quota_makes_an_application_paid(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        made = await subscribe(admin)
        path = f"/applications/{made['id']}"
        assert not (await admin.root.ok("POST", f"{path}/top-up", {"amount": -1}))["paid"]
        assert (await admin.root.ok("POST", f"{path}/top-up", {"amount": 0.5}))["paid"]
        assert (await admin.root.ok("GET", path))["remaining_amount"] == 1.5

    manage(on_both, test)


def test_no_more_is_taken_away_than_is_left(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        path = f"/applications/{MINE}/top-up"
        await admin.world.submit()  # holds something
        shown = await admin.root.ok("GET", f"/applications/{MINE}")
        assert shown["held_amount"] > 0
        left = shown["remaining_amount"] - shown["held_amount"]
        refused = await admin.root.post(path, {"amount": -1000})
        assert refused.code == "bad_request"
        assert f"{left:g}" in refused.message
        emptied = await admin.root.ok("POST", path, {"amount": -left})
        assert emptied["remaining_amount"] == emptied["held_amount"]
        assert (await admin.root.post(path, {"amount": -0.000001})).code == "bad_request"

    manage(on_both, test)


def test_balances_stay_far_from_what_a_column_can_hold(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        path = f"/applications/{MINE}/top-up"
        assert (await admin.root.post(path, {"amount": 1e12})).code == "bad_request"
        assert (await admin.root.ok("POST", path, {"amount": 1e12 - 1000}))["remaining_amount"] == 1e12
        assert (await admin.root.post(path, {"amount": 0.01})).code == "bad_request"

    manage(on_both, test)


def test_an_ordinary_token_adds_no_credit_to_its_own_application(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        for body in ({"amount": 1}, {"amount": "x"}, b"not JSON"):
            assert (await admin.mine.post(f"/applications/{MINE}/top-up", body)).code == "not_found"

    manage(on_both, test)


# -- bad input


CREATE: list[Any] = [
    {}, {"service_id": "suno-9"}, {"service_id": ""}, {"service_id": 7}, {"service_id": ["openai"]},
    {"service_id": "openai", "scope": "global"}, {"service_id": "openai", "scope": "Global"},
    {"service_id": "openai", "scope": None}, {"service_id": "openai", "type": "Period"},
    {"service_id": "openai", "name": ""}, {"service_id": "openai", "name": "n" * 101},
    {"service_id": "openai", "name": "a\x00"}, {"service_id": "openai", "allow_consume_global": "yes"},
    {"service_id": "openai", "allow_consume_global": 1}, {"service_id": "openai", "credit": 5}, [], 5, b"{",
]  # fmt: skip

TOP_UP: list[Any] = [
    {}, {"amount": 0}, {"amount": -0.0}, {"amount": "5"}, {"amount": True}, {"amount": None}, {"amount": [5]},
    {"amount": {}}, {"amount": 0.0000001}, {"amount": 1.1234567}, {"amount": 1e12 + 1}, {"amount": 1e300},
    b'{"amount": NaN}', b'{"amount": 1e999}', b'{"amount": -Infinity}', b'{"amount": 99999999999999999999999}',
    {"amount": 10**18}, {"amount": 1, "memo": 5}, {"amount": 1, "memo": "m" * 201}, {"amount": 1, "memo": "a\nb"},
    {"amount": 1, "memo": "\x00"}, {"amount": 1, "id": ""}, {"amount": 1, "id": "i" * 101}, {"amount": 1, "id": 5},
    {"amount": 1, "user_id": "user-1"},
]  # fmt: skip

PATCH: list[Any] = [
    {"name": None}, {"name": 5}, {"name": ""}, {"disabled": "yes"}, {"disabled": None}, {"disabled": 1},
    {"limits": []}, {"limits": {"*": 5}}, {"limits": {"*": {"calls": 5}}}, {"limits": {"*": {"concurrent": -1}}},
    {"limits": {"*": {"concurrent": 1.5}}}, {"limits": {"*": {"concurrent": True}}},
    {"limits": {"*": {"concurrent": "5"}}},
    {"limits": {"*": {"polls_per_s": 1e300}}}, {"limits": {str(n): {} for n in range(201)}},
    {"retention_days": 0}, {"retention_days": -1}, {"retention_days": 36_501}, {"retention_days": 1e300},
    {"retention_days": "30"}, {"retention_days": True}, {"retention_days": [1]}, {"remaining_amount": 5}, {"id": "x"},
]  # fmt: skip


def test_bad_bodies_are_refused_in_a_sentence_and_change_nothing(on_both: Settings) -> None:
    async def refused(admin: Admin, method: str, path: str, body: Any) -> None:
        answer = await admin.root.request(method, path, body)
        assert answer.status == 400, (body, answer)
        assert (answer.code, len(answer.message) > 10) == ("bad_request", True)

    async def test(admin: Admin) -> None:
        before = await admin.root.ok("GET", "/applications")
        for body in CREATE:
            await refused(admin, "POST", "/applications", body)
        for body in TOP_UP:
            await refused(admin, "POST", f"/applications/{MINE}/top-up", body)
        for body in [*PATCH, {"allow_consume_global": None}]:
            await refused(admin, "PATCH", f"/applications/{MINE}", body)
        for body in ({}, {"allow_consume_global": None}, {"allow_consume_global": "true"}, {"allow": True}, []):
            await refused(admin, "POST", f"/applications/{MINE}/update-allow-consume-global", body)
        assert await admin.root.ok("GET", "/applications") == before

    manage(on_both, test)


def test_a_user_makes_so_many_applications_and_no_more(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        body = {"service_id": "openai"}
        for _ in range(applications.OWN_MAX - 1):
            await admin.mine.ok("POST", "/applications/", body)
        assert (await admin.mine.post("/applications/", body)).code == "bad_request"
        assert (await admin.root.post("/applications/", body | {"user_id": "user-1"})).status == 201

    manage(on_both, test)
