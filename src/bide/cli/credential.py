"""`bide credential`: makes, lists and revokes the tokens that callers send.

All of it works on the database itself: before the first start, while a gateway runs, and while none does. A
running gateway keeps what it knows of a token for at most two seconds.
"""

import math
from typing import Any

import click

from bide.accounts import store
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
from bide.clock import Clock
from bide.db import Row, Tx, write_one
from bide.settings import DAY_S, Settings

NAME_MAX = 100
DAYS_MAX = 36_500.0

quiet_option = click.option("--quiet", "-q", is_flag=True, help="Print one bare value, for scripts.")


def _number(_ctx: click.Context, _param: click.Parameter, value: float | None) -> float | None:
    if value is not None and math.isnan(value):  # which is in every range
        raise click.BadParameter("is not a number")
    return value


@click.group()
def credential() -> None:
    """Creates, lists and revokes the tokens of callers."""


@credential.command()
@click.option("--name", type=TEXT, default="default", show_default=True, help="What it is for, for people.")
@click.option(
    "--expires-in", metavar="DAYS", type=click.FloatRange(0, DAYS_MAX, min_open=True), callback=_number,
    help="Days after which the token no longer works; without it, it works until it is revoked.",
)  # fmt: skip
@quiet_option
@one_sentence
def create(name: str, expires_in: float | None, quiet: bool) -> None:
    """Makes a token and prints it, once: only a hash of it is kept."""
    if not 1 <= len(name) <= NAME_MAX:
        raise CommandError(f"--name: a name has 1 to {NAME_MAX} characters")
    clock = Clock()
    token = clock.token()
    expires_at = None if expires_in is None else clock.now_ms() + int(expires_in * DAY_S * 1000)
    credential_id = run(_create(settings_of(), clock, name, token, expires_at))
    if quiet:
        click.echo(token)
        return
    until = "until it is revoked" if expires_at is None else f"until {when(expires_at)}"
    click.echo(
        f"Credential {credential_id} works {until}.\nThis is its token; it is shown once.\n\n"
        f"    export BIDE_TOKEN={token}\n"
    )


async def _create(settings: Settings, clock: Clock, name: str, token: str, expires_at: int | None) -> str:
    async def create(tx: Tx) -> str:
        await store.ensure_owner(tx, clock)
        application = await store.default_application(tx)
        if application is None:
            raise CommandError("the owner has no application that a credential could belong to")
        return await store.add_credential(tx, clock, application[0], application[1], name, token, expires_at)

    async with opened(settings, clock) as db:
        return await write_one(db, create)


@credential.command("list")
@json_option
@one_sentence
def list_(as_json: bool) -> None:
    """Lists all credentials, oldest first; of a token only its last four characters are known."""
    settings = settings_of()
    rows = run(_list(settings))
    if as_json:
        print_json([_document(row) for row in rows])
    elif rows:
        print_table(
            ("id", "name", "token", "created", "expires", "revoked"),
            [(row[0], row[1], f"…{row[2]}", when(row[5]), when(row[6]), when(row[7])) for row in rows],
        )
    else:
        click.echo(f"There are no credentials in {place(settings)}.")


async def _list(settings: Settings) -> list[Row]:
    async with opened(settings, Clock()) as db:
        return await store.credentials(db)


def _document(row: Row) -> dict[str, Any]:
    return {
        "id": row[0], "name": row[1], "token_end": row[2], "application_id": row[3], "user": row[4],
        "created_at": seconds(row[5]), "expires_at": seconds(row[6]), "revoked_at": seconds(row[7]),
        "disabled": bool(row[8]),
    }  # fmt: skip


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
        return await write_one(db, lambda tx: store.revoke(tx, clock.now_ms(), id_or_token))
