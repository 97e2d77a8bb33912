"""`bide audit`: proves the books."""

import sys
from dataclasses import asdict
from typing import Any

import click

from bide.cli.options import not_nan
from bide.cli.shared import json_option, one_sentence, opened, place, print_json, print_table, run, settings_of
from bide.clock import Clock, first_id
from bide.credits.audit import CHECKS, Report
from bide.credits.audit import audit as prove
from bide.settings import Settings

HOUR_MS = 3_600_000
HOURS_MAX = 876_000.0


@click.command()
@click.option(
    "--since", metavar="HOURS", type=click.FloatRange(0, HOURS_MAX, min_open=True), callback=not_nan,
    help="Only tasks that were accepted in the last HOURS, and all that are open; the sums are then left out.",
)  # fmt: skip
@json_option
@one_sentence
def audit(since: float | None, as_json: bool) -> None:
    """Proves that balances, ledger, tasks and usage records agree.

    A gateway may run meanwhile. Exit code 0: the books are right; 1: they are not, and what is wrong is printed.
    """
    settings = settings_of()
    report = run(_audit(settings, since))
    if as_json:
        print_json(_document(report))
    else:
        _print(settings, report)
    sys.exit(1 if report.count else 0)


async def _audit(settings: Settings, hours: float | None) -> Report:
    clock = Clock()
    now = clock.now_ms()
    since = "" if hours is None else first_id(now - int(hours * HOUR_MS))
    async with opened(settings, clock) as db:
        return await prove(db, now, since)


def _document(report: Report) -> dict[str, Any]:
    return {
        "right": not report.count, "count": report.count,
        "checks": {name: asdict(check) for name, check in report.checks.items()},
        "problems": [asdict(problem) for problem in report.problems],
    }  # fmt: skip


def _print(settings: Settings, report: Report) -> None:
    print_table(
        ("check", "rows", "problems", "what it proves"),
        [(name, str(one.rows), str(one.problems), CHECKS[name]) for name, one in report.checks.items()],
    )
    if not report.count:
        click.echo(f"\nThe books in {place(settings)} are right.")
        return
    click.echo(f"\nThe books in {place(settings)} are wrong. Amounts are credits.\n")
    print_table(("check", "of", "what is wrong"), [(one.check, one.what, one.detail) for one in report.problems])
    if report.count > len(report.problems):
        click.echo(f"… and {report.count - len(report.problems)} more.")
