"""work: takes a due task one step at a time until it ends or waits.

    claim ──▶ decide ──▶ prepare ──▶ open attempt ──▶ ask ──▶ settle | park | try again

Each arrow is one transaction at most, and none is open while an upstream is asked. What is written down
before a step is what the next worker goes by if this one dies in it:

- no attempt open: nothing was asked; ask.
- an attempt open with the upstream's id: it was accepted; poll it, never submit again.
- an attempt open without one: a worker died while it asked. The outcome is unknown: the upstream is asked whether it
  has the submission (`bide.flow.recover`), where it can say. It is sent again only where the upstream never took it
  or takes our id, or its operator said so, else the task fails with `timeout`, uncharged.
"""

import asyncio
from dataclasses import replace
from enum import Enum
from functools import partial

from bide import metrics
from bide.channels.load import Channel
from bide.db import Tx
from bide.errors import BadRequest, GatewayError
from bide.flow import copying, expected, heard, inputs, polling, recover, references, results, slots
from bide.flow.leased import LeaseLost, persistently, written
from bide.flow.running import Run, Values
from bide.flow.running import Watch as Watch
from bide.flow.settle import Ending, failure, settle
from bide.flow.slots import OVERDUE
from bide.gateway import Gateway
from bide.log import log
from bide.providers.base import Absent, Failed, Outcome, Pending, Succeeded, Unknown
from bide.tasks import attempts, handed, store
from bide.tasks.attempts import NOT_KNOWN, Attempt
from bide.tasks.states import Event
from bide.tasks.store import Work

CLAIM_MAX = 200
BACKOFF_S = 2.0

NEVER_TAKEN = Unknown("The upstream never took the submission.")
LOST = Unknown("A worker ended while it waited for the upstream; the outcome is not known.")


# -- the loop


async def work_once(gateway: Gateway, free: int) -> list[Work]:
    """One pass: leases at most `free` due tasks. The caller runs each with `run`."""
    await gateway.task_leases.keep_overdue()
    lease = store.Lease(gateway.clock.lease_id(), gateway.task_leases.until())
    now, most = gateway.clock.now_ms(), min(free, CLAIM_MAX)
    if gateway.provider:
        names = tuple(one.name for one in gateway.channels.all if one.settings.provider == gateway.provider)
        claimed = await gateway.db.write(handed.claim, handed.ClaimHanded(now, most, lease, names))
    else:
        claimed = await gateway.db.write(store.claim, store.Claim(now, most, lease))
    for work in claimed:
        gateway.task_leases.hold(work.task.id, work.lease_id, lease.until_ms)
    return claimed


async def run(
    gateway: Gateway, work: Work, *, watch: Watch | None = None, fresh: bool = False, values: Values | None = None
) -> Ending | None:
    """Works on a leased task until it ends (answers how) or is given back (None).

    `fresh`: its attempt was opened just now and nobody was asked yet. `values`: those of its request, if the
    caller has them already.
    """
    try:
        return await _run(gateway, work, watch, fresh, values)
    except LeaseLost:
        return None
    finally:
        gateway.task_leases.drop(work.task.id)


async def _run(
    gateway: Gateway, work: Work, watch: Watch | None, fresh: bool, values: Values | None
) -> Ending | None:
    try:
        operation = gateway.catalog.operation(work.task.service, work.task.operation)
        values = values or inputs.values(operation, work.task)
    except (GatewayError, KeyError):  # the catalogue has changed since the task was accepted
        gone = "This gateway does not offer the operation any more."
        return await _end(gateway, failure(work, "bad_request", gone))
    run = Run(gateway, work, operation, values, watch, fresh)
    if watch is None and not work.task.visible and not await _is_awaited(run):
        lost = attempts.of_work(work, gateway.clock.now_ms())
        return await _end(gateway, failure(work, "timeout", "The caller that waited is gone.", lost))
    if work.attempts > (work.channel is not None) and not fresh:
        past = await attempts.of_task(gateway.db, work.task.id)
        run.tried, run.free_since = {one.channel for one in past}, past[-1].ended_at if past else None
        run.again = next((one.channel for one in past if one.outcome in NOT_KNOWN), None)
    try:
        while True:
            step = await _step(run)
            if step is not _Next.AGAIN:
                return step if isinstance(step, Ending) else None
    finally:
        inputs.release(gateway, run.inputs or ())


async def _is_awaited(run: Run) -> bool:
    """Whether somebody may still ask for an answer that is not kept: by its key, or because the task was handed over
    while its caller waits."""
    return any(one.apart for one in run.choices()) or await store.has_key(run.gateway.db, run.work.task.id)


class _Next(Enum):
    AGAIN = "ask again at once"
    GIVEN_BACK = "the lease was given back; the task is due later"


