"""`/usage/apis`: what was called, how it ended and what it cost. Everybody sees its own; a superuser that of all."""

import csv
import io
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from bide.accounts import applications, credentials
from bide.api.admin.access import answer, gateway_of, iso, listing, manager_of, page_of, routes, turns_of, whose
from bide.api.admin.filters import api_id, operations_of, text, texts, wholes, window
from bide.api.turns import Turns
from bide.catalog.load import Catalog
from bide.credits import usage
from bide.credits.pricing import credits, shown
from bide.credits.usage import Filter, Usage
from bide.errors import BadRequest, NotFound
from bide.gateway import Gateway
from bide.tasks import public, store

DAY_MS = 86_400_000
DAYS, DAYS_MAX = 30, 366
EXPORT_PAGE = 500
NOBODYS = ""
"""The id of no application."""


async def _filter(request: Request) -> Filter:
    """The filters that all of it takes."""
    manager, gateway = await manager_of(request), gateway_of(request)
    user_id, (begin, end) = whose(request, manager), window(request)
    return Filter(
        user_id=user_id, applications=await _applications(request, user_id),
        credentials=texts(request, "credential_id"),
        operations=operations_of(gateway.catalog, texts(request, "api_id")),
        statuses=wholes(request, "status_code", 100, 599), trace_ids=texts(request, "trace_id"), from_ms=begin,
        until_ms=end,
    )  # fmt: skip


async def _applications(request: Request, user_id: str | None) -> tuple[str, ...]:
    """The applications that are asked for, by id or by a credential of theirs, as far as they are the user's."""
    db, wanted, tokens = gateway_of(request).db, texts(request, "application_id"), texts(request, "credential_id")
    if not wanted and len(tokens) == 1:  # then only the records of its application need be walked
        found = await credentials.named(db, tokens[0])
        wanted = (NOBODYS if found is None else found.application_id,)  # an unknown one costs what another's costs
    if user_id is None or not wanted:
        return wanted
    theirs = tuple([one for one in wanted if await applications.one(db, one, user_id) is not None])
    return theirs or (NOBODYS,)


def record(catalog: Catalog, one: Usage) -> dict[str, Any]:
    """A record as it is shown. Amounts are credits, `elapsed` is seconds."""
    return {
        "id": one.id, "api_id": api_id(catalog, one.service, one.operation), "user_id": one.user_id,
        "application_id": one.application_id, "credential_id": one.credential_id, "status_code": one.status,
        "code": one.code, "elapsed": one.elapsed_ms / 1000, "trace_id": one.trace_id, "units": one.units,
        "original_amount": credits(one.original_amount), "deducted_amount": credits(one.deducted_amount),
        "deducted_general": credits(one.deducted_general), "remaining_amount": credits(one.remaining_amount),
        "used_amount": credits(one.used_amount), "created_at": iso(one.created_at),
    }  # fmt: skip


async def _list(request: Request) -> Response:
    """Usage records, newest first. Filters: `application_id`, `api_id`, `credential_id`, `status_code`, `trace_id`,
    `created_at_from`, `created_at_to`; a superuser also `user_id`.
    """
    wanted, page, gateway = await _filter(request), page_of(request), gateway_of(request)
    found = await usage.page(gateway.db, wanted, page.limit, page.offset, ascending=page.ascending)
    count = await usage.total(gateway.db, wanted)
    return listing(count, (record(gateway.catalog, one) for one in found))


async def _one(request: Request) -> Response:
    """One record, with what was asked and answered for as long as its task is kept."""
    manager, gateway = await manager_of(request), gateway_of(request)
    found = await usage.one(gateway.db, request.path_params["id"])
    if found is None or not (manager.superuser or found.user_id == manager.user_id):
        raise NotFound
    task = await store.record(gateway.db, found.id)
    metadata = {
        "request": None if task is None else msgspec.Raw(task.request),
        "response": None if task is None else public.response(task),
    }
    return answer({**record(gateway.catalog, found), "metadata": metadata})


# -- sums


async def _aggregate(request: Request) -> Response:
    """Sums by day and operation, in the `timezone` you name."""
    gateway, days_of = gateway_of(request), zone(text(request, "timezone") or "UTC")
    wanted = _bounded(request, await _filter(request), days_of)
    days = usage.days(days_of, wanted.from_ms or 0, wanted.until_ms or 0)
    rows = await usage.by_day(gateway.db, wanted, days)
    items = [
        {"date": date, "api_id": api_id(gateway.catalog, service, path), "amount": credits(amount), "count": count}
        for date, service, path, amount, count in rows
    ]
    apis = {api_id(gateway.catalog, *one): {"title": title(gateway.catalog, *one)} for one in _operations(rows)}
    return answer({"total": credits(sum(row[3] for row in rows)), "items": items, "apis": apis})


