"""`/users`: who pays. Making one is for superusers; anybody else sees itself alone."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bide.accounts import applications, users
from bide.accounts.applications import Filter
from bide.accounts.users import User
from bide.api.admin.access import (
    LIMIT_MAX,
    answer,
    body_of,
    gateway_of,
    iso,
    listing,
    manager_of,
    page_of,
    routes,
    superuser_of,
    whose,
)
from bide.api.admin.applications import documents
from bide.db import write_one
from bide.errors import BadRequest, NotFound


class _Create(msgspec.Struct, forbid_unknown_fields=True):
    name: str


def document(one: User) -> dict[str, object]:
    return {"id": one.id, "name": one.name, "created_at": iso(one.created_at), "erased_at": iso(one.erased_at)}


async def _list(request: Request) -> Response:
    """Users, newest first; with an ordinary token oneself."""
    manager = await manager_of(request)
    user_id, page = whose(request, manager), page_of(request)
    count, found = await users.listed(
        gateway_of(request).db, user_id, page.limit, page.offset, ascending=page.ascending
    )
    return listing(count, map(document, found))


async def _create(request: Request) -> Response:
    """Makes a user: `name`. For superusers."""
    await superuser_of(request)
    wanted, gateway = await body_of(request, _Create), gateway_of(request)
    users.check_name(wanted.name)
    made = await write_one(gateway.db, lambda tx: users.create(tx, gateway.clock, wanted.name))
    if made is None:
        raise BadRequest("`name`: there is a user of that name.")
    return answer(document(made), 201)


async def _show(request: Request) -> Response:
    """With its newest applications and their balances."""
    manager, gateway = await manager_of(request), gateway_of(request)
    wanted = request.path_params["id"]
    found = await users.one(gateway.db, wanted)
    if found is None or not (manager.superuser or manager.user_id == wanted):
        raise NotFound
    _, owned = await applications.listed(gateway.db, Filter(user_id=wanted), LIMIT_MAX, 0)
    return answer(document(found) | {"applications": await documents(gateway, owned)})


ROUTES: list[Route] = [*routes("/users", {"GET": _list, "POST": _create}), *routes("/users/{id}", {"GET": _show})]
