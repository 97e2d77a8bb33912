"""copying: every file of a result into our own storage, before the task counts as done.

The upstream has done the work, and has been paid for it: that a copy fails does not end the task. Where the upstream
has an id for the work, the task is parked for a while and the upstream asked again, which may name a fresh address;
where it has none, the same addresses are tried again here. After half an hour, or at the task's deadline, it fails.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bide.channels.load import Channel
from bide.flow import results
from bide.flow.results import TEMPLATE
from bide.flow.running import Run
from bide.log import log
from bide.outbound.fetch import FetchError, fetch
from bide.providers.base import Asset, Failed, FileTooLarge, Item, NotMedia, Pending, Stored, Succeeded

COPY_S = 120.0
COPY_TRIES = 3
RETRY_FOR_S = 1_800.0
WATCHED_RETRY_FOR_S = 60.0
"""For a caller that waits, of a result whose address cannot be asked for anew."""
PAUSE_S, PAUSE_MAX_S = 5.0, 120.0

NO_RESULT = Failed("api_error", "The upstream answered without a result.")
NOT_FETCHED = "The upstream's result could not be fetched."


@dataclass(frozen=True, slots=True)
class _Missed:
    """A file that could not be copied. `again`: the same address may work later. `fresh`: another one may."""

    failed: Failed
    again: bool = False
    fresh: bool = False


async def copied(run: Run, done: Succeeded) -> Succeeded | Failed | Pending:
    """The result in our own storage. `Pending`: the upstream is to be asked again."""
    with_files = bool(done.assets or done.items)
    if not with_files and (run.operation.entry.shape != TEMPLATE or not done.response):
        return NO_RESULT
    if all(asset.stored is not None for asset in results.assets(done)):
        return done
    try:
        async with asyncio.timeout(run.wait_s):
            return await _copied(run, done)
    except TimeoutError:
        return Failed("timeout", "The result could not be copied in the time the task may take.")


async def _copied(run: Run, done: Succeeded) -> Succeeded | Failed | Pending:
    gateway, upstream_id = run.gateway, run.work.upstream_id
    while True:
        found = await _every(run, done)
        if isinstance(found, Succeeded):
            return found
        look, now = gateway.looks.of(run.work.task.id), gateway.clock.monotonic()
        if look.copy_since is None:
            look.copy_since = now
        since_s = now - look.copy_since
        pause_s = min(max(PAUSE_S, since_s / 2), PAUSE_MAX_S)
        may = found.again if upstream_id is None else found.again or found.fresh
        most_s = WATCHED_RETRY_FOR_S if upstream_id is None and run.watch is not None else RETRY_FOR_S
        if not may or since_s + pause_s > most_s:
            return found.failed
        log.info("a result could not be copied", channel=run.channel.name, task_id=run.work.task.id,
                 detail=found.failed.detail, again_s=pause_s)  # fmt: skip
        if upstream_id is not None:
            return Pending(upstream_id, pause_s)
        await gateway.clock.sleep(min(pause_s, run.wait_s))
        if run.left_s <= 0:
            return found.failed


async def _every(run: Run, done: Succeeded) -> Succeeded | _Missed:
    assets = await _stored(run, done.assets)
    if isinstance(assets, _Missed):
        return assets
    items: list[Item] = []
    for item in done.items:
        its = await _stored(run, item.assets)
        if isinstance(its, _Missed):
            return its
        items.append(replace(item, assets=its))
    return replace(done, assets=assets, items=tuple(items))


async def _stored(run: Run, assets: Sequence[Asset]) -> tuple[Asset, ...] | _Missed:
    copies: list[Asset] = []
    for asset in assets:
        if asset.stored is None:
            stored = await _copy(run, run.channel, asset)
            if isinstance(stored, _Missed):
                return stored
            asset = replace(asset, stored=stored)
        copies.append(asset)
    return tuple(copies)


async def _copy(run: Run, channel: Channel, asset: Asset) -> Stored | _Missed:
    """The operator vouches for the channel's own host; any other address passes the guard."""
    gateway, url, files = run.gateway, asset.url or "", run.files
    assert files is not None
    vouched = channel.http if channel.is_at(url) else None
    for left in reversed(range(COPY_TRIES)):
        try:
            return await fetch(
                gateway.outbound.fetches, url, files.sink(), ranges=gateway.outbound.ranges, vouched=vouched,
                headers=asset.headers, timeout_s=COPY_S, bytes_max=gateway.settings.file_bytes_max,
            )  # fmt: skip
        except FetchError as error:
            if not (left and error.retryable):
                failed = Failed("api_error", NOT_FETCHED, detail=str(error))
                return _Missed(failed, again=error.retryable, fresh=error.status is not None)
            await asyncio.sleep(2.0 / (left + 1))
        except (FileTooLarge, NotMedia) as error:
            said = "The upstream's result is too large or not a picture, film or sound."
            # A store that is not ready may answer 200 with a page that says so.
            return _Missed(Failed("api_error", said), fresh=isinstance(error, NotMedia))
    raise AssertionError("unreachable")
