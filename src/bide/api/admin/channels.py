"""`/channels`: the accounts at upstreams. For superusers alone: to anybody else there is no such path.

Those of `bide.toml` are shown and tried, and changed there; the others are made, changed and removed here, and every
process knows within two seconds. What is secret is never answered: of a key its last four characters, of anything
else `***`, which sent back leaves it as it is.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bide.api.admin.access import answer, body_of, gateway_of, gone, iso, listing, page_of, routes, superuser_of
from bide.channels import configured, store
from bide.channels.load import Channel, build
from bide.channels.probe import Saw, probe
from bide.channels.secrets import Sealer, SealError
from bide.channels.store import Kept
from bide.db import write_one
from bide.errors import BadRequest, NotFound
from bide.gateway import Gateway
from bide.log import log
from bide.providers import registry
from bide.settings import ChannelSettings, SettingsError
from bide.tasks import inspect

# -- what is answered


def document(kept: Kept, open_: int | None = None) -> dict[str, Any]:
    """A channel of the database. `open` is how many attempts are open there, where that was counted."""
    state = "disabled" if kept.disabled else "in use"
    return {
        "name": kept.name, **configured.shown_row(kept), "disabled": kept.disabled, "configured_in": "database",
        "state": state if kept.removed_at is None else "being removed", "created_at": iso(kept.created_at),
        "updated_at": iso(kept.updated_at),
    } | ({} if open_ is None else {"open": open_})  # fmt: skip


def of_file(one: ChannelSettings, *, drained: bool, open_: int | None = None) -> dict[str, Any]:
    """A channel of `bide.toml`, or the sandbox where nothing is configured."""
    return {
        "name": one.name, **configured.shown(one), "disabled": drained, "configured_in": "bide.toml",
        "state": "disabled" if drained else "in use", "created_at": None, "updated_at": None,
    } | ({} if open_ is None else {"open": open_})  # fmt: skip


# -- list, show


async def _list(request: Request) -> Response:
    """All channels by name, those of `bide.toml` and those being removed among them. For superusers."""
    await superuser_of(request)
    gateway, page = gateway_of(request), page_of(request)
    rows = await store.every(gateway.db)
    own = configured.own(gateway.settings, rows)
    every = [of_file(one, drained=drained) for one, drained in own.values()]
    every += [document(row) for row in rows if row.name not in own]
    every.sort(key=lambda one: str(one["name"]))
    return listing(len(every), every[page.offset : page.offset + page.limit])


async def _show(request: Request) -> Response:
    """One channel, with how many attempts are open there. For superusers."""
    await superuser_of(request)
    gateway, name = gateway_of(request), request.path_params["name"]
    rows = await store.every(gateway.db)
    own = configured.own(gateway.settings, rows).get(name)
    kept = next((row for row in rows if row.name == name), None)
    if own is None and kept is None:
        raise NotFound
    open_ = await inspect.open_at(gateway.db, name)
    if own is not None:
        return answer(of_file(own[0], drained=own[1], open_=open_))
    return answer(document(kept, open_) if kept is not None else None)


# -- add, change, remove


async def _asked(request: Request) -> tuple[dict[str, Any], bool | None]:
    """The settings of a body, and whether the channel is to be disabled."""
    asked = dict(await body_of(request, dict[str, Any]))
    for answered in ("configured_in", "state", "created_at", "updated_at", "open"):
        asked.pop(answered, None)  # what was shown may be sent back whole
    disabled = asked.pop("disabled", None)
    if not isinstance(disabled, bool | None):
        raise BadRequest("`disabled` must be `true` or `false`.")
    return asked, disabled


def _sealer(gateway: Gateway) -> Sealer:
    return Sealer(gateway.settings)


def _tell(sealer: Sealer) -> None:
    if sealer.made is not None:
        log.warning("a secret key was made: keep a copy of it, without it the keys of channels are lost",
                    file=str(sealer.made))  # fmt: skip


async def _add(request: Request) -> Response:
    """Adds a channel: `name`, `provider`, and any key of a `[[channels]]` table but `key_file`; `disabled`. For
    superusers.
    """
    await superuser_of(request)
    gateway = gateway_of(request)
    asked, disabled = await _asked(request)
    name = asked.pop("name", None)
    if not isinstance(name, str):
        raise BadRequest("`name` is missing; it must be a string.")
    sealer = _sealer(gateway)
    new = _refused_in_words(lambda: configured.added(sealer, name, asked, gateway.clock.now_ms(),
                                                     disabled=bool(disabled)))  # fmt: skip
    if any(one.name == name for one in gateway.settings.channels):
        raise BadRequest("`name`: `bide.toml` has a channel of that name.")
    there = await write_one(gateway.db, lambda tx: store.add(tx, new))
    if there is not None:
        raise BadRequest(configured.taken(there))
    _tell(sealer)
    log.info("channel added", channel=name)
    return answer(document(new), 201)


async def _change(request: Request) -> Response:
    """Changes what is named of a channel, `disabled` among it; `options` are replaced as a whole. For superusers."""
    await superuser_of(request)
    gateway, name = gateway_of(request), request.path_params["name"]
    asked, disabled = await _asked(request)
    if asked.pop("name", name) != name:
        raise BadRequest("`name` cannot be changed: add another channel and remove this one.")
    sealer = _sealer(gateway)

    def change(kept: Kept) -> Kept:
        changed = _refused_in_words(lambda: configured.changed(sealer, kept, asked)) if asked else kept
        return changed if disabled is None else replace(changed, disabled=disabled)

    now = gateway.clock.now_ms()
    kept = await write_one(gateway.db, lambda tx: store.change(tx, now, name, change))
    if kept is None:
        raise _missing(gateway, name)
    _tell(sealer)
    log.info("channel changed", channel=name)
    return answer(document(kept))


async def _remove(request: Request) -> Response:
    """Removes a channel: it takes no new work, and goes when its last work is over. For superusers."""
    await superuser_of(request)
    gateway, name = gateway_of(request), request.path_params["name"]
    now = gateway.clock.now_ms()
    kept = await write_one(
        gateway.db, lambda tx: store.change(tx, now, name, lambda kept: replace(kept, removed_at=now))
    )
    if kept is None:
        raise _missing(gateway, name)
    log.info("channel removed", channel=name)
    return gone()


def _missing(gateway: Gateway, name: str) -> BadRequest | NotFound:
    if any(one.name == name for one in registry.default_channels(gateway.settings)):
        return BadRequest("That channel is configured in `bide.toml`: change it there.")
    return NotFound()


def _refused_in_words(work: Callable[[], Kept]) -> Kept:
    try:
        return work()
    except SealError as error:
        raise BadRequest(f"{error}.") from None


# -- test


class _Test(msgspec.Struct, forbid_unknown_fields=True):
    capability: str = ""
    model: str = ""


async def _test(request: Request) -> Response:
    """Makes one smallest real call, which may cost money, and says what came of it: `verdict` is `answered`,
    `accepted`, `refused`, `not_reachable` or `unknown`. Takes `capability`, `model`. For superusers.
    """
    await superuser_of(request)
    gateway, wanted = gateway_of(request), await body_of(request, _Test)
    one = await _settings(gateway, request.path_params["name"])
    try:
        channel = build(gateway.settings, one, gateway.outbound)
    except SettingsError as error:
        raise BadRequest(f"{error}.") from None
    return answer((await _probed(gateway, channel, wanted)).document())


async def _probed(gateway: Gateway, channel: Channel, wanted: _Test) -> Saw:
    try:
        return await probe(channel, gateway.catalog, gateway.settings, gateway.clock, capability=wanted.capability,
                           model=wanted.model)  # fmt: skip
    finally:
        await gateway.outbound.release(channel.http)


async def _settings(gateway: Gateway, name: str) -> ChannelSettings:
    """What is configured now under a name, disabled or not."""
    rows = await store.every(gateway.db)
    own = configured.own(gateway.settings, rows).get(name)
    if own is not None:
        return own[0]
    kept = next((row for row in rows if row.name == name and row.removed_at is None), None)
    if kept is None:
        raise NotFound
    try:
        return configured.settings_of(_sealer(gateway), kept)
    except (SealError, SettingsError) as error:
        raise BadRequest(f"{error}.") from None


ROUTES: list[Route] = [
    *routes("/channels", {"GET": _list, "POST": _add}),
    *routes("/channels/{name}", {"GET": _show, "PATCH": _change, "DELETE": _remove}),
    *routes("/channels/{name}/test", {"POST": _test}),
]
