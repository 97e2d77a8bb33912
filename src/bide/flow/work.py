"""work: takes a due task one step at a time until it ends or waits.

    claim ──▶ decide ──▶ prepare ──▶ open attempt ──▶ ask ──▶ settle | park | try again

Each arrow is one transaction at most, and none is open while an upstream is asked. What is written down
before a step is what the next worker goes by if this one dies in it:

- no attempt open: nothing was asked; ask.
- an attempt open with the upstream's id: it was accepted; poll it, never submit again.
- an attempt open without one: a worker died while it asked. The outcome is unknown; it is asked again only
  where the upstream takes our id or its operator said so, else the task fails with `timeout`, uncharged.
"""

import asyncio
from dataclasses import replace
from enum import Enum
from functools import partial

from bide import metrics
from bide.channels.load import Channel
from bide.db import Tx
from bide.errors import BadRequest, GatewayError
from bide.flow import inputs, references, results
from bide.flow.leased import LeaseLost, persistently, written
from bide.flow.running import Run, Values
from bide.flow.running import Watch as Watch
from bide.flow.settle import Ending, failure, settle
from bide.gateway import Gateway
from bide.log import log
from bide.providers.base import Failed, Outcome, Pending, Succeeded, Unknown
from bide.tasks import attempts, store
from bide.tasks.attempts import Attempt
from bide.tasks.states import Event
from bide.tasks.store import Work

CLAIM_MAX = 200
BACKOFF_S = 2.0
POLL_BACKOFF_S = 5.0
LEFT_MIN_S = 0.5

NOT_KNOWN = frozenset({"unknown", "lost"})
LOST = Unknown("A worker ended while it waited for the upstream; the outcome is not known.")


OVERDUE = Failed("timeout", "The task did not end in the time it may take.")


# -- the loop


async def work_once(gateway: Gateway, free: int) -> list[Work]:
    """One pass: leases at most `free` due tasks. The caller runs each with `run`."""
    await gateway.task_leases.keep_overdue()
    lease = store.Lease(gateway.clock.lease_id(), gateway.task_leases.until())
    claim = store.Claim(gateway.clock.now_ms(), min(free, CLAIM_MAX), lease)
    claimed = await gateway.db.write(store.claim, claim)
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
    if watch is None and not work.task.visible and not await store.has_key(gateway.db, work.task.id):
        lost = attempts.of_work(work, gateway.clock.now_ms())
        return await _end(gateway, failure(work, "timeout", "The caller that waited is gone.", lost))
    run = Run(gateway, work, operation, values, watch, fresh)
    if work.attempts and not fresh:
        past = await attempts.of_task(gateway.db, work.task.id)
        run.tried = {one.channel for one in past}
        run.again = past[-1].channel if past and past[-1].outcome in NOT_KNOWN else None
    try:
        while True:
            step = await _step(run)
            if step is not _Next.AGAIN:
                return step if isinstance(step, Ending) else None
    finally:
        inputs.release(gateway, run.inputs or ())


class _Next(Enum):
    AGAIN = "ask again at once"
    GIVEN_BACK = "the lease was given back; the task is due later"


async def _step(run: Run) -> Ending | _Next:
    """One question to an upstream, and what follows from its outcome."""
    run.files = results.Files(run.gateway, spooled=run.watch is not None and run.watch.spooled)
    try:
        outcome = await _outcome(run)
        if isinstance(outcome, Succeeded):
            outcome = await _copied(run, outcome, run.files)
        match outcome:
            case Succeeded():
                return await _succeeded(run, outcome)
            case Pending():
                return await _pending(run, outcome)
            case Failed():
                return await _failed(run, outcome)
            case Unknown():
                return await _unknown(run, outcome)
    finally:
        await run.files.discard_unused()


# -- decide and ask


async def _outcome(run: Run) -> Outcome:
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
        return await _submit(run, run.channel)
    channel = run.choose()
    if channel is None:
        return Failed("api_not_implemented", f"No channel of this gateway offers {run.capability}.")
    if channel.slots is None:
        return await _ask(run, channel)
    try:
        async with asyncio.timeout(run.wait_s) as waiting, channel.slots:
            waiting.reschedule(None)
            return await _ask(run, channel)
    except TimeoutError:
        return OVERDUE


