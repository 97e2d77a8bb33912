"""`/tasks`: what became of the calls. Everybody sees and cancels its own; a superuser those of all, and the channels
that were asked."""

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bide.accounts import applications
from bide.accounts.platform import Manager
from bide.api.admin.access import answer, gateway_of, iso, listing, manager_of, page_of, routes, whose
from bide.api.admin.filters import api_id, choice, text, texts, window
from bide.callbacks import store as callbacks
from bide.catalog.load import Catalog
from bide.credits import ledger, usage
from bide.credits.pricing import credits
from bide.db import Row
from bide.errors import BadRequest, NotFound, Unavailable
from bide.flow.cancel import cancel
from bide.gateway import Gateway
from bide.tasks import attempts, inspect, public, store
from bide.tasks.attempts import Attempt
from bide.tasks.inspect import OPEN, Line, Wanted

TRACED_MAX = 1_000
"""Tasks of one trace id that are found when nobody says whose they are."""
PARTS = ("own", "general")


async def _list(request: Request) -> Response:
    """Tasks, newest first. Filters: `service`, `application_id`, `trace_id`, `state`, `created_at_from`,
    `created_at_to`; a superuser also `user_id`.
    """
    wanted, page, gateway = await _wanted(request), page_of(request), gateway_of(request)
    if wanted is None:
        return listing(0, [])
    found = await inspect.page(gateway.db, wanted, page.limit, page.offset, ascending=page.ascending)
    count = await inspect.total(gateway.db, wanted)
    return listing(count, (_line(gateway.catalog, one) for one in found))


async def _wanted(request: Request) -> Wanted | None:
    """The filters, with what makes an index of use to them: whose tasks they are, or which. None: nothing matches."""
    manager, db = await manager_of(request), gateway_of(request).db
    user_id, services = whose(request, manager), texts(request, "service") or None
    application_id, trace_id = text(request, "application_id"), text(request, "trace_id")
    state = choice(request, "state", OPEN, "succeeded", "failed", "cancelled")
    if application_id is not None and user_id is None:
        application = await applications.one(db, application_id)
        if application is None:
            return None
        user_id = application.user_id
    ids = None
    if user_id is None and trace_id is not None:
        ids = tuple(await usage.ids_of_trace(db, trace_id, TRACED_MAX))
    elif user_id is not None and services is None and state != OPEN:
        services = tuple(await inspect.services_of(db, user_id))
    begin, end = window(request)
    return Wanted(user_id=user_id, services=services, application_id=application_id, trace_id=trace_id, ids=ids,
                  state=state, from_ms=begin, until_ms=end)  # fmt: skip


def _line(catalog: Catalog, task: Line | store.Record) -> dict[str, Any]:
    return {
        "id": task.id, "service": task.service, "api_id": api_id(catalog, task.service, task.operation),
        "type": task.type, **({"state": task.state} if isinstance(task, Line) else {}), "trace_id": task.trace_id,
        "inline": not task.visible, "user_id": task.user_id, "application_id": task.application_id,
        "credential_id": task.credential_id, "created_at": iso(task.created_at), "started_at": iso(task.started_at),
        "finished_at": iso(task.finished_at),
    }  # fmt: skip


# -- one


async def _one(request: Request) -> Response:
    """One task: bodies, movements in the books, attempts, deliveries."""
    manager, task = await _task(request)
    return answer(await _shown(gateway_of(request), task, manager))


async def _task(request: Request) -> tuple[Manager, store.Record]:
    """Who asks, and the task of the path. Raises `NotFound` when there is none, or it is another's."""
    manager, gateway = await manager_of(request), gateway_of(request)
    db, wanted = gateway.db, request.path_params["id"]
    found = await (store.record(db, wanted) if manager.superuser else store.own_record(db, wanted, manager.user_id))
    if found is None:
        raise NotFound
    return manager, found


