"""Usage records: what each filter finds, sums by day in any time zone, and that a page walks an index."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bide import db as database
from bide.clock import Clock, uuid7
from bide.credits import usage
from bide.credits.usage import Filter, Usage, days, page_query, total_query
from bide.db import Database, Tx, write_one
from bide.db.migrate import prepare
from bide.db.sqlite import translate
from bide.settings import Settings
from tests.conftest import quick
from tests.databases import PostgresServer

START = 1_764_000_000_000
HOUR = 3_600_000


def a_record(at_ms: int, chance: int = 0, **fields: Any) -> Usage:
    values: dict[str, Any] = {
        "id": uuid7(at_ms, chance), "user_id": "u-1", "application_id": "a-1", "credential_id": "c-1",
        "service": "openai", "operation": "images/generations", "trace_id": "t-1", "status": 200, "code": None,
        "created_at": at_ms, "elapsed_ms": 1_500, "units": 1, "price": 1_000_000, "original_amount": 2_000_000,
        "deducted_amount": 1_000_000, "deducted_general": 0, "remaining_amount": 5_000_000, "used_amount": 1_000_000,
    }  # fmt: skip
    return Usage(**(values | fields))


def on(settings: Settings, records: list[Usage], test: Callable[[Database], Awaitable[None]]) -> None:
    """Runs a test on a database with some records in it."""

    async def inside() -> None:
        db = await database.connect(settings)
        try:
            await prepare(db, Clock())
            await write_one(db, lambda tx: usage.add(tx, records))
            await test(db)
        finally:
            await db.close()

    asyncio.run(inside())


# -- filters

SIX = [
    a_record(START + 0, 0, trace_id="t-1"),
    a_record(START + 1, 1, trace_id="t-2", status=403, code="forbidden"),
    a_record(START + 2, 2, trace_id="t-2", application_id="a-2", credential_id="c-2"),
    a_record(START + 3, 3, trace_id="t-3", application_id="a-2", credential_id="c-3", operation="images/edits"),
    a_record(START + 4, 4, trace_id="t-1", user_id="u-2", application_id="a-3", credential_id="c-4"),
    a_record(START + 5, 5, trace_id="t-3", user_id="u-2", application_id="a-3", credential_id="c-4", status=500),
]

FILTERS: dict[str, tuple[dict[str, Any], list[int]]] = {
    "none": ({}, [5, 4, 3, 2, 1, 0]),
    "a user": ({"user_id": "u-1"}, [3, 2, 1, 0]),
    "an application": ({"applications": ("a-2",)}, [3, 2]),
    "applications": ({"applications": ("a-2", "a-3", "a-2")}, [5, 4, 3, 2]),
    "an application stands for its user": ({"user_id": "u-1", "applications": ("a-3",)}, [5, 4]),
    "a credential": ({"credentials": ("c-4",)}, [5, 4]),
    "a status": ({"statuses": (200,)}, [4, 3, 2, 0]),
    "statuses": ({"statuses": (403, 500)}, [5, 1]),
    "an operation": ({"operations": (("openai", "images/edits"),)}, [3]),
    "an operation that there is not": ({"operations": ()}, []),
    "a trace id": ({"trace_ids": ("t-1",)}, [4, 0]),
    "trace ids": ({"trace_ids": ("t-1", "t-2")}, [4, 2, 1, 0]),
    "a trace id of a user": ({"trace_ids": ("t-1",), "user_id": "u-1"}, [0]),
    "a trace id of an application": ({"trace_ids": ("t-3",), "applications": ("a-2", "a-1")}, [3]),
    "a window": ({"from_ms": START + 2, "until_ms": START + 4}, [3, 2]),
    "a window without end": ({"from_ms": START + 4}, [5, 4]),
    "a window before all times": ({"until_ms": -5}, []),
    "everything": ({"user_id": "u-1", "applications": ("a-2",), "credentials": ("c-3",), "statuses": (200,),
                    "operations": (("openai", "images/edits"),), "trace_ids": ("t-3",), "from_ms": START,
                    "until_ms": START + 9}, [3]),
}  # fmt: skip


def test_each_filter_finds_what_it_says_newest_first_and_counts_it(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        ids = [one.id for one in SIX]
        wrong = {}
        for name, (wanted, expected) in FILTERS.items():
            found = [ids.index(one.id) for one in await usage.page(db, Filter(**wanted), 10)]
            upwards = [ids.index(one.id) for one in await usage.page(db, Filter(**wanted), 10, ascending=True)]
            count = await usage.total(db, Filter(**wanted))
            if (found, upwards, count) != (expected, expected[::-1], len(expected)):
                wrong[name] = (found, upwards, count)
        assert wrong == {}

    on(on_both, SIX, test)


def test_a_record_comes_back_as_it_was_written(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        assert await usage.one(db, SIX[1].id) == SIX[1]
        assert await usage.one(db, "nobody") is None
        assert await usage.page(db, Filter(statuses=(403,)), 10) == [SIX[1]]

    on(on_both, SIX, test)


@pytest.mark.parametrize("ascending", [False, True])
@pytest.mark.parametrize(
    "wanted", [{}, {"applications": ("a-1", "a-2", "a-3")}, {"trace_ids": ("t-1", "t-2", "t-3")}]
)
def test_pages_follow_each_other_without_gap_by_offset_and_by_the_last_id(
    on_both: Settings, wanted: dict[str, Any], ascending: bool
) -> None:
    async def test(db: Database) -> None:
        expected = [one.id for one in (SIX if ascending else SIX[::-1])]
        by_offset, by_id, after = [], [], ""
        for offset in (0, 4, 8):
            by_offset += await usage.page(db, Filter(**wanted), 4, offset, ascending=ascending)
        while found := await usage.page(db, Filter(**wanted), 4, ascending=ascending, after=after):
            by_id += found
            after = found[-1].id
        assert [one.id for one in by_offset] == [one.id for one in by_id] == expected

    on(on_both, SIX, test)


def test_status_codes_are_counted(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        assert await usage.statuses(db, Filter()) == [(200, 4), (403, 1), (500, 1)]
        assert await usage.statuses(db, Filter(user_id="u-1", from_ms=START + 1)) == [(200, 2), (403, 1)]

    on(on_both, SIX, test)


def test_the_tasks_of_a_trace_id_are_found_whoever_has_them(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        assert await usage.ids_of_trace(db, "t-1", 10) == [SIX[4].id, SIX[0].id]
        assert await usage.ids_of_trace(db, "t-1", 1) == [SIX[4].id]

    on(on_both, SIX, test)


# -- days


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


ZONES = ["UTC", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe", "America/New_York", "Europe/Berlin",
         "America/Santiago", "Africa/Cairo", "Pacific/Apia", "America/St_Johns"]  # fmt: skip
"""Half and quarter hours; clocks that are changed by half an hour; days that begin at one o'clock."""


