"""`/usage/apis`: who sees which records, what they say, sums, and the export."""

import csv
import io
from typing import Any

import pytest

from bide.credits import usage
from bide.db import write_one
from bide.providers.base import Failed
from bide.settings import Settings
from tests.api.admin.world import BUSINESS_TOKEN, OTHER, Admin, manage
from tests.credits.test_usage import a_record
from tests.world import START_MS, Scripted

GENERATE, EDIT = "0b6f2f0e-5d0a-4c38-9a51-6f1f3a7d2c10", "c7d1b9a4-2e63-4f7b-8a0d-91e5c4b7f3d2"
DAY = 86_400_000
NOBODYS = "0198a5c4-0000-7000-8000-000000000000"


async def add(admin: Admin, *records: usage.Usage) -> None:
    await write_one(admin.world.gateway.db, lambda tx: usage.add(tx, records))


def mine(number: int, **fields: Any) -> usage.Usage:
    about: dict[str, Any] = {"user_id": "user-1", "application_id": "application-1", "credential_id": "credential-1"}
    return a_record(START_MS + number, number, **{**about, **fields})


def other(number: int, **fields: Any) -> usage.Usage:
    about = {"user_id": "user-2", "application_id": "application-2", "credential_id": "credential-2"}
    return mine(number, **{**about, **fields})


async def ids(admin: Admin, who: str = "mine", **query: Any) -> list[str]:
    """The trace ids of the records that are listed; their number must be the count."""
    found = await getattr(admin, who).ok("GET", "/usage/apis/", **query)
    assert found["count"] == len(found["items"])
    return [one["trace_id"] for one in found["items"]]


