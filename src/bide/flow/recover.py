"""recover: looks for a submission whose answer was lost, before anything else is decided about it.

    unknown ──▶ reconcile at once ──▶ after 10 s ──▶ after 60 s ──▶ what the channel says (`on_unknown`)
                  │ found: poll it, or take its result     │ absent: send it once more

Only a provider with `reconcile` is asked (protocol of upstreams: recovery). A submission may still be on its way when
the connection that carried it is gone, so that an upstream does not have it is believed from the second look on.
Between two looks the task is parked, and the number of looks is in its row: a crash does not begin anew. A task whose
outcome is not known never goes to another channel.
"""

import asyncio
from dataclasses import dataclass

from bide.flow.leased import written
from bide.flow.polling import dated
from bide.flow.running import Run
from bide.log import log
from bide.providers.base import Absent, Outcome, Provider, Unknown
from bide.tasks import attempts, followed

PAUSES_S = (10.0, 60.0)
BELIEVED = 1
"""Looks after which "absent" is believed."""
ABSENT = "absent: the upstream never took it; it was sent again"
NOT_FOUND = "The upstream gave no usable answer, and the submission was not found there."


@dataclass(frozen=True, slots=True)
class Later:
    """To be looked for again after `after_s`; `over` looks were made."""

    after_s: float
    over: int


async def looked_for(run: Run, unknown: Unknown, *, lost: bool) -> Outcome | Absent | Later:
    """What became of a submission. `unknown` itself where nobody can say. `lost`: this worker did not ask."""
    provider = run.channel.provider
    if not can(provider) or run.left_s <= 0:
        return unknown
    over = await followed.rounds(run.gateway.db, run.work.task.id, run.work.attempts) if lost else 0
    while True:
        answer = await asked(run)
        if not isinstance(answer, Unknown | Absent):
            log.info("a lost submission was found", channel=run.channel.name, task_id=run.work.task.id)
            return answer
        if isinstance(answer, Absent) and over >= BELIEVED:
            return answer
        if over >= len(PAUSES_S) or run.left_s <= 0:
            return unknown if over == 0 else Unknown(NOT_FOUND, *_words(unknown, answer))
        pause_s = min(PAUSES_S[over], run.wait_s)
        over += 1
        if run.watch is None:
            return Later(pause_s, over)
        await run.gateway.clock.sleep(pause_s)


def _words(unknown: Unknown, answer: Unknown | Absent) -> tuple[str, int | None]:
    if isinstance(answer, Absent):
        return unknown.detail or unknown.message, unknown.status
    return answer.detail or answer.message, answer.status


def can(provider: Provider) -> bool:
    """Whether a provider can look for what it submitted."""
    return hasattr(provider, "reconcile")


async def asked(run: Run) -> Outcome | Absent:
    """One look. Whatever goes wrong in it says nothing about the work."""
    channel = run.channel
    try:
        async with asyncio.timeout(run.wait_s):
            answer: Outcome | Absent = await channel.provider.reconcile(  # type: ignore[attr-defined]
                dated(run, run.call(channel))
            )
            return answer
    except TimeoutError:
        return Unknown("The upstream did not answer in time.")
    except Exception as error:
        log.exception("provider failed", channel=channel.name, task_id=run.work.task.id)
        return Unknown("The upstream's answer could not be handled.", detail=repr(error))


async def parked(run: Run, later: Later) -> None:
    """Gives the task back until the next look."""
    gateway, work = run.gateway, run.work
    due_at = gateway.clock.now_ms() + int(later.after_s * 1000)
    await written(gateway, followed.look_later, (work.task.id, work.lease_id, due_at, work.attempts, later.over))
    gateway.tasks_due.after(later.after_s)


async def may_resend(run: Run) -> bool:
    """Whether a submission that the upstream never took may be sent again: once."""
    past = await attempts.of_task(run.gateway.db, run.work.task.id)
    return not any(one.resolved == ABSENT for one in past)
