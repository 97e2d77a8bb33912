"""`bide settings`: every setting with its value, its source and its meaning."""

import json
import os
import re
from pathlib import Path
from typing import Any

import click
import msgspec

from bide import settings as settings_module
from bide.cli.shared import MASKED, json_option, one_sentence, print_json, without_password
from bide.settings import FIELDS, ChannelSettings, is_secret, meaning, variable

_SECRET_OPTION = re.compile(r"(?i)key|secret|token|password|credential")


@click.command()
@json_option
@one_sentence
def settings(as_json: bool) -> None:
    """Prints every setting with its value, source and meaning.

    Secrets are masked. What is printed has the form of bide.toml.
    """
    values, sources = settings_module.load(os.environ, directory=Path.cwd())
    shown = [
        {"name": name, "variable": variable(name) if name != "channels" else None,
         "value": _masked(name, getattr(values, name)), "source": sources.get(name, "default"),
         "meaning": meaning(name)}
        for name in FIELDS
    ]  # fmt: skip
    if as_json:
        print_json(shown)
        return
    for one in shown:
        origin = f"{one['source']}; {one['variable']}" if one["variable"] else one["source"]
        click.echo(f"# {one['meaning']}")
        click.echo(f"{one['name']} = {_text(one['value'])}  # {origin}\n")


def _masked(name: str, value: Any) -> Any:
    if is_secret(name):
        return MASKED if value else ""
    if name == "channels":
        return [_channel(one) for one in value]
    return _without_passwords(value)


def _channel(channel: ChannelSettings) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(channel)
    shown["key"] = MASKED if channel.key else ""
    for name in ("base_url", "proxy"):
        shown[name] = without_password(shown[name])
    shown["options"] = _options(shown["options"])
    return shown


def _options(options: dict[str, Any]) -> dict[str, Any]:
    """A provider's own settings: we do not know which are secret, so names decide."""
    return {
        name: MASKED if value and _SECRET_OPTION.search(name)
        else _options(value) if isinstance(value, dict)
        else _without_passwords(value)
        for name, value in options.items()
    }  # fmt: skip


def _without_passwords(value: Any) -> Any:
    return without_password(value) if isinstance(value, str) else value


def _text(value: Any) -> str:
    """A value as `bide.toml` would have it, on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_text(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_text(one) for one in value) + "]"
    return json.dumps(value, default=str)