def test_a_call_leaves_a_record_that_says_what_it_cost(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        world = admin.world
        task_id = await world.submit(trace_id="order-7", n=1)
        world.clock.pass_s(2.5)
        await world.work()
        (one,) = (await admin.mine.ok("GET", "/usage/apis/"))["items"]
        price = one["deducted_amount"]
        assert price > 0
        assert one == {
            "id": task_id, "api_id": GENERATE, "user_id": "user-1", "application_id": "application-1",
            "credential_id": "credential-1", "status_code": 200, "code": None, "elapsed": 2.5, "trace_id": "order-7",
            "units": 1, "original_amount": price, "deducted_amount": price, "deducted_general": 0,
            "remaining_amount": pytest.approx(1000 - price), "used_amount": price,
            "created_at": "2025-11-24T16:00:00.125Z",
        }  # fmt: skip
        detail = await admin.mine.ok("GET", f"/usage/apis/{task_id}/")
        metadata = detail.pop("metadata")
        assert detail == one
        assert metadata["request"] == {"prompt": "a paper boat", "n": 1}
        assert metadata["response"] == await world.response(task_id)

    manage(on_both, test)


def test_a_failure_costs_nothing_and_has_its_code_and_status(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        await admin.world.submit()
        await admin.world.work()
        (one,) = (await admin.mine.ok("GET", "/usage/apis/"))["items"]
        assert (one["status_code"], one["code"], one["deducted_amount"], one["units"]) == (403, "forbidden", 0, 0)

    manage(on_both, test, Scripted(Failed("forbidden", "No.")))


def test_a_record_outlives_its_task_and_never_shows_the_bytes_of_a_picture(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        answer = await admin.with_token(BUSINESS_TOKEN).generate(**{"async": False, "response_format": "b64_json"})
        assert answer.status == 200
        (one,) = (await admin.mine.ok("GET", "/usage/apis"))["items"]
        metadata = (await admin.mine.ok("GET", f"/usage/apis/{one['id']}"))["metadata"]
        assert metadata["response"]["success"] is True
        assert metadata["response"]["data"] == [{}]
        await add(admin, mine(1))
        gone = await admin.mine.ok("GET", f"/usage/apis/{mine(1).id}")
        assert gone["metadata"] == {"request": None, "response": None}

    manage(on_both, test)


def test_everybody_sees_its_own_and_a_superuser_that_of_all(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        await add(admin, mine(1, trace_id="a"), other(2, trace_id="b"))
        assert await ids(admin) == ["a"]
        assert await ids(admin, "root") == ["b", "a"]
        assert await ids(admin, "root", user_id="user-1") == ["a"]
        assert await ids(admin, user_id="user-1") == ["a"]
        assert await ids(admin, application_id=OTHER.application_id) == []
        assert await ids(admin, credential_id=OTHER.credential_id) == []
        assert await ids(admin, trace_id="b") == []
        assert (await admin.mine.get("/usage/apis/", user_id="user-2")).code == "not_found"
        foreign = await admin.mine.get(f"/usage/apis/{other(2).id}")
        assert foreign.without_trace == (await admin.mine.get("/usage/apis/nobody-knows-this")).without_trace
        assert foreign.status == 404
        for path in ("", "aggregate", "status-codes", "export", "x"):
            assert (await admin.nobody.get(f"/usage/apis/{path}")).code == "no_token"

    manage(on_both, test)


def test_each_filter_finds_what_it_says(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        body = {"application_id": "application-1", "name": "another"}
        another = (await admin.mine.ok("POST", "/credentials/", body))["id"]
        await add(
            admin, mine(0, trace_id="a"), mine(1_000, trace_id="b", status=403), other(2_000, trace_id="c"),
            mine(3_000, trace_id="d", operation="images/edits", credential_id=another),
            other(4_000, trace_id="e", operation="no/longer"),
        )  # fmt: skip
        expected: dict[str, tuple[dict[str, Any], list[str]]] = {
            "application": ({"application_id": "application-1"}, ["d", "b", "a"]),
            "applications": ({"application_id": ["application-1", "application-2"]}, ["e", "d", "c", "b", "a"]),
            "credential": ({"credential_id": another}, ["d"]),
            "api": ({"api_id": EDIT}, ["d"]),
            "apis": ({"api_id": [EDIT, GENERATE]}, ["d", "c", "b", "a"]),
            "an api that is gone": ({"api_id": "openai/no/longer"}, ["e"]),
            "an unknown api": ({"api_id": "nobody"}, []),
            "status": ({"status_code": 403}, ["b"]),
            "trace id": ({"trace_id": "c"}, ["c"]),
            "from": ({"created_at_from": "2025-11-24T16:00:03.125Z"}, ["e", "d"]),
            "to": ({"created_at_to": (START_MS + 1_000) / 1000}, ["b", "a"]),
            "upwards": ({"ordering": "created_at", "status_code": [200, 403]}, ["a", "b", "c", "d", "e"]),
            "together": ({"api_id": GENERATE, "application_id": "application-1", "status_code": 200}, ["a"]),
        }  # fmt: skip
        wrong = {}
        for name, (query, wanted) in expected.items():
            if (found := await ids(admin, "root", **query)) != wanted:
                wrong[name] = found
        assert wrong == {}
        page = await admin.root.ok("GET", "/usage/apis/", limit=2, offset=1)
        assert (page["count"], [one["trace_id"] for one in page["items"]]) == (5, ["d", "c"])
        assert page["items"][0]["api_id"] == EDIT
        (gone,) = (await admin.root.ok("GET", "/usage/apis/", trace_id="e"))["items"]
        assert gone["api_id"] == "openai/no/longer"

    manage(on_both, test)


BAD = [
    {"status_code": "abc"}, {"status_code": "99"}, {"created_at_from": "yesterday"}, {"created_at_to": "-1"},
    {"created_at_to": "nan"}, {"limit": "0"}, {"offset": "-1"}, {"ordering": "id"}, {"trace_id": "x" * 300},
    {"api_id": [str(n) for n in range(60)]}, {"trace_id": "a\0b"},
]  # fmt: skip
ODD = [
    {"created_at_from": "1970-01-01"}, {"created_at_to": "4000-12-31T23:59:59Z"},
    {"trace_id": "\ud7ff\U0010ffff' OR 1"},
    {"created_at_from": 5e10, "created_at_to": 1}, {"application_id": "", "status_code": ""}, {"credential_id": "x"},
]  # fmt: skip


@pytest.mark.parametrize("path", ["/usage/apis/", "/usage/apis/export/"])
def test_bad_filters_are_refused_and_odd_ones_are_none(on_both: Settings, path: str) -> None:
    async def test(admin: Admin) -> None:
        await add(admin, mine(1))
        for query in BAD:
            answer = await admin.mine.get(path, **query)
            assert (answer.status, answer.code) == (400, "bad_request"), query
            assert next(iter(query)) in answer.message or "NUL" in answer.message
        for query in ODD:
            assert (await admin.mine.get(path, **query)).status == 200, query

    manage(on_both, test)


# -- sums


def test_sums_are_by_day_and_operation_and_name_the_operations(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        admin.world.clock.pass_s(60)
        await add(
            admin, mine(0), mine(1, deducted_amount=250_000), mine(2, operation="images/edits"), other(3),
            mine(-DAY, status=500, deducted_amount=0), mine(-40 * DAY), mine(4, operation="no/longer"),
        )  # fmt: skip
        found = await admin.mine.ok("GET", "/usage/apis/aggregate/")
        assert found == {
            "total": 3.25,
            "items": [
                {"date": "2025-11-23", "api_id": GENERATE, "amount": 0, "count": 1},
                {"date": "2025-11-24", "api_id": EDIT, "amount": 1, "count": 1},
                {"date": "2025-11-24", "api_id": GENERATE, "amount": 1.25, "count": 2},
                {"date": "2025-11-24", "api_id": "openai/no/longer", "amount": 1, "count": 1},
            ],
            "apis": {
                GENERATE: {"title": "Generate images"}, EDIT: {"title": "Edit images"},
                "openai/no/longer": {"title": "openai/no/longer"},
            },
        }  # fmt: skip
        assert (await admin.root.ok("GET", "/usage/apis/aggregate"))["total"] == 4.25
        edits = await admin.mine.ok("GET", "/usage/apis/aggregate", api_id=EDIT, created_at_from=START_MS / 1000)
        assert edits["total"] == 1

    manage(on_both, test)


def test_a_day_is_that_of_the_time_zone(on_both: Settings) -> None:
    """16:00 UTC is 21:30 in India; three hours later it is the next day there, and not yet in Chile."""

    async def test(admin: Admin) -> None:
        await add(admin, mine(0), mine(3 * 3_600_000), mine(11 * 3_600_000))
        admin.world.clock.pass_s(86_400)
        for zone, expected in {
            "Asia/Kolkata": {"2025-11-24": 1, "2025-11-25": 2}, "UTC": {"2025-11-24": 2, "2025-11-25": 1},
            "America/Santiago": {"2025-11-24": 2, "2025-11-25": 1}, "Pacific/Honolulu": {"2025-11-24": 3},
        }.items():  # fmt: skip
            found = await admin.mine.ok("GET", "/usage/apis/aggregate/", timezone=zone)
            assert {one["date"]: one["count"] for one in found["items"]} == expected, zone

    manage(on_both, test)


def test_a_window_of_sums_is_bounded_and_a_time_zone_must_exist(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        await add(admin, mine(0))
        for zone in ("Mars/Olympus", "Europe", "/etc/passwd", "../UTC", "x" * 200, "UTC\0"):
            assert (await admin.mine.get("/usage/apis/aggregate/", timezone=zone)).code == "bad_request", zone
        for path in ("aggregate", "status-codes"):
            get = f"/usage/apis/{path}/"
            assert (await admin.mine.get(get, created_at_from="2020-01-01")).code == "bad_request"
            year = {"created_at_from": "2025-01-01", "created_at_to": "2026-01-02"}
            assert (await admin.mine.get(get, **year)).status == 200
            assert (await admin.mine.get(get, created_at_from="4000-12-31T23:00Z")).status == 200
            assert (await admin.mine.get(get, created_at_to="1970-01-01T00:00:01")).status == 200
            assert (await admin.mine.get(get, created_at_from=5e9, created_at_to=1)).status == 200
        nothing = await admin.mine.ok("GET", "/usage/apis/aggregate/", created_at_from=5e9, created_at_to=1)
        assert nothing == {"total": 0, "items": [], "apis": {}}

    manage(on_both, test)


def test_status_codes_are_counted(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        admin.world.clock.pass_s(60)
        await add(admin, mine(0), mine(1), mine(2, status=403), other(3, status=504), mine(-40 * DAY, status=500))
        assert await admin.mine.ok("GET", "/usage/apis/status-codes/") == {
            "count": 2, "items": [{"status_code": 200, "count": 2}, {"status_code": 403, "count": 1}],
        }  # fmt: skip
        assert (await admin.root.ok("GET", "/usage/apis/status-codes/"))["count"] == 3

    manage(on_both, test)


# -- export


def test_an_export_has_every_record_once_whatever_its_pages(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        await add(admin, *(mine(n, trace_id=f"t-{n}") for n in range(1_203)), other(5_000))
        answer = await admin.mine.get("/usage/apis/export/", ordering="created_at")
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert answer.headers["content-disposition"] == 'attachment; filename="usage.csv"'
        rows = list(csv.DictReader(io.StringIO(answer.body.decode(), newline="")))
        assert [row["trace_id"] for row in rows] == [f"t-{n}" for n in range(1_203)]
        assert rows[0] | {"id": ""} == {
            "id": "", "created_at": "2025-11-24T16:00:00.125Z", "user_id": "user-1",
            "application_id": "application-1",
            "credential_id": "credential-1", "api_id": GENERATE, "service": "openai",
            "operation": "images/generations", "status_code": "200", "code": "", "elapsed": "1.500",
            "trace_id": "t-0", "units": "1", "original_amount": "2", "deducted_amount": "1", "deducted_general": "0",
            "remaining_amount": "5", "used_amount": "1",
        }  # fmt: skip
        assert len((await admin.root.get("/usage/apis/export/")).body.splitlines()) == 1_205

    manage(on_both, test)


def test_an_export_cannot_steer_a_spreadsheet_and_is_quoted_right(on_both: Settings) -> None:
    wild = ['=HYPERLINK("http://x","y")', "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", 'a,"b"\r\nc', "plain", "ünïcode 🎈"]

    async def test(admin: Admin) -> None:
        records = [mine(n, trace_id=text, remaining_amount=-1_500_000) for n, text in enumerate(wild)]
        await add(admin, *records)
        answer = await admin.mine.get("/usage/apis/export/", ordering="created_at")
        rows = list(csv.DictReader(io.StringIO(answer.body.decode(), newline="")))
        assert [row["trace_id"] for row in rows] == [f"'{text}" for text in wild[:6]] + wild[6:]
        assert {row["remaining_amount"] for row in rows} == {"-1.5"}  # a number, and made by us

    manage(on_both, test)


def test_an_unknown_credential_costs_what_another_users_costs(on_both: Settings) -> None:
    """Neither makes the gateway look through the records of whoever asks."""

    async def test(admin: Admin) -> None:
        await add(admin, mine(1, credential_id=NOBODYS))  # which cannot be: no credential has that id
        for credential_id in (NOBODYS, OTHER.credential_id):
            assert await ids(admin, credential_id=credential_id) == []

    manage(on_both, test)
