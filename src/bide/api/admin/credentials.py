"""`/credentials`: the records of the tokens that callers send (protocol: gateway, section 7).

A token is answered once, when it is made or replaced; afterwards its last four characters are all that is known.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bide.accounts import credentials
from bide.accounts.credentials import Credential, Filter, check_api_ids, check_host, check_metadata
from bide.accounts.users import check_name
from bide.api.admin.access import (
    answer,
    body_of,
    flag,
    gateway_of,
    gone,
    iso,
    listing,
    manager_of,
    moment,
    owner_of,
    page_of,
    routes,
    whose,
)
from bide.credits import ledger
from bide.credits.granting import amount_of
from bide.credits.pricing import credits
from bide.db import write_one
from bide.errors import BadRequest, NotFound
from bide.gateway import Gateway

# -- what is answered


async def documents(gateway: Gateway, found: Sequence[Credential]) -> list[dict[str, Any]]:
    """The public form of some credentials, with what each has spent."""
    spent = await ledger.spent(gateway.db, [one.id for one in found])
    return [_document(one, spent.get(one.id, (0, 0))[0]) for one in found]


def _document(one: Credential, used: int) -> dict[str, Any]:
    return {
        "id": one.id, "name": one.name, "type": "Token", "token": f"…{one.token_end}", "host": one.host,
        "limited_amount": None if one.limited_amount is None else credits(one.limited_amount),
        "used_amount": credits(used), "expired_at": iso(one.expires_at),
        "allowed_api_ids": list(one.allowed_api_ids), "application_id": one.application_id, "user_id": one.user_id,
        "metadata": one.metadata, "disabled": one.disabled, "created_at": iso(one.created_at),
        "updated_at": iso(one.updated_at),
    }  # fmt: skip


async def _answer(
    gateway: Gateway, found: Credential | None, token: str | None = None, status: int = 200
) -> Response:
    """One credential; with its token where that is new."""
    if found is None:
        raise NotFound
    document = (await documents(gateway, [found]))[0]
    return answer(document if token is None else document | {"token": token}, status)


# -- list, show


async def _list(request: Request) -> Response:
    """Credentials, their tokens masked. Filters: `application_id`, `host`, `granted`."""
    manager, gateway = await manager_of(request), gateway_of(request)
    user_id, page, query = whose(request, manager), page_of(request), request.query_params
    if flag(request, "granted"):
        return listing(0, [])  # nobody is granted another's credential
    wanted = Filter(user_id, query.get("application_id") or None, (query.get("host") or "").lower() or None)
    count, found = await credentials.listed(gateway.db, wanted, page.limit, page.offset, ascending=page.ascending)
    return listing(count, await documents(gateway, found))


async def _show(request: Request) -> Response:
    """One credential, its token masked."""
    manager, gateway = await manager_of(request), gateway_of(request)
    return await _answer(gateway, await credentials.one(gateway.db, request.path_params["id"], owner_of(manager)))


# -- create, change


class _Change(msgspec.Struct, forbid_unknown_fields=True):
    name: str | UnsetType = UNSET
    limited_amount: float | UnsetType | None = UNSET
    expired_at: str | float | UnsetType | None = UNSET
    host: str | UnsetType | None = UNSET
    allowed_api_ids: list[str] | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType | None = UNSET
    disabled: bool | UnsetType = UNSET


class _Create(_Change, forbid_unknown_fields=True, kw_only=True):
    application_id: str


def _columns(gateway: Gateway, wanted: _Change) -> dict[str, Any]:
    """What the fields that were given say, as `bide.accounts.credentials` has it; null takes a bound away."""
    columns: dict[str, Any] = {}
    if wanted.name is not UNSET:
        columns["name"] = check_name(wanted.name)
    if wanted.limited_amount is not UNSET:
        columns["limited_amount"] = None if wanted.limited_amount is None else cap_of(wanted.limited_amount)
    if wanted.expired_at is not UNSET:
        columns["expires_at"] = None if wanted.expired_at is None else moment("expired_at", wanted.expired_at)
    if wanted.host is not UNSET:
        columns["host"] = None if wanted.host is None else check_host(wanted.host)
    if wanted.allowed_api_ids is not UNSET:
        columns["allowed_api_ids"] = check_api_ids(wanted.allowed_api_ids or (), _api_ids(gateway))
    if wanted.metadata is not UNSET:
        columns["metadata"] = None if wanted.metadata is None else check_metadata(wanted.metadata)
    if wanted.disabled is not UNSET:
        columns["disabled"] = wanted.disabled
    return columns


def cap_of(value: float) -> int:
    """What a credential may spend in all. Raises `BadRequest` with a sentence."""
    amount = amount_of("limited_amount", value)
    if amount < 0:
        raise BadRequest("`limited_amount` must not be less than 0.")
    return amount


def _api_ids(gateway: Gateway) -> set[str]:
    return {one.entry.api_id for service in gateway.catalog.services.values() for one in service.operations.values()}


async def _create(request: Request) -> Response:
    """Makes a token, shown once: `application_id`, `name`, `limited_amount`, `expired_at`, `host`,
    `allowed_api_ids`, `metadata`.
    """
    manager, gateway = await manager_of(request), gateway_of(request)
    wanted = await body_of(request, _Create)
    columns = {"name": "default", **_columns(gateway, wanted)}
    clock, token = gateway.clock, gateway.clock.token()
    made = await write_one(gateway.db, lambda tx: credentials.create(
        tx, clock, wanted.application_id, owner_of(manager), token, columns
    ))  # fmt: skip
    return await _answer(gateway, made, token, 201)


async def _change(request: Request) -> Response:
    """Changes `name`, `limited_amount`, `expired_at`, `host`, `allowed_api_ids`, `metadata`, `disabled`."""
    manager, gateway = await manager_of(request), gateway_of(request)
    columns, wanted = _columns(gateway, await body_of(request, _Change)), request.path_params["id"]
    now = gateway.clock.now_ms()
    changed = await write_one(gateway.db, lambda tx: credentials.change(tx, now, wanted, owner_of(manager), columns))
    return await _answer(gateway, changed)


# -- rotate, revoke


class _Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """An empty body."""


async def _rotate(request: Request) -> Response:
    """A new token, shown once; the old one is dead."""
    manager, gateway = await manager_of(request), gateway_of(request)
    await body_of(request, _Nothing)
    now, token, wanted = gateway.clock.now_ms(), gateway.clock.token(), request.path_params["id"]
    changed = await write_one(gateway.db, lambda tx: credentials.rotate(tx, now, wanted, owner_of(manager), token))
    return await _answer(gateway, changed, token)


async def _revoke(request: Request) -> Response:
    """Revokes a credential."""
    manager, gateway = await manager_of(request), gateway_of(request)
    now, wanted = gateway.clock.now_ms(), request.path_params["id"]
    if not await write_one(gateway.db, lambda tx: credentials.revoke(tx, now, wanted, owner_of(manager))):
        raise NotFound
    return gone()


ROUTES: list[Route] = [
    *routes("/credentials", {"GET": _list, "POST": _create}),
    *routes("/credentials/{id}", {"GET": _show, "PATCH": _change, "DELETE": _revoke}),
    *routes("/credentials/{id}/rotate", {"POST": _rotate}),
]