async def _ask(run: Run, channel: Channel) -> Outcome:
    """Opens an attempt and submits, unless there is so little time left that it could only be paid for nothing."""
    if run.left_s < LEFT_MIN_S:
        return OVERDUE
    await _open_attempt(run, channel)
    return await _submit(run, channel)


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


async def _copied(run: Run, done: Succeeded, files: results.Files) -> Succeeded | Failed:
    """The result in our own storage."""
    try:
        async with asyncio.timeout(run.wait_s):
            return await results.copy(run.gateway, run.operation, run.channel, done, files)
    except TimeoutError:
        return Failed("timeout", "The result could not be copied in the time the task may take.")


async def _open_attempt(run: Run, channel: Channel) -> None:
    work, now = run.work, run.gateway.clock.now_ms()
    opening = (work.task.id, work.lease_id, channel.name, now)
    number = await written(run.gateway, store.open_attempts, opening) or 0
    run.work = replace(work, channel=channel.name, upstream_id=None, asked_at=now, attempts=number)


async def _submit(run: Run, channel: Channel) -> Outcome:
    """Asks once. The one place where anything may go wrong in code that is not ours."""
    try:
        async with asyncio.timeout(run.wait_s):
            return await channel.provider.submit(run.call(channel))
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
            outcome = await channel.provider.poll(run.call(channel), upstream_id)
    except TimeoutError:
        return Pending(upstream_id, POLL_BACKOFF_S)
    except Exception as error:
        log.exception("provider failed", channel=channel.name, task_id=run.work.task.id)
        return Failed("api_error", "The upstream's answer could not be handled.", detail=repr(error))
    return Pending(upstream_id, POLL_BACKOFF_S) if isinstance(outcome, Unknown) else outcome


# -- what follows from an outcome


async def _pending(run: Run, pending: Pending) -> _Next:
    """Waits for the next poll: here if a caller waits here, else the task is parked."""
    work, gateway = run.work, run.gateway
    after_s = min(pending.after_s, run.wait_s)
    if run.watch is None:
        due_at = gateway.clock.now_ms() + int(after_s * 1000)
        await written(gateway, store.park, (work.task.id, work.lease_id, due_at, pending.upstream_id))
        gateway.tasks_due.after(after_s)
        return _Next.GIVEN_BACK
    if work.upstream_id != pending.upstream_id:
        await written(gateway, store.accept, (work.task.id, work.lease_id, pending.upstream_id))
        run.work = replace(work, upstream_id=pending.upstream_id)
    await gateway.clock.sleep(after_s)
    return _Next.AGAIN


async def _failed(run: Run, failed: Failed) -> Ending | _Next:
    """A refusal: another channel, the same one later, or the end."""
    gateway, work = run.gateway, run.work
    attempt = run.ended("failed", failed.code, failed.status, failed.detail or failed.message)
    if attempt is not None and failed.scope == "channel":
        run.tried.add(attempt.channel)
        run.again = None
        run.channel.rest(run.model, gateway.clock.monotonic() + failed.cool_s)
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


async def _unknown(run: Run, unknown: Unknown) -> Ending | _Next:
    """Perhaps done, perhaps paid for. Sent again only where that is known to be harmless."""
    gateway, work, channel = run.gateway, run.work, run.channel
    outcome = "lost" if unknown is LOST else "unknown"
    attempt = run.ended(outcome, "timeout", unknown.status, unknown.detail or unknown.message)
    if not channel.resends or attempt is None or run.left_s <= 0:
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
    if not await persistently(gateway, partial(settle, gateway, ending)):
        raise LeaseLost
    return ending


async def _close_attempt(run: Run, attempt: Attempt) -> None:
    metrics.attempt(attempt.channel, attempt.outcome)
    await written(run.gateway, _close, (attempt, run.work.lease_id))
    run.work = replace(run.work, channel=None, upstream_id=None, asked_at=None)


async def _close(tx: Tx, items: list[tuple[Attempt, int]]) -> list[bool]:
    won = await store.close_attempts(tx, [(attempt.task_id, lease_id) for attempt, lease_id in items])
    await attempts.add(tx, [attempt for (attempt, _), ok in zip(items, won, strict=True) if ok])
    return won
