"""`{"action": "delete"}` on the tasks endpoint, as a caller sees it."""

from dataclasses import replace
from typing import Any

import pytest

from bide.accounts.store import add_credential
from bide.db import write_one
from bide.settings import Settings
from tests.api.admin.world import BUSINESS_TOKEN, Admin, Answer, manage
from tests.world import CALLER

THEIR_TOKEN = "fedcba9876543210fedcba9876543210"
OTHER = replace(CALLER, user_id="user-2", application_id="application-2", credential_id="credential-2")


async def ask(admin: Admin, token: str = BUSINESS_TOKEN, **body: Any) -> Answer:
    return await admin.with_token(token).request("POST", "/openai/tasks", body, base="")


async def ended(admin: Admin, trace_id: str = "mine") -> str:
    task_id = await admin.world.submit(trace_id=trace_id)
    await admin.world.work()
    admin.world.clock.pass_s(1)
    return task_id


def test_a_caller_deletes_its_task_and_polls_an_empty_object_at_once(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        task_id = await ended(admin)
        assert (await ask(admin, id=task_id)).json["id"] == task_id  # now it is in memory
        answer = await ask(admin, action="delete", id=task_id)
        assert (answer.status, answer.json) == (200, {"id": task_id, "deleted": True})
        assert (await ask(admin, action="delete", id=task_id)).json == {"id": task_id, "deleted": False}
        assert (await ask(admin, id=task_id)).json == {}
        assert (await ask(admin, action="retrieve_batch")).json == {"items": [], "count": 0}
        assert admin.world.files() == []

    manage(on_both, test)


@pytest.mark.parametrize("name", ["id", "task_id", "ids", "trace_id", "trace_ids"])
def test_tasks_are_named_by_id_or_trace_id_one_or_several(on_sqlite: Settings, name: str) -> None:
    async def test(admin: Admin) -> None:
        kept, gone = await ended(admin, "kept"), await ended(admin, "gone")
        value = "gone" if name.startswith("trace") else gone
        answer = await ask(admin, action="delete", **{name: [value] if name.endswith("s") else value})
        single = name in ("id", "task_id")
        assert answer.json == ({"id": gone, "deleted": True} if single else {"success": True, "deleted": [gone]})
        assert (await ask(admin, id=kept)).json["id"] == kept

    manage(on_sqlite, test)


def test_an_unknown_and_somebody_elses_task_are_answered_byte_for_byte_the_same(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        world = admin.world
        await write_one(world.gateway.db, lambda tx: add_credential(
            tx, world.clock, "application-2", "user-2", "theirs", THEIR_TOKEN))  # fmt: skip
        theirs = (await world.accept(caller=OTHER, trace_id="theirs")).task_id
        await world.work()
        unknown = world.clock.new_id(0)
        found = [
            await ask(admin, action="delete", **named)
            for named in ({"ids": [theirs]}, {"ids": [unknown]}, {"trace_id": "theirs"}, {"trace_id": "nobody's"},
                          {"id": theirs, "trace_id": "theirs"})
        ]  # fmt: skip
        assert {(one.status, one.body) for one in found} == {(200, b'{"success":true,"deleted":[]}')}
        for one in (theirs, unknown):  # the id is the one that was asked for
            assert (await ask(admin, action="delete", id=one)).body == f'{{"id":"{one}","deleted":false}}'.encode()
        answer = await ask(admin, THEIR_TOKEN, action="delete", id=theirs)
        assert answer.json == {"id": theirs, "deleted": True}

    manage(on_both, test)


def test_a_user_id_beside_the_id_must_be_the_callers_own(on_sqlite: Settings) -> None:
    """The published clients of this action send it."""

    async def test(admin: Admin) -> None:
        task_id = await ended(admin)
        for user_id, gone in (("user-2", False), (CALLER.user_id, True)):
            answer = await ask(admin, action="delete", id=task_id, user_id=user_id)
            assert (answer.status, answer.json) == (200, {"id": task_id, "deleted": gone})

    manage(on_sqlite, test)


def test_an_open_task_is_refused_in_a_sentence_and_nothing_is_deleted(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        done, still_open = await ended(admin), await admin.world.submit()
        answer = await ask(admin, action="delete", ids=[done, still_open])
        assert (answer.status, answer.code) == (400, "bad_request")
        assert answer.message == f"The task {still_open} has not ended yet; nothing was deleted."
        assert (await ask(admin, id=done)).json["id"] == done

    manage(on_both, test)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "name the tasks"), ({"id": "", "ids": [], "trace_ids": [""]}, "name the tasks"),
        ({"ids": ["a"] * 101}, "at most 100"), ({"ids": "a"}, "list of strings"), ({"id": 7}, "must be a string"),
        ({"id": "a", "type": "images"}, "`type` is not taken"), ({"id": "a", "limit": 1}, "`limit` is not taken"),
        ({"id": "a", "created_at_min": 0}, "`created_at_min` is not taken"),
        ({"id": "a", "application_id": "b"}, "`application_id` is not taken"),
    ],
)  # fmt: skip
def test_what_does_not_name_tasks_and_nothing_else_is_refused(
    on_sqlite: Settings, body: dict[str, Any], said: str
) -> None:
    async def test(admin: Admin) -> None:
        answer = await ask(admin, action="delete", **body)
        assert (answer.status, answer.code) == (400, "bad_request")
        assert said in answer.message

    manage(on_sqlite, test)


def test_no_more_than_the_largest_batch_go_at_once(on_sqlite: Settings) -> None:
    async def test(admin: Admin) -> None:
        ids = [await ended(admin, "many") for _ in range(3)]
        found = [(await ask(admin, action="delete", trace_id="many")).json["deleted"] for _ in range(3)]
        assert found == [[ids[2], ids[1]], [ids[0]], []]

    manage(on_sqlite, test, batch_ids_max=2)


def test_the_description_of_the_tasks_endpoint_knows_the_action(on_sqlite: Settings) -> None:
    async def test(admin: Admin) -> None:
        document = (await admin.nobody.request("GET", "/openapi.json", base="")).json
        actions = document["components"]["requestBodies"]["tasks"]["content"]["application/json"]["schema"]["anyOf"]
        assert any(one["properties"]["action"].get("const") == "delete" for one in actions)

    manage(on_sqlite, test)
