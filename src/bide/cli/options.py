"""Options that several commands have."""

import math
from collections.abc import Callable
from typing import Any

import click

from bide.settings import DAY_S

DAYS_MAX = 36_500.0
LISTED_MAX = 10_000

quiet_option = click.option("--quiet", "-q", is_flag=True, help="Print one bare value, for scripts.")
limit_option = click.option(
    "--limit", type=click.IntRange(1, LISTED_MAX), default=1_000, show_default=True, help="How many at most."
)


def say_more(total: int, listed: int) -> None:
    """To people and logs, never among what is listed: a list that was cut says so."""
    if total > listed:
        click.echo(f"bide: {total - listed} more not listed: see --limit", err=True)


def not_nan(_context: click.Context, _option: click.Parameter, value: float | None) -> float | None:
    if value is not None and math.isnan(value):  # which is in every range
        raise click.BadParameter("is not a number")
    return value


def expires_option(name: str, help: str) -> Callable[[Any], Any]:
    """Days from when it is done, which the command gets as `lasts_ms`: milliseconds, or None."""

    def lasts(context: click.Context, option: click.Parameter, value: float | None) -> int | None:
        days = not_nan(context, option, value)
        return None if days is None else int(days * DAY_S * 1000)

    kind = click.FloatRange(0, DAYS_MAX, min_open=True)
    return click.option(name, "lasts_ms", metavar="DAYS", type=kind, callback=lasts, help=help)
