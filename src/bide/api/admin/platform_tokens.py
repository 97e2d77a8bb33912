"""`/platform-tokens`: who may manage. Everybody makes and ends its own; a superuser those of others too."""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bide.accounts import platform, users
from bide.api.admin.access import (
    answer,
    body_of,
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
from bide.db import Row, Tx, write_one
from bide.errors import BadRequest, NotFound


class _Create(msgspec.Struct, forbid_unknown_fields=True):
    user_id: str | None = None
    superuser: bool = False
    expired_at: str | float | None = None


def _document(row: Row) -> dict[str, Any]:
    return {
        "id": row[0], "user_id": row[1], "token": f"{platform.FORM}…{row[2]}", "superuser": bool(row[3]),
        "expired_at": iso(row[4]), "created_at": iso(row[5]),
    }  # fmt: skip


async def _me(request: Request) -> Response:
    """Whose token this is."""
    manager = await manager_of(request)
    user = await users.one(gateway_of(request).db, manager.user_id)
    return answer({
        "id": manager.token_id, "user_id": manager.user_id, "name": None if user is None else user.name,
        "superuser": manager.superuser, "expired_at": iso(manager.expires_at),
    })  # fmt: skip


async def _list(request: Request) -> Response:
    """Management tokens that work, masked."""
    manager = await manager_of(request)
    user_id, page = whose(request, manager), page_of(request)
    count, rows = await platform.tokens(
        gateway_of(request).db, user_id, page.limit, page.offset, ascending=page.ascending
    )
    return listing(count, map(_document, rows))


async def _create(request: Request) -> Response:
    """An empty body makes an ordinary token for whoever asks."""
    manager, gateway = await manager_of(request), gateway_of(request)
    wanted = await body_of(request, _Create)
    if wanted.superuser and not manager.superuser:
        raise BadRequest("`superuser`: only a superuser can make a superuser's token.")
    user_id = wanted.user_id or manager.user_id
    if user_id != manager.user_id and not manager.superuser:
        raise NotFound
    expires_at = None if wanted.expired_at is None else moment("expired_at", wanted.expired_at)
    clock, token = gateway.clock, platform.new_token(gateway.clock)

    async def create(tx: Tx) -> str | None:
        if await users.lock(tx, user_id) is None:
            return None
        if not manager.superuser and await platform.working(tx, user_id) >= platform.WORKING_MAX:
            raise BadRequest(f"A user may have {platform.WORKING_MAX} management tokens: revoke some first.")
        return await platform.add(tx, clock, user_id, token, superuser=wanted.superuser, expires_at=expires_at)

    now = clock.now_ms()
    token_id = await write_one(gateway.db, create)
    if token_id is None:
        raise NotFound
    row = (token_id, user_id, token[-4:], wanted.superuser, expires_at, now)
    return answer(_document(row) | {"token": token}, 201)


async def _revoke(request: Request) -> Response:
    """Revokes a management token."""
    manager, gateway = await manager_of(request), gateway_of(request)
    user_id, token_id = owner_of(manager), request.path_params["id"]
    now = gateway.clock.now_ms()
    if not await write_one(gateway.db, lambda tx: platform.revoke(tx, now, token_id, user_id)):
        raise NotFound
    return gone()


ROUTES: list[Route] = [
    *routes("/platform-tokens", {"GET": _list, "POST": _create}),
    *routes("/platform-tokens/me", {"GET": _me}),
    *routes("/platform-tokens/{id}", {"DELETE": _revoke}),
]
