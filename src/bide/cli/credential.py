"""`bide credential`: makes, lists, changes and revokes the tokens that callers send.

All of it works on the database itself: before the first start, while a gateway runs, and while none does. A
running gateway keeps what it knows of a token for at most two seconds.
"""

from collections.abc import Sequence
from typing import Any

import click

from bide.accounts import credentials, store, users
from bide.accounts.credentials import Credential, Filter, check_api_ids, check_host
from bide.accounts.users import NAME_MAX
from bide.catalog.load import of_settings as load_catalog
from bide.cli.application import find_application
from bide.cli.options import expires_option, limit_option, quiet_option, say_more
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
from bide.credits import ledger
from bide.credits.granting import amount_of
from bide.credits.pricing import credits
from bide.credits.pricing import shown as shown_credits
from bide.db import Database, Tx, write_one
from bide.settings import Settings

NONE = "none"
"""Takes a bound away."""


@click.group()
def credential() -> None:
    """Creates, lists, changes and revokes the tokens of callers."""


# -- create


@credential.command()
@click.option("--application", metavar="APPLICATION", type=TEXT, help="Id or name; else the owner's first one.")
@click.option("--name", type=TEXT, default="default", show_default=True, help="What it is for, for people.")
@expires_option("--expires-in", "Days after which the token no longer works; else it works until it is revoked.")
@click.option("--cap", metavar="CREDITS", type=TEXT, help="What it may spend in all.")
@click.option("--host", type=TEXT, help="The one host it may be used at, without port.")
@click.option("--api", "apis", metavar="API", type=TEXT, multiple=True,
              help="An operation it may be used for, such as openai/images/generations; repeatable.")  # fmt: skip
@quiet_option
@one_sentence
def create(
    application: str | None, name: str, lasts_ms: int | None, cap: str | None, host: str | None,
    apis: tuple[str, ...], quiet: bool,
) -> None:  # fmt: skip
    """Makes a token and prints it, once: only a hash of it is kept."""
    about, token = _about(name, cap, host, apis), Clock().token()
    made = run(_create(settings_of(), application, token, about, lasts_ms))
    if quiet:
        click.echo(token)
        return
    until = "until it is revoked" if made.expires_at is None else f"until {when(made.expires_at)}"
    click.echo(f"Credential {made.id} works {until}.")
    _print_token(token)


def _print_token(token: str) -> None:
    click.echo(f"This is its token; it is shown once.\n\n    export BIDE_TOKEN={token}\n")


def _about(name: str | None, cap: str | None, host: str | None, apis: Sequence[str]) -> dict[str, Any]:
    """The columns that options set; `none` takes a bound away."""
    about: dict[str, Any] = {}
    if name is not None:
        if not 1 <= len(name) <= NAME_MAX:
            raise CommandError(f"--name: a name has 1 to {NAME_MAX} characters")
        about["name"] = name
    if cap is not None:
        about["limited_amount"] = None if cap == NONE else amount_of("--cap", cap)
        if (about["limited_amount"] or 0) < 0:
            raise CommandError("--cap: it must not be less than 0")
    if host is not None:
        about["host"] = None if host == NONE else check_host(host)
    if apis:
        about["allowed_api_ids"] = () if apis == (NONE,) else _api_ids(apis)
    return about


def _api_ids(apis: Sequence[str]) -> tuple[str, ...]:
    """Ids of operations that are named by id or as `service/path`."""
    ids = {one.key: one.entry.api_id for service in load_catalog(settings_of()).services.values()
           for one in service.operations.values()}  # fmt: skip
    return check_api_ids([ids.get(api, api) for api in apis], ids.values())