@pytest.mark.parametrize("name", ZONES)
def test_the_days_of_a_year_follow_each_other_and_begin_at_midnight(name: str) -> None:
    zone = ZoneInfo(name)
    found = days(zone, ms("2025-06-01T12:00"), ms("2026-06-01T12:00"))
    assert len(found) in (366, 367)
    for one, following in itertools.pairwise(found):
        assert one.end_ms == following.begin_ms
    for one in found:
        first, last = (datetime.fromtimestamp(at / 1000, zone) for at in (one.begin_ms, one.end_ms - 1))
        assert first.date().isoformat() == last.date().isoformat() == one.date
        before = datetime.fromtimestamp((one.begin_ms - 1) / 1000, zone)
        assert before.date() < first.date()


def test_a_day_that_a_zone_left_out_is_no_day() -> None:
    """Samoa went over the date line: 30 December 2011 was never there."""
    found = days(ZoneInfo("Pacific/Apia"), ms("2011-12-29T20:00"), ms("2011-12-31T20:00"))
    assert [one.date for one in found] == ["2011-12-29", "2011-12-31", "2012-01-01"]


@pytest.mark.parametrize("name", ZONES)
def test_sums_by_day_are_those_of_the_zones_own_calendar(on_both: Settings, name: str) -> None:
    """One record every 47 minutes of a year, against the calendar of the standard library."""
    zone, begin, end = ZoneInfo(name), ms("2025-09-10T07:31"), ms("2026-04-20T01:00")
    times = list(range(begin, end, 47 * 60_000))
    records = [
        a_record(at, number, operation="images/edits" if number % 3 else "images/generations", deducted_amount=number)
        for number, at in enumerate(times)
    ]
    expected: dict[tuple[str, str], list[int]] = {}
    for one in records:
        date = datetime.fromtimestamp(one.created_at / 1000, zone).date().isoformat()
        sums = expected.setdefault((date, one.operation), [0, 0])
        sums[0] += one.deducted_amount
        sums[1] += 1

    async def test(db: Database) -> None:
        found = await usage.by_day(db, Filter(user_id="u-1"), days(zone, begin, end))
        assert {(row[0], row[2]): [row[3], row[4]] for row in found} == expected
        assert [row[0] for row in found] == sorted(row[0] for row in found)

    on(on_both, records, test)


