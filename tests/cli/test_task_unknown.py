"""`bide task list --unknown`, `reconcile`, `resubmit`, `give-up`: what an operator may do about lost submissions."""

import asyncio
from dataclasses import replace

from bide.cli.shared import opened
from bide.clock import Clock
from bide.settings import Settings
from bide.tasks import store
from bide.tasks.attempts import Attempt
from bide.tasks.store import NewTask
from tests.cli.program import bide, output, parsed, refusal
from tests.cli.test_task import AT, NO_TASK, TERMS, _insert, _task
from tests.tasks.test_search import plan

LOST = Attempt(_task(1).id, 1, "first", None, AT, AT + 5, "lost", "timeout", None, "its worker died")
KNOWN = replace(LOST, task_id=_task(2).id, outcome="failed")


def _end(settings: Settings, task_id: str) -> None:
    async def end() -> None:
        async with opened(settings, Clock()) as db:

            async def add(tx: object, items: list[str]) -> list[None]:
                await store.add_endings(tx, [(one, "failed", AT, AT + 5, 2 * AT, 0, b"{}") for one in items])  # type: ignore[arg-type]
                return [None] * len(items)

            await db.write(add, task_id)

    asyncio.run(end())


def test_lost_submissions_are_listed_until_all_is_known_of_them(on_both: Settings) -> None:
    assert output(on_both, "task", "list", "--unknown").startswith("What became of every submission")
    _insert(on_both, [NewTask(_task(1), 2 * AT, TERMS), NewTask(_task(2), 2 * AT, TERMS)], [LOST, KNOWN])
    (one,) = parsed(on_both, "task", "list", "--unknown")
    assert (one["id"], one["outcome"], one["channel"], one["resolved"]) == (LOST.task_id, "lost", "first", None)
    assert LOST.task_id in output(on_both, "task", "list", "--unknown")


def test_what_has_ended_is_given_up_in_words_alone(on_both: Settings) -> None:
    _insert(on_both, [], [LOST])
    _end(on_both, LOST.task_id)
    output(on_both, "task", "give-up", LOST.task_id)
    (one,) = parsed(on_both, "task", "list", "--unknown")
    assert one["resolved"] == "given up by an operator"


def test_a_refusal_is_one_sentence_that_says_why(on_both: Settings) -> None:
    _insert(on_both, [NewTask(_task(1), 2 * AT, TERMS), NewTask(_task(2), 2 * AT, TERMS)], [LOST])
    assert "no task" in refusal(on_both, "task", "reconcile", NO_TASK)
    assert "not configured" in refusal(on_both, "task", "reconcile", LOST.task_id)
    assert "is known" in refusal(on_both, "task", "reconcile", _task(2).id)
    assert "no task" in refusal(on_both, "task", "resubmit", NO_TASK)
    assert "does not wait" in refusal(on_both, "task", "resubmit", _task(2).id)
    assert "no task" in refusal(on_both, "task", "give-up", NO_TASK)
    assert "does not wait" in refusal(on_both, "task", "give-up", _task(2).id)
    assert bide(on_both, "task", "give-up", "--help").exit_code == 0


def test_what_is_asked_all_the_time_is_found_by_an_index(on_both: Settings) -> None:
    """A call of an upstream, and the list of lost submissions, cost the same with a million tasks."""
    questions: dict[str, tuple[object, ...]] = {
        "SELECT callback_token, task_id FROM queue WHERE callback_token = ANY($1)": ("a-hash",),
        "UPDATE queue SET due_at = $2 WHERE callback_token = $1 AND lease_id IS NULL AND upstream_id IS NOT NULL"
        " AND due_at > $2 RETURNING callback_token": ("a-hash", 1),
        "SELECT task_id FROM attempts WHERE outcome IN ('unknown', 'lost') ORDER BY ended_at DESC LIMIT $1": (10,),
    }

    async def inside() -> dict[str, str]:
        async with opened(on_both, Clock()) as db:
            if db.dialect == "postgres":
                return {}  # its planner reads small tables whole
            return {sql: await plan(db, sql, list(args)) for sql, args in questions.items()}

    for sql, found in asyncio.run(inside()).items():
        assert "queue_token" in found or "attempts_unknown" in found, (sql, found)
