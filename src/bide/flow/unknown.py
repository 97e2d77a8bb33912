"""unknown: what an operator may do about a submission of which nobody knows whether the upstream took it.

    look      asks the upstream what became of it, and writes that down; a task that has ended stays as it ended
    resend    sends it once more to the same channel, at the operator's risk; only while the task is open
    give up   ends the task uncharged; of one that has ended, notes that nobody needs to look at it any more

Between the looks of `bide.flow.recover` an open task waits, and only then something can be decided about it: while a
worker asks, its answer comes first.
"""

from dataclasses import replace
from functools import partial

from bide.db import Tx, write_one
from bide.errors import BadRequest, GatewayError, NotFound
from bide.flow import inputs, polling, recover, results
from bide.flow.leased import persistently
from bide.flow.running import Run
from bide.flow.settle import failure, settle
from bide.gateway import Gateway
from bide.log import log
from bide.providers.base import Absent, Failed, Outcome, Pending, Succeeded, Unknown
from bide.tasks import attempts, followed, inspect, store
from bide.tasks.attempts import NOT_KNOWN, Attempt
from bide.tasks.store import Task, Work

SENT_AGAIN = "sent again by an operator"
GIVEN_UP = "given up by an operator"
MESSAGE = "Whether the upstream took the task is not known; it was given up. Nothing was charged."


async def look(gateway: Gateway, task_id: str) -> str:
    """What the upstream says, in words. Raises `NotFound`, or `BadRequest` with the reason why it was not asked."""
    record = await store.record(gateway.db, task_id)
    if record is None:
        raise NotFound(f"There is no task {task_id!r}.")
    attempt, is_open = await _attempt(gateway, task_id)
    task = Task(
        record.id, record.service, record.operation, record.type, record.user_id, record.application_id,
        record.credential_id, record.trace_id, bool(record.visible), record.created_at,
        callback_url=None, base_url="", request=record.request, uploads=None,
    )  # fmt: skip
    words = _in_words(await _asked(gateway, task, attempt))
    if is_open:
        await gateway.db.write(followed.look_now, (task_id, gateway.clock.now_ms()))
    else:
        await gateway.db.write(attempts.resolve, (task_id, attempt.number, words))
    return words


async def _attempt(gateway: Gateway, task_id: str) -> tuple[Attempt, bool]:
    """The attempt whose outcome is not known, and whether it is open."""
    queued = await inspect.open_attempt(gateway.db, task_id)
    if queued is not None and queued[5] is not None:
        if queued[6] is not None:
            raise BadRequest("The upstream took the task: it is asked for it from time to time.")
        if queued[2] is not None:
            raise BadRequest("The upstream is being asked at this moment.")
        now = gateway.clock.now_ms()
        return Attempt(task_id, queued[4], queued[5], None, queued[7], now, "unknown"), True
    past = [one for one in await attempts.of_task(gateway.db, task_id) if one.outcome in NOT_KNOWN]
    if not past:
        raise BadRequest("What became of every attempt of this task is known.")
    return past[-1], False


async def _asked(gateway: Gateway, task: Task, attempt: Attempt) -> Outcome | Absent:
    """The answer of the upstream. What it produced is not kept."""
    channel = gateway.channels.named(attempt.channel)
    if channel is None:
        raise BadRequest(f"The channel {attempt.channel!r} is not configured any more.")
    if attempt.upstream_id is None and not recover.can(channel.provider):
        raise BadRequest(f"The channel {attempt.channel!r} has no way to look for what it was sent.")
    try:
        operation = gateway.catalog.operation(task.service, task.operation)
        values = inputs.values(operation, task)
    except (GatewayError, KeyError):
        raise BadRequest("This gateway does not offer the operation any more.") from None
    deadline_at = gateway.clock.now_ms() + int(channel.settings.timeout_s * 1000)
    work = Work(task, 0, 0, deadline_at, attempt.number, channel.name, attempt.upstream_id, attempt.asked_at)
    run = Run(gateway, work, operation, values, None, False, files=results.Files(gateway, spooled=False))
    assert run.files is not None
    try:
        if attempt.upstream_id is None:
            return await recover.asked(run)
        return await channel.provider.poll(polling.dated(run, run.call(channel)), attempt.upstream_id)
    except Exception as error:
        log.exception("provider failed", channel=channel.name, task_id=task.id)
        return Unknown("The upstream's answer could not be handled.", detail=repr(error))
    finally:
        await run.files.discard_unused()


def _in_words(answer: Outcome | Absent) -> str:
    match answer:
        case Succeeded():
            return "done: the upstream made it, and may have been paid for it"
        case Pending():
            return f"working: the upstream has it as {answer.upstream_id}"
        case Failed():
            return f"failed: {answer.code}: {answer.message}"
        case Absent():
            return "absent: the upstream never took it"
        case Unknown():
            return f"not known: {answer.message}"


# -- decisions


async def resend(gateway: Gateway, task_id: str) -> None:
    """Sends an open task once more to the same channel. Raises `BadRequest` when that cannot be decided now."""
    lease_id, now = gateway.clock.lease_id(), gateway.clock.now_ms()

    async def again(tx: Tx) -> bool:
        if not await followed.take_lost(tx, task_id, lease_id, now):
            return False
        work = await store.seize(tx, task_id, lease_id, now)
        attempt = None if work is None else attempts.of_work(work, now)
        if attempt is not None:
            await store.close_attempts(tx, [(task_id, lease_id)])
            await attempts.add(tx, [replace(attempt, outcome="unknown", resolved=SENT_AGAIN)])
        await store.put_back(tx, [(task_id, lease_id, now)])
        tx.wake("tasks")
        return True

    if not await write_one(gateway.db, again):
        raise BadRequest(await _why_not(gateway, task_id))


async def give_up(gateway: Gateway, task_id: str) -> None:
    """Ends an open task with `timeout`, uncharged; of one that has ended, notes the decision. Raises as `resend`."""
    lease_id, until_ms = gateway.clock.lease_id(), gateway.task_leases.until()

    async def take(tx: Tx) -> Work | None:
        if not await followed.take_lost(tx, task_id, lease_id, until_ms):
            return None
        return await store.seize(tx, task_id, lease_id, until_ms)

    work = await write_one(gateway.db, take)
    if work is not None:
        attempt = attempts.of_work(work, gateway.clock.now_ms())
        if attempt is not None:
            attempt = replace(attempt, outcome="unknown", resolved=GIVEN_UP)
        ending = failure(work, "timeout", MESSAGE, attempt)
        if not await persistently(gateway, partial(settle, gateway, ending)):
            raise BadRequest("The task was taken by a worker at this moment: try again.")
        return
    if await store.ending(gateway.db, task_id) is None:
        raise BadRequest(await _why_not(gateway, task_id))
    attempt, _ = await _attempt(gateway, task_id)
    await gateway.db.write(attempts.resolve, (task_id, attempt.number, GIVEN_UP))


async def _why_not(gateway: Gateway, task_id: str) -> str:
    if await store.record(gateway.db, task_id) is None:
        return f"There is no task {task_id!r}."
    if await store.ending(gateway.db, task_id) is not None:
        return "The task has ended: what has ended stays so. Submit it anew."
    return "The task does not wait for an answer that was lost: a worker has it, or the upstream took it."
