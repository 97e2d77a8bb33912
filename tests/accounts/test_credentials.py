"""Credentials: a token is kept nowhere, a row outlives its end, and lists cost a page."""

import asyncio
from typing import Any

import pytest

from bide.accounts import credentials, store
from bide.accounts.credentials import Credential, Filter
from bide.accounts.tokens import hashed
from bide.db import Database, write_one
from bide.errors import BadRequest
from bide.settings import Settings
from tests.accounts.tenants import CLOCK, connected, count, make_user, plan, subscribe, use
from tests.accounts.test_applications import stock

AT = 1_764_000_009_000


async def make(db: Database, application_id: str, token: str, **about: Any) -> Credential:
    made = await write_one(db, lambda tx: credentials.create(
        tx, CLOCK, application_id, None, token, {"name": "n", **about}
    ))  # fmt: skip
    assert made is not None
    return made


async def tenant(db: Database, name: str = "Ada") -> str:
    """The id of a new user's application."""
    return (await subscribe(db, (await make_user(db, name)).id)).id


def test_neither_a_new_token_nor_the_one_it_replaces_is_kept(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        made = await make(db, await tenant(db), "the-first-token", metadata={"a": ["ü"]}, allowed_api_ids=("x", "y"))
        await write_one(db, lambda tx: credentials.rotate(tx, AT, made.id, None, "the-second-token"))
        (row,) = await db.rows("SELECT * FROM credentials")
        assert "-token" not in str(tuple(row))
        assert hashed("the-second-token") in tuple(row)
        assert await store.caller(db, "the-first-token") is None
        found = await store.caller(db, "the-second-token")
        assert found is not None
        assert (found.credential_id, found.api_ids) == (made.id, {"x", "y"})
        kept = await credentials.one(db, made.id)
        assert kept is not None
        assert (kept.metadata, kept.token_end, kept.updated_at) == ({"a": ["ü"]}, "oken", AT)

    use(on_both, test)


def test_a_credential_that_was_revoked_stays_as_a_row_and_is_never_changed_again(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        made = await make(db, await tenant(db), "the-first-token")
        assert await write_one(db, lambda tx: credentials.revoke(tx, AT, made.id))
        assert not await write_one(db, lambda tx: credentials.revoke(tx, AT + 1, made.id))
        assert await write_one(db, lambda tx: credentials.change(tx, AT, made.id, None, {"name": "x"})) is None
        assert await write_one(db, lambda tx: credentials.rotate(tx, AT, made.id, None, "another-token")) is None
        assert await credentials.one(db, made.id) is None
        found = await credentials.named(db, "the-first-token")
        assert found is not None
        assert (found.id, found.name, found.revoked_at) == (made.id, "n", AT)
        assert await credentials.listed(db, Filter(), 10, 0) == (0, [])
        assert await credentials.listed(db, Filter(revoked=True), 10, 0) == (1, [found])

    use(on_both, test)


def test_whoever_names_a_user_reaches_that_users_credentials_alone(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        made, other = await make(db, await tenant(db), "the-first-token"), await make_user(db, "Zoë")
        about = {"name": "n"}
        for user_id in (other.id, "nobody"):
            assert await credentials.one(db, made.id, user_id) is None
            assert not await write_one(db, lambda tx, u=user_id: credentials.revoke(tx, AT, made.id, u))
            assert await write_one(db, lambda tx, u=user_id: credentials.change(tx, AT, made.id, u, {})) is None
            assert await write_one(db, lambda tx, u=user_id: credentials.rotate(tx, AT, made.id, u, "t")) is None
            assert await write_one(db, lambda tx, u=user_id: credentials.create(
                tx, CLOCK, made.application_id, u, "another-token", about
            )) is None  # fmt: skip
        assert await credentials.one(db, made.id, made.user_id) == made
        assert await count(db, "credentials") == 1

    use(on_both, test)


def test_a_user_that_was_erased_gets_no_new_credential(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        application_id = await tenant(db)
        await write_one(db, lambda tx: tx.run("UPDATE users SET erased_at = 1"))
        about = {"name": "n"}
        assert await write_one(db, lambda tx: credentials.create(
            tx, CLOCK, application_id, None, "a-token", about
        )) is None  # fmt: skip

    use(on_both, test)


def test_of_many_rotations_at_once_the_last_token_works_and_no_other(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        made = await make(db, await tenant(db), "token-number-none")
        tokens = [f"token-number-{at:03}" for at in range(12)]
        async with connected(on_both, 3) as nodes:
            await asyncio.gather(*(
                write_one(nodes[at % 3], lambda tx, t=token: credentials.rotate(tx, AT, made.id, None, t))
                for at, token in enumerate(tokens)
            ))  # fmt: skip
        working = [token for token in tokens if await store.caller(db, token) is not None]
        kept = await credentials.one(db, made.id)
        assert kept is not None
        assert [token[-4:] for token in working] == [kept.token_end]

    use(on_both, test)


def test_an_application_shows_its_newest_credentials_and_not_all_of_very_many(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        ids = [await tenant(db, "Ada"), await tenant(db, "Zoë")]
        for at in range(credentials.SHOWN_MAX + 5):
            CLOCK.pass_s(1)
            last = await make(db, ids[0], f"a-token-{at}")
        found = await credentials.of_applications(db, ids)
        assert list(found) == ids[:1]
        assert len(found[ids[0]]) == credentials.SHOWN_MAX
        assert found[ids[0]][0].id == last.id
        assert found[ids[0]] == sorted(found[ids[0]], key=lambda one: one.id, reverse=True)

    use(on_both, test)


@pytest.mark.parametrize("host", ["api.example.com", "LOCALHOST", "10.0.0.1", "[::1]", "a_b.internal", "x"])
def test_a_host_is_a_name_or_an_address(host: str) -> None:
    assert credentials.check_host(host) == host.lower()


@pytest.mark.parametrize("host", [
    "", ".", "a.", "-a", "a b", "a:80", "[::1]:80", "http://a", "a/b", "é", "a\n", "h" * 254,
])  # fmt: skip
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(BadRequest, match="host"):
        credentials.check_host(host)


def test_a_list_of_credentials_reads_no_table_from_end_to_end(on_both: Settings) -> None:
    async def test(db: Database) -> None:
        await write_one(db, stock)
        if db.dialect == "postgres":
            for table in ("applications", "credentials", "spending"):
                await db.rows(f"ANALYZE {table}")
        queries: list[tuple[str, list[Any]]] = [(credentials.OF_APPLICATIONS, [["00001", "00002"]])]
        for wanted in (Filter("u001"), Filter(application_id="00001"), Filter("u001", "00001", "a.example")):
            total, page, args = credentials.queries(wanted)
            queries += [(total, args), (page, [*args, 20, 0])]
        for sql, args in queries:
            found = await plan(db, sql, args)
            for table in ("applications", "credentials"):
                assert f"SCAN {table}\n" not in f"{found}\n", (sql, found)
                assert f"Seq Scan on {table}" not in found, (sql, found)

    use(on_both, test)
