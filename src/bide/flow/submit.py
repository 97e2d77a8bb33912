"""submit: a checked request becomes a task. After it returns, the task is on disk and its price is held.

A caller that does not wait gets a queued task, and a worker anywhere claims it. A caller that waits gets one
that is already leased to this process with its first attempt open, so there is no second commit and no
dispatch between the request and the upstream.
"""

from dataclasses import dataclass, replace
from typing import Any

from bide.accounts import store as accounts
from bide.accounts.limits import limit
from bide.accounts.store import Caller
from bide.catalog.load import Operation
from bide.channels.load import Channel
from bide.clock import time_of
from bide.credits import ledger
from bide.credits.ledger import Held, Hold
from bide.credits.pricing import Price
from bide.db import Tx
from bide.errors import BadRequest, Disabled, GatewayError, TooManyRequests, UsedUp
from bide.flow import expected, inputs, references
from bide.gateway import Gateway
from bide.tasks import store
from bide.tasks.store import Known, Lease, NewTask, Task, Terms, Upload, Work


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


@dataclass(frozen=True, slots=True)
class _Admission:
    """A task that asks to be let in: what it may cost, and how many may be open beside it (0: any number)."""

    new: NewTask
    hold: Hold
    open_max: int
    expected_s: float


async def submit(gateway: Gateway, wanted: Submission) -> Accepted:
    """Writes the task down and answers its id.

    Raises the 400 errors that only the running gateway can know, `TooManyRequests` and `UsedUp`.
    """
    operation, caller, now = wanted.operation, wanted.caller, gateway.clock.now_ms()
    bound_to = await _bound_to(gateway, wanted)
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
    admission = _admission(gateway, wanted, task, bound_to)
    new = admission.new
    if new.lease is not None:  # before it is written: no claim of this process may find it unkept
        gateway.task_leases.hold(task.id, new.lease.id, new.lease.until_ms)
    try:
        known = await gateway.db.write(_admit, admission)
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


async def _bound_to(gateway: Gateway, wanted: Submission) -> str | None:
    """The channel that made what the request follows up, if it follows up anything. Raises what only the running
    gateway can know."""
    found = await references.find(gateway, wanted.operation, wanted.caller.user_id, wanted.values)
    references.require(gateway, wanted.operation, wanted.values, found, wanted.caller.application_id)
    return found.channel


# -- what is written


def _admission(gateway: Gateway, wanted: Submission, task: Task, bound_to: str | None) -> _Admission:
    operation, caller = wanted.operation, wanted.caller
    deadline_at = task.created_at + int(operation.run_s(wanted.values) * 1000)
    lease, channel = _lease(gateway, wanted, bound_to) if wanted.waits else (None, None)
    price, open_max = operation.price(wanted.values), open_at_most(caller, operation)
    kept_ms = gateway.settings.retention_ms if caller.retention_ms is None else caller.retention_ms
    terms = Terms(kept_ms, price.unit_price, price.units,
                  limit_key=limit_key(caller, operation) if open_max else None)  # fmt: skip
    new = NewTask(task, deadline_at, terms, lease, channel)
    if wanted.idempotency_key or wanted.uploads:
        known_ms = int(gateway.settings.inline_grace_s * 1000) if wanted.waits else kept_ms
        new = replace(new, uploads_expire_at=deadline_at + known_ms,
                      idempotency_key=wanted.idempotency_key, body_hash=wanted.body_hash)  # fmt: skip
    return _Admission(new, _hold(wanted, price, task.id, task.created_at), open_max,
                      expected.expected_s(gateway, operation, operation.model(wanted.values)))  # fmt: skip


def _lease(gateway: Gateway, wanted: Submission, bound_to: str | None) -> tuple[Lease, str | None]:
    """Leased to this process, and with the attempt open if nothing has to be done before the upstream is asked."""
    operation = wanted.operation
    channel = None
    if not inputs.urls(operation, wanted.values):
        chosen = _chosen(gateway, wanted, bound_to)
        channel = chosen.name if chosen is not None and not chosen.gated and not gateway.leaves(chosen) else None
    return Lease(gateway.clock.lease_id(), gateway.task_leases.until()), channel


def _chosen(gateway: Gateway, wanted: Submission, bound_to: str | None) -> Channel | None:
    if bound_to is not None:
        return gateway.channels.taking_named(bound_to)
    return gateway.channels.choose(
        wanted.operation.capability_for(wanted.values), wanted.operation.model(wanted.values),
        application=wanted.caller.application_id,
    )


def _hold(wanted: Submission, price: Price, task_id: str, at: int) -> Hold:
    caller = wanted.caller
    return Hold(task_id, caller.application_id, caller.general_id, caller.credential_id, caller.cap, price.total, at)


def _same_request(known: Known, wanted: Submission) -> Accepted:
    if known.body_hash != wanted.body_hash:
        raise BadRequest("The header `idempotency-key` was used before with another body.")
    return Accepted(known.task_id, known=True)


# -- admission: limits, money and the task in one transaction


