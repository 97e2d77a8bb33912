"""`bide platform-token`: makes, lists and revokes the tokens of the management API."""

from typing import Any

import click

from bide.accounts import platform, users
from bide.accounts.store import OWNER
from bide.cli.options import expires_option, limit_option, quiet_option, say_more
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
from bide.cli.user import find_user, make_owner
from bide.clock import Clock
from bide.db import Row, Tx, write_one
from bide.settings import Settings


@click.group("platform-token")
def platform_token() -> None:
    """Creates, lists and revokes tokens of the management API."""


@platform_token.command()
@click.option("--user", "owner", metavar="USER", type=TEXT, default=OWNER, show_default=True, help="Whose it is.")
@click.option("--superuser", is_flag=True, help="It sees and changes everything, not its own account alone.")
@expires_option("--expires-in", "Days after which the token no longer works; else it works until it is revoked.")
@quiet_option
@one_sentence
def create(owner: str, superuser: bool, lasts_ms: int | None, quiet: bool) -> None:
    """Makes a token and prints it, once: only a hash of it is kept."""
    token_id, token, expires_at = run(_create(settings_of(), owner, superuser, lasts_ms))
    if quiet:
        click.echo(token)
        return
    whose = "sees and changes everything" if superuser else f"sees the account of {owner!r}"
    until = "until it is revoked" if expires_at is None else f"until {when(expires_at)}"
    click.echo(
        f"Platform token {token_id} {whose}, {until}.\nIt is shown once, and works on the management API alone.\n\n"
        f"    {token}\n"
    )


async def _create(
    settings: Settings, owner: str, superuser: bool, lasts_ms: int | None
) -> tuple[str, str, int | None]:
    """The id of the token, itself, and when it ends."""
    clock = Clock()
    token = platform.new_token(clock)
    async with opened(settings, clock) as db:
        if owner == OWNER:
            await make_owner(db, settings, clock)
        user = await find_user(db, owner)

        expires_at = None if lasts_ms is None else clock.now_ms() + lasts_ms

        async def create(tx: Tx) -> str | None:
            if await users.lock(tx, user.id) is None:
                return None
            return await platform.add(tx, clock, user.id, token, superuser=superuser, expires_at=expires_at)

        token_id = await write_one(db, create)
    if token_id is None:
        raise CommandError(f"the user {owner!r} was erased")
    return token_id, token, expires_at


@platform_token.command("list")
@click.option("--user", "owner", metavar="USER", type=TEXT, help="Only those of a user.")
@limit_option
@json_option
@one_sentence
def list_(owner: str | None, limit: int, as_json: bool) -> None:
    """Lists the tokens that were not revoked, oldest first, by their last four characters."""
    settings = settings_of()
    rows, names = run(_list(settings, owner, limit))
    if as_json:
        print_json([_document(row, names) for row in rows])
    elif rows:
        print_table(
            ("id", "user", "token", "superuser", "created", "expires"),
            [(row[0], names.get(row[1], "-"), f"{platform.FORM}…{row[2]}", "yes" if row[3] else "-", when(row[5]),
              when(row[4])) for row in rows],
        )  # fmt: skip
    else:
        click.echo(f"There are no platform tokens in {place(settings)}.")


async def _list(settings: Settings, owner: str | None, limit: int) -> tuple[list[Row], dict[str, str]]:
    async with opened(settings, Clock()) as db:
        user_id = None if owner is None else (await find_user(db, owner)).id
        total, rows = await platform.tokens(db, user_id, limit, 0, ascending=True)
        say_more(total, len(rows))
        return rows, await users.names(db, sorted({row[1] for row in rows}))


def _document(row: Row, names: dict[str, str]) -> dict[str, Any]:
    return {
        "id": row[0], "user_id": row[1], "user": names.get(row[1]), "token_end": row[2], "superuser": bool(row[3]),
        "expires_at": seconds(row[4]), "created_at": seconds(row[5]),
    }  # fmt: skip


@platform_token.command()
@click.argument("id_or_token", metavar="ID_OR_TOKEN", type=TEXT)
@quiet_option
@one_sentence
def revoke(id_or_token: str, quiet: bool) -> None:
    """Ends a platform token, named by its id or by itself, at once."""
    revoked = run(_revoke(settings_of(), id_or_token))
    if revoked is None:  # the argument may be a token: it is not repeated where logs may take it
        raise CommandError("there is no such platform token, or it was revoked before")
    click.echo(revoked if quiet else f"Platform token {revoked} is revoked.")


async def _revoke(settings: Settings, id_or_token: str) -> str | None:
    clock = Clock()
    async with opened(settings, clock) as db:
        found = await platform.manager(db, id_or_token)
        token_id = id_or_token if found is None else found.token_id
        done = await write_one(db, lambda tx: platform.revoke(tx, clock.now_ms(), token_id))
    return token_id if done else None
