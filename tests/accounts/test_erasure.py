"""Taking a person out of the tables that stay."""

import asyncio
import json

import pytest

from bide.accounts import erasure, platform, users
from bide.accounts import store as accounts
from bide.accounts.erasure import Progress
from bide.clock import Clock
from bide.db import Database, Tx, write_one
from bide.errors import NotFound
from bide.settings import Settings
from tests.world import CALLER, World, add_tenant, run

CLOCK = Clock()


async def subscribe(tx: Tx) -> None:
    await accounts.add_credential(tx, CLOCK, "application-1", "user-1", "Jane's phone", "a-token-of-jane-1")
    await accounts.add_credential(tx, CLOCK, "application-1", "user-1", "Jane's desk", "a-token-of-jane-2")
    await tx.run("UPDATE credentials SET host = 'jane.example', metadata = '{\"who\": \"jane\"}', limited_amount = 5")
    await tx.run("UPDATE credentials SET revoked_at = 7 WHERE name = 'Jane''s desk'")
    await platform.add(tx, CLOCK, "user-1", "platform-v1-jane", superuser=False)


async def begin(db: Database) -> None:
    await write_one(db, lambda tx: erasure.begin(tx, CLOCK, "user-1"))


def test_what_people_wrote_is_gone_and_what_the_books_are_made_of_stays(on_both: Settings) -> None:
    async def test(world: World) -> None:
        db = world.gateway.db
        await world.seed(CALLER)
        await write_one(db, subscribe)
        await begin(db)
        names = await db.rows("SELECT name, token_end, host, metadata, limited_amount FROM credentials")
        assert [tuple(row) for row in names] == [("", "", None, None, 5)] * 2
        revoked = await db.rows("SELECT revoked_at FROM credentials ORDER BY revoked_at")
        assert revoked[0][0] == 7  # when it was revoked before
        assert revoked[1][0] > 7
        (token,) = await db.rows("SELECT token_end, revoked_at FROM platform_tokens")
        assert token[0] == ""
        assert token[1] is not None
        assert [tuple(row) for row in await db.rows("SELECT name, disabled FROM applications")] == [("", 1)]
        (user,) = await db.rows("SELECT name, erased_at FROM users WHERE id = 'user-1'")
        assert user[0] == "erased-user-1"
        assert user[1] is not None

    run(on_both, test)


def test_a_token_of_an_erased_user_can_never_be_made_again(on_both: Settings) -> None:
    """Its hash stays, so a setting that names it finds a revoked one."""

    async def test(world: World) -> None:
        db = world.gateway.db
        await world.seed(CALLER)
        await write_one(db, subscribe)
        await begin(db)
        await write_one(db, lambda tx: accounts.ensure_credential(tx, CLOCK, "a-token-of-jane-1"))
        assert await accounts.caller(db, "a-token-of-jane-1") is None

    run(on_both, test)


def test_somebody_elses_things_stay_as_they_are(on_both: Settings) -> None:
    async def test(world: World) -> None:
        db = world.gateway.db
        await world.seed(CALLER)
        other = accounts.Caller("credential-2", "application-2", "user-2", None, False, None, "")
        await write_one(db, lambda tx: add_tenant(tx, other))
        await write_one(db, lambda tx: accounts.add_credential(
            tx, CLOCK, "application-2", "user-2", "theirs", "a-token-of-theirs"))  # fmt: skip
        before = await db.rows("SELECT * FROM applications WHERE user_id = 'user-2'")
        await begin(db)
        assert await db.rows("SELECT * FROM applications WHERE user_id = 'user-2'") == before
        found = await accounts.caller(db, "a-token-of-theirs")
        assert found is not None
        assert not found.disabled

    run(on_both, test)


def test_beginning_again_changes_nothing(on_both: Settings) -> None:
    async def test(world: World) -> None:
        db = world.gateway.db
        await world.seed(CALLER)
        await begin(db)
        await write_one(db, lambda tx: erasure.keep(tx, "user-1", Progress(after="x", tasks=3)))
        before = await db.rows("SELECT * FROM erasures")
        await asyncio.gather(begin(db), begin(db))
        assert await db.rows("SELECT * FROM erasures") == before
        assert await write_one(db, lambda tx: erasure.progress(tx, "user-1")) == Progress(after="x", tasks=3)
        assert await erasure.receipt(db, "user-1") is None  # it is not done yet

    run(on_both, test)


def test_a_receipt_ends_the_progress(on_both: Settings) -> None:
    async def test(world: World) -> None:
        db = world.gateway.db
        await world.seed(CALLER)
        await begin(db)
        written = await write_one(db, lambda tx: erasure.finish(tx, "user-1", 5, {"deleted": {"tasks": 3}}))
        assert await erasure.receipt(db, "user-1") == written
        assert await write_one(db, lambda tx: erasure.progress(tx, "user-1")) is None
        assert json.loads(written)["deleted"] == {"tasks": 3}

    run(on_both, test)


def test_nothing_new_is_made_for_an_erased_user(on_both: Settings) -> None:
    async def test(world: World) -> None:
        db = world.gateway.db
        await world.seed(CALLER)
        await begin(db)
        assert await write_one(db, lambda tx: users.lock(tx, CALLER.user_id)) is None

    run(on_both, test)


def test_there_must_be_such_a_user(on_both: Settings) -> None:
    async def test(world: World) -> None:
        with pytest.raises(NotFound):
            await write_one(world.gateway.db, lambda tx: erasure.begin(tx, CLOCK, "nobody"))

    run(on_both, test)
