"""What all management routes share: who asks, what may be seen, paging, bodies and answers.

The shapes are the platform's (protocol: gateway, section 7): a list is `{"count": total, "items": […]}` and takes
`limit`, `offset` and `ordering`; amounts are credits, times ISO 8601 in UTC. Paths work with and without a slash
at their end.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bide.accounts import platform
from bide.accounts.platform import Manager
from bide.accounts.tokens import PLATFORM_PREFIX
from bide.api.auth import bearer
from bide.api.body import parse_body
from bide.api.read import read_body
from bide.api.turns import Turns
from bide.errors import BadRequest, InvalidToken, NotFound, TokenExpired
from bide.gateway import Gateway

BASE = "/admin/api/v1"
LIMIT, LIMIT_MAX = 20, 200
OFFSET_MAX = 10_000_000
BODY_BYTES_MAX = 64 * 1024
WAITING_MAX = 64
"""Requests of one user that wait for their turn in one process; what is beyond is refused."""

Handler = Callable[[Request], Awaitable[Response]]
_T = TypeVar("_T")


def gateway_of(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


HANDLERS: dict[str, dict[str, Handler]] = {}
"""Every management path with its handlers by method, for the reference that is made from them."""


def routes(path: str, methods: dict[str, Handler]) -> list[Route]:
    """One management path (such as `/users/{id}`) with and without a slash at its end; a handler per method."""
    HANDLERS[path] = methods

    async def handle(request: Request) -> Response:
        # No database keeps the character NUL, so it would not even take a question that holds it.
        if any("\x00" in value for value in request.path_params.values()):
            raise NotFound
        if any("\x00" in text for pair in request.query_params.multi_items() for text in pair):
            raise BadRequest("The query holds the character NUL, which is not allowed.")
        async with AsyncExitStack() as request.state.until_answered:
            return await methods["GET" if request.method == "HEAD" else request.method](request)

    return [Route(f"{BASE}{path}{end}", handle, methods=list(methods)) for end in ("", "/")]


# -- who asks


async def manager_of(request: Request) -> Manager:
    """The holder of the management token, whose turn it is now: a user's requests are answered one after another.
    A superuser waits for nobody. To be asked for once by a request.

    Raises `NoToken`, `InvalidToken`, `TokenExpired`, or `TooManyRequests` when too many of the user wait already.
    """
    gateway, token = gateway_of(request), bearer(request.scope["headers"])
    found = await _holder(gateway, token)
    if found.superuser:
        return found
    await request.state.until_answered.enter_async_context(turns_of(request).of(found.user_id, WAITING_MAX))
    return await _holder(gateway, token)  # it may have been revoked meanwhile


def turns_of(request: Request) -> Turns:
    turns: Turns = request.app.state.turns
    return turns


async def _holder(gateway: Gateway, token: str) -> Manager:
    found = await platform.manager(gateway.db, token) if token.startswith(PLATFORM_PREFIX) else None
    if found is None:
        raise InvalidToken
    if found.expires_at is not None and found.expires_at <= gateway.clock.now_ms():
        raise TokenExpired
    return found


async def superuser_of(request: Request) -> Manager:
    """As `manager_of`, for what concerns the whole gateway. To anybody else such a path does not exist."""
    found = await manager_of(request)
    if not found.superuser:
        raise NotFound
    return found


def whose(request: Request, manager: Manager) -> str | None:
    """The user whose things are asked for: one's own; a superuser names one by `user_id`, or means all (None).

    What is another's does not exist, so another `user_id` from anybody else raises `NotFound`.
    """
    wanted = request.query_params.get("user_id") or None
    if manager.superuser:
        return wanted
    if wanted not in (None, manager.user_id):
        raise NotFound
    return manager.user_id


def owner_of(manager: Manager) -> str | None:
    """Whose things a manager may name by id; None: everybody's."""
    return None if manager.superuser else manager.user_id


# -- what is asked


@dataclass(frozen=True, slots=True)
class Page:
    limit: int
    offset: int
    ascending: bool
    """By `created_at`; newest first unless it was asked otherwise."""


def page_of(request: Request) -> Page:
    ordering = request.query_params.get("ordering") or "-created_at"
    if ordering not in ("created_at", "-created_at"):
        raise BadRequest("`ordering` must be `created_at` or `-created_at`.")
    return Page(whole(request, "limit", LIMIT, 1, LIMIT_MAX), whole(request, "offset", 0, 0, OFFSET_MAX),
                ordering == "created_at")  # fmt: skip


def whole(request: Request, name: str, default: int, least: int, most: int) -> int:
    text = request.query_params.get(name)
    return whole_number(name, text, least, most) if text else default


def whole_number(name: str, text: str, least: int, most: int) -> int:
    """The value of a parameter. Raises `BadRequest` with a sentence."""
    if not (text.isascii() and text.isdigit() and len(text) < 12 and least <= int(text) <= most):
        raise BadRequest(f"`{name}` must be a whole number from {least} to {most}.")
    return int(text)


def flag(request: Request, name: str) -> bool | None:
    text = request.query_params.get(name)
    if not text:
        return None
    if text not in ("true", "false"):
        raise BadRequest(f"`{name}` must be `true` or `false`.")
    return text == "true"


def time_of(request: Request, name: str) -> int | None:
    """A time of the query in milliseconds: ISO 8601 (UTC if it names no zone) or Unix seconds."""
    text = request.query_params.get(name)
    if not text:
        return None
    return moment(name, text)


def moment(name: str, value: str | int | float) -> int:
    """A time in milliseconds from ISO 8601 or Unix seconds."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            found = datetime.fromisoformat(str(value).replace(" ", "+"))
            seconds = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            raise BadRequest(f"`{name}` must be a time, such as 2026-01-31T12:00:00Z or Unix seconds.") from None
    if not 0 <= seconds < 1e11:
        raise BadRequest(f"`{name}` must be a time in Unix seconds or ISO 8601.")
    return round(seconds * 1000)


async def body_of(request: Request, kind: type[_T]) -> _T:
    """The JSON body as a struct. Raises `BadRequest` with a sentence that names the field."""
    raw = await read_body(request.receive, request.scope["headers"], BODY_BYTES_MAX)
    gateway = gateway_of(request)
    body = parse_body(raw, gateway.settings.json_depth_max) if raw.strip() else {}
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        raise BadRequest(f"{error}.") from None


# -- what is answered


def iso(at_ms: int | None) -> str | None:
    """`2026-01-31T12:00:00.000Z`."""
    if at_ms is None:
        return None
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def answer(content: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def listing(count: int, items: Iterable[Any] | Sequence[Any]) -> Response:
    return answer({"count": count, "items": list(items)})


def gone() -> Response:
    """204: deleted."""
    return Response(status_code=204)