async def _shown(gateway: Gateway, task: store.Record, manager: Manager) -> dict[str, Any]:
    # The queue is read first: a task that ends in between is found in what it left.
    db, queued = gateway.db, await inspect.open_attempt(gateway.db, task.id)
    ending = await store.ending(db, task.id)
    if ending is not None:
        queued, task = None, await store.record(db, task.id) or task
    tried = [_attempt(one, manager) for one in await attempts.of_task(db, task.id)]
    if queued is not None and queued[5] is not None:
        tried.append(_open_attempt(queued, manager))
    state = ending[0] if ending is not None else queued[0] if queued is not None else "queued"
    return {
        **_line(gateway.catalog, task), "state": state, "request": msgspec.Raw(task.request),
        "response": public.response(task), "deadline_at": None if queued is None else iso(queued[3]),
        "movements": [_movement(one) for one in await ledger.movements(db, task.id)],
        "attempts": tried,
        "deliveries": [_delivery(row, posts) for row, posts in await callbacks.of_task(db, task.id)],
    }  # fmt: skip


def _movement(row: Row) -> dict[str, Any]:
    return {"kind": row[0], "part": PARTS[row[1]], "application_id": row[2], "amount": credits(row[3]),
            "created_at": iso(row[4])}  # fmt: skip


def _attempt(one: Attempt, manager: Manager) -> dict[str, Any]:
    """Which account was asked at which upstream, and its own words, are nobody's business but the operator's."""
    shown = {"number": one.number, "asked_at": iso(one.asked_at), "ended_at": iso(one.ended_at),
             "outcome": one.outcome, "code": one.code}  # fmt: skip
    if manager.superuser:
        shown |= {"channel": one.channel, "upstream_id": one.upstream_id, "status": one.status, "detail": one.detail}
        shown |= {"resolved": one.resolved} if one.resolved else {}
    return shown


def _open_attempt(queued: Row, manager: Manager) -> dict[str, Any]:
    shown = {"number": queued[4], "asked_at": iso(queued[7]), "ended_at": None, "outcome": "open", "code": None}
    if manager.superuser:
        shown |= {"channel": queued[5], "upstream_id": queued[6], "status": None, "detail": None}
    return shown


def _delivery(row: Row, posts: Sequence[Row]) -> dict[str, Any]:
    return {
        "id": row[0], "url": row[1], "state": row[2], "due_at": iso(row[3]),
        "attempts": [
            {"number": post[0], "created_at": iso(post[1]), "status": post[2], "elapsed": post[3] / 1000,
             "error": post[4] or None}
            for post in posts
        ],
    }  # fmt: skip


# -- what may be done with it


async def _cancel(request: Request) -> Response:
    """Cancels an open task; what was held is released."""
    manager, task = await _task(request)
    gateway = gateway_of(request)
    if not await cancel(gateway, task.id):
        if await store.ending(gateway.db, task.id) is None and await store.is_open(gateway.db, task.id):
            raise Unavailable("The task could not be cancelled just now: try again.")
        raise BadRequest("The task has ended already.")
    return answer(await _shown(gateway, task, manager))


async def _retry_callback(request: Request) -> Response:
    """Sends the callback once more."""
    manager, task = await _task(request)
    gateway = gateway_of(request)
    owed = [row[0] for row, _ in await callbacks.of_task(gateway.db, task.id)]
    if not owed:
        raise BadRequest("The task has no callback" + (" yet." if task.finished_at is None else "."))
    now = gateway.clock.now_ms()
    if not any([await gateway.db.write(callbacks.send_again, (one, now)) for one in owed]):
        raise BadRequest("The callback is still to be sent.")
    return answer(await _shown(gateway, task, manager))


ROUTES: list[Route] = [
    *routes("/tasks", {"GET": _list}),
    *routes("/tasks/{id}", {"GET": _one}),
    *routes("/tasks/{id}/cancel", {"POST": _cancel}),
    *routes("/tasks/{id}/retry-callback", {"POST": _retry_callback}),
]
