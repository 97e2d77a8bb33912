"""`/applications`: subscriptions with their balances (protocol: gateway, section 7; billing, section 2).

Their owner names them and switches the fallback to the general balance; credit, limits, retention and the main
switch are for superusers.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bide.accounts import applications, credentials
from bide.accounts.applications import SCOPES, Application, Filter, New
from bide.accounts.limits import check_limits
from bide.accounts.platform import Manager
from bide.accounts.store import GLOBAL, INDIVIDUAL
from bide.accounts.users import check_name
from bide.api.admin import credentials as credentials_api
from bide.api.admin.access import (
    answer,
    body_of,
    gateway_of,
    iso,
    listing,
    manager_of,
    owner_of,
    page_of,
    routes,
    superuser_of,
    whose,
)
from bide.credits import granting, ledger
from bide.credits.ledger import Balance
from bide.credits.pricing import credits
from bide.db import Tx, write_one
from bide.errors import BadRequest, NotFound
from bide.gateway import Gateway
from bide.settings import DAY_S

USAGE = "Usage"
"""The one type of an application here: it has credits. The platform also sells time."""

RETENTION_DAYS_MAX = 36_500
SUPERUSERS = ("disabled", "limits", "retention_days")
"""Fields that only a superuser may change."""


# -- what is answered


async def documents(gateway: Gateway, found: Sequence[Application]) -> list[dict[str, Any]]:
    """The public form of some applications, read with one query for each kind of thing they consist of."""
    ids = [one.id for one in found]
    balances = await ledger.balances(gateway.db, ids)
    paid = await granting.paid(gateway.db, ids)
    owned = await credentials.of_applications(gateway.db, ids)
    shown = {one["id"]: one for one in await credentials_api.documents(
        gateway, [one for several in owned.values() for one in several]
    )}  # fmt: skip
    return [
        _document(one, balances[one.id], one.id in paid, [shown[c.id] for c in owned.get(one.id, ())])
        for one in found
    ]


def _document(one: Application, balance: Balance, paid: bool, owned: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": one.id, "service_id": one.service, "user_id": one.user_id, "name": one.name, "type": USAGE,
        "scope": one.scope, "remaining_amount": credits(balance.remaining), "used_amount": credits(balance.used),
        "held_amount": credits(balance.held), "allow_consume_global": one.allow_consume_global, "paid": paid,
        "expired_at": None, "created_at": iso(one.created_at), "updated_at": iso(one.updated_at),
        "credentials": owned, "role": "owner", "limits": one.limits,
        "retention_days": None if one.retention_ms is None else one.retention_ms / (DAY_S * 1000),
        "disabled": one.disabled,
    }  # fmt: skip


async def _answer(gateway: Gateway, found: Application | None, status: int = 200) -> Response:
    if found is None:
        raise NotFound
    return answer((await documents(gateway, [found]))[0], status)


# -- list, show


async def _list(request: Request) -> Response:
    """Applications with their balances and newest credentials. Filters: `service_id`, `scope`, `type`, `user_id`,
    `affiliation`.
    """
    manager, gateway = await manager_of(request), gateway_of(request)
    user_id, page, query = whose(request, manager), page_of(request), request.query_params
    if (affiliation := query.get("affiliation") or "owner") not in ("owner", "granted"):
        raise BadRequest("`affiliation` must be `owner` or `granted`.")
    if affiliation == "granted" or (query.get("type") or USAGE) != USAGE:
        return listing(0, [])  # nobody is granted another's application, and none is for a period
    wanted = Filter(user_id, query.get("service_id") or None, query.get("scope") or None)
    count, found = await applications.listed(gateway.db, wanted, page.limit, page.offset, ascending=page.ascending)
    return listing(count, await documents(gateway, found))


async def _show(request: Request) -> Response:
    """One application."""
    manager, gateway = await manager_of(request), gateway_of(request)
    return await _answer(gateway, await applications.one(gateway.db, request.path_params["id"], owner_of(manager)))


# -- create


class _Create(msgspec.Struct, forbid_unknown_fields=True):
    service_id: str | None = None
    scope: str = INDIVIDUAL
    type: str = USAGE
    name: str | None = None
    allow_consume_global: bool = False
    user_id: str | None = None


async def _create(request: Request) -> Response:
    """Subscribes: `service_id` for one service or `scope: "Global"`, `name`, `allow_consume_global`; a superuser
    also `user_id`. The first one of a service brings the free quota.
    """
    manager, gateway = await manager_of(request), gateway_of(request)
    new = _new(gateway, await body_of(request, _Create), manager)
    most = None if manager.superuser else applications.OWN_MAX
    made = await write_one(gateway.db, lambda tx: applications.create(tx, gateway.clock, new, most))
    return await _answer(gateway, made, 201)


def _new(gateway: Gateway, wanted: _Create, manager: Manager) -> New:
    if wanted.scope not in SCOPES:
        raise BadRequest(f"`scope` must be `{INDIVIDUAL}` or `{GLOBAL}`.")
    if wanted.type != USAGE:
        raise BadRequest(f"`type` must be `{USAGE}`: applications here have credits.")
    if wanted.scope == GLOBAL and wanted.service_id is not None:
        raise BadRequest("`service_id`: an application for all services names none.")
    service = None
    if wanted.scope == INDIVIDUAL:
        service = gateway.catalog.services.get(wanted.service_id or "")
        if service is None:
            raise BadRequest("`service_id` must be the name of a service, such as those of `/services/`.")
    user_id = wanted.user_id or manager.user_id
    if user_id != manager.user_id and not manager.superuser:
        raise NotFound
    name = service.name if service is not None else "global"
    return New(
        user_id=user_id, service=None if service is None else service.name,
        name=check_name(name if wanted.name is None else wanted.name),
        allow_consume_global=wanted.allow_consume_global,
        free_amount=0 if service is None else service.free_amount,
    )  # fmt: skip


# -- change


class _Fallback(msgspec.Struct, forbid_unknown_fields=True):
    allow_consume_global: bool


class _Change(msgspec.Struct, forbid_unknown_fields=True):
    name: str | UnsetType = UNSET
    allow_consume_global: bool | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET
    limits: dict[str, Any] | UnsetType | None = UNSET
    retention_days: float | UnsetType | None = UNSET


async def _update_fallback(request: Request) -> Response:
    """Whether the general balance pays what the own one lacks: `allow_consume_global`."""
    manager = await manager_of(request)
    wanted = await body_of(request, _Fallback)
    return await _set(request, manager, {"allow_consume_global": wanted.allow_consume_global})


async def _change(request: Request) -> Response:
    """Changes `name`; a superuser also `disabled`, `limits`, `retention_days`."""
    manager = await manager_of(request)
    given = {name: value for name, value in msgspec.structs.asdict(await body_of(request, _Change)).items()
             if value is not UNSET}  # fmt: skip
    if not manager.superuser and (refused := [name for name in SUPERUSERS if name in given]):
        raise BadRequest(f"`{refused[0]}` can be changed by a superuser only.")
    if "name" in given:
        check_name(given["name"])
    if given.get("limits") is not None:
        check_limits(given["limits"])
    if "retention_days" in given:
        given["retention_ms"] = retention_ms(given.pop("retention_days"))
    return await _set(request, manager, given)


def retention_ms(days: float | None) -> int | None:
    """Milliseconds of a number of days. Raises `BadRequest` with a sentence."""
    if days is not None and not 0 < days <= RETENTION_DAYS_MAX:
        raise BadRequest(f"`retention_days` must be more than 0 and at most {RETENTION_DAYS_MAX:,}, or null.")
    return None if days is None else max(round(days * DAY_S * 1000), 1)


async def _set(request: Request, manager: Manager, changes: dict[str, Any]) -> Response:
    gateway, wanted = gateway_of(request), request.path_params["id"]
    now = gateway.clock.now_ms()
    changed = await write_one(gateway.db, lambda tx: applications.change(tx, now, wanted, owner_of(manager), changes))
    return await _answer(gateway, changed)


# -- top up


class _TopUp(msgspec.Struct, forbid_unknown_fields=True):
    amount: float
    memo: str | None = None
    id: str | None = None


async def _top_up(request: Request) -> Response:
    """Adds credit: `amount` (negative: takes away what is left), `memo`, `id` (the same id twice is one grant). For
    superusers.
    """
    manager, gateway = await superuser_of(request), gateway_of(request)
    wanted, clock = await body_of(request, _TopUp), gateway.clock
    amount = granting.amount_of("amount", wanted.amount)
    grant = granting.new_top_up(clock, request.path_params["id"], amount, manager.user_id, wanted.memo, wanted.id)

    async def top_up(tx: Tx) -> Application | None:
        found = await applications.one(tx, grant.application_id)
        if found is not None:
            await granting.top_up(tx, clock.now_ms(), grant)
        return found

    return await _answer(gateway, await write_one(gateway.db, top_up))


ROUTES: list[Route] = [
    *routes("/applications", {"GET": _list, "POST": _create}),
    *routes("/applications/{id}", {"GET": _show, "PATCH": _change}),
    *routes("/applications/{id}/update-allow-consume-global", {"POST": _update_fallback}),
    *routes("/applications/{id}/top-up", {"POST": _top_up}),
]