def test_sums_keep_to_the_window_and_to_the_filters(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        wanted = Filter(from_ms=START + 1, until_ms=START + 5)
        day = days(ZoneInfo("UTC"), START, START + HOUR)
        assert [row[1:] for row in await usage.by_day(db, wanted, day)] == [
            ("openai", "images/edits", 1_000_000, 1), ("openai", "images/generations", 3_000_000, 3),
        ]  # fmt: skip
        assert [row[4] for row in await usage.by_day(db, replace(wanted, user_id="u-2"), day)] == [1]
        assert await usage.by_day(db, wanted, []) == []

    on(on_both, SIX, test)


def test_a_window_that_ends_before_it_begins_has_no_days() -> None:
    assert days(ZoneInfo("UTC"), START, START) == days(ZoneInfo("UTC"), START, START - 1) == []


# -- plans: no page may read the table from one end to the other

MANY = 20_000
WINDOW = {"from_ms": START + 5_000, "until_ms": START + 9_000}
PLANS: dict[str, dict[str, Any]] = {
    "all": {}, "user": {"user_id": "u-1"}, "application": {"applications": ("a-1",)},
    "application of a user": {"applications": ("a-1",), "user_id": "u-1"},
    "applications": {"applications": ("a-1", "a-2")}, "trace": {"trace_ids": ("t-7",)},
    "trace of a user": {"trace_ids": ("t-7",), "user_id": "u-7"},
    "traces": {"trace_ids": ("t-7", "t-8")}, "window": WINDOW, "user in a window": {"user_id": "u-1", **WINDOW},
    "application in a window": {"applications": ("a-1",), **WINDOW},
    "status": {"statuses": (200,)}, "user and status": {"user_id": "u-1", "statuses": (200,)},
    "user and operation": {"user_id": "u-1", "operations": (("openai", "images/edits"),)},
    "application and credential": {"applications": ("a-1",), "credentials": ("c-1",)},
}  # fmt: skip
INDEXES = {"user": "usage_user", "application": "usage_application", "trace": "usage_trace"}
PRIMARY = {"sqlite": "sqlite_autoindex_usage_1", "postgres": "usage_pkey"}


async def stock(tx: Tx) -> None:
    await usage.add(tx, [
        a_record(START + n, n, user_id=f"u-{n % 40}", application_id=f"a-{n % 50}", trace_id=f"t-{n % 5_000}",
                 credential_id=f"c-{n % 100}", operation="images/edits" if n % 3 else "images/generations",
                 status=500 if n % 50 == 0 else 200)
        for n in range(MANY)
    ])  # fmt: skip


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def plans(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    url = ""
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        url = server.new_database()
    return request.param, explain(quick(tmp_path_factory.mktemp("plans"), database_url=url))


def explain(settings: Settings) -> dict[str, str]:
    """The plan of each query, on a database with many records in it."""

    async def inside() -> dict[str, str]:
        db = await database.connect(settings)
        try:
            await prepare(db, Clock())
            await write_one(db, stock)
            if db.dialect == "postgres":
                await db.rows("ANALYZE usage")
            found = {}
            for name, wanted in PLANS.items():
                for ascending in (False, True):
                    query = page_query(Filter(**wanted), 20, 0, ascending=ascending)
                    found[f"{name}, {'upwards' if ascending else 'downwards'}"] = await plan(db, *query)
                found[f"{name}, total"] = await plan(db, *total_query(Filter(**wanted)))
                after = page_query(Filter(**wanted), 20, 0, ascending=True, after=uuid7(START + 6_000, 0))
                found[f"{name}, after"] = await plan(db, *after)
            return found
        finally:
            await db.close()

    return asyncio.run(inside())


async def plan(db: Database, sql: str, args: list[Any]) -> str:
    if db.dialect == "sqlite":
        return "\n".join(row[3] for row in await db.rows(f"EXPLAIN QUERY PLAN {translate(sql)}", *args))
    return "\n".join(row[0] for row in await db.rows(f"EXPLAIN {sql}", *args))


FEW = ("applications", "trace", "traces", "trace of a user", "user in a window", "application in a window",
       "application and credential")  # fmt: skip
"""What may be put in order after it was found: the pages of several walks, or all that an index gives."""


@pytest.mark.parametrize("how", ["downwards", "upwards", "after"])
@pytest.mark.parametrize("name", PLANS)
def test_a_page_walks_an_index_in_the_order_of_time(
    plans: tuple[str, dict[str, str]], name: str, how: str
) -> None:
    """PostgreSQL, which knows how common a user is, may walk them all to find the last ones of a busy one."""
    dialect, found = plans[0], plans[1][f"{name}, {how}"]
    index = next((index for word, index in INDEXES.items() if name.startswith(word)), PRIMARY[dialect])
    assert index in found or (dialect == "postgres" and PRIMARY[dialect] in found), found
    assert "Seq Scan" not in found, found
    assert "SCAN usage\n" not in f"{found}\n", found
    if name not in FEW:
        assert "TEMP B-TREE" not in found, found
        assert "Sort  (" not in found, found


@pytest.mark.parametrize(
    "name", ["user in a window", "trace", "traces", "trace of a user", "application in a window"]
)
def test_a_total_of_few_records_looks_at_few(plans: tuple[str, dict[str, str]], name: str) -> None:
    found = plans[1][f"{name}, total"]
    assert "SCAN usage\n" not in f"{found}\n", found
    assert "Seq Scan" not in found, found