async def _step(run: Run) -> Ending | _Next:
    """One question to an upstream, and what follows from its outcome."""
    run.files = results.Files(run.gateway, spooled=run.watch is not None and run.watch.spooled)
    try:
        asked = await _outcome(run)
        if isinstance(asked, _Next):
            return asked
        outcome: Outcome | Absent | recover.Later = asked
        lost = outcome is LOST
        if isinstance(outcome, Unknown):
            outcome = await recover.looked_for(run, outcome, lost=lost)
        if isinstance(outcome, Succeeded):
            outcome = await copying.copied(run, outcome)
        match outcome:
            case Succeeded():
                return await _succeeded(run, outcome)
            case Pending():
                return await _pending(run, outcome)
            case Failed():
                return await _failed(run, outcome)
            case recover.Later():
                await recover.parked(run, outcome)
                return _Next.GIVEN_BACK
            case Unknown() | Absent():
                return await _unknown(run, outcome)
    finally:
        await run.files.discard_unused()


# -- decide and ask


async def _outcome(run: Run) -> Outcome | _Next:
    """Asks whoever is to be asked now."""
    work, fresh, run.fresh = run.work, run.fresh, False
    if run.left_s <= 0:
        return OVERDUE
    if work.channel is not None and not fresh:
        channel = run.gateway.channels.named(work.channel)
        if channel is None:
            return Failed("api_error", "The channel that was asked is not configured any more.")
        if work.upstream_id is not None:
            refused = await _prepare(run) if getattr(channel.provider, "POLLS_WITH_INPUTS", False) else None
            return refused or await _poll(run, channel, work.upstream_id)
        metrics.takeover()
        return LOST
    if (refused := await _prepare(run)) is not None:
        return refused
    if work.channel is not None:
        return await _ask(run, run.channel)
    opened = await slots.opened(run)
    if opened is None:
        return _Next.GIVEN_BACK
    return opened if isinstance(opened, Failed) else await _ask(run, opened)


async def _ask(run: Run, channel: Channel) -> Outcome:
    """Submits, and remembers how the channel is."""
    slots.asked(run, channel)
    outcome = await _submit(run, channel)
    slots.answered(run, channel, outcome)
    return outcome


async def _prepare(run: Run) -> Failed | None:
    """Looks up what the request follows up and brings its pictures here, once."""
    if run.references is None:
        try:
            found = await references.find(run.gateway, run.operation, run.work.task.user_id, run.values)
        except BadRequest as gone:  # since the task was accepted
            return Failed(gone.code, str(gone))
        run.references = found
    if run.inputs is None and not run.work.task.uploads and not inputs.urls(run.operation, run.values):
        run.inputs = ()  # nearly always, and a time-out is not free
    if run.inputs is None:
        try:
            async with asyncio.timeout(run.wait_s):
                prepared = await inputs.prepare(run.gateway, run.operation, run.work.task, run.values)
        except TimeoutError:
            return OVERDUE
        if isinstance(prepared, Failed):
            return prepared
        run.inputs = prepared
    return None


async def _submit(run: Run, channel: Channel) -> Outcome:
    """Asks once. The one place where anything may go wrong in code that is not ours."""
    call = await heard.submitting(run, channel)
    try:
        async with asyncio.timeout(run.wait_s):
            return await channel.provider.submit(call)
    except TimeoutError:
        return Unknown("The upstream did not answer in the time the task may take.")
    except Exception as error:
        log.exception("provider failed", channel=channel.name, task_id=run.work.task.id)
        return Unknown("The upstream's answer could not be handled.", detail=repr(error))


async def _poll(run: Run, channel: Channel, upstream_id: str) -> Outcome:
    """Asks how a submission is doing. A poll that got no answer says nothing about the work: it is asked again.

    A provider that raises here has a defect, and would raise again: that ends the task, and nothing is resubmitted.
    """
    try:
        async with asyncio.timeout(run.wait_s):
            outcome = await channel.provider.poll(polling.following(run, run.call(channel)), upstream_id)
    except TimeoutError:
        outcome = Unknown("The upstream did not answer in the time the task may take.")
    except Exception as error:
        log.exception("provider failed", channel=channel.name, task_id=run.work.task.id)
        return Failed("api_error", "The upstream's answer could not be handled.", detail=repr(error))
    return polling.judged(run, outcome, upstream_id)


# -- what follows from an outcome


async def _pending(run: Run, pending: Pending) -> _Next:
    """Waits for the next poll: here if a caller waits here, else the task is parked."""
    work, gateway = run.work, run.gateway
    wanted_s = pending.after_s
    if run.watch is None and work.upstream_id is None:
        wanted_s = expected.first_s(gateway, run.operation, run.model, pending)
    after_s = polling.wait_s(run, wanted_s)
    if run.watch is None:
        due_at = gateway.clock.now_ms() + int(after_s * 1000)
        await written(gateway, store.park, (work.task.id, work.lease_id, due_at, pending.upstream_id))
        gateway.tasks_due.after(after_s)
        return _Next.GIVEN_BACK
    if work.upstream_id != pending.upstream_id:
        await written(gateway, store.accept, (work.task.id, work.lease_id, pending.upstream_id))
        run.work = replace(work, upstream_id=pending.upstream_id)
    await heard.pause(run, after_s)
    return _Next.AGAIN


