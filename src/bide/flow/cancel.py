"""cancel: ends a task because somebody asked for it, whoever works on it.

    take the lease from its holder ──▶ settle: cancelled, the hold released, the callback owed

From the first of the two on whatever the holder writes is refused, so its success and this cancellation cannot both
win. What an upstream was asked for may still be made there, and paid for: the attempt stays as `unknown`.
"""

from dataclasses import replace
from functools import partial

from bide import metrics
from bide.catalog import shape
from bide.db import Tx, write_one
from bide.flow.leased import persistently
from bide.flow.settle import Ending, settle
from bide.gateway import Gateway
from bide.tasks import attempts, store
from bide.tasks.states import Event
from bide.tasks.store import Work

CODE, MESSAGE = "api_error", "The task was cancelled."
"""The wire has no code of its own for it that may be sent (protocol: gateway, section 5)."""


async def cancel(gateway: Gateway, task_id: str) -> bool:
    """Ends an open task as cancelled. False, and nothing is written, when it has ended already."""
    lease_id, until_ms = gateway.clock.lease_id(), gateway.task_leases.until()

    async def seize(tx: Tx) -> Work | None:
        return await store.seize(tx, task_id, lease_id, until_ms)

    work = await write_one(gateway.db, seize)
    if work is None:
        return False
    ending = _ending(gateway, work)
    won = await persistently(gateway, partial(settle, gateway, ending))
    if won and ending.attempt is not None:
        metrics.attempt(ending.attempt.channel, ending.attempt.outcome)
    return won


def _ending(gateway: Gateway, work: Work) -> Ending:
    task = work.task
    attempt = attempts.of_work(work, gateway.clock.now_ms())
    if attempt is not None:
        attempt = replace(attempt, outcome="unknown", code=None, detail=MESSAGE)
    response = shape.failure(task.id, task.trace_id, CODE, MESSAGE)
    return Ending(work, Event.CANCEL, response, code=CODE, attempt=attempt)
