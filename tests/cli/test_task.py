"""`bide task`: what the operator sees of tasks and callbacks, and a callback that is sent once more."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from bide.cli.shared import opened
from bide.clock import Clock
from bide.db import Tx, write_one
from bide.settings import Settings
from bide.tasks import attempts, store
from bide.tasks.attempts import Attempt
from bide.tasks.store import Lease, NewTask, Task, Terms
from tests.cli.program import output, parsed, refusal
from tests.system.loopback import receiver
from tests.system.processes import running, until

AT = 1_764_000_000_125
NO_TASK = "0198a5c4-0000-7000-8000-000000000000"
TERMS = Terms(kept_ms=60_000)
NOBODY = "http://127.0.0.1:9/"
"""A port of the loopback at which nothing listens."""


def _task(number: int, **fields: object) -> Task:
    values: dict[str, object] = {
        "id": f"019ab1c4-2c00-7000-8000-{number:012}", "service": "openai", "operation": "images/generations",
        "type": "images_generations", "user_id": "u", "application_id": "a", "credential_id": "c",
        "trace_id": f"trace-{number}", "visible": True, "created_at": AT + number, "callback_url": None,
        "base_url": "http://h", "request": b"{}", "uploads": None,
    }  # fmt: skip
    return Task(**(values | fields))  # type: ignore[arg-type]


def _insert(settings: Settings, tasks: Sequence[NewTask], ended: Sequence[Attempt] = ()) -> None:
    async def insert() -> None:
        async with opened(settings, Clock()) as db:
            for one in tasks:
                await db.write(store.insert, one)

            async def add(tx: Tx) -> None:
                await attempts.add(tx, ended)

            await write_one(db, add)

    asyncio.run(insert())


def test_a_callback_is_sent_again_under_the_same_webhook_id(on_both: Settings, tmp_path: Path) -> None:
    with receiver() as taking, running("serve", tmp_path, database_url=on_both.database_url or None) as serve:
        body = {"prompt": "a boat", "callback_url": taking.url}
        task_id = serve.client().post("/openai/images/generations", body).json["task_id"]
        until(lambda: _state(on_both, task_id) == "delivered", 10, "the delivery")
        sent = output(on_both, "task", "resend", task_id)
        until(lambda: len(taking.of(task_id)) == 2, 10, "the second callback")
        until(lambda: _state(on_both, task_id) == "delivered", 10, "the second delivery")
        assert [one.headers["webhook-id"] for one in taking.of(task_id)] == [sent, sent]
    shown = parsed(on_both, "task", "show", task_id)
    assert shown["state"] == "succeeded"
    assert shown["queue"] is shown["open_attempt"] is shown["error"] is None
    assert shown["created_at"] <= shown["started_at"] <= shown["finished_at"]
    (attempt,) = shown["attempts"]
    assert (attempt["number"], attempt["outcome"], attempt["channel"]) == (1, "succeeded", "sandbox")
    (delivery,) = shown["deliveries"]
    assert (delivery["id"], delivery["url"], delivery["due_at"]) == (sent, taking.url, None)
    posts = [(one["number"], one["status"], one["error"]) for one in delivery["attempts"]]
    assert posts == [(1, 204, ""), (2, 204, "")]
    text = output(on_both, "task", "show", task_id)
    for part in (task_id, "succeeded", "sandbox", sent, taking.url, "delivered", "204"):
        assert part in text


def _state(settings: Settings, task_id: str) -> str:
    deliveries = parsed(settings, "task", "show", task_id)["deliveries"]
    return deliveries[0]["state"] if deliveries else ""


def test_a_parked_callback_is_sent_again_and_a_pending_one_is_not(on_sqlite: Settings, tmp_path: Path) -> None:
    with running("serve", tmp_path, callback_schedule="0") as serve:
        body = {"prompt": "[fail:forbidden]", "callback_url": NOBODY}
        task_id = serve.client().post("/openai/images/generations", body).json["task_id"]
        until(lambda: _state(on_sqlite, task_id) == "parked", 10, "the parking")
        assert parsed(on_sqlite, "task", "show", task_id)["error"]["code"] == "forbidden"
        assert "forbidden: " in output(on_sqlite, "task", "show", task_id)
        serve.terminate()
        serve.wait()
    output(on_sqlite, "task", "resend", task_id)
    assert _state(on_sqlite, task_id) == "pending"
    assert "still to be sent" in refusal(on_sqlite, "task", "resend", task_id)


def test_a_task_without_a_callback_has_none_to_send(on_both: Settings) -> None:
    _insert(on_both, [NewTask(_task(1), AT + 60_000, TERMS)])
    assert "no callback" in refusal(on_both, "task", "resend", _task(1).id)
    for words in (("show",), ("resend",)):
        assert NO_TASK in refusal(on_both, "task", *words, NO_TASK)


def test_the_newest_tasks_come_first_and_inline_ones_are_among_them(on_both: Settings) -> None:
    _insert(on_both, [NewTask(_task(number, visible=number != 2), AT + 60_000, TERMS) for number in (1, 2, 3)])
    rows = parsed(on_both, "task", "list", "--limit", "2")
    assert [(row["id"], row["state"], row["trace_id"]) for row in rows] == [
        (_task(3).id, "queued", "trace-3"), (_task(2).id, "queued", "trace-2"),
    ]  # fmt: skip
    assert rows[0]["created_at"] == (AT + 3) / 1000
    assert rows[0]["finished_at"] is None
    listed = output(on_both, "task", "list").splitlines()
    assert [line.split()[0] for line in listed] == ["id", _task(3).id, _task(2).id, _task(1).id]
    assert "inline" in output(on_both, "task", "show", _task(2).id)


def test_an_open_attempt_stands_beside_those_that_are_over(on_both: Settings) -> None:
    running_task = NewTask(_task(1), AT + 60_000, TERMS, Lease(5, AT + 7_000), "second")
    over = Attempt(_task(1).id, 0, "first", "up-1", AT, AT + 500, "failed", "api_error", 500, "out of\nluck")
    _insert(on_both, [running_task], [over])
    shown = parsed(on_both, "task", "show", _task(1).id)
    assert shown["state"] == "running"
    assert shown["queue"] == {"due_at": (AT + 7_000) / 1000, "leased": True, "deadline_at": (AT + 60_000) / 1000}
    assert shown["open_attempt"]["channel"] == "second"
    assert shown["attempts"][0] == {
        "number": 0, "channel": "first", "upstream_id": "up-1", "asked_at": AT / 1000, "ended_at": (AT + 500) / 1000,
        "outcome": "failed", "code": "api_error", "status": 500, "detail": "out of\nluck",
    }  # fmt: skip
    text = output(on_both, "task", "show", _task(1).id)
    assert "out of luck" in text
    assert [line.split()[2] for line in text.splitlines() if line.split()[:1] in (["0"], ["1"])] == ["failed", "open"]


def test_words_of_callers_cannot_steer_the_operators_terminal(on_sqlite: Settings) -> None:
    _insert(on_sqlite, [NewTask(_task(1, trace_id="\x1b[2J\x9b1m"), AT + 60_000, TERMS)])
    for words in (("list",), ("show", _task(1).id), ("list", "--json"), ("show", _task(1).id, "--json")):
        said = output(on_sqlite, "task", *words)
        assert "[2J" in said
        assert not {"\x1b", "\x9b"} & set(said)


def test_an_empty_list_says_where_it_looked(on_both: Settings) -> None:
    assert (on_both.sqlite_path if not on_both.database_url else "postgresql://") in output(on_both, "task", "list")
    assert parsed(on_both, "task", "list") == []


def test_an_open_task_is_cancelled_whether_a_gateway_runs_or_not(on_both: Settings) -> None:
    _insert(on_both, [NewTask(_task(1, callback_url=NOBODY), AT + 60_000, TERMS)])
    assert output(on_both, "task", "cancel", _task(1).id) == f"Task {_task(1).id} is cancelled."
    shown = parsed(on_both, "task", "show", _task(1).id)
    assert (shown["state"], shown["error"]["code"], shown["started_at"]) == ("cancelled", "api_error", None)
    assert [one["state"] for one in shown["deliveries"]] == ["pending"]
    assert "has ended already" in refusal(on_both, "task", "cancel", _task(1).id)
    assert NO_TASK in refusal(on_both, "task", "cancel", NO_TASK)
