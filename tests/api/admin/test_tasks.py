"""`/tasks`: who sees which tasks, what is known of one, cancelling it, and its callback once more."""

import asyncio
from typing import Any

import pytest

from bide import db as database
from bide.clock import Clock, uuid7
from bide.db import Tx, write_one
from bide.db.migrate import prepare
from bide.flow.cancel import cancel
from bide.providers.base import Failed, Pending
from bide.settings import Settings
from bide.tasks import inspect, store
from bide.tasks.inspect import Wanted, page_query
from bide.tasks.store import NewTask, Task, Terms
from tests.api.admin.world import BUSINESS_TOKEN, OTHER, Admin, manage
from tests.conftest import quick
from tests.credits.test_usage import plan
from tests.databases import PostgresServer
from tests.world import START_MS, Held, Scripted, receiving

GENERATE = "0b6f2f0e-5d0a-4c38-9a51-6f1f3a7d2c10"
NOBODYS = "0198a5c4-0000-7000-8000-000000000000"


async def names(admin: Admin, who: str = "mine", **query: Any) -> list[str]:
    """The trace ids of the tasks that are listed; their number must be the count."""
    found = await getattr(admin, who).ok("GET", "/tasks/", **query)
    assert found["count"] == len(found["items"]), found
    return [one["trace_id"] for one in found["items"]]


async def fill(admin: Admin) -> None:
    """`a` failed, `b` was cancelled, `c` succeeded, `d` waits; `x` succeeded and `y` waits, of another."""
    world = admin.world
    await world.submit(trace_id="a")
    await world.work()
    world.clock.pass_s(1)
    await cancel(world.gateway, await world.submit(trace_id="b"))
    world.clock.pass_s(10)
    await world.submit(trace_id="c")
    await world.accept(trace_id="x", caller=OTHER)
    await world.work()
    world.clock.pass_s(10)
    await world.submit(trace_id="d")
    world.clock.pass_s(10)
    await world.accept(trace_id="y", caller=OTHER)


REFUSED = Failed("forbidden", "No.", detail="the upstream's own words", status=400)