def _operations(rows: Iterable[tuple[str, str, str, int, int]]) -> list[tuple[str, str]]:
    return sorted({(row[1], row[2]) for row in rows})


def title(catalog: Catalog, service: str, path: str) -> str:
    try:
        return catalog.operation(service, path).entry.title
    except KeyError:
        return f"{service}/{path}"


async def _status_codes(request: Request) -> Response:
    """Which statuses there were, and how often."""
    wanted = _bounded(request, await _filter(request), UTC)
    found = await usage.statuses(gateway_of(request).db, wanted)
    return listing(len(found), ({"status_code": status, "count": count} for status, count in found))


def zone(name: str) -> tzinfo:
    """The time zone of a name. Raises `BadRequest` with a sentence."""
    if name == "UTC":
        return UTC  # also where the system has no zones
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown; not a name at all; a directory of names
        raise BadRequest("`timezone` must be the name of a time zone, such as Europe/Berlin.") from None


def bounds(now_ms: int, begin: int | None, end: int | None, days_of: tzinfo) -> tuple[int, int]:
    """Both ends of a window of which one or none was given: else it is today and the 29 days before.

    Raises `BadRequest` when it is too long.
    """
    if begin is None and end is None:
        today = datetime.fromtimestamp(now_ms / 1000, days_of).date()
        begin = usage.midnight(today - timedelta(days=DAYS - 1), days_of)
    end = max(now_ms + 1, begin or 0) if end is None else end
    begin = max(end - DAYS * DAY_MS, 0) if begin is None else begin
    if end - begin > DAYS_MAX * DAY_MS + 1:
        raise BadRequest(f"The window is longer than {DAYS_MAX} days: name a later begin or an earlier end.")
    return begin, end


def _bounded(request: Request, wanted: Filter, days_of: tzinfo) -> Filter:
    begin, end = bounds(gateway_of(request).clock.now_ms(), wanted.from_ms, wanted.until_ms, days_of)
    return replace(wanted, from_ms=begin, until_ms=end)


# -- export

COLUMNS = (
    "id", "created_at", "user_id", "application_id", "credential_id", "api_id", "service", "operation", "status_code",
    "code", "elapsed", "trace_id", "units", "original_amount", "deducted_amount", "deducted_general",
    "remaining_amount", "used_amount",
)  # fmt: skip


async def _export(request: Request) -> Response:
    """All that matches as CSV (RFC 4180, UTF-8), a page at a time: never whole in memory."""
    wanted, page, gateway = await _filter(request), page_of(request), gateway_of(request)
    first = await usage.page(gateway.db, wanted, EXPORT_PAGE, ascending=page.ascending)  # before the answer begins
    return StreamingResponse(
        _csv(gateway, turns_of(request), wanted, first, ascending=page.ascending),
        media_type="text/csv; charset=utf-8",
        headers={"content-disposition": 'attachment; filename="usage.csv"', "cache-control": "no-store"},
    )  # fmt: skip


async def _csv(
    gateway: Gateway, turns: Turns, wanted: Filter, found: list[Usage], *, ascending: bool
) -> AsyncIterator[str]:
    yield lines([COLUMNS])
    while found:
        yield lines(cells(gateway.catalog, one) for one in found)
        if len(found) < EXPORT_PAGE:
            return
        async with turns.of(wanted.user_id or ""):  # all who may see everybody's records are one here
            found = await usage.page(gateway.db, wanted, EXPORT_PAGE, ascending=ascending, after=found[-1].id)


def lines(rows: Iterable[Iterable[str]]) -> str:
    """Rows as CSV."""
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()


def cells(catalog: Catalog, one: Usage) -> list[str]:
    """A record as the cells of `COLUMNS`. Amounts are credits, exactly."""
    amounts = (one.original_amount, one.deducted_amount, one.deducted_general, one.remaining_amount, one.used_amount)
    names = (one.user_id, one.application_id, one.credential_id, api_id(catalog, one.service, one.operation),
             one.service, one.operation)  # fmt: skip
    return [
        one.id, iso(one.created_at) or "", *map(_harmless, names), str(one.status), _harmless(one.code or ""),
        f"{one.elapsed_ms / 1000:.3f}", _harmless(one.trace_id), str(one.units), *map(shown, amounts),
    ]  # fmt: skip


def _harmless(text: str) -> str:
    """A text that a spreadsheet would take for a formula gets a quote in front (OWASP: CSV injection)."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


ROUTES: list[Route] = [
    *routes("/usage/apis", {"GET": _list}),
    *routes("/usage/apis/aggregate", {"GET": _aggregate}),
    *routes("/usage/apis/status-codes", {"GET": _status_codes}),
    *routes("/usage/apis/export", {"GET": _export}),
    *routes("/usage/apis/{id}", {"GET": _one}),
]
