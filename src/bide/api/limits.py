"""How often a caller may ask, and how much it may have open: checked before its body is read.

Rates are per credential, service and class (protocol: gateway, section 6); a submit that was refused for its rate or
for too many open tasks has cost nothing, and `Retry-After` says when the next one will be let in.
"""

from functools import lru_cache

from bide.accounts.limits import limit
from bide.accounts.store import Caller
from bide.api.answers import Headers
from bide.api.read import header
from bide.catalog.load import Operation, Service
from bide.errors import TooManyRequests
from bide.flow.submit import check_open
from bide.gateway import Gateway
from bide.rates import Rate, rate

PAUSE_S = 0.1
"""How long a refusal for a rate keeps its caller waiting. Whoever asks on and on would otherwise be refused as fast
as the process can, and everybody else would wait behind that; the wait that is answered is the shorter for it."""

_rate = lru_cache(1_000)(rate)


async def check_poll(gateway: Gateway, caller: Caller, service: Service) -> None:
    """Raises `TooManyRequests` when a credential looks for tasks of a service too often."""
    per_s = limit(caller.limits, service.name, "", "polls_per_s", service.polls_per_s)
    if per_s > 0:
        await _take(gateway, f"p/{caller.credential_id}/{service.name}", _rate(per_s), "looks for tasks")


async def check_submit(gateway: Gateway, caller: Caller, operation: Operation, headers: Headers) -> None:
    """Raises `TooManyRequests` when a credential submits too often, or has too many tasks open.

    What comes with an idempotency key may be a task that is open already: only its transaction can tell.
    """
    group = operation.limit_class
    per_s = limit(caller.limits, operation.service, group, "submits_per_s", operation.limits.submits_per_s)
    if per_s > 0:
        await _take(gateway, f"s/{caller.credential_id}/{operation.service}/{group}", _rate(per_s), "submits")
    if not header(headers, b"idempotency-key"):
        await check_open(gateway, caller, operation)


async def _take(gateway: Gateway, key: str, allowed: Rate, what: str) -> None:
    wait_s = await gateway.rates.take(key, allowed)
    if wait_s > 0:
        await gateway.clock.sleep(PAUSE_S)
        raise TooManyRequests(f"Too many {what}: {allowed.per_s:g} per second are allowed.",
                              retry_after_s=max(wait_s - PAUSE_S, 0))  # fmt: skip