def test_each_filter_finds_what_it_says(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        await fill(admin)
        expected: dict[str, tuple[str, dict[str, Any], list[str]]] = {
            "mine": ("mine", {}, ["d", "c", "b", "a"]),
            "all": ("root", {}, ["y", "d", "x", "c", "b", "a"]),
            "a user's": ("root", {"user_id": "user-2"}, ["y", "x"]),
            "an application's": ("root", {"application_id": "application-1"}, ["d", "c", "b", "a"]),
            "another's application": ("mine", {"application_id": OTHER.application_id}, []),
            "an unknown application": ("root", {"application_id": "nobody"}, []),
            "a service": ("root", {"service": "openai", "user_id": "user-2"}, ["y", "x"]),
            "an unknown service": ("root", {"service": "nobody"}, []),
            "open": ("mine", {"state": "open"}, ["d"]),
            "open, of all": ("root", {"state": "open"}, ["y", "d"]),
            "succeeded": ("root", {"state": "succeeded"}, ["x", "c"]),
            "failed": ("mine", {"state": "failed"}, ["a"]),
            "cancelled": ("root", {"state": "cancelled"}, ["b"]),
            "a trace id": ("mine", {"trace_id": "c"}, ["c"]),
            "a trace id of an open one": ("root", {"trace_id": "d"}, ["d"]),
            "a trace id, whoever's": ("root", {"trace_id": "x"}, ["x"]),
            "a trace id and a state": ("root", {"trace_id": "x", "state": "failed"}, []),
            "another's trace id": ("mine", {"trace_id": "x"}, []),
            "from": ("mine", {"created_at_from": (START_MS + 21_000) / 1000}, ["d"]),
            "to": ("root", {"created_at_to": (START_MS + 11_000) / 1000}, ["x", "c", "b", "a"]),
            "upwards": ("mine", {"ordering": "created_at"}, ["a", "b", "c", "d"]),
            "together": ("root", {"user_id": "user-1", "service": "openai", "trace_id": "c", "state": "succeeded",
                                  "application_id": "application-1", "created_at_from": 1}, ["c"]),
        }  # fmt: skip
        wrong = {}
        for name, (who, query, wanted) in expected.items():
            found = await names(admin, who, **query)
            together = {"c", "x"} <= {*found}  # of the same moment
            if sorted(found) != sorted(wanted) or (found != wanted and not together):
                wrong[name] = found
        assert wrong == {}
        page = await admin.mine.ok("GET", "/tasks", limit=2, offset=1)
        assert (page["count"], [one["trace_id"] for one in page["items"]]) == (4, ["c", "b"])
        assert (await admin.mine.get("/tasks", user_id="user-2")).code == "not_found"
        assert (await admin.nobody.get("/tasks")).code == "no_token"

    manage(on_both, test, Scripted(REFUSED))


def test_a_line_says_what_a_task_is_and_how_it_is(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        await fill(admin)
        (one,) = (await admin.mine.ok("GET", "/tasks/", state="cancelled"))["items"]
        assert one | {"id": ""} == {
            "id": "", "service": "openai", "api_id": GENERATE, "type": "images_generations", "state": "cancelled",
            "trace_id": "b", "inline": False, "user_id": "user-1", "application_id": "application-1",
            "credential_id": "credential-1", "created_at": "2025-11-24T16:00:01.125Z", "started_at": None,
            "finished_at": "2025-11-24T16:00:01.125Z",
        }  # fmt: skip

    manage(on_both, test, Scripted(REFUSED))


@pytest.mark.parametrize("query", [
    {"state": "done"}, {"limit": "-1"}, {"created_at_from": "x"}, {"trace_id": "x" * 300}, {"trace_id": ["a", "b"]},
    {"service": "a\0"}, {"ordering": "x"},
])  # fmt: skip
def test_bad_filters_are_refused(on_sqlite: Settings, query: dict[str, Any]) -> None:
    async def test(admin: Admin) -> None:
        assert (await admin.root.get("/tasks/", **query)).code == "bad_request"

    manage(on_sqlite, test)


def test_a_task_shows_its_money_its_attempts_and_its_callbacks(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        async with receiving("500 Oops") as receiver:
            world = admin.world
            task_id = await world.submit(receiver.url, trace_id="order-7")
            await world.work()
            await world.deliver()
            shown = await admin.root.ok("GET", f"/tasks/{task_id}/")
            assert (shown["state"], shown["trace_id"], shown["deadline_at"]) == ("failed", "order-7", None)
            assert shown["request"] == {"prompt": "a paper boat", "callback_url": receiver.url}
            assert shown["response"]["error"] == {"code": "forbidden", "message": "No."}
            moves = [(one["kind"], one["part"], one["application_id"]) for one in shown["movements"]]
            assert moves == [("hold", "own", "application-1"), ("release", "own", "application-1")]
            assert shown["movements"][0]["amount"] == shown["movements"][1]["amount"] > 0
            (attempt,) = shown["attempts"]
            assert (attempt["number"], attempt["outcome"], attempt["code"]) == (1, "failed", "forbidden")
            secret = {"channel": "first", "upstream_id": None, "status": 400, "detail": "the upstream's own words"}
            assert attempt == attempt | secret
            (delivery,) = shown["deliveries"]
            assert (delivery["url"], delivery["state"]) == (receiver.url, "pending")
            assert [(one["number"], one["status"]) for one in delivery["attempts"]] == [(1, 500)]
            mine = await admin.mine.ok("GET", f"/tasks/{task_id}")
            assert not {*secret} & {*mine["attempts"][0]}
            assert "own words" not in str(mine)

    manage(on_both, test, Scripted(REFUSED))


def test_an_open_attempt_stands_beside_those_that_are_over(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        task_id = await admin.world.submit()
        await admin.world.work()
        shown = await admin.root.ok("GET", f"/tasks/{task_id}/")
        assert (shown["state"], shown["response"], shown["finished_at"]) == ("running", None, None)
        assert shown["deadline_at"] == "2025-11-24T16:15:00.125Z"
        (attempt,) = shown["attempts"]
        assert (attempt["outcome"], attempt["channel"], attempt["upstream_id"]) == ("open", "first", "up-1")
        (mine,) = (await admin.mine.ok("GET", f"/tasks/{task_id}/"))["attempts"]
        assert set(mine) == {"number", "asked_at", "ended_at", "outcome", "code"}

    manage(on_both, test, Scripted(Pending("up-1", 5.0)))


def test_a_call_that_waits_is_listed_while_it_is_open(on_both: Settings) -> None:
    held = Held()

    async def test(admin: Admin) -> None:
        waiting = asyncio.create_task(admin.with_token(BUSINESS_TOKEN).generate(**{"async": False}))
        asking = asyncio.create_task(held.asked.wait())
        await asyncio.wait({asking, waiting}, return_when=asyncio.FIRST_COMPLETED)
        assert asking.done(), waiting.result()
        (line,) = (await admin.mine.ok("GET", "/tasks/", state="open"))["items"]
        assert (line["inline"], line["state"]) == (True, "running")
        cancelled = await admin.mine.ok("POST", f"/tasks/{line['id']}/cancel/")
        assert cancelled["state"] == "cancelled"
        async with asyncio.timeout(30):
            assert (await waiting).message == "The task was cancelled."
        assert await names(admin) == []

    manage(on_both, test, Scripted(held))


# -- what may be done with a task


def test_an_owner_and_a_superuser_cancel_a_task_once(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        for who in (admin.mine, admin.root):
            task_id = await admin.world.submit("http://127.0.0.1:9/hook")
            cancelled = await who.ok("POST", f"/tasks/{task_id}/cancel/")
            assert (cancelled["state"], cancelled["response"]["error"]["code"]) == ("cancelled", "api_error")
            assert [one["kind"] for one in cancelled["movements"]] == ["hold", "release"]
            assert [one["state"] for one in cancelled["deliveries"]] == ["pending"]
            again = await who.post(f"/tasks/{task_id}/cancel")
            assert (again.status, again.code, again.message) == (400, "bad_request", "The task has ended already.")

    manage(on_both, test)


@pytest.mark.parametrize("what", ["", "/cancel", "/retry-callback"])
def test_what_is_anothers_is_as_unknown_as_what_never_was(on_both: Settings, what: str) -> None:
    async def test(admin: Admin) -> None:
        task_id = (await admin.world.accept(caller=OTHER)).task_id
        method = "POST" if what else "GET"
        answers = [await admin.mine.request(method, f"/tasks/{one}{what}") for one in (task_id, NOBODYS, "x")]
        assert [one.without_trace for one in answers] == [answers[0].without_trace] * 3
        assert (answers[0].status, answers[0].code) == (404, "not_found")
        assert (await admin.nobody.request(method, f"/tasks/{task_id}{what}")).code == "no_token"
        assert (await inspect.open_count(admin.world.gateway.db)) == (1, 0)

    manage(on_both, test)


def test_a_callback_is_made_due_again_when_it_was_delivered_or_given_up(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        async with receiving() as receiver:
            world = admin.world
            task_id = await world.submit(receiver.url)
            early = await admin.mine.post(f"/tasks/{task_id}/retry-callback/")
            assert (early.code, early.message) == ("bad_request", "The task has no callback yet.")
            await world.work()
            pending = await admin.mine.post(f"/tasks/{task_id}/retry-callback/")
            assert (pending.code, pending.message) == ("bad_request", "The callback is still to be sent.")
            assert await world.deliver() == 1
            again = await admin.mine.ok("POST", f"/tasks/{task_id}/retry-callback/")
            assert again["deliveries"][0]["state"] == "pending"
            assert await world.deliver() == 1
            assert len({one.headers["webhook-id"] for one in receiver.got}) == 1
            plain = await world.submit()
            await world.work()
            assert (await admin.mine.post(f"/tasks/{plain}/retry-callback")).message == "The task has no callback."

    manage(on_both, test)


# -- plans: no page may read the tasks from one end to the other

PLANS: dict[str, dict[str, Any]] = {
    "all": {}, "user": {"user_id": "u-1", "services": ("openai",)},
    "user of services": {"user_id": "u-1", "services": ("openai", "suno")},
    "application": {"user_id": "u-1", "application_id": "a-1", "services": ("openai",)},
    "trace": {"user_id": "u-7", "trace_id": "t-7", "services": ("openai",)},
    "trace of anybody": {"trace_id": "t-7", "ids": tuple(uuid7(START_MS + n, n) for n in (7, 1_007))},
    "open": {"state": "open"}, "window": {"from_ms": START_MS + 10, "until_ms": START_MS + 500},
    "state": {"state": "succeeded", "user_id": "u-1", "services": ("openai",)},
    "user in a window": {"user_id": "u-1", "services": ("openai",), "from_ms": START_MS + 10},
}  # fmt: skip
MANY = 6_000


async def stock(tx: Tx) -> None:
    tasks = [
        Task(uuid7(START_MS + n, n), "openai" if n % 3 else "suno", "images/generations", "images_generations",
             f"u-{n % 40}", f"a-{n % 40}", "c", f"t-{n % 1_000}", True, START_MS + n, None, "", b"{}", None)
        for n in range(MANY)
    ]  # fmt: skip
    await store.insert(tx, [NewTask(one, START_MS, Terms(kept_ms=1)) for one in tasks])
    over = [one.id for one in tasks[:-50]]
    await tx.run("DELETE FROM queue WHERE task_id = ANY($1)", over)
    await store.add_endings(tx, [(one, "succeeded", None, START_MS, START_MS, 0, b"{}") for one in over])


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def plans(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    url = ""
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        url = server.new_database()
    settings = quick(tmp_path_factory.mktemp("plans"), database_url=url)

    async def inside() -> dict[str, str]:
        db = await database.connect(settings)
        try:
            await prepare(db, Clock())
            await write_one(db, stock)
            if db.dialect == "postgres":
                for table in ("tasks", "endings", "queue"):
                    await db.rows(f"ANALYZE {table}")
            return {name: await plan(db, *page_query(Wanted(**wanted), 20, 0)) for name, wanted in PLANS.items()}
        finally:
            await db.close()

    return asyncio.run(inside())


@pytest.mark.parametrize("name", PLANS)
def test_no_page_reads_all_tasks(plans: dict[str, str], name: str) -> None:
    found = plans[name]
    for table in ("tasks t", "t", "endings e", "e"):
        assert f"SCAN {table}\n" not in f"{found}\n", found
        assert f"Seq Scan on {table}" not in found, found
