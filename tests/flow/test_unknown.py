"""A submission whose answer was lost is looked for; a poll's answer is believed for what it is worth."""

from dataclasses import replace
from typing import Any

import pytest

from bide.errors import BadRequest
from bide.flow import unknown
from bide.providers.base import Absent, Call, Failed, Outcome, Pending, Progress, Unknown
from bide.settings import Settings
from bide.tasks import attempts, followed, inspect
from tests.books import run
from tests.flow.test_crash import leave_unknown
from tests.world import Scripted, World, done

LOST = Unknown("nobody knows")


class Searchable(Scripted):
    """An upstream that can be asked what became of a submission; it answers in order, then that it does not know."""

    def __init__(self, *submit: Any, found: list[Any], **more: Any) -> None:
        super().__init__(*submit, **more)
        self.found, self.looks = list(found), list[Call]()

    async def reconcile(self, call: Call) -> Outcome | Absent:
        self.looks.append(call)
        answer = self.found.pop(0) if self.found else LOST
        if isinstance(answer, Exception):
            raise answer
        return await answer(call) if callable(answer) else answer


async def resolved(world: World, task_id: str) -> list[tuple[str, str | None]]:
    return [(one.outcome, one.resolved) for one in await attempts.of_task(world.gateway.db, task_id)]


async def later(world: World, seconds: float) -> None:
    world.clock.pass_s(seconds)
    await world.work()


# -- found


def test_a_lost_submission_that_is_found_at_work_is_polled_and_never_sent_again(on_both: Settings) -> None:
    upstream = Searchable(LOST, found=[Pending("up-9", 5.0)])

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        row = await world.queued(task_id)
        assert row is not None
        assert (row.upstream_id, row.lease_id) == ("up-9", None)
        await later(world, 5)
        assert (upstream.submitted, upstream.polls) == ([task_id], ["up-9"])
        assert (await world.response(task_id))["success"] is True

    run(on_both, test, upstream)


def test_a_lost_submission_that_is_found_done_ends_the_task_at_once(on_both: Settings) -> None:
    upstream = Searchable(LOST, found=[done])

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        assert (await world.response(task_id))["success"] is True
        assert upstream.submitted == [task_id]

    run(on_both, test, upstream)


def test_what_a_dead_worker_sent_is_looked_for_with_the_time_at_which_it_was_sent(on_both: Settings) -> None:
    upstream = Searchable(found=[Pending("up-9", 0.0)])

    async def test(world: World) -> None:
        asked_at = world.clock.now
        task_id = await leave_unknown(world)
        await world.work()
        assert upstream.looks[0].asked_at == asked_at
        await world.work()
        assert (await world.response(task_id))["success"] is True
        assert upstream.submitted == []

    run(on_both, test, upstream)


def test_a_caller_that_waits_waits_for_the_looks_too(on_both: Settings) -> None:
    upstream = Searchable(LOST, found=[LOST, Pending("up-9", 1.0)])

    async def test(world: World) -> None:
        ending = await world.wait_for(await world.accept(waits=True))
        assert ending is not None
        assert ending.response["success"] is True
        assert world.clock.slept == [10.0, 1.0]

    run(on_both, test, upstream)


# -- not found


def test_what_cannot_be_found_is_looked_for_three_times_and_then_fails(on_both: Settings) -> None:
    upstream = Searchable(LOST, found=[LOST, RuntimeError("a defect"), LOST])
    other = Scripted(name="second", weight=1e-9)

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        assert len(upstream.looks) == 1
        await later(world, 9.9)
        assert len(upstream.looks) == 1
        await later(world, 0.1)
        assert len(upstream.looks) == 2
        await later(world, 60)
        assert len(upstream.looks) == 3
        assert await world.error(task_id) == "timeout"
        assert await world.attempts(task_id) == [("first", "unknown")]
        assert (upstream.submitted, other.submitted) == ([task_id], [])

    run(on_both, test, upstream, other)


def test_a_crash_between_two_looks_does_not_begin_anew(on_both: Settings) -> None:
    upstream = Searchable(LOST, found=[])

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        world.clock.pass_s(10)
        await world.claim_one()
        world.leases_end()
        await world.work()
        await later(world, 60)
        assert len(upstream.looks) == 3
        assert await world.error(task_id) == "timeout"

    run(on_both, test, upstream)


