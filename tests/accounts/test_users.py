"""Users: a name is taken once, however many ask for it."""

import asyncio

import pytest

from bide.accounts import users
from bide.db import Database, write_one
from bide.errors import BadRequest
from bide.settings import Settings
from tests.accounts.tenants import CLOCK, connected, count, make_user, use


def test_a_user_is_found_by_id_and_by_name(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        made = await make_user(db, "Zoë 灯台")
        assert await users.one(db, made.id) == made
        assert await users.named(db, made.id) == await users.named(db, made.name) == made
        assert await users.named(db, "zoë 灯台") is None
        assert await users.one(db, made.name) is None
        assert await users.names(db, [made.id, "nobody"]) == {made.id: made.name}

    use(on_both, test)


def test_of_many_that_want_a_name_at_once_one_has_it(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        async with connected(on_both, 3) as nodes:
            made = await asyncio.gather(*(
                write_one(nodes[one % 3], lambda tx: users.create(tx, CLOCK, "Ada")) for one in range(12)
            ))  # fmt: skip
        assert sum(one is not None for one in made) == 1
        assert await count(db, "users") == 1

    use(on_both, test)


@pytest.mark.parametrize("name", [
    "", " ", "\t", "a\nb", "a\u2028b", "a\x7f", "\ud800", "n" * 101,
    "495aef5a-8aca-46cc-8065-74351a4c6cd7", "erased-1",
])  # fmt: skip
def test_what_is_no_name_is_refused(on_sqlite: Settings, name: str) -> None:
    async def test(db: Database) -> None:
        with pytest.raises(BadRequest, match="name"):
            await write_one(db, lambda tx: users.create(tx, CLOCK, name))
        assert await count(db, "users") == 0

    use(on_sqlite, test)


@pytest.mark.parametrize("name", ["x", "n" * 100, " a b ", "\U0001f469\u200d\U0001f467", "می\u200cخواهم", "a\u202eb"])
def test_names_of_all_scripts_are_names(name: str) -> None:
    assert users.check_name(name) == name


def test_a_user_that_was_erased_cannot_be_locked(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        made = await make_user(db, "Ada")
        assert await write_one(db, lambda tx: users.lock(tx, made.id)) == made
        await write_one(db, lambda tx: tx.run("UPDATE users SET erased_at = 1"))
        assert await write_one(db, lambda tx: users.lock(tx, made.id)) is None
        assert await write_one(db, lambda tx: users.lock(tx, "nobody")) is None

    use(on_both, test)
