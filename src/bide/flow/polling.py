"""polling: when an upstream is asked again, and what its answers are believed.

A provider says how long to wait, and lets its waits grow with the age of the work (`bide.providers.exchange.plan_s`).
Here a tenth is added or taken by chance, so that what was submitted together is not polled together for ever, and
waits double after questions that got no usable answer. "No such work" (404, 410) is what upstreams also say while a
node of theirs restarts: it is believed the third time, over at least a minute.
"""

from dataclasses import replace

from bide.db import DatabaseError
from bide.flow.running import Run
from bide.log import log
from bide.providers.base import Call, Failed, Outcome, Pending, Progress, Unknown
from bide.tasks import followed

JITTER = 0.1
ERROR_S, ERROR_MAX_S = 5.0, 60.0
GONE = frozenset({404, 410})
GONE_TIMES, GONE_S = 3, 60.0
GONE_AGAIN_S = 35.0
"""Twice this, a tenth less by chance, is more than `GONE_S`."""
STEP, STEP_S = 5, 2.0
"""Progress is written when it moved by so many percent, and not more often than each so many seconds."""


def wait_s(run: Run, after_s: float) -> float:
    """Seconds until the next look, not beyond the task's deadline."""
    return min(after_s * (1 - JITTER + 2 * JITTER * run.gateway.clock.chance()), run.wait_s)


def judged(run: Run, outcome: Outcome, upstream_id: str) -> Outcome:
    """What the answer to a poll means. One that says nothing about the work only lets it wait."""
    looks, task_id = run.gateway.looks, run.work.task.id
    if isinstance(outcome, Unknown):
        look = looks.of(task_id)
        look.errors += 1
        return Pending(upstream_id, min(ERROR_S * 2 ** min(look.errors - 1, 10), ERROR_MAX_S))
    if isinstance(outcome, Failed) and is_gone(outcome):
        look, now = looks.of(task_id), run.gateway.clock.monotonic()
        look.errors = 0
        look.gone, look.gone_since = look.gone + 1, look.gone_since if look.gone else now
        if look.gone < GONE_TIMES or now - look.gone_since < GONE_S:
            return Pending(upstream_id, GONE_AGAIN_S)
        # It was accepted, and may have been paid for: nobody else is asked.
        return replace(outcome, scope="task", retryable=False)
    if (known := looks.known(task_id)) is not None:
        known.errors = known.gone = 0
    return outcome


def is_gone(failed: Failed) -> bool:
    """Whether an upstream says that it has no such work."""
    return failed.status in GONE


# -- how far it is


def dated(run: Run, call: Call) -> Call:
    """With the time of the submission, of which every later question is told."""
    return replace(call, asked_at=run.work.asked_at or 0)


def following(run: Run, call: Call) -> Call:
    """A poll's call, which also writes down how far the work is."""

    async def report(progress: Progress) -> None:
        if call.report is not None:
            await call.report(progress)
        await _write(run, progress.percent)

    return replace(call, asked_at=run.work.asked_at or 0, report=report)


async def _write(run: Run, percent: int) -> None:
    gateway, work = run.gateway, run.work
    look, now = gateway.looks.of(work.task.id), gateway.clock.monotonic()
    percent = min(max(percent, 0), 100)
    if abs(percent - look.percent) < STEP or now - look.told_at < STEP_S:
        return
    look.percent, look.told_at = percent, now
    try:
        await gateway.db.write(followed.tell, (work.task.id, work.lease_id, percent))
    except DatabaseError:
        log.warning("progress was not written down", task_id=work.task.id)
