"""`bide channel`: the accounts at upstreams, configured while the gateway runs or before.

All of it works on the database itself; every running process follows within two seconds. Those of `bide.toml` are
shown and tried here, and changed there.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click

from bide.catalog.load import of_settings as load_catalog
from bide.channels import configured, store
from bide.channels.load import build
from bide.channels.probe import Saw, probe
from bide.channels.secrets import Sealer
from bide.channels.store import Kept
from bide.cli.channel_options import asked, channel_options
from bide.cli.options import quiet_option
from bide.cli.shared import (
    TEXT,
    CommandError,
    json_option,
    one_sentence,
    opened,
    plain,
    print_json,
    print_pairs,
    print_table,
    run,
    seconds,
    settings_of,
    when,
)
from bide.clock import Clock
from bide.db import Database, write_one
from bide.outbound.client import Outbound
from bide.settings import ChannelSettings, Settings
from bide.tasks import inspect


@click.group()
def channel() -> None:
    """Adds, shows, tries, changes and removes channels."""


# -- add, change


@channel.command()
@click.argument("name", type=TEXT)
@click.option("--provider", type=TEXT, help="The dialect the upstream speaks.")
@channel_options
@click.option("--disabled", is_flag=True, help="It takes no work until it is enabled.")
@quiet_option
@json_option
@one_sentence
def add(name: str, provider: str | None, disabled: bool, quiet: bool, as_json: bool, **options: Any) -> None:
    """Adds a channel. Its key is kept sealed and never shown again but for its last four characters."""
    settings, wanted = settings_of(), asked(options)
    if provider is not None:
        wanted["provider"] = provider
    if not wanted.get("provider"):
        raise CommandError("say with --provider which dialect the upstream speaks")
    sealer = Sealer(settings)
    if any(one.name == name for one in settings.channels):
        raise CommandError(f"bide.toml has a channel {name!r}")
    new = configured.added(sealer, name, wanted, Clock().now_ms(), disabled=disabled)
    run(_add(settings, new))
    _tell(sealer)
    _say(new, f"Channel {name} is added; 'bide channel test {name}' tries it.", quiet=quiet, as_json=as_json)


async def _add(settings: Settings, new: Kept) -> None:
    async with opened(settings, Clock()) as db:
        there = await write_one(db, lambda tx: store.add(tx, new))
    if there is not None:
        raise CommandError(configured.taken(there).removeprefix("`name`: "))


@channel.command()
@click.argument("name", type=TEXT)
@channel_options
@quiet_option
@json_option
@one_sentence
def update(name: str, quiet: bool, as_json: bool, **options: Any) -> None:
    """Changes what is given and nothing else; options of the provider as a whole."""
    settings, wanted = settings_of(), asked(options)
    if not wanted:
        raise CommandError("nothing is to be changed: see 'bide channel update --help'")
    sealer = Sealer(settings)
    kept = run(_change(settings, name, lambda kept: configured.changed(sealer, kept, wanted)))
    _tell(sealer)
    _say(kept, f"Channel {name} is changed.", quiet=quiet, as_json=as_json)


@channel.command()
@click.argument("name", type=TEXT)
@quiet_option
@json_option
@one_sentence
def disable(name: str, quiet: bool, as_json: bool) -> None:
    """Lets a channel take no new work. What is open there goes on."""
    kept = run(_change(settings_of(), name, lambda kept: replace(kept, disabled=True)))
    _say(kept, f"Channel {name} is disabled.", quiet=quiet, as_json=as_json)


@channel.command()
@click.argument("name", type=TEXT)
@quiet_option
@json_option
@one_sentence
def enable(name: str, quiet: bool, as_json: bool) -> None:
    """Lets a channel take work again."""
    kept = run(_change(settings_of(), name, lambda kept: replace(kept, disabled=False)))
    _say(kept, f"Channel {name} is enabled.", quiet=quiet, as_json=as_json)


@channel.command()
@click.argument("name", type=TEXT)
@quiet_option
@json_option
@one_sentence
def remove(name: str, quiet: bool, as_json: bool) -> None:
    """Removes a channel: it takes no new work, and goes when what is open there is over."""
    now = Clock().now_ms()
    kept = run(_change(settings_of(), name, lambda kept: replace(kept, removed_at=now)))
    _say(kept, f"Channel {name} is removed.", quiet=quiet, as_json=as_json)


async def _change(settings: Settings, name: str, changed: Callable[[Kept], Kept]) -> Kept:
    async with opened(settings, Clock()) as db:
        now = Clock().now_ms()
        kept = await write_one(db, lambda tx: store.change(tx, now, name, changed))
    if kept is None:
        if any(one.name == name for one in settings.channels):
            raise CommandError(f"the channel {name!r} is configured in bide.toml: change it there")
        raise _missing(name)
    return kept


def _missing(name: str) -> CommandError:
    return CommandError(f"there is no channel {name!r}")


def _tell(sealer: Sealer) -> None:
    """To people and logs: it is named once, when it is made."""
    if sealer.made is not None:
        click.echo(
            f"bide: a secret key was made in {plain(str(sealer.made))}: keep a copy, without it the keys of channels"
            " are lost; other machines need the same (BIDE_SECRET_KEY)", err=True,
        )  # fmt: skip


def _say(kept: Kept, sentence: str, *, quiet: bool, as_json: bool) -> None:
    if as_json:
        print_json(_of_row(kept))
    else:
        click.echo(kept.name if quiet else sentence)


# -- list, show


@channel.command("list")
@quiet_option
@json_option
@one_sentence
def list_(quiet: bool, as_json: bool) -> None:
    """Lists all channels: those of bide.toml, of the database, and those being removed."""
    found = run(_every(settings_of()))
    if as_json:
        print_json(found)
    elif quiet:
        for one in found:
            click.echo(one["name"])
    else:
        print_table(
            ("name", "provider", "state", "configured in", "key", "priority", "weight", "base url"),
            [(one["name"], one.get("provider", "-"), one["state"], one["configured_in"], one["key"] or "-",
              f"{one.get('priority', 0)}", f"{one.get('weight', 1.0):g}", one.get("base_url") or "-")
             for one in found],
        )  # fmt: skip


async def _every(settings: Settings) -> list[dict[str, Any]]:
    async with opened(settings, Clock()) as db:
        rows = await store.every(db)
    own = configured.own(settings, rows)
    found = [_of_file(one, drained=drained) for one, drained in own.values()]
    found += [_of_row(row) for row in rows if row.name not in own]
    return sorted(found, key=lambda one: str(one["name"]))


def _of_file(one: ChannelSettings, *, drained: bool) -> dict[str, Any]:
    where = {"configured_in": "bide.toml", "state": "disabled" if drained else "in use"}
    return {"name": one.name, **configured.shown(one), "disabled": drained, **where, "created_at": None,
            "updated_at": None}  # fmt: skip


def _of_row(kept: Kept) -> dict[str, Any]:
    state = "disabled" if kept.disabled else "in use"
    return {
        "name": kept.name, **configured.shown_row(kept), "disabled": kept.disabled, "configured_in": "database",
        "state": state if kept.removed_at is None else "being removed", "created_at": seconds(kept.created_at),
        "updated_at": seconds(kept.updated_at),
    }  # fmt: skip


@channel.command()
@click.argument("name", type=TEXT)
@json_option
@one_sentence
def show(name: str, as_json: bool) -> None:
    """Shows a channel with all its settings, and how much is open there."""
    found = run(_show(settings_of(), name))
    if as_json:
        print_json(found)
        return
    times = {at: when(None if found[at] is None else round(found[at] * 1000)) for at in ("created_at", "updated_at")}
    print_pairs([(key.replace("_", " "), _text(value)) for key, value in {**found, **times}.items()])


async def _show(settings: Settings, name: str) -> dict[str, Any]:
    found = next((one for one in await _every(settings) if one["name"] == name), None)
    if found is None:
        raise _missing(name)
    async with opened(settings, Clock()) as db:
        return {**found, "open": await inspect.open_at(db, name)}


def _text(value: Any) -> str:
    match value:
        case None | "" | [] | () | {}:
            return "-"
        case bool():
            return "yes" if value else "no"
        case dict():
            return ", ".join(f"{name} = {_text(one)}" for name, one in value.items())
        case list() | tuple():
            return ", ".join(map(_text, value))
        case float():
            return f"{value:g}"
    return str(value)


# -- test


@channel.command()
@click.argument("name", type=TEXT)
@click.option("--capability", type=TEXT, default="", help="What it is asked for; else the cheapest it offers.")
@click.option("--model", type=TEXT, default="", help="The model, by the name callers use.")
@quiet_option
@json_option
@one_sentence
def test(name: str, capability: str, model: str, quiet: bool, as_json: bool) -> None:
    """Makes one smallest real call and says what came of it. The upstream may charge for it.

    Ends with 0 when the upstream did or accepted it, else with 1. With --quiet: answered, accepted, refused,
    not_reachable or unknown.
    """
    saw = run(_test(settings_of(), name, capability, model))
    if as_json:
        print_json(saw.document())
    elif quiet:
        click.echo(saw.verdict)
    else:
        asked_for = f"{saw.capability} with {saw.model}" if saw.model else saw.capability
        click.echo(plain(f"{saw.words} ({asked_for}, {saw.elapsed_ms / 1000:.1f} s)"))
        if saw.detail:
            click.echo(plain(f"The upstream said: {saw.detail}"))
    if not saw.works:
        sys.exit(1)


async def _test(settings: Settings, name: str, capability: str, model: str) -> Saw:
    clock = Clock()
    async with opened(settings, clock) as db:
        one = await _settings(settings, db, name)
    outbound = Outbound(settings, clock)
    try:
        found = build(settings, one, outbound)
        return await probe(found, load_catalog(settings), settings, clock, capability=capability, model=model)
    finally:
        await outbound.close()


async def _settings(settings: Settings, db: Database, name: str) -> ChannelSettings:
    own = configured.own(settings, await store.every(db)).get(name)
    if own is not None:
        return own[0]
    kept = await store.one(db, name)
    if kept is None:
        raise _missing(name)
    return configured.settings_of(Sealer(settings), kept)
