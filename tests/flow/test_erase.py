"""What somebody wants gone is gone, all of it; the books stay, and whoever dies half-way is followed by another."""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from bide.accounts import erasure, platform
from bide.accounts import store as accounts
from bide.callbacks import store as callbacks
from bide.credits import ledger
from bide.db import Tx, write_one
from bide.errors import BadRequest, Disabled, NotFound
from bide.flow import erase, poll, sweep
from bide.flow.removal import BATCH
from bide.providers.base import Pending
from bide.settings import Settings
from bide.tasks import inspect, purge, search
from bide.tasks.search import Filter
from tests.books import nothing_held
from tests.conftest import quick
from tests.tasks import test_search as plans
from tests.world import CALLER, PNG, Scripted, World, as_bytes, opened, run

MINE = Filter("user-1", "openai")
OTHER = replace(CALLER, user_id="user-2", application_id="application-2", credential_id="credential-2")
MOST = 100
MORE = 30
TABLES = ("tasks", "queue", "endings", "attempts", "files", "deliveries", "delivery_attempts", "idempotency")


async def rows(world: World) -> int:
    """Rows in all tables of tasks together."""
    found = [await world.gateway.db.rows(f"SELECT count(*) FROM {table}") for table in TABLES]
    return sum(int(one[0][0]) for one in found)


async def delete(world: World, user_id: str = "user-1", limit: int = MOST, **named: tuple[str, ...]) -> list[str]:
    wanted = Filter(user_id, "openai", **named)
    return await erase.delete(world.gateway, wanted, limit, world.documents.forget)


# -- a caller's own tasks


def test_a_deleted_task_is_gone_with_its_files_attempts_callbacks_and_idempotency_key(on_both: Settings) -> None:
    async def test(world: World) -> None:
        accepted = await world.accept("http://127.0.0.1:9/hook", key="k")
        await world.work()
        await world.deliver()  # which fails: it is still owed
        assert await callbacks.owed(world.gateway.db) == 1
        assert await delete(world, ids=(accepted.task_id,)) == [accepted.task_id]
        assert await rows(world) == 0
        assert world.files() == []
        assert await search.total(world.gateway.db, MINE) == 0
        again = await world.accept("http://127.0.0.1:9/hook", key="k")
        assert not again.known

    run(on_both, test)


def test_trace_ids_name_all_tasks_that_have_them_newest_first_and_no_others(on_both: Settings) -> None:
    async def test(world: World) -> None:
        ids = []
        for trace_id in ("a", "a", "b", "c"):
            ids.append(await world.submit(trace_id=trace_id))
            world.clock.pass_s(1)
        await world.work()
        assert await delete(world, ids=(ids[2],), trace_ids=("a",)) == [ids[2], ids[1], ids[0]]
        assert "finished_at" in await world.document(ids[3])
        assert len(world.files()) == 1

    run(on_both, test)


def test_no_more_than_the_limit_go_at_once_and_asking_again_goes_on(on_both: Settings) -> None:
    async def test(world: World) -> None:
        ids = []
        for _ in range(5):
            ids.append(await world.submit(trace_id="many"))
            world.clock.pass_s(1)
        await world.work()
        found = [await delete(world, limit=2, trace_ids=("many",)) for _ in range(4)]
        assert found == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]], []]

    run(on_both, test)


def test_what_is_not_there_or_not_the_callers_is_not_listed(on_both: Settings) -> None:
    async def test(world: World) -> None:
        await world.seed(OTHER)
        theirs = (await world.accept(caller=OTHER, trace_id="t")).task_id
        world.clock.pass_s(1)
        open_one = (await world.accept(caller=OTHER, trace_id="u")).task_id  # not even whether it is open is told
        await world.work()
        for ids in ((theirs,), (world.clock.new_id(0),), ("no id at all",)):
            assert await delete(world, ids=ids) == []
        assert await delete(world, trace_ids=("t", "u")) == []
        wrong_service = Filter("user-2", "suno", ids=(theirs,))
        assert await erase.delete(world.gateway, wrong_service, MOST, world.documents.forget) == []
        assert await delete(world, "user-2", ids=(theirs, open_one)) == [open_one, theirs]

    run(on_both, test)


