"""heard: what an upstream calls back brings the next look at its work forward, and nothing else.

Such calls are sent at least once, in any order, and mostly without a signature (upstreams: recovery), so nothing in
them is read. Each attempt has an address of its own, `{base}/cb/{token}` with 128 unguessable bits, of which the row
keeps the hash. Only providers with `CALLS_BACK = True` are given one, and only if the gateway has an address.
"""

import asyncio
import hashlib
from dataclasses import replace

from bide.channels.load import Channel
from bide.flow.leased import written
from bide.flow.polling import dated, following
from bide.flow.running import Run
from bide.gateway import Gateway
from bide.providers.base import Call
from bide.tasks import followed

PATH = "/cb/"


def base(gateway: Gateway) -> str:
    """Where upstreams reach this gateway; empty: nowhere."""
    settings = gateway.settings
    return (settings.upstream_callback_url or settings.public_url).rstrip("/")


def _calls_back(run: Run, channel: Channel) -> bool:
    return bool(getattr(channel.provider, "CALLS_BACK", False) and base(run.gateway))


async def submitting(run: Run, channel: Channel) -> Call:
    """The call of a submission, with an address to call back where the provider uses one.

    Raises `LeaseLost`: then nobody may be asked.
    """
    call, gateway, work = run.call(channel), run.gateway, run.work
    call = following(run, call) if channel.apart else dated(run, call)  # it asks for minutes
    if not _calls_back(run, channel):
        return call
    token = gateway.clock.token()
    await written(gateway, followed.name, (work.task.id, work.lease_id, hashed(token)))
    return replace(call, callback_url=f"{base(gateway)}{PATH}{token}")


async def pause(run: Run, seconds: float) -> None:
    """Waits here for the next look, or until the upstream calls back in this process."""
    gateway = run.gateway
    if not _calls_back(run, run.channel):
        return await gateway.clock.sleep(seconds)
    waits = [asyncio.ensure_future(gateway.clock.sleep(seconds)),
             asyncio.ensure_future(gateway.heard.wait(run.work.task.id, seconds))]  # fmt: skip
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waits:
            one.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def heard(gateway: Gateway, token: str) -> bool:
    """Brings forward the next look at the work that this token stands for. False: at none that is open."""
    at = hashed(token)
    task_id = await followed.named(gateway.db, at)
    if task_id is None:
        return False
    if not await gateway.db.write(followed.bring_forward, (at, gateway.clock.now_ms())):
        gateway.heard.tell(task_id)
    return True


def hashed(token: str) -> str:
    """What is kept of a token. That of any text can be looked up, so a wrong one costs what a right one costs."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
