"""`bide application`: subscriptions, each with a balance: for one service, or for all."""

import json
from typing import Any

import click

from bide.accounts import applications
from bide.accounts.applications import Application, Filter, New
from bide.accounts.limits import check_limits
from bide.accounts.store import OWNER
from bide.accounts.users import check_name
from bide.catalog.load import of_settings as load_catalog
from bide.cli.options import DAYS_MAX, limit_option, not_nan, quiet_option, say_more
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
from bide.cli.user import find_user, make_owner
from bide.clock import Clock
from bide.credits import granting, ledger
from bide.credits.ledger import Balance
from bide.credits.pricing import credits, shown
from bide.db import Database, Tx, write_one
from bide.settings import DAY_S, Settings

DAY_MS = DAY_S * 1000


@click.group()
def application() -> None:
    """Creates, lists and changes applications: balances."""


async def find_application(db: Database, id_or_name: str) -> Application:
    """The application that a command line names. Raises `CommandError`, also when several have the name."""
    found = await applications.named(db, id_or_name)
    if not found:
        raise CommandError(f"there is no application {id_or_name!r}")
    if len(found) > 1:
        raise CommandError(f"several applications have the name {id_or_name!r}: name one by its id")
    return found[0]


# -- create


@application.command()
@click.option("--user", "owner", metavar="USER", type=TEXT, default=OWNER, show_default=True, help="Whose it is.")
@click.option("--service", metavar="NAME", type=TEXT, help="The one service it is for; without it, all of them.")
@click.option("--name", type=TEXT, help="What it is for, for people; else the service, or 'global'.")
@click.option("--fallback", is_flag=True, help="Let the general balance pay what its own lacks.")
@quiet_option
@one_sentence
def create(owner: str, service: str | None, name: str | None, fallback: bool, quiet: bool) -> None:
    """Makes an application; the first one of a user for a service comes with the free quota."""
    made, balance = run(_create(settings_of(), owner, service, name, fallback))
    if quiet:
        click.echo(made.id)
        return
    what = f"for {made.service}" if made.service else "for all services"
    click.echo(f"Application {made.id} is {made.name!r}, {what}, with {shown(balance.left)} credits.")


async def _create(
    settings: Settings, owner: str, service: str | None, name: str | None, fallback: bool
) -> tuple[Application, Balance]:
    clock, services = Clock(), load_catalog(settings).services
    if service is not None and service not in services:
        raise CommandError(f"there is no service {service!r}; there are {', '.join(services)}")
    wanted = check_name(name if name is not None else service or "global")
    async with opened(settings, clock) as db:
        if owner == OWNER:
            await make_owner(db, settings, clock)
        user = await find_user(db, owner)
        new = New(user.id, service, wanted, fallback, services[service].free_amount if service else 0)

        async def create(tx: Tx) -> Application | None:
            return await applications.create(tx, clock, new)

        made = await write_one(db, create)
        if made is None:
            raise CommandError(f"the user {owner!r} was erased")
        return made, (await ledger.balances(db, [made.id]))[made.id]


# -- list, show


@application.command("list")
@click.option("--user", "owner", metavar="USER", type=TEXT, help="Only those of a user.")
@click.option("--service", metavar="NAME", type=TEXT, help="Only those for one service.")
@limit_option
@json_option
@one_sentence
def list_(owner: str | None, service: str | None, limit: int, as_json: bool) -> None:
    """Lists applications with their balances, oldest first."""
    settings = settings_of()
    found = run(_list(settings, owner, service, limit))
    if as_json:
        print_json([_document(one, balance, paid) for one, balance, paid in found])
    elif found:
        print_table(
            ("id", "name", "for", "left", "used", "held", "disabled"),
            [(one.id, one.name, one.service or "all services", shown(balance.left), shown(balance.used),
              shown(balance.held), "yes" if one.disabled else "-") for one, balance, _ in found],
        )  # fmt: skip
    else:
        click.echo(f"There are no such applications in {place(settings)}.")


_Shown = tuple[Application, Balance, bool]
"""An application, its balance, and whether it had credit other than the free quota."""


async def _list(settings: Settings, owner: str | None, service: str | None, limit: int) -> list[_Shown]:
    async with opened(settings, Clock()) as db:
        user_id = None if owner is None else (await find_user(db, owner)).id
        total, found = await applications.listed(db, Filter(user_id, service), limit, 0, ascending=True)
        say_more(total, len(found))
        return await _shown(db, found)


async def _shown(db: Database, found: list[Application]) -> list[_Shown]:
    ids = [one.id for one in found]
    balances, paid = await ledger.balances(db, ids), await granting.paid(db, ids)
    return [(one, balances[one.id], one.id in paid) for one in found]