def test_an_open_task_of_somebody_else_refuses_nothing(on_both: Settings) -> None:
    async def test(world: World) -> None:
        await world.seed(OTHER)
        mine = await world.submit()
        await world.work()
        theirs = (await world.accept(caller=OTHER)).task_id
        assert await delete(world, ids=(mine, theirs)) == [mine]

    run(on_both, test)


def test_nothing_is_deleted_when_one_of_them_is_still_open(on_both: Settings) -> None:
    async def test(world: World) -> None:
        done = await world.submit()
        await world.work()
        world.clock.pass_s(1)
        still_open = await world.submit()
        with pytest.raises(BadRequest, match=f"The task {still_open} has not ended yet; nothing was deleted"):
            await delete(world, ids=(done, still_open))
        assert "finished_at" in await world.document(done)
        assert len(world.files()) == 1
        await world.work()
        assert await delete(world, ids=(done, still_open)) == [still_open, done]

    run(on_both, test)


def test_this_process_forgets_a_deleted_document_at_once(on_both: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()

        async def found() -> bytes:
            return await as_bytes(
                await poll.retrieve(world.gateway, world.documents, "user-1", "openai", task_id, "")
            )

        assert json.loads(await found())["id"] == task_id
        assert await world.gateway.db.write(purge_only, [task_id]) is None
        assert json.loads(await found())["id"] == task_id  # from memory
        world.documents.forget([task_id])
        assert await found() == b"{}"

    run(on_both, test)


async def purge_only(tx: Tx, items: list[list[str]]) -> list[None]:
    for ids in items:
        await purge.delete(tx, ids)
    return [None] * len(items)


def test_a_document_that_was_read_before_the_deletion_is_not_kept_after_it(on_sqlite: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        record = await plans.store.record(world.gateway.db, task_id)
        assert record is not None
        before = world.documents.deletions
        assert await delete(world, ids=(task_id,)) == [task_id]
        world.documents.put(record, b"{}", world.clock.monotonic() + 60, before)
        assert world.documents.get(task_id, "user-1", "openai", world.clock.monotonic()) is None

    run(on_sqlite, test)


def test_files_of_a_deletion_that_died_half_way_go_with_the_next_sweep(on_both: Settings) -> None:
    """The rows of the task are gone and the time of its files is over, in one transaction."""

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        await world.gateway.db.write(erase._delete, (Filter("user-1", "openai", ids=(task_id,)), MOST))
        assert len(world.files()) == 1  # here it died
        await sweep.sweep_once(world.gateway)
        assert world.files() == []
        assert await rows(world) == 0

    run(on_both, test)


def test_two_who_delete_the_same_count_it_once(on_both: Settings) -> None:
    async def test(world: World) -> None:
        ids = tuple([await world.submit() for _ in range(10)])
        await world.work()
        kept = await world.submit()
        found = await asyncio.gather(delete(world, ids=ids), delete(world, ids=ids), sweep.sweep_once(world.gateway))
        assert sorted([*found[0], *found[1]]) == sorted(ids)
        assert await search.total(world.gateway.db, MINE) == 1
        assert (await world.document(kept))["id"] == kept

    run(on_both, test)


def test_the_books_and_the_usage_stay_as_they_were(on_both: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        sums = await nothing_held(world.gateway.db)
        assert sums[CALLER.application_id][1] > 0
        await delete(world, ids=(task_id,))
        assert await nothing_held(world.gateway.db) == sums
        assert len(await world.gateway.db.rows("SELECT id FROM usage WHERE id = $1", task_id)) == 1

    run(on_both, test)


# -- a person


async def person(world: World) -> list[str]:
    """A user with tokens, ended tasks, an inline call, open tasks and a callback that is owed. Answers its tasks."""
    db, clock = world.gateway.db, world.clock

    await world.seed(OTHER)

    async def write(tx: Tx) -> None:
        await accounts.add_credential(tx, clock, "application-2", "user-2", "Jane's laptop", "the-token-of-jane")
        await platform.add(tx, clock, "user-2", "platform-v1-of-jane", superuser=False)

    await write_one(db, write)
    ids = [(await world.accept("http://127.0.0.1:9/jane", caller=OTHER, trace_id="jane-1", key="jane")).task_id]
    ids.append((await world.accept(caller=OTHER, trace_id="jane-2")).task_id)
    await world.work()
    await world.deliver()
    inline = await world.accept(caller=OTHER, waits=True, trace_id="jane-3")
    await world.wait_for(inline)
    ids += [inline.task_id, (await world.accept(caller=OTHER, trace_id="jane-4")).task_id]
    world.clock.pass_s(1)
    return ids


async def names(world: World) -> str:
    """Everything of all tables in one text, to look for what should not be there."""
    tables = (*TABLES, "users", "applications", "credentials", "platform_tokens", "usage", "ledger", "erasures")
    return repr([[tuple(row) for row in await world.gateway.db.rows(f"SELECT * FROM {table}")] for table in tables])


def test_an_erased_user_leaves_nothing_but_the_books_and_a_receipt(on_both: Settings) -> None:
    async def test(world: World) -> None:
        db = world.gateway.db
        mine = await world.submit(trace_id="mine")
        await world.work()
        await person(world)
        before = await nothing_held_but_open(world)
        receipt = json.loads(await erase.erase_user(world.gateway, "user-2"))
        after = await nothing_held(db)
        assert after["application-2"] == (before["application-2"][0], before["application-2"][1], 0)
        assert after["application-1"] == before["application-1"]
        assert receipt["deleted"] == {"tasks": 4, "files": 3, "bytes": 3 * len(PNG), "deliveries": 1}
        assert receipt["revoked"] == {"credentials": 1, "platform_tokens": 1}
        granted, used, _ = after["application-2"]
        assert receipt["kept"] == {"usage_records": 4,
                                   "micro_credits": {"granted": granted, "used": used, "held": 0}}  # fmt: skip
        left = await names(world)
        assert "jane" not in left.lower().replace("erased-", "")
        assert "erased-user-2" in left
        assert [row[0] for row in await db.rows("SELECT id FROM tasks")] == [mine]
        assert len(world.files()) == 1
        assert len(await db.rows("SELECT id FROM usage WHERE user_id = 'user-2' AND trace_id = ''")) == 4
        assert len(await db.rows("SELECT id FROM usage WHERE trace_id = 'mine'")) == 1

    run(on_both, test)


async def nothing_held_but_open(world: World) -> dict[str, tuple[int, int, int]]:
    sums = await ledger.balances(world.gateway.db, ["application-1", "application-2"])
    assert sums["application-2"].held > 0  # of the open task
    return {one: (sum_.granted, sum_.used, sum_.held) for one, sum_ in sums.items()}


def test_its_tokens_are_unknown_and_nothing_new_can_be_begun_for_it(on_both: Settings) -> None:
    async def test(world: World) -> None:
        db = world.gateway.db
        await person(world)
        assert await accounts.caller(db, "the-token-of-jane") is not None
        assert await platform.manager(db, "platform-v1-of-jane") is not None
        await erase.erase_user(world.gateway, "user-2")
        assert await accounts.caller(db, "the-token-of-jane") is None
        assert await platform.manager(db, "platform-v1-of-jane") is None
        with pytest.raises(Disabled):  # a request whose token was looked up before
            await world.accept(caller=OTHER)

    run(on_both, test)


def test_who_asks_again_gets_the_same_receipt(on_both: Settings) -> None:
    async def test(world: World) -> None:
        await person(world)
        first = await erase.erase_user(world.gateway, "user-2")
        world.clock.pass_s(1000)
        assert await erase.erase_user(world.gateway, "user-2") == first

    run(on_both, test)


def test_two_who_erase_at_once_get_one_receipt_and_count_everything_once(on_both: Settings) -> None:
    async def test(world: World) -> None:
        await person(world)
        one, other = await asyncio.gather(*(erase.erase_user(world.gateway, "user-2") for _ in range(2)))
        assert one == other
        assert json.loads(one)["deleted"]["tasks"] == 4
        assert json.loads(one)["deleted"]["files"] == 3

    run(on_both, test)


def test_a_copy_of_a_receipt_can_be_checked(on_both: Settings) -> None:
    async def test(world: World) -> None:
        await person(world)
        receipt = json.loads(await erase.erase_user(world.gateway, "user-2"))
        said = receipt.pop("sha256")
        canonical = json.dumps(receipt, sort_keys=True, separators=(",", ":")).encode()
        assert hashlib.sha256(canonical).hexdigest() == said
        receipt["deleted"]["tasks"] += 1
        assert hashlib.sha256(erasure.canonical(receipt)).hexdigest() != said

    run(on_both, test)


async def begun(world: World) -> None:
    await write_one(world.gateway.db, lambda tx: erasure.begin(tx, world.clock, "user-2"))


async def cancelled(world: World) -> None:
    await begun(world)
    await erase.cancel_all(world.gateway, "user-2")


async def rows_gone_but_no_file(world: World) -> None:
    await cancelled(world)
    assert await world.gateway.db.write(erase._erase, "user-2")


async def all_but_the_receipt(world: World) -> None:
    await cancelled(world)
    while await erase.erase_once(world.gateway, "user-2"):
        pass


@pytest.mark.parametrize("died", [begun, cancelled, rows_gone_but_no_file, all_but_the_receipt])
def test_whoever_dies_in_between_is_followed_by_the_next_call(
    on_both: Settings, died: Callable[[World], Awaitable[None]]
) -> None:
    async def test(world: World) -> None:
        await person(world)
        await died(world)
        assert await accounts.caller(world.gateway.db, "the-token-of-jane") is None  # from the first step on
        receipt = json.loads(await erase.erase_user(world.gateway, "user-2"))
        assert receipt["deleted"] == {"tasks": 4, "files": 3, "bytes": 3 * len(PNG), "deliveries": 1}
        assert receipt["kept"]["usage_records"] == 4
        await sweep.sweep_once(world.gateway)
        assert world.files() == []
        assert await rows(world) == 0
        await nothing_held(world.gateway.db)

    run(on_both, test)


def test_a_user_with_more_tasks_than_a_batch_is_erased_in_several(on_both: Settings) -> None:
    async def test(world: World) -> None:
        await world.seed(OTHER)
        await asyncio.gather(*(world.accept(caller=OTHER) for _ in range(BATCH + 20)))
        while await world.work():
            pass
        await asyncio.gather(*(world.accept(caller=OTHER) for _ in range(MORE)))
        receipt = json.loads(await erase.erase_user(world.gateway, "user-2"))
        assert receipt["deleted"]["tasks"] == BATCH + 20 + MORE
        assert receipt["deleted"]["files"] == BATCH + 20
        assert world.files() == []

    run(on_both, test)


def test_a_worker_that_comes_late_with_a_result_leaves_nothing(on_both: Settings) -> None:
    async def test(world: World) -> None:
        await world.seed(OTHER)
        await world.accept(caller=OTHER)
        await world.work()  # it waits for a poll
        world.clock.pass_s(10)
        claimed = await world.claim_one()
        await erase.erase_user(world.gateway, "user-2")
        assert await plans.store.is_open(world.gateway.db, claimed.task.id) is False
        assert await rows(world) == 0
        await nothing_held(world.gateway.db)

    run(on_both, test, Scripted(Pending("up-1", 5.0)))


def test_the_owner_and_a_user_that_is_not_there_cannot_be_erased(on_both: Settings) -> None:
    async def test(world: World) -> None:
        db = world.gateway.db
        await write_one(db, lambda tx: accounts.ensure_owner(tx, world.clock, 0))
        (owner,) = await db.rows("SELECT id FROM users WHERE name = 'owner'")
        with pytest.raises(BadRequest, match="owner of the gateway cannot be erased"):
            await erase.erase_user(world.gateway, owner[0])
        with pytest.raises(NotFound):
            await erase.erase_user(world.gateway, "nobody")
        assert await db.rows("SELECT 1 FROM erasures") == []

    run(on_both, test)


def test_the_time_of_an_inline_call_is_over_too_although_its_record_went_before(on_both: Settings) -> None:
    async def test(world: World) -> None:
        await world.seed(OTHER)
        inline = await world.accept(caller=OTHER, waits=True)
        await world.wait_for(inline)
        world.clock.pass_s(601)
        await sweep.sweep_once(world.gateway)
        assert len(await inspect.file_names(world.gateway.db, inline.task_id)) == 1
        receipt = json.loads(await erase.erase_user(world.gateway, "user-2"))
        assert receipt["deleted"] == {"tasks": 0, "files": 1, "bytes": len(PNG), "deliveries": 0}
        assert world.files() == []

    run(on_both, test)


# -- what it costs

STOCKED = ("tasks", "endings", "queue", "files", "usage", "deliveries", "idempotency", "attempts")


def test_no_step_reads_a_table_from_one_end_to_the_other(
    database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = quick(tmp_path_factory.mktemp("plans"), database_url=database_url)

    async def inside() -> dict[str, str]:
        async with opened(settings) as world:
            db = world.gateway.db
            await write_one(db, lambda tx: stock(tx, db.dialect))
            if db.dialect == "postgres":
                for table in STOCKED:
                    await db.rows(f"ANALYZE {table}")
            return {sql: await plans.plan(db, sql, args) for sql, args in await asked()}

    found = asyncio.run(inside())
    assert len(found) >= 15
    for sql, plan in found.items():
        for table in (*STOCKED, "t", "e"):
            assert f"SCAN {table}\n" not in f"{plan}\n", (sql, plan)  # SQLite, without an index
            assert f"Seq Scan on {table} " not in plan, (sql, plan)  # PostgreSQL


async def stock(tx: Tx, dialect: str) -> None:
    await plans.stock_for(tx, dialect)
    ids = plans.ids(dialect)
    for sql in (
        f"INSERT INTO usage SELECT {ids}, 'u-' || (n % 10), 'a', 'c', 'openai', 'o', 't', 200, NULL, n, 1, 1, 0,"
        " 0, 0, 0, 0, 0 FROM s",
        f"INSERT INTO deliveries SELECT 'd' || n, {ids}, 'u', 'h', 'a', 'delivered', NULL, NULL, 1, n, n FROM s",
        f"INSERT INTO idempotency SELECT 'a', 'k' || n, {ids}, 'h' FROM s",
        f"INSERT INTO attempts SELECT {ids}, 1, 'first', NULL, n, n, 'succeeded', NULL, NULL, NULL, NULL FROM s",
    ):
        await tx.run(plans.SERIES[dialect].format(last=plans.MANY - 1) + sql)


class Recorder(plans.Recorder):
    """Keeps what it is asked; the tasks and files that are asked for are there."""

    async def rows(self, sql: str, *args: Any) -> list[Any]:
        await super().rows(sql, *args)
        if "FROM erasures" in sql:
            return [(b"{}",)]
        if sql.startswith("SELECT id FROM") and "usage" in sql:
            return [(one,) for one in IDS]
        return []

    async def run(self, sql: str, *args: Any) -> int:
        await self.rows(sql, *args)
        return 0

    async def each(self, sql: str, items: Any) -> list[Any]:
        return []


IDS = [plans.uuid7(plans.START_MS + n, n) for n in range(12)]


async def asked() -> list[tuple[str, list[Any]]]:
    """The statements of a sweep, a deletion and an erasure, as they are really sent."""
    recorder: Any = Recorder()
    await purge.purgeable(recorder, plans.START_MS + 5, 12)
    await purge.expired_files(recorder, plans.START_MS + 5, 12)
    await purge.oldest_files(recorder, "private/")
    await sweep._remove(recorder, [(IDS, 0)])
    await sweep._put_off_files(recorder, [(IDS, 0)])
    await purge.put_off(recorder, IDS, 0)
    for named in ({"ids": tuple(IDS)}, {"trace_ids": ("trace-1",)}):
        await erase._delete(recorder, [(Filter("u-1", "openai", **named), 12)])
    await purge.still_open(recorder, IDS)
    await purge.open_after(recorder, "", 12)
    await purge.of_user(recorder, IDS, "u-1")
    await erase._erase(recorder, ["u-1"])
    return [(sql, args) for sql, args in recorder.asked if "erasures" not in sql]