def test_a_channel_that_resends_does_so_after_the_looks(on_both: Settings) -> None:
    upstream = Searchable(LOST, found=[], on_unknown="resend")

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        await later(world, 10)
        assert upstream.submitted == [task_id]
        await later(world, 60)
        assert upstream.submitted == [task_id, task_id]
        assert (await world.response(task_id))["success"] is True

    run(on_both, test, upstream)


def test_what_the_upstream_never_took_is_sent_again_once_when_it_says_so_twice(on_both: Settings) -> None:
    upstream = Searchable(LOST, LOST, found=[Absent()] * 9)

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        assert upstream.submitted == [task_id]
        await later(world, 10)
        assert upstream.submitted == [task_id, task_id]
        await later(world, 10)
        assert upstream.submitted == [task_id, task_id]
        assert await world.error(task_id) == "timeout"
        first, second = await resolved(world, task_id)
        assert first[1] is not None
        assert first[1].startswith("absent")
        assert second[0] == "unknown"

    run(on_both, test, upstream)


# -- what an operator does


def test_an_operator_sees_lost_submissions_and_what_was_found_out_about_them(on_both: Settings) -> None:
    upstream = Searchable(LOST, found=[LOST, LOST, LOST, Pending("up-9", 5.0)])

    async def test(world: World) -> None:
        db = world.gateway.db
        task_id = await world.submit()
        await world.work()
        assert [row[0] for row in await followed.lost(db, 10)] == [task_id]
        await later(world, 10)
        await later(world, 60)
        assert await followed.lost(db, 10) == []
        document = await world.document(task_id)
        assert [one.task_id for one in await attempts.unknown(db, 10)] == [task_id]
        assert "up-9" in await unknown.look(world.gateway, task_id)
        (one,) = await attempts.unknown(db, 10)
        assert one.resolved is not None
        assert "up-9" in one.resolved
        assert await world.document(task_id) == document
        await unknown.give_up(world.gateway, task_id)
        assert await world.document(task_id) == document
        with pytest.raises(BadRequest, match="has ended"):
            await unknown.resend(world.gateway, task_id)

    run(on_both, test, upstream)


def test_an_operator_can_have_an_open_task_looked_for_at_once(on_both: Settings) -> None:
    upstream = Searchable(LOST, found=[LOST, Pending("up-9", 5.0), Pending("up-9", 5.0)])

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        assert "up-9" in await unknown.look(world.gateway, task_id)
        await world.work()
        row = await world.queued(task_id)
        assert row is not None
        assert row.upstream_id == "up-9"
        with pytest.raises(BadRequest, match="took the task"):
            await unknown.look(world.gateway, task_id)
        with pytest.raises(BadRequest):
            await unknown.give_up(world.gateway, task_id)

    run(on_both, test, upstream)


def test_an_operator_can_send_an_open_task_again_and_it_goes_to_the_same_channel(on_both: Settings) -> None:
    upstream, other = Searchable(LOST, found=[]), Scripted(name="second", weight=1e-9)

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        await unknown.resend(world.gateway, task_id)
        await world.work()
        assert (upstream.submitted, other.submitted) == ([task_id, task_id], [])
        assert (await world.response(task_id))["success"] is True
        assert (await resolved(world, task_id))[0] == ("unknown", unknown.SENT_AGAIN)

    run(on_both, test, upstream, other)


def test_an_operator_can_give_an_open_task_up_and_nothing_is_charged(on_both: Settings) -> None:
    upstream = Searchable(LOST, found=[])

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        await unknown.give_up(world.gateway, task_id)
        assert await world.error(task_id) == "timeout"
        assert await resolved(world, task_id) == [("unknown", unknown.GIVEN_UP)]
        await later(world, 60)
        assert upstream.submitted == [task_id]

    run(on_both, test, upstream)


# -- polls


GONE = Failed("api_error", "no such work", scope="channel", retryable=True, status=404)


def test_that_an_upstream_has_forgotten_its_work_is_believed_the_third_time_in_a_minute(on_both: Settings) -> None:
    upstream, other = Scripted(Pending("up-7", 5.0), poll=[GONE] * 9), Scripted(name="second", weight=1e-9)

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        await later(world, 5)
        await later(world, 35)
        assert len(upstream.polls) == 2
        assert await world.queued(task_id) is not None
        await later(world, 35)
        assert await world.error(task_id) == "api_error"
        assert await world.attempts(task_id) == [("first", "unknown")]
        assert (upstream.submitted, other.submitted) == ([task_id], [])

    run(on_both, test, upstream, other)


