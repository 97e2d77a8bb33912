"""`bide user erase`: forgets a person. The parts of a gateway do it in this process, beside one that runs or not."""

import contextlib
import sys
from typing import Any

import click
import msgspec

from bide.app import open_gateway
from bide.cli.shared import TEXT, json_option, one_sentence, print_json, print_pairs, run, settings_of
from bide.cli.user import find_user
from bide.credits.pricing import shown
from bide.flow.erase import erase_user
from bide.settings import Settings


@click.command()
@click.argument("id_or_name", metavar="USER", type=TEXT)
@click.confirmation_option("--yes", prompt="All its tasks, files and tokens are deleted. Go on?", help="Do not ask.")
@json_option
@one_sentence
def erase(id_or_name: str, as_json: bool) -> None:
    """Deletes all that is known of a user, named by id or name, and prints the receipt.

    Its open tasks are cancelled, its tokens revoked; tasks, files and callbacks go. What stays is what the books are
    made of, without names. If it is interrupted, call it again with the id: it goes on, and ends with the receipt.
    """
    with contextlib.redirect_stdout(sys.stderr):  # log lines, should there be any
        receipt = run(_erase(settings_of(), id_or_name))
    if as_json:
        print_json(receipt)
        return
    deleted, revoked, kept = receipt["deleted"], receipt["revoked"], receipt["kept"]
    print_pairs([
        ("receipt", receipt["id"]), ("user", receipt["user_id"]), ("erased", receipt["at"]),
        ("deleted", f"{deleted['tasks']} tasks, {deleted['files']} files with {deleted['bytes']} bytes,"
                    f" {deleted['deliveries']} callbacks"),
        ("revoked", f"{revoked['credentials']} credentials, {revoked['platform_tokens']} platform tokens"),
        ("kept", f"{kept['usage_records']} usage records; {shown(kept['micro_credits']['used'])} credits used of"
                 f" {shown(kept['micro_credits']['granted'])}"),
        ("sha256", receipt["sha256"]),
    ])  # fmt: skip


async def _erase(settings: Settings, id_or_name: str) -> dict[str, Any]:
    async with open_gateway(settings) as gateway:
        one = await find_user(gateway.db, id_or_name)
        receipt: dict[str, Any] = msgspec.json.decode(await erase_user(gateway, one.id))
        return receipt
