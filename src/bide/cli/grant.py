"""`bide grant`: adds credit to an application, or takes some away."""

import click

from bide.accounts.applications import Application
from bide.cli.application import find_application
from bide.cli.options import quiet_option
from bide.cli.shared import TEXT, one_sentence, opened, run, settings_of
from bide.clock import Clock
from bide.credits import granting, ledger
from bide.credits.ledger import Balance
from bide.credits.pricing import shown
from bide.db import write_one
from bide.settings import Settings

WHO = "command line"


@click.command(context_settings={"ignore_unknown_options": True})  # so that -5 is an amount
@click.argument("id_or_name", metavar="APPLICATION", type=TEXT)
@click.argument("amount", type=TEXT)
@click.option("--memo", metavar="TEXT", type=TEXT, help="Why, for the books.")
@click.option("--id", "grant_id", metavar="ID", type=TEXT, help="The same id twice is one grant.")
@quiet_option
@one_sentence
def grant(id_or_name: str, amount: str, memo: str | None, grant_id: str | None, quiet: bool) -> None:
    """Adds credits to an application.

    A negative AMOUNT takes credits away, no more than are left. --quiet prints what is left afterwards.
    """
    one, balance, fresh = run(_grant(settings_of(), id_or_name, granting.amount_of("amount", amount), memo, grant_id))
    if quiet:
        click.echo(shown(balance.left))
        return
    done = "has now" if fresh else "had that grant before; it has"
    click.echo(f"Application {one.id} {done} {shown(balance.left)} credits.")


async def _grant(
    settings: Settings, id_or_name: str, amount: int, memo: str | None, grant_id: str | None
) -> tuple[Application, Balance, bool]:
    clock = Clock()
    async with opened(settings, clock) as db:
        one = await find_application(db, id_or_name)
        wanted = granting.new_top_up(clock, one.id, amount, WHO, memo, grant_id)
        fresh = await write_one(db, lambda tx: granting.top_up(tx, clock.now_ms(), wanted))
        return one, (await ledger.balances(db, [one.id]))[one.id], fresh