async def _create(
    settings: Settings, application: str | None, token: str, about: dict[str, Any], lasts_ms: int | None
) -> Credential:
    clock = Clock()
    async with opened(settings, clock) as db:
        if application is not None:
            application_id = (await find_application(db, application)).id
        else:
            await make_owner(db, settings, clock)
            row = await write_one(db, store.default_application)
            if row is None:
                raise CommandError("the owner has no application that a credential could belong to")
            application_id = row[0]

        async def create(tx: Tx) -> Credential | None:
            until = None if lasts_ms is None else clock.now_ms() + lasts_ms
            return await credentials.create(tx, clock, application_id, None, token, about | {"expires_at": until})

        made = await write_one(db, create)
    if made is None:
        raise CommandError("the user of that application was erased")
    return made


# -- list, show


@credential.command("list")
@click.option("--application", metavar="APPLICATION", type=TEXT, help="Only those of an application.")
@click.option("--user", "owner", metavar="USER", type=TEXT, help="Only those of a user.")
@limit_option
@json_option
@one_sentence
def list_(application: str | None, owner: str | None, limit: int, as_json: bool) -> None:
    """Lists all credentials, oldest first; of a token only its last four characters are known."""
    settings = settings_of()
    shown = run(_list(settings, application, owner, limit))
    if as_json:
        print_json([_document(*one) for one in shown])
    elif shown:
        print_table(
            ("id", "name", "token", "created", "expires", "revoked"),
            [(one.id, one.name, f"…{one.token_end}", when(one.created_at), when(one.expires_at), when(one.revoked_at))
             for one, _, _ in shown],
        )  # fmt: skip
    else:
        click.echo(f"There are no credentials in {place(settings)}.")


_Shown = tuple[Credential, str, int]
"""A credential, the name of its user, and the micro-credits it has used."""


async def _list(settings: Settings, application: str | None, owner: str | None, limit: int) -> list[_Shown]:
    async with opened(settings, Clock()) as db:
        application_id = None if application is None else (await find_application(db, application)).id
        user_id = None if owner is None else (await find_user(db, owner)).id
        wanted = Filter(user_id, application_id, revoked=True)
        total, found = await credentials.listed(db, wanted, limit, 0, ascending=True)
        say_more(total, len(found))
        return await _shown(db, found)


async def _shown(db: Database, found: Sequence[Credential]) -> list[_Shown]:
    names = await users.names(db, sorted({one.user_id for one in found}))
    spent = await ledger.spent(db, [one.id for one in found])
    return [(one, names.get(one.user_id, one.user_id), spent.get(one.id, (0, 0))[0]) for one in found]


def _document(one: Credential, user: str, used: int) -> dict[str, Any]:
    return {
        "id": one.id, "name": one.name, "token_end": one.token_end, "application_id": one.application_id,
        "user": user, "created_at": seconds(one.created_at), "updated_at": seconds(one.updated_at),
        "expires_at": seconds(one.expires_at), "revoked_at": seconds(one.revoked_at), "disabled": one.disabled,
        "limited_amount": None if one.limited_amount is None else credits(one.limited_amount),
        "used_amount": credits(used), "host": one.host, "allowed_api_ids": list(one.allowed_api_ids),
        "metadata": one.metadata,
    }  # fmt: skip


@credential.command()
@click.argument("id_or_token", metavar="ID_OR_TOKEN", type=TEXT)
@json_option
@one_sentence
def show(id_or_token: str, as_json: bool) -> None:
    """Shows a credential with its bounds and what it has used."""
    one, user, used = run(_show(settings_of(), id_or_token))
    if as_json:
        print_json(_document(one, user, used))
        return
    cap = "-" if one.limited_amount is None else shown_credits(one.limited_amount)
    print_pairs([
        ("id", one.id), ("name", one.name), ("token", f"…{one.token_end}"), ("application", one.application_id),
        ("user", user), ("used", shown_credits(used)), ("cap", cap), ("host", one.host or "any"),
        ("operations", ", ".join(one.allowed_api_ids) or "all"), ("disabled", "yes" if one.disabled else "no"),
        ("created", when(one.created_at)), ("updated", when(one.updated_at)), ("expires", when(one.expires_at)),
        ("revoked", when(one.revoked_at)),
    ])  # fmt: skip


