"""`POST /admin/api/v1/users/{id}/erase/`: for superusers alone, answers a receipt, for ever the same."""

import json

from bide.accounts import store as accounts
from bide.accounts.erasure import canonical
from bide.db import write_one
from bide.settings import Settings
from tests.api.admin.world import BUSINESS_TOKEN, Admin, manage
from tests.books import nothing_held
from tests.world import CALLER


def test_a_superuser_erases_a_user_and_gets_a_receipt(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        await admin.world.submit()
        await admin.world.work()
        answer = await admin.root.post(f"/users/{CALLER.user_id}/erase/")
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        receipt = answer.json
        assert set(receipt) == {"id", "user_id", "at", "deleted", "revoked", "kept", "sha256"}
        assert receipt["user_id"] == CALLER.user_id
        assert receipt["deleted"]["tasks"] == receipt["kept"]["usage_records"] == 1
        assert receipt["revoked"] == {"credentials": 1, "platform_tokens": 1}
        assert answer.body == canonical(receipt)
        assert (await admin.root.post(f"/users/{CALLER.user_id}/erase")).body == answer.body
        await nothing_held(admin.world.gateway.db)
        assert admin.world.files() == []

    manage(on_both, test)


def test_the_tokens_of_an_erased_user_are_unknown_everywhere(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        before = await admin.with_token(BUSINESS_TOKEN).generate()
        assert before.status == 200
        await admin.root.post(f"/users/{CALLER.user_id}/erase/")
        admin.world.clock.pass_s(3)  # so long a token may be answered from memory
        for answer in (
            await admin.with_token(BUSINESS_TOKEN).generate(),
            await admin.with_token(BUSINESS_TOKEN).request("POST", "/openai/tasks", {"trace_id": "a"}, base=""),
            await admin.mine.post(f"/users/{CALLER.user_id}/erase/"),
        ):
            assert (answer.status, answer.code) == (401, "invalid_token")

    manage(on_both, test)


def test_a_request_whose_token_is_still_in_memory_begins_nothing(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        assert (await admin.with_token(BUSINESS_TOKEN).generate()).status == 200
        await admin.root.post(f"/users/{CALLER.user_id}/erase/")
        answer = await admin.with_token(BUSINESS_TOKEN).generate()
        assert (answer.status, answer.code) == (403, "disabled")

    manage(on_both, test)


def test_to_anybody_else_there_is_no_such_path(on_sqlite: Settings) -> None:
    async def test(admin: Admin) -> None:
        mine, theirs = [await admin.mine.post(f"/users/{one}/erase/") for one in (CALLER.user_id, "user-2")]
        assert (mine.status, mine.code) == (404, "not_found")
        assert mine.without_trace == theirs.without_trace
        assert (await admin.nobody.post(f"/users/{CALLER.user_id}/erase/")).code == "no_token"
        business = admin.with_token(BUSINESS_TOKEN)
        assert (await business.post(f"/users/{CALLER.user_id}/erase/")).code == "invalid_token"
        assert await admin.world.gateway.db.rows("SELECT 1 FROM erasures") == []

    manage(on_sqlite, test)


def test_an_unknown_user_and_the_owner_are_not_erased(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        db, clock = admin.world.gateway.db, admin.world.clock
        await write_one(db, lambda tx: accounts.ensure_owner(tx, clock, 0))
        (owner,) = await db.rows("SELECT id FROM users WHERE name = 'owner'")
        refused = await admin.root.post(f"/users/{owner[0]}/erase/")
        assert (refused.status, refused.code) == (400, "bad_request")
        assert "owner" in refused.message
        for name in ("nobody", "a\0b", "%00"):
            assert (await admin.root.post(f"/users/{name}/erase/")).code == "not_found"

    manage(on_both, test)


def test_a_superuser_may_erase_itself(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        answer = await admin.root.post("/users/user-2/erase/")
        assert json.loads(answer.body)["revoked"]["platform_tokens"] == 1
        assert (await admin.root.post("/users/user-2/erase/")).code == "invalid_token"

    manage(on_both, test)
