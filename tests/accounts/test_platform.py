"""Platform tokens: kept as a hash, apart from the tokens of callers, and revoked for good."""

import re

from bide.accounts import platform, store
from bide.db import Database, write_one
from bide.settings import Settings
from tests.accounts.tenants import CLOCK, make_user, use

AT = 1_764_000_009_000


async def make(db: Database, user_id: str, token: str, *, superuser: bool = False) -> str:
    return await write_one(db, lambda tx: platform.add(tx, CLOCK, user_id, token, superuser=superuser))


def test_a_token_looks_like_one_and_no_two_are_alike() -> None:
    made = {platform.new_token(CLOCK) for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch(r"platform-v1-[0-9a-f]{32}", one) for one in made)


def test_a_token_is_found_and_kept_only_as_its_hash_and_its_end(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        user, token = await make_user(db, "Ada"), platform.new_token(CLOCK)
        token_id = await make(db, user.id, token, superuser=True)
        assert await platform.manager(db, token) == platform.Manager(token_id, user.id, True, None)
        for wrong in ("", token[:-1], token + "0", token.upper()):
            assert await platform.manager(db, wrong) is None
        (row,) = await db.rows("SELECT * FROM platform_tokens")
        assert token not in str(tuple(row))
        assert token[-32:] not in str(tuple(row))

    use(on_both, test)


def test_a_platform_token_is_no_callers_token(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        token = platform.new_token(CLOCK)
        await make(db, (await make_user(db, "Ada")).id, token)
        assert await store.caller(db, token) is None

    use(on_both, test)


def test_a_token_is_revoked_once_and_by_its_own_user(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        user, token = await make_user(db, "Ada"), platform.new_token(CLOCK)
        token_id = await make(db, user.id, token)
        assert not await write_one(db, lambda tx: platform.revoke(tx, AT, token_id, "another"))
        assert await platform.manager(db, token) is not None
        assert await write_one(db, lambda tx: platform.revoke(tx, AT, token_id, user.id))
        assert not await write_one(db, lambda tx: platform.revoke(tx, AT, token_id))
        assert await platform.manager(db, token) is None
        assert await platform.tokens(db, None, 10, 0) == (0, [])

    use(on_both, test)


def test_the_token_of_the_settings_works_until_it_is_revoked(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        user, token = await make_user(db, "Ada"), "platform-of-the-settings-0123"
        for _ in range(2):
            await write_one(db, lambda tx: platform.ensure(tx, CLOCK, user.id, token))
        found = await platform.manager(db, token)
        assert found is not None
        assert found.superuser
        assert (await platform.tokens(db, None, 10, 0))[0] == 1
        await write_one(db, lambda tx: platform.revoke(tx, AT, found.token_id))
        await write_one(db, lambda tx: platform.ensure(tx, CLOCK, user.id, token))
        assert await platform.manager(db, token) is None

    use(on_both, test)


def test_lists_are_those_of_a_user_or_of_all_and_go_both_ways(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        users, made = [await make_user(db, "Ada"), await make_user(db, "Zoë")], []
        for at in range(4):
            CLOCK.pass_s(1)
            made.append(await make(db, users[at % 2].id, platform.new_token(CLOCK)))
        for ascending in (False, True):
            order = made if ascending else made[::-1]
            total, rows = await platform.tokens(db, None, 3, 0, ascending=ascending)
            assert (total, [row[0] for row in rows]) == (4, order[:3])
            total, rows = await platform.tokens(db, users[0].id, 10, 0, ascending=ascending)
            assert (total, [row[0] for row in rows]) == (2, [one for one in order if one in made[::2]])

    use(on_both, test)
