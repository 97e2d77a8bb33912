"""submit: a checked request becomes a task. After it returns, the task is on disk.

A caller that does not wait gets a queued task, and a worker anywhere claims it. A caller that waits gets one
that is already leased to this process with its first attempt open, so there is no second commit and no
dispatch between the request and the upstream.
"""

from dataclasses import dataclass
from typing import Any

from bide.accounts.store import Caller
from bide.catalog.load import Operation
from bide.errors import BadRequest
from bide.flow import inputs
from bide.gateway import Gateway
from bide.tasks import store
from bide.tasks.store import Known, Lease, NewTask, Task, Upload, Work


@dataclass(frozen=True, slots=True)
class Submission:
    """A request that passed its checks. `request` is the body as it will be shown on the task."""

    caller: Caller
    operation: Operation
    values: dict[str, Any]
    request: bytes
    uploads: tuple[Upload, ...] | None
    """None: the body was JSON."""
    trace_id: str
    base_url: str
    waits: bool
    callback_url: str | None = None
    idempotency_key: str | None = None
    body_hash: str = ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The task of a submission; `work` is set when it is leased to this process. `known`: it was there before."""

    task_id: str
    work: Work | None = None
    fresh: bool = False
    values: dict[str, Any] | None = None
    known: bool = False


async def submit(gateway: Gateway, wanted: Submission) -> Accepted:
    """Writes the task down and answers its id. Raises the 400 errors that only the running gateway can know."""
    operation, caller, now = wanted.operation, wanted.caller, gateway.clock.now_ms()
    gateway.channels.require(operation.capability, wanted.values["model"])
    task = Task(
        id=gateway.clock.new_id(now),
        service=operation.service,
        operation=operation.path,
        type=operation.type,
        user_id=caller.user_id,
        application_id=caller.application_id,
        credential_id=caller.credential_id,
        trace_id=wanted.trace_id,
        visible=not wanted.waits or operation.entry.inline_stored,
        created_at=now,
        callback_url=wanted.callback_url,
        base_url=wanted.base_url,
        request=wanted.request,
        uploads=wanted.uploads,
    )
    new = _leased(gateway, wanted, task) if wanted.waits else NewTask(task, _deadline(operation, now))
    if new.lease is not None:  # before it is written: no claim of this process may find it unkept
        gateway.task_leases.hold(task.id, new.lease.id, new.lease.until_ms)
    try:
        known = await gateway.db.write(store.insert, _with_key(gateway, new, wanted))
    except BaseException:
        gateway.task_leases.drop(task.id)
        raise
    if known is not None:
        gateway.task_leases.drop(task.id)
        return _same_request(known, wanted)
    if new.lease is None:
        return Accepted(task.id)
    asked_at = now if new.channel else None
    work = Work(task, new.lease.id, now, new.deadline_at, 1 if new.channel else 0, new.channel, None, asked_at)
    return Accepted(task.id, work, fresh=new.channel is not None, values=wanted.values)


def _deadline(operation: Operation, now: int) -> int:
    return now + int(operation.entry.run_s_max * 1000)


def _leased(gateway: Gateway, wanted: Submission, task: Task) -> NewTask:
    """Leased to this process, and with the attempt open if nothing has to be done before the upstream is asked."""
    operation = wanted.operation
    channel = None
    if not inputs.urls(wanted.values):
        chosen = gateway.channels.choose(operation.capability, wanted.values["model"])
        channel = chosen.name if chosen is not None and chosen.slots is None else None
    lease = Lease(gateway.clock.lease_id(), gateway.task_leases.until())
    return NewTask(task, _deadline(operation, task.created_at), lease, channel)


def _with_key(gateway: Gateway, new: NewTask, wanted: Submission) -> NewTask:
    if not wanted.idempotency_key and not wanted.uploads:
        return new
    kept_ms = int(gateway.settings.inline_grace_s * 1000) if wanted.waits else gateway.settings.retention_ms
    return NewTask(new.task, new.deadline_at, new.lease, new.channel, new.deadline_at + kept_ms,
                   wanted.idempotency_key, wanted.body_hash)  # fmt: skip


def _same_request(known: Known, wanted: Submission) -> Accepted:
    if known.body_hash != wanted.body_hash:
        raise BadRequest("The header `idempotency-key` was used before with another body.")
    return Accepted(known.task_id, known=True)
