"""`bide usage`: what was called, how it ended and what it cost."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, wraps
from typing import Any

import click

from bide.api.admin.access import moment
from bide.api.admin.filters import api_id, operations, operations_of, within
from bide.api.admin.usage import COLUMNS, bounds, cells, lines, record, title, zone
from bide.catalog.load import Catalog
from bide.catalog.load import of_settings as load_catalog
from bide.cli.application import find_application
from bide.cli.options import limit_option
from bide.cli.shared import (
    TEXT,
    CommandError,
    json_option,
    one_sentence,
    opened,
    place,
    print_json,
    print_table,
    run,
    seconds,
    settings_of,
    when,
)
from bide.cli.user import find_user
from bide.clock import Clock
from bide.credits import usage as records
from bide.credits.pricing import credits, shown
from bide.credits.usage import Filter, Usage
from bide.db import Database
from bide.errors import BadRequest

PAGE = 500


@click.group()
def usage() -> None:
    """Lists, sums up and exports what was called."""


# -- filters


@dataclass(frozen=True)
class _Asked:
    """The filters as they were given."""

    user: str | None
    application: str | None
    credential: tuple[str, ...]
    api: tuple[str, ...]
    status: tuple[int, ...]
    trace_id: tuple[str, ...]
    from_ms: int | None
    until_ms: int | None


def _time(_context: click.Context, option: click.Parameter, value: str | None) -> int | None:
    try:
        return None if value is None else within(moment(option.opts[0], value))
    except BadRequest as error:
        raise click.BadParameter(str(error)) from None


_FILTERS = (
    click.option("--user", metavar="USER", type=TEXT, help="Whose calls, by id or name."),
    click.option("--application", metavar="APPLICATION", type=TEXT, help="Of which application, by id or name."),
    click.option("--credential", metavar="ID", type=TEXT, multiple=True, help="By which credential."),
    click.option("--api", metavar="API", type=TEXT, multiple=True,
                 help="Of which operation: its id, or its name such as openai/images/edits."),
    click.option("--status", type=click.IntRange(100, 599), multiple=True, help="With which HTTP status."),
    click.option("--trace-id", metavar="ID", type=TEXT, multiple=True, help="With which trace id."),
    click.option("--from", "from_ms", metavar="TIME", type=TEXT, callback=_time,
                 help="Since when: ISO 8601, or Unix seconds."),
    click.option("--to", "last_ms", metavar="TIME", type=TEXT, callback=_time, help="Until when, inclusive."),
)  # fmt: skip


def _filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the filters to a command, which gets them as one."""

    @wraps(command)
    def wrapped(
        user: str | None, application: str | None, credential: tuple[str, ...], api: tuple[str, ...],
        status: tuple[int, ...], trace_id: tuple[str, ...], from_ms: int | None, last_ms: int | None, **more: Any,
    ) -> None:  # fmt: skip
        until_ms = None if last_ms is None else last_ms + 1
        command(_Asked(user, application, credential, api, status, trace_id, from_ms, until_ms), **more)

    for option in reversed(_FILTERS):
        option(wrapped)
    return wrapped


async def _filter(db: Database, catalog: Catalog, asked: _Asked) -> Filter:
    names = {one.key: one.entry.api_id for one in operations(catalog)}
    user_id = None if asked.user is None else (await find_user(db, asked.user)).id
    applications = () if asked.application is None else ((await find_application(db, asked.application)).id,)
    return Filter(
        user_id=user_id, applications=applications, credentials=asked.credential,
        operations=operations_of(catalog, tuple(names.get(one, one) for one in asked.api)), statuses=asked.status,
        trace_ids=asked.trace_id, from_ms=asked.from_ms, until_ms=asked.until_ms,
    )  # fmt: skip


# -- list


@usage.command("list")
@_filtered
@limit_option
@json_option
@one_sentence
def list_(asked: _Asked, limit: int, as_json: bool) -> None:
    """Lists records, newest first. Amounts are credits."""
    settings = settings_of()
    catalog = load_catalog(settings)

    async def read() -> list[Usage]:
        async with opened(settings, Clock()) as db:
            return await records.page(db, await _filter(db, catalog, asked), limit)

    found = run(read())
    if as_json:
        print_json([record(catalog, one) | {"created_at": seconds(one.created_at)} for one in found])
    elif found:
        print_table(
            ("id", "api", "status", "took", "units", "credits", "created", "trace id"),
            [(one.id, f"{one.service}/{one.operation}", f"{one.status} {one.code or ''}".rstrip(),
              f"{one.elapsed_ms / 1000:.3f} s", str(one.units), shown(one.deducted_amount), when(one.created_at),
              one.trace_id) for one in found],
        )  # fmt: skip
    else:
        click.echo(f"There are no such records in {place(settings)}.")


# -- aggregate


@usage.command()
@_filtered
@click.option("--timezone", metavar="NAME", type=TEXT, default="UTC", show_default=True, help="Whose days are meant.")
@json_option
@one_sentence
def aggregate(asked: _Asked, timezone: str, as_json: bool) -> None:
    """Sums up by day and operation: the last 30 days, unless a time is given."""
    settings, clock, days_of = settings_of(), Clock(), zone(timezone)
    catalog = load_catalog(settings)
    from_ms, until_ms = bounds(clock.now_ms(), asked.from_ms, asked.until_ms, days_of)
    days = records.days(days_of, from_ms, until_ms)

    async def read() -> list[tuple[str, str, str, int, int]]:
        async with opened(settings, clock) as db:
            wanted = replace(await _filter(db, catalog, asked), from_ms=from_ms, until_ms=until_ms)
            return await records.by_day(db, wanted, days)

    rows = run(read())
    total = sum(row[3] for row in rows)
    if as_json:
        print_json({
            "total": credits(total),
            "items": [{"date": row[0], "api_id": api_id(catalog, row[1], row[2]), "amount": credits(row[3]),
                       "count": row[4]} for row in rows],
            "apis": {api_id(catalog, *one): {"title": title(catalog, *one)}
                     for one in sorted({(row[1], row[2]) for row in rows})},
        })  # fmt: skip
    elif rows:
        print_table(
            ("date", "api", "calls", "credits"),
            [(row[0], f"{row[1]}/{row[2]}", str(row[4]), shown(row[3])) for row in rows],
        )
        click.echo(f"\nTogether {shown(total)} credits.")
    else:
        click.echo(f"There are no such records in {place(settings)}.")


# -- export


@usage.command()
@_filtered
@click.option("--output", "-o", metavar="FILE", type=click.Path(dir_okay=False), help="The file to write to.")
@one_sentence
def export(asked: _Asked, output: str | None) -> None:
    """Writes records as CSV, oldest first, all that match."""
    settings = settings_of()
    catalog = load_catalog(settings)

    async def write(out: Callable[[str], object]) -> None:
        async with opened(settings, Clock()) as db:
            wanted, after = await _filter(db, catalog, asked), ""
            out(lines([COLUMNS]))
            while found := await records.page(db, wanted, PAGE, ascending=True, after=after):
                out(lines(cells(catalog, one) for one in found))
                after = found[-1].id

    if output is None:
        run(write(partial(click.echo, nl=False)))
        return
    try:
        with open(output, "w", encoding="utf-8", newline="") as file:
            run(write(file.write))
    except OSError as error:
        raise CommandError(f"{output} cannot be written: {error.strerror or error}") from None
