"""The rows of callbacks: who may claim one, who may write, and what is never forgotten."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from bide import db as database
from bide.callbacks import store
from bide.callbacks.hosts import PUT_OFF_MS
from bide.callbacks.store import DELIVERED, PARKED, PENDING, Attempted, ClaimDeliveries, NewDelivery, Owed
from bide.db import Database, Tx, write_one
from bide.db.migrate import prepare
from bide.settings import Settings
from tests.world import StillClock

NOW = 1_000_000
LEASE = 60_000


def use(settings: Settings, test: Callable[[Database], Awaitable[None]]) -> None:
    async def inside() -> None:
        db = await database.connect(settings)
        try:
            await prepare(db, StillClock())
            await test(db)
        finally:
            await db.close()

    asyncio.run(inside())


async def owe(db: Database, *ids: str, host: str = "http://a", due_at: int = NOW) -> None:
    items = [NewDelivery(one, f"task-{one}", f"{host}/cb", host, "application", due_at, NOW) for one in ids]
    await write_one(db, lambda tx: store.add(tx, items))


async def claim(
    db: Database, lease_id: int = 1, now: int = NOW, limit: int = 10, busy: tuple[str, ...] = ()
) -> list[Owed]:
    def room(host: str, owner: str) -> int:
        assert owner == "application"
        return 0 if host in busy else 100

    wanted = ClaimDeliveries(now, limit, lease_id, now + LEASE, room, lambda _: PUT_OFF_MS)
    claimed, _more = await db.write(store.claim, wanted)
    return claimed


def attempted(owed: Owed, state: str, due_at: int | None = None, **more: Any) -> Attempted:
    values = {"status": 200, "latency_ms": 5, "error": "", **more}
    return Attempted(owed.id, owed.lease_id, owed.attempts + 1, NOW, state=state, due_at=due_at, **values)


async def row(db: Database, one: str) -> tuple[Any, ...]:
    """(state, due, attempts)."""
    ((found, _),) = await store.of_task(db, f"task-{one}")
    return tuple(found[2:5])


def test_what_is_due_is_claimed_and_what_is_not_due_yet_is_not(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        await owe(db, "now")
        await owe(db, "later", due_at=NOW + 1)
        assert [one.id for one in await claim(db)] == ["now"]
        assert [one.id for one in await claim(db, now=NOW + 1)] == ["later"]

    use(on_both, test)


def test_a_claimed_callback_is_nobody_elses_until_the_lease_ends(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        await owe(db, "a")
        assert len(await claim(db, 1)) == 1
        assert await claim(db, 2, NOW + LEASE - 1) == []
        assert [(one.id, one.lease_id) for one in await claim(db, 2, NOW + LEASE)] == [("a", 2)]

    use(on_both, test)


def test_hosts_that_have_enough_are_passed_over(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        await owe(db, "a1", "a2", host="http://a")
        await owe(db, "b1", host="http://b")
        assert [one.id for one in await claim(db, busy=("http://a", "http://x"))] == ["b1"]
        assert await claim(db) == []  # they were put off, so that they are not in the way
        assert sorted(one.id for one in await claim(db, now=NOW + 2 * PUT_OFF_MS)) == ["a1", "a2"]

    use(on_both, test)


def test_the_longest_due_are_claimed_first_and_no_more_than_asked_for(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        for number in range(5):
            await owe(db, f"d{number}", due_at=NOW - number)
        assert sorted(one.id for one in await claim(db, limit=2)) == ["d3", "d4"]

    use(on_both, test)


def test_an_attempt_that_failed_makes_the_callback_due_again_and_is_written_down(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        await owe(db, "a")
        (owed,) = await claim(db)
        again = attempted(owed, PENDING, NOW + 5_000, status=503, latency_ms=42, error="status")
        assert await db.write(store.record, again)
        assert await row(db, "a") == ("pending", NOW + 5_000, 1)
        ((_, attempts),) = await store.of_task(db, "task-a")
        assert [tuple(one) for one in attempts] == [(1, NOW, 503, 42, "status")]
        (owed,) = await claim(db, 2, NOW + 5_000)
        assert owed.attempts == 1

    use(on_both, test)


def test_a_callback_that_is_over_is_never_claimed_again_but_stays(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        await owe(db, "done", "parked")
        for owed in await claim(db):
            await db.write(store.record, attempted(owed, DELIVERED if owed.id == "done" else PARKED))
        assert await claim(db, 2, NOW + 10**9) == []
        assert await store.owed(db) == 0
        assert (await row(db, "done"))[0] == "delivered"
        assert (await row(db, "parked"))[0] == "parked"

    use(on_both, test)


def test_a_worker_whose_lease_was_taken_over_writes_nothing(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        await owe(db, "a")
        (late,) = await claim(db, 1)
        await claim(db, 2, NOW + LEASE)
        before = await row(db, "a")
        assert await db.write(store.record, attempted(late, DELIVERED)) is False
        await db.write(store.extend, [(late.id, late.lease_id, NOW + 10**9)])
        await db.write(store.release, [(late.id, late.lease_id, NOW)])
        assert await row(db, "a") == before
        ((_, attempts),) = await store.of_task(db, "task-a")
        assert attempts == []

    use(on_both, test)


def test_a_lease_can_be_extended_and_given_back_by_its_holder(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        await owe(db, "a")
        (owed,) = await claim(db)
        await db.write(store.extend, [(owed.id, owed.lease_id, NOW + 2 * LEASE)])
        assert await claim(db, 2, NOW + LEASE) == []
        await db.write(store.release, [(owed.id, owed.lease_id, NOW + 200)])
        assert await row(db, "a") == ("pending", NOW + 200, 0)

    use(on_both, test)


def test_only_a_callback_that_is_over_can_be_sent_again_by_hand(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        await owe(db, "open", "over")
        owed = {one.id: one for one in await claim(db)}
        await db.write(store.record, attempted(owed["over"], PARKED))
        assert await db.write(store.send_again, ("open", NOW)) is False
        assert await db.write(store.send_again, ("over", NOW)) is True
        assert await row(db, "over") == ("pending", NOW, 1)

    use(on_both, test)


def test_many_workers_claim_each_callback_once(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        await owe(db, *(f"d{number}" for number in range(100)))
        nodes = [await database.connect(on_both) for _ in range(3)]
        try:
            batches = await asyncio.gather(*(claim(nodes[one % 3], one, limit=15) for one in range(9)))
        finally:
            for node in nodes:
                await node.close()
        claimed = [owed.id for batch in batches for owed in batch]
        assert len(claimed) == len(set(claimed)) == 100

    use(on_both, test)


def test_callbacks_go_with_their_tasks(on_both: Settings) -> None:
    async def gone(tx: Tx) -> None:
        await store.delete(tx, ["task-a"])

    async def test(db: Database) -> None:
        await owe(db, "a", "b")
        for owed in await claim(db):
            await db.write(store.record, attempted(owed, DELIVERED))
        await write_one(db, gone)
        assert await store.of_task(db, "task-a") == []
        assert [row[0] for row in await db.rows("SELECT delivery_id FROM delivery_attempts")] == ["b"]

    use(on_both, test)


def test_a_backlog_of_one_receiver_is_passed_by_window_by_window(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        await owe(db, *(f"slow{number:04}" for number in range(30)), host="http://slow")
        await owe(db, "healthy", host="http://healthy", due_at=NOW + 1)

        async def one_look() -> tuple[list[str], bool]:
            room = {"http://slow": 3, "http://healthy": 5}
            claim = ClaimDeliveries(NOW + 1, 20, 1, NOW + LEASE, lambda host, _: room[host], lambda _: PUT_OFF_MS)
            claimed, more = await db.write(store.claim, claim)
            return sorted(one.id for one in claimed), more

        first, more = await one_look()
        assert (first, more) == (["slow0000", "slow0001", "slow0002"], True)
        second, more = await one_look()
        assert "healthy" in second
        assert not more

    use(on_both, test)
