"""Users, applications and credentials: who has a token, and that the token itself is kept nowhere."""

import asyncio
from collections.abc import Awaitable, Callable

from bide import db as database
from bide.accounts import credentials, store
from bide.accounts.credentials import Credential, Filter
from bide.accounts.store import Caller
from bide.accounts.tokens import hashed
from bide.db import Database, write_one
from bide.db.migrate import prepare
from bide.settings import Settings
from tests.world import START_MS, StillClock

TOKEN = "a-token-of-more-than-sixteen-characters"


def use(settings: Settings, test: Callable[[Database], Awaitable[None]]) -> None:
    async def inside() -> None:
        db = await database.connect(settings)
        try:
            await prepare(db, StillClock())
            await test(db)
        finally:
            await db.close()

    asyncio.run(inside())


async def bootstrap(db: Database, token: str = TOKEN) -> bool:
    return await write_one(db, lambda tx: store.bootstrap(tx, StillClock(), token, 1_000_000))


async def listed(db: Database) -> list[Credential]:
    return (await credentials.listed(db, Filter(), 100, 0))[1]


async def known(db: Database, token: str = TOKEN) -> Caller:
    found = await store.caller(db, token)
    assert found is not None
    return found


def test_the_first_start_makes_an_owner_an_application_and_a_credential(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        assert await bootstrap(db)
        found = await known(db)
        assert (found.service, found.disabled, found.expires_at) == (None, False, None)
        (row,) = await listed(db)
        assert (row.id, row.token_end, row.application_id, row.user_id, row.created_at) == (
            found.credential_id, TOKEN[-4:], found.application_id, found.user_id, START_MS,
        )  # fmt: skip

    use(on_both, test)


def test_of_many_nodes_that_start_at_once_one_makes_the_owner(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        nodes = [await database.connect(on_both) for _ in range(4)]
        try:
            won = await asyncio.gather(*(bootstrap(nodes[one % 4], f"{TOKEN}-{one}") for one in range(12)))
        finally:
            for node in nodes:
                await node.close()
        assert sum(won) == 1
        assert len(await listed(db)) == 1
        assert await store.caller(db, f"{TOKEN}-{won.index(True)}") is not None

    use(on_both, test)


def test_a_token_is_stored_nowhere_only_its_hash_and_its_last_four_characters(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        await bootstrap(db)
        for table in ("users", "applications", "credentials"):
            for row in await db.rows(f"SELECT * FROM {table}"):
                assert TOKEN not in str(tuple(row))
        (row,) = await db.rows("SELECT token_hash, token_end FROM credentials")
        assert (row[0], row[1]) == (hashed(TOKEN), "ters")

    use(on_both, test)


def test_a_token_that_is_unknown_or_revoked_is_nobodys(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        await bootstrap(db)
        assert await store.caller(db, "another-token-of-the-same-length") is None
        assert await store.caller(db, "") is None
        assert await store.caller(db, hashed(TOKEN)) is None
        found = await known(db)
        assert await write_one(db, lambda tx: credentials.revoke_named(tx, START_MS, found.credential_id))
        assert await store.caller(db, TOKEN) is None
        assert not await write_one(db, lambda tx: credentials.revoke_named(tx, START_MS, found.credential_id))

    use(on_both, test)


def test_a_credential_can_be_revoked_by_its_token(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        await bootstrap(db)
        assert await write_one(db, lambda tx: credentials.revoke_named(tx, START_MS, TOKEN))
        assert await store.caller(db, TOKEN) is None

    use(on_both, test)


def test_a_bootstrap_token_that_was_revoked_does_not_come_back_with_the_next_start(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        await bootstrap(db)
        await write_one(db, lambda tx: credentials.revoke_named(tx, START_MS, TOKEN))
        await write_one(db, lambda tx: store.ensure_credential(tx, StillClock(), TOKEN))
        assert await store.caller(db, TOKEN) is None

    use(on_both, test)


def test_a_new_bootstrap_token_works_beside_the_old_one(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        await bootstrap(db)
        for _ in range(2):
            await write_one(db, lambda tx: store.ensure_credential(tx, StillClock(), "the-new-token-of-the-owner"))
        old, new = await known(db), await known(db, "the-new-token-of-the-owner")
        assert (old.user_id, old.application_id) == (new.user_id, new.application_id)
        assert len(await listed(db)) == 2

    use(on_both, test)


def test_when_a_credential_expires_and_whether_it_is_switched_off_is_told(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        await bootstrap(db)
        owner = await known(db)
        token, ids = "short-lived-token-of-mine", (owner.application_id, owner.user_id)
        await write_one(db, lambda tx: store.add_credential(tx, StillClock(), *ids, "short", token, START_MS + 1))
        assert (await known(db, token)).expires_at == START_MS + 1
        for table in ("credentials", "applications"):
            await write_one(db, lambda tx, table=table: tx.run(f"UPDATE {table} SET disabled = 1"))
            assert (await known(db)).disabled
            await write_one(db, lambda tx, table=table: tx.run(f"UPDATE {table} SET disabled = 0"))
        assert not (await known(db)).disabled

    use(on_both, test)


def test_an_application_for_one_service_says_which(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        await bootstrap(db)
        await write_one(db, lambda tx: tx.run("UPDATE applications SET scope = 'Individual', service = 'suno'"))
        assert (await known(db)).service == "suno"

    use(on_both, test)
