"""callback: delivers what is owed, at least once, until the receiver took it or the schedule ends.

    claim ──▶ build the body from the task ──▶ POST ──▶ write the attempt down: done | due again | parked

A delivery is a row with a due time, like a task: a restart loses none, and one receiver never delays another.
"""

from collections.abc import Callable

import msgspec

from bide import metrics
from bide.callbacks import store
from bide.callbacks.hosts import Hosts
from bide.callbacks.schedule import delivered, next_attempt
from bide.callbacks.send import Sent, post
from bide.callbacks.signing import sign
from bide.callbacks.store import Attempted, ClaimDeliveries, Owed
from bide.catalog import shape
from bide.gateway import Gateway
from bide.tasks import store as tasks

CLAIM_MAX = 200

_SILENT = frozenset({"timeout", "connect", "dns"})


async def deliver_once(gateway: Gateway, hosts: Hosts, start: Callable[[Owed], object]) -> bool:
    """One pass: leases what is due and has room, and starts it. True when there may be more to claim at once."""
    limit = min(CLAIM_MAX, hosts.free)
    if limit <= 0:
        return False
    await gateway.delivery_leases.keep_overdue()
    claim = ClaimDeliveries(gateway.clock.now_ms(), limit, gateway.clock.lease_id(), gateway.delivery_leases.until(),
                            hosts.room, hosts.put_off_ms)  # fmt: skip
    claimed, more = await gateway.db.write(store.claim, claim)
    for owed in claimed:
        hosts.start(owed.host, owed.owner)
        gateway.delivery_leases.hold(owed.id, owed.lease_id, claim.until_ms)
        start(owed)
    return more or len(claimed) == limit


async def deliver(gateway: Gateway, hosts: Hosts, owed: Owed) -> None:
    """One attempt."""
    sent = None
    try:
        sent = await _post(gateway, owed)
        await _record(gateway, owed, sent)
    finally:
        gateway.delivery_leases.drop(owed.id)
        hosts.end(owed.host, owed.owner, timed_out=sent is None or sent.error in _SILENT)
        gateway.deliveries_due.now()


async def _post(gateway: Gateway, owed: Owed) -> Sent:
    body = await _body(gateway, owed.task_id)
    if body is None:
        return Sent(410, 0, "status")  # the task is gone: nothing is owed any more
    trace_id, content = body
    settings, timestamp = gateway.settings, gateway.clock.now_ms() // 1000
    headers = {
        "content-type": "application/json",
        "webhook-id": owed.id,
        "webhook-timestamp": str(timestamp),
        "x-task-id": owed.task_id,
        "x-delivery-attempt": str(owed.attempts + 1),
    }
    if trace_id.isascii() and trace_id.isprintable():
        headers["x-trace-id"] = trace_id
    if settings.webhook_secret:
        headers["webhook-signature"] = sign(settings.webhook_secret, owed.id, timestamp, content)
    return await post(
        gateway.outbound.callbacks, owed.url, content, headers, timeout_s=settings.callback_timeout_s,
        connect_s=settings.callback_connect_s, ranges=gateway.outbound.ranges, clock=gateway.clock,
    )  # fmt: skip


async def _body(gateway: Gateway, task_id: str) -> tuple[str, bytes] | None:
    """The caller's trace id and the body, made from the stored response: no copy of it is kept."""
    record = await tasks.record(gateway.db, task_id)
    if record is None or record.response is None:
        return None
    response = msgspec.json.decode(record.response)
    try:
        operation = gateway.catalog.operation(record.service, record.operation)
    except KeyError:  # the catalogue has changed since: the plain response is the form of every other service
        return record.trace_id, record.response
    body = shape.callback_body(operation, record.id, record.trace_id, response, gateway.settings.callback_shape)
    return record.trace_id, msgspec.json.encode(body)


async def _record(gateway: Gateway, owed: Owed, sent: Sent) -> None:
    metrics.delivery(sent.error)
    number, now = owed.attempts + 1, gateway.clock.now_ms()
    state, due_at = store.PENDING, None
    if delivered(sent.status):
        state = store.DELIVERED
    else:
        after_s = next_attempt(gateway.settings.callback_schedule, number, sent, gateway.clock.chance())
        if after_s is None:
            state = store.PARKED
        else:
            due_at = now + int(after_s * 1000)
            gateway.deliveries_due.after(after_s)
    await gateway.db.write(
        store.record,
        Attempted(owed.id, owed.lease_id, number, now, sent.status, sent.latency_ms, sent.error, state, due_at),
    )