async def _show(settings: Settings, id_or_token: str) -> _Shown:
    async with opened(settings, Clock()) as db:
        found = await credentials.named(db, id_or_token)
        if found is None:
            raise CommandError("there is no such credential")
        return (await _shown(db, [found]))[0]


# -- change


@credential.command()
@click.argument("id_or_token", metavar="ID_OR_TOKEN", type=TEXT)
@click.option("--name", type=TEXT, help="Another name.")
@expires_option("--expires-in", "Days from now after which the token no longer works.")
@click.option("--never-expires", is_flag=True, help="It works until it is revoked.")
@click.option("--cap", metavar="CREDITS", type=TEXT, help="What it may spend in all; 'none': no cap.")
@click.option("--host", type=TEXT, help="The one host it may be used at, without port; 'none': any.")
@click.option("--api", "apis", metavar="API", type=TEXT, multiple=True,
              help="An operation it may be used for; repeatable; 'none': all.")  # fmt: skip
@click.option("--disable/--enable", "disabled", default=None, help="Whether its requests are refused.")
@one_sentence
def update(
    id_or_token: str, name: str | None, lasts_ms: int | None, never_expires: bool, cap: str | None,
    host: str | None, apis: tuple[str, ...], disabled: bool | None,
) -> None:  # fmt: skip
    """Changes what is given and nothing else. A running gateway knows within two seconds."""
    changes = _about(name, cap, host, apis)
    if never_expires:
        changes["expires_at"] = None
    elif lasts_ms is not None:
        changes["expires_at"] = Clock().now_ms() + lasts_ms
    if disabled is not None:
        changes["disabled"] = disabled
    if not changes:
        raise CommandError("nothing is to be changed: see 'bide credential update --help'")
    changed = run(_changed(settings_of(), id_or_token, changes=changes))
    click.echo(f"Credential {changed} is changed.")


@credential.command()
@click.argument("id_or_token", metavar="ID_OR_TOKEN", type=TEXT)
@quiet_option
@one_sentence
def rotate(id_or_token: str, quiet: bool) -> None:
    """Gives a credential another token and prints it, once. The old one ends, within two seconds where it runs."""
    token = Clock().token()
    changed = run(_changed(settings_of(), id_or_token, token=token))
    if quiet:
        click.echo(token)
        return
    click.echo(f"Credential {changed} has another token.")
    _print_token(token)


async def _changed(
    settings: Settings, id_or_token: str, *, changes: dict[str, Any] | None = None, token: str = ""
) -> str:
    """Sets columns, or a new token; answers the id."""
    clock = Clock()

    async def change(tx: Tx, credential_id: str) -> Credential | None:
        if changes is not None:
            return await credentials.change(tx, clock.now_ms(), credential_id, None, changes)
        return await credentials.rotate(tx, clock.now_ms(), credential_id, None, token)

    async with opened(settings, clock) as db:
        found = await credentials.named(db, id_or_token)
        changed = None if found is None else await write_one(db, lambda tx: change(tx, found.id))
    if changed is None:
        raise CommandError("there is no such credential, or it was revoked before")
    return changed.id


# -- revoke


@credential.command()
@click.argument("id_or_token", metavar="ID_OR_TOKEN", type=TEXT)
@quiet_option
@one_sentence
def revoke(id_or_token: str, quiet: bool) -> None:
    """Ends a credential, named by its id or by its token. A running gateway knows within two seconds."""
    revoked = run(_revoke(settings_of(), id_or_token))
    if revoked is None:  # the argument may be a token: it is not repeated where logs may take it
        raise CommandError("there is no such credential, or it was revoked before")
    click.echo(revoked if quiet else f"Credential {revoked} is revoked.")


async def _revoke(settings: Settings, id_or_token: str) -> str | None:
    clock = Clock()
    async with opened(settings, clock) as db:
        return await write_one(db, lambda tx: credentials.revoke_named(tx, clock.now_ms(), id_or_token))