def _document(one: Application, balance: Balance, paid: bool) -> dict[str, Any]:
    return {
        "id": one.id, "name": one.name, "user_id": one.user_id, "scope": one.scope, "service_id": one.service,
        "remaining_amount": credits(balance.remaining), "used_amount": credits(balance.used),
        "held_amount": credits(balance.held), "paid": paid, "allow_consume_global": one.allow_consume_global,
        "limits": one.limits, "retention_days": None if one.retention_ms is None else one.retention_ms / DAY_MS,
        "disabled": one.disabled, "created_at": seconds(one.created_at), "updated_at": seconds(one.updated_at),
    }  # fmt: skip


@application.command()
@click.argument("id_or_name", metavar="APPLICATION", type=TEXT)
@json_option
@one_sentence
def show(id_or_name: str, as_json: bool) -> None:
    """Shows an application, named by its id or by a name that no other has."""
    one, balance, paid = run(_show(settings_of(), id_or_name))
    if as_json:
        print_json(_document(one, balance, paid))
        return
    kept = "as the settings say" if one.retention_ms is None else f"{one.retention_ms / DAY_MS:g} days"
    print_pairs([
        ("id", one.id), ("name", one.name), ("user", one.user_id), ("for", one.service or "all services"),
        ("left", shown(balance.left)), ("used", shown(balance.used)), ("held", shown(balance.held)),
        ("paid", "yes" if paid else "no: at most the free quota"),
        ("fallback", "the general balance" if one.allow_consume_global else "-"),
        ("limits", "the catalogue's" if one.limits is None else json.dumps(one.limits)), ("tasks kept", kept),
        ("disabled", "yes" if one.disabled else "no"), ("created", when(one.created_at)),
        ("updated", when(one.updated_at)),
    ])  # fmt: skip


async def _show(settings: Settings, id_or_name: str) -> _Shown:
    async with opened(settings, Clock()) as db:
        return (await _shown(db, [await find_application(db, id_or_name)]))[0]


# -- change


@application.command()
@click.argument("id_or_name", metavar="APPLICATION", type=TEXT)
@click.option("--name", type=TEXT, help="Another name.")
@click.option("--fallback/--no-fallback", default=None, help="Whether the general balance pays what its own lacks.")
@click.option(
    "--limits", metavar="JSON", type=TEXT,
    help="Other limits than the catalogue's, such as '{\"*\": {\"concurrent\": 5}}'; 'default': the catalogue's.",
)  # fmt: skip
@click.option(
    "--retention-days", metavar="DAYS", type=click.FloatRange(0, DAYS_MAX), callback=not_nan,
    help="Days its finished tasks are kept; 0: as the settings say.",
)  # fmt: skip
@one_sentence
def update(
    id_or_name: str, name: str | None, fallback: bool | None, limits: str | None, retention_days: float | None
) -> None:
    """Changes what is given and nothing else."""
    changes: dict[str, Any] = {}
    if name is not None:
        changes["name"] = check_name(name)
    if fallback is not None:
        changes["allow_consume_global"] = fallback
    if limits is not None:
        changes["limits"] = _limits(limits)
    if retention_days is not None:
        changes["retention_ms"] = max(round(retention_days * DAY_MS), 1) if retention_days else None
    if not changes:
        raise CommandError("nothing is to be changed: see 'bide application update --help'")
    _change(id_or_name, changes, "changed")


def _limits(text: str) -> Any:
    if text == "default":
        return None
    try:
        limits = json.loads(text)
    except (ValueError, RecursionError):
        raise CommandError("--limits: that is not JSON") from None
    check_limits(limits)
    return limits


@application.command()
@click.argument("id_or_name", metavar="APPLICATION", type=TEXT)
@one_sentence
def disable(id_or_name: str) -> None:
    """Refuses all requests of an application. A running gateway knows within two seconds."""
    _change(id_or_name, {"disabled": True}, "disabled")


@application.command()
@click.argument("id_or_name", metavar="APPLICATION", type=TEXT)
@one_sentence
def enable(id_or_name: str) -> None:
    """Lets the requests of an application in again."""
    _change(id_or_name, {"disabled": False}, "enabled")


def _change(id_or_name: str, changes: dict[str, Any], done: str) -> None:
    changed = run(_changed(settings_of(), id_or_name, changes))
    click.echo(f"Application {changed.id} is {done}.")


async def _changed(settings: Settings, id_or_name: str, changes: dict[str, Any]) -> Application:
    clock = Clock()
    async with opened(settings, clock) as db:
        found = await find_application(db, id_or_name)
        await write_one(db, lambda tx: applications.change(tx, clock.now_ms(), found.id, None, changes))
        return found
