"""`bide task list --unknown`: submissions of which nobody knows whether the upstream took them, and was paid."""

import click

from bide.cli.shared import opened, place, print_json, print_table, run, seconds, when
from bide.clock import Clock
from bide.settings import Settings
from bide.tasks import attempts, followed
from bide.tasks.attempts import Attempt

OPEN = "open"


def list_unknown(settings: Settings, limit: int, as_json: bool) -> None:
    """Prints them, open ones first, then the newest first."""
    found = run(_unknown(settings, limit))
    if as_json:
        print_json([
            {"id": one.task_id, "number": one.number, "channel": one.channel, "upstream_id": one.upstream_id,
             "asked_at": seconds(one.asked_at), "outcome": one.outcome,
             "ended_at": None if one.outcome == OPEN else seconds(one.ended_at), "status": one.status,
             "detail": one.detail, "resolved": one.resolved}
            for one in found
        ])  # fmt: skip
    elif found:
        print_table(
            ("id", "no.", "channel", "outcome", "asked", "found out"),
            [(one.task_id, str(one.number), one.channel, one.outcome, when(one.asked_at), one.resolved or "-")
             for one in found],
        )  # fmt: skip
    else:
        click.echo(f"What became of every submission in {place(settings)} is known.")


async def _unknown(settings: Settings, limit: int) -> list[Attempt]:
    async with opened(settings, Clock()) as db:
        lost = [Attempt(row[0], row[1], row[2], None, row[3], row[3], OPEN) for row in await followed.lost(db, limit)]
        return [*lost, *await attempts.unknown(db, limit)][:limit]