async def _failed(run: Run, failed: Failed) -> Ending | _Next:
    """A refusal: another channel, the same one later, or the end."""
    gateway, work = run.gateway, run.work
    # What the upstream took and knows no more may have been made, and paid for.
    outcome = "unknown" if work.upstream_id is not None and polling.is_gone(failed) else "failed"
    attempt = run.ended(outcome, failed.code, failed.status, failed.detail or failed.message)
    if attempt is not None and failed.scope == "channel":
        run.tried.add(attempt.channel)
        slots.failed(run, run.channel, failed.cool_s)
    if work.attempts < gateway.settings.attempts_max and run.left_s > 0:
        if attempt is not None and failed.scope == "channel" and run.has_another():
            await _close_attempt(run, attempt)
            return _Next.AGAIN
        if failed.retryable and attempt is not None:
            await _close_attempt(run, attempt)
            run.tried.clear()
            return await _later(run, failed.after_s or BACKOFF_S * 2 ** (work.attempts - 1))
    message = failed.message
    if failed.scope == "channel" and run.follows_up:
        message = f"{message} {references.BOUND}"
    return await _end(gateway, failure(work, failed.code, message, attempt))


async def _unknown(run: Run, unknown: Unknown | Absent) -> Ending | _Next:
    """Perhaps done, perhaps paid for. Sent again only where that is known to be harmless."""
    gateway, work, channel, absent = run.gateway, run.work, run.channel, isinstance(unknown, Absent)
    if isinstance(unknown, Absent):
        unknown = NEVER_TAKEN
    outcome = "lost" if unknown is LOST else "unknown"
    attempt = run.ended(outcome, "timeout", unknown.status, unknown.detail or unknown.message)
    resends = channel.resends or (absent and await recover.may_resend(run))
    if absent and attempt is not None:
        attempt = replace(attempt, resolved=recover.ABSENT)
    if not resends or attempt is None or run.left_s <= 0:
        return await _end(gateway, failure(work, "timeout", unknown.message, attempt))
    if work.attempts >= gateway.settings.attempts_max:
        return await _end(gateway, failure(work, "api_error", unknown.message, attempt))
    await _close_attempt(run, attempt)
    run.again = channel.name
    return _Next.AGAIN


async def _later(run: Run, after_s: float) -> _Next:
    gateway, work = run.gateway, run.work
    after_s = min(after_s, run.wait_s)
    if run.watch is not None:
        await gateway.clock.sleep(after_s)
        return _Next.AGAIN
    due_at = gateway.clock.now_ms() + int(after_s * 1000)
    await written(gateway, store.put_back, (work.task.id, work.lease_id, due_at))
    gateway.tasks_due.after(after_s)
    return _Next.GIVEN_BACK


async def _succeeded(run: Run, done: Succeeded) -> Ending:
    gateway, work, files = run.gateway, run.work, run.files
    assert files is not None
    stored = results.stored(done)
    made = results.made(gateway, run.operation, work.task, done)
    response = results.response(run.operation, work.task, run.values, done, made, files, gateway.clock.now_ms())
    ending = Ending(
        work, Event.SUCCEED, response, files=() if files.spooled else stored,
        items=results.rows(run.operation, work.task, run.channel.name, made),
        b64=results.wants_base64(run.values) and not files.spooled,
        attempt=run.ended("succeeded", None, None, None), units=done.units,
    )  # fmt: skip
    expected.learn(gateway, run.operation, run.model, work.asked_at)
    try:
        return await _end(gateway, ending)
    except LeaseLost:
        stored = ()  # the files are discarded: another worker has the task
        raise
    finally:
        files.keep(stored)  # also when nobody knows whether the ending was written: then they go with their day


async def _end(gateway: Gateway, ending: Ending) -> Ending:
    if ending.attempt is not None:
        metrics.attempt(ending.attempt.channel, ending.attempt.outcome)
        gateway.looks.drop(ending.work.task.id)
    if not await persistently(gateway, partial(settle, gateway, ending)):
        raise LeaseLost
    slots.given_back(gateway, ending.work)
    return ending


async def _close_attempt(run: Run, attempt: Attempt) -> None:
    metrics.attempt(attempt.channel, attempt.outcome)
    await written(run.gateway, _close, (attempt, run.work.lease_id))
    slots.given_back(run.gateway, run.work)
    run.work = replace(run.work, channel=None, upstream_id=None, asked_at=None, slot=None, turn=None)
    run.free_since = attempt.ended_at


async def _close(tx: Tx, items: list[tuple[Attempt, int]]) -> list[bool]:
    won = await store.close_attempts(tx, [(attempt.task_id, lease_id) for attempt, lease_id in items])
    await attempts.add(tx, [attempt for (attempt, _), ok in zip(items, won, strict=True) if ok])
    return won