def test_work_that_was_forgotten_for_a_moment_goes_on(on_both: Settings) -> None:
    upstream = Scripted(Pending("up-7", 5.0), poll=[GONE, GONE, Pending("up-7", 5.0), GONE, GONE])

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        for seconds in (5, 35, 35, 5, 35, 35):
            await later(world, seconds)
        assert (await world.response(task_id))["success"] is True
        assert len(upstream.polls) == 6

    run(on_both, test, upstream)


def test_waits_after_polls_without_an_answer_double_and_one_answer_makes_them_short_again(on_both: Settings) -> None:
    upstream = Scripted(Pending("up-7", 5.0), poll=[LOST, LOST, LOST, Pending("up-7", 5.0), LOST])

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        waits = []
        for _ in range(6):
            row = await world.queued(task_id)
            assert row is not None
            waits.append((row.due_at - world.clock.now) / 1000)
            await later(world, waits[-1])
        assert waits == [5.0, 5.0, 10.0, 20.0, 5.0, 5.0]

    run(on_both, test, upstream)


@pytest.mark.parametrize(("luck", "wait"), [(0.0, 9_000), (1.0, 11_000)])
def test_what_was_submitted_together_is_not_polled_together_for_ever(
    on_sqlite: Settings, luck: float, wait: int
) -> None:
    async def test(world: World) -> None:
        world.clock.luck = luck
        task_id = await world.submit()
        await world.work()
        row = await world.queued(task_id)
        assert row is not None
        assert row.due_at - world.clock.now == wait

    run(on_sqlite, test, Scripted(Pending("up-7", 10.0)))


async def percent(world: World, task_id: str) -> int | None:
    row = await world.gateway.db.row("SELECT progress FROM queue WHERE task_id = $1", task_id)
    return None if row is None else row[0]


def reporting(*percents: int) -> Any:
    async def answer(call: Call) -> Outcome:
        assert call.report is not None
        for one in percents:
            await call.report(Progress(one))
        return Pending("up-7", 5.0)

    return answer


def test_how_far_a_task_is_is_written_down_when_it_moved_by_a_bit(on_both: Settings) -> None:
    polls = [reporting(3), reporting(20, 60), reporting(62), reporting(400)]
    upstream = Scripted(Pending("up-7", 5.0), poll=polls)

    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        seen = []
        for _ in polls:
            await later(world, 5)
            seen.append(await percent(world, task_id))
        assert seen == [None, 20, 62, 100]

    run(on_both, test, upstream)


class Recording:
    """A database that remembers by what it was asked."""

    def __init__(self, db: Any) -> None:
        self._db = db
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.asked.append(name)
        return getattr(self._db, name)


def test_a_poll_that_is_due_reads_nothing_of_earlier_attempts(on_both: Settings) -> None:
    """Ten thousand open tasks are polled all the time: one costs its claim, its question and its parking."""
    upstream = Scripted(Pending("up-7", 5.0), poll=[Pending("up-7", 5.0)])

    async def test(world: World) -> None:
        await world.submit()
        await world.work()
        world.clock.pass_s(5)
        db = Recording(world.gateway.db)
        world.gateway = replace(world.gateway, db=db)
        await world.work()
        assert db.asked == ["write", "write"]
        assert upstream.polls == ["up-7"]

    run(on_both, test, upstream)


def test_a_queue_that_is_looked_at_by_an_operator_holds_open_tasks_only(on_both: Settings) -> None:
    async def test(world: World) -> None:
        task_id = await world.submit()
        await world.work()
        assert await inspect.open_attempt(world.gateway.db, task_id) is None
        assert await followed.lost(world.gateway.db, 10) == []
        with pytest.raises(BadRequest, match="is known"):
            await unknown.look(world.gateway, task_id)

    run(on_both, test)


def test_what_may_have_been_taken_goes_to_no_other_channel_when_its_own_is_gone(on_both: Settings) -> None:
    first, second = Searchable(Unknown("cut"), name="first", found=[]), Scripted(name="second")

    async def test(world: World) -> None:
        world.gateway.channels.set([first.channel(world.gateway)])
        task_id = await world.submit()
        await world.work()
        await unknown.resend(world.gateway, task_id)
        world.gateway.channels.set([second.channel(world.gateway)])
        await world.work()
        assert second.submitted == []
        assert [one[1] for one in await world.attempts(task_id)] == ["unknown"]

    run(on_both, test, first, second)
