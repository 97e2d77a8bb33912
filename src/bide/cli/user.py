"""`bide user`: makes, lists, shows and erases those who pay."""

from typing import Any

import click

from bide.accounts import applications, users
from bide.accounts.applications import Application, Filter
from bide.accounts.store import ensure_owner
from bide.accounts.users import User
from bide.cli.lazy import Loaded
from bide.cli.options import LISTED_MAX, limit_option, quiet_option, say_more
from bide.cli.shared import (
    TEXT,
    CommandError,
    json_option,
    one_sentence,
    opened,
    place,
    print_json,
    print_pairs,
    print_table,
    run,
    seconds,
    settings_of,
    when,
)
from bide.clock import Clock
from bide.credits import ledger
from bide.credits.ledger import Balance
from bide.credits.pricing import credits, micro, shown
from bide.db import Database, Tx, write_one
from bide.settings import Settings


@click.group(commands=Loaded({"erase": "bide.cli.user_erase"}))
def user() -> None:
    """Creates, lists, shows and erases users: who pays."""


async def find_user(db: Database, id_or_name: str) -> User:
    """The user that a command line names. Raises `CommandError`."""
    found = await users.named(db, id_or_name)
    if found is None:
        raise CommandError(f"there is no user {id_or_name!r}")
    return found


async def make_owner(db: Database, settings: Settings, clock: Clock) -> None:
    """The first user, as the first start of a gateway makes it."""
    await write_one(db, lambda tx: ensure_owner(tx, clock, micro(settings.bootstrap_credits)))


# -- create


@user.command()
@click.argument("name", type=TEXT)
@quiet_option
@one_sentence
def create(name: str, quiet: bool) -> None:
    """Makes a user; what it may use is said by its applications."""
    made = run(_create(settings_of(), name))
    click.echo(made.id if quiet else f"User {made.id} is {name!r}.")


async def _create(settings: Settings, name: str) -> User:
    clock = Clock()

    async def create(tx: Tx) -> User | None:
        return await users.create(tx, clock, name)

    async with opened(settings, clock) as db:
        made = await write_one(db, create)
    if made is None:
        raise CommandError(f"there is a user {name!r} already")
    return made


# -- list


@user.command("list")
@limit_option
@json_option
@one_sentence
def list_(limit: int, as_json: bool) -> None:
    """Lists users, oldest first."""
    settings = settings_of()
    found = run(_list(settings, limit))
    if as_json:
        print_json([_document(one) for one in found])
    elif found:
        print_table(
            ("id", "name", "created", "erased"),
            [(one.id, one.name, when(one.created_at), when(one.erased_at)) for one in found],
        )
    else:
        click.echo(f"There are no users in {place(settings)}.")


async def _list(settings: Settings, limit: int) -> list[User]:
    async with opened(settings, Clock()) as db:
        total, found = await users.listed(db, None, limit, 0, ascending=True)
    say_more(total, len(found))
    return found


def _document(one: User) -> dict[str, Any]:
    return {
        "id": one.id, "name": one.name, "created_at": seconds(one.created_at), "erased_at": seconds(one.erased_at),
    }  # fmt: skip


# -- show


@user.command()
@click.argument("id_or_name", metavar="USER", type=TEXT)
@json_option
@one_sentence
def show(id_or_name: str, as_json: bool) -> None:
    """Shows a user, named by id or name, with its applications and their balances."""
    one, owned = run(_show(settings_of(), id_or_name))
    if as_json:
        print_json(_document(one) | {"applications": [
            {"id": app.id, "name": app.name, "scope": app.scope, "service_id": app.service,
             "remaining_amount": credits(balance.remaining), "used_amount": credits(balance.used),
             "held_amount": credits(balance.held), "disabled": app.disabled}
            for app, balance in owned
        ]})  # fmt: skip
        return
    print_pairs([("id", one.id), ("name", one.name), ("created", when(one.created_at)),
                 ("erased", when(one.erased_at))])  # fmt: skip
    if owned:
        click.echo("\nApplications")
        print_table(
            ("id", "name", "for", "left", "used", "held"),
            [(app.id, app.name, app.service or "all services", shown(balance.left), shown(balance.used),
              shown(balance.held)) for app, balance in owned],
        )  # fmt: skip


async def _show(settings: Settings, id_or_name: str) -> tuple[User, list[tuple[Application, Balance]]]:
    async with opened(settings, Clock()) as db:
        one = await find_user(db, id_or_name)
        _, owned = await applications.listed(db, Filter(user_id=one.id), LISTED_MAX, 0, ascending=True)
        balances = await ledger.balances(db, [app.id for app in owned])
        return one, [(app, balances[app.id]) for app in owned]