async def _admit(tx: Tx, items: list[_Admission]) -> list[Known | GatewayError | None]:
    """Lets in as many as the limits and the balances allow, in order. `Known`: its idempotency key is taken.

    The lock of an application makes this exact: nobody else begins a task for it, or takes from its balance, between
    the counting and the commit.
    """
    off = await accounts.lock(tx, ledger.applications(item.hold for item in items))
    answers: list[Known | GatewayError | None] = [*await store.known(tx, [item.new for item in items])]
    asking = [at for at, answer in enumerate(answers) if answer is None]
    funds = await ledger.funds(tx, [items[at].hold for at in asking])
    for one in off:
        funds.left.pop(one, None)  # a general balance that was switched off a moment ago pays nothing
    keys = {key for at in asking if (key := items[at].new.terms.limit_key) is not None}
    open_now = await store.open_by_limit(tx, sorted(keys))
    admitted: list[tuple[_Admission, Held]] = []
    for at in asking:
        item = items[at]
        key = item.new.terms.limit_key
        n, oldest = open_now.get(key, (0, item.new.task.id)) if key else (0, "")
        if item.hold.application_id in off:
            answers[at] = Disabled()
        elif key and n >= item.open_max:
            answers[at] = too_many_open(item.open_max, oldest, item.expected_s, item.hold.at)
        elif (held := funds.take(item.hold)) is None:
            answers[at] = UsedUp()
        else:
            admitted.append((item, held))
            if key:
                open_now[key] = (n + 1, oldest)
    await store.forget_keys(tx, [items[at].new for at in asking if answers[at] is not None])
    _share_refusals(items, answers)
    await ledger.add_holds(tx, [(item.hold, held) for item, held in admitted])
    await store.insert(tx, [_with_hold(item, held) for item, held in admitted])
    return answers


def _share_refusals(items: list[_Admission], answers: list[Known | GatewayError | None]) -> None:
    """The same request twice at once: where the first was refused there is no task that the second could know."""
    refused = {item.new.task.id: answer for item, answer in zip(items, answers, strict=True)
               if isinstance(answer, GatewayError)}  # fmt: skip
    if refused:
        for at, answer in enumerate(answers):
            if isinstance(answer, Known) and answer.body_hash == items[at].new.body_hash:
                answers[at] = refused.get(answer.task_id, answer)


def _with_hold(item: _Admission, held: Held) -> NewTask:
    """Written out: `dataclasses.replace` would be a quarter of the whole admission."""
    new, agreed = item.new, item.new.terms
    general_id = item.hold.general_id if held.general else None
    terms = Terms(agreed.kept_ms, agreed.price, agreed.units, held.own, held.general, general_id, agreed.limit_key)
    return NewTask(new.task, new.deadline_at, terms, new.lease, new.channel, new.uploads_expire_at,
                   new.idempotency_key, new.body_hash)  # fmt: skip


# -- limits


def limit_key(caller: Caller, operation: Operation) -> str:
    """Under what the open tasks of a caller are counted: its credential, the service and the class."""
    return f"{caller.credential_id}/{operation.service}/{operation.limit_class}"


def open_at_most(caller: Caller, operation: Operation) -> int:
    """How many tasks a caller may have open at once; 0: any number."""
    default = operation.limits.concurrent
    return int(limit(caller.limits, operation.service, operation.limit_class, "concurrent", default))


async def check_open(gateway: Gateway, caller: Caller, operation: Operation) -> None:
    """Raises `TooManyRequests` when too many tasks of this kind are open: an early word, before a body is read. What
    counts is the look in the transaction that would begin the task."""
    most = open_at_most(caller, operation)
    if most:
        usual_s = expected.expected_s(gateway, operation, "")  # its body, and so its model, is not read yet
        n, oldest = await store.open_under(gateway.db, limit_key(caller, operation))
        if n >= most:
            raise too_many_open(most, oldest, usual_s, gateway.clock.now_ms())


def too_many_open(most: int, oldest: str, expected_s: float, now_ms: int) -> TooManyRequests:
    """`Retry-After`: when the oldest of the open tasks should be over, by what its operation usually takes."""
    left_s = expected_s - (now_ms - time_of(oldest)) / 1000
    return TooManyRequests(f"Too many tasks are open at once: at most {most} may be.",
                           retry_after_s=min(max(left_s, 1.0), max(expected_s, 1.0)))  # fmt: skip


# -- what it would cost


@dataclass(frozen=True, slots=True)
class Quote:
    """What a submission would cost and who would pay and do it. `held` is None when it is more than there is."""

    price: Price
    held: Held | None
    channel: str | None


async def quote(gateway: Gateway, wanted: Submission) -> Quote:
    """Answers what `submit` would do at this moment, and does nothing."""
    operation = wanted.operation
    bound_to = await _bound_to(gateway, wanted)
    price = operation.price(wanted.values)
    hold = _hold(wanted, price, "", gateway.clock.now_ms())
    funds = await ledger.funds(gateway.db, [hold])
    chosen = _chosen(gateway, wanted, bound_to)
    return Quote(price, funds.take(hold), None if chosen is None else chosen.name)
