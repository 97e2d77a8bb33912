"""What `bide channel add` and `update` take, and where a key comes from: never the command line, which every user of
a machine can read."""

import os
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from bide.channels import configured
from bide.cli.shared import TEXT, CommandError
from bide.settings import ChannelSettings

NONE = "none"
"""Takes away what was set."""

_PLAIN = (
    ("base_url", TEXT, "URL", "Where the upstream is, up to and with its version path."),
    ("priority", click.INT, None, "Channels with the highest are asked first."),
    ("weight", click.FLOAT, None, "Share of the calls among those of the same priority."),
    ("cost", click.FLOAT, None, "What a call costs beside other channels."),
    ("concurrency", click.INT, None, "Calls open at once; 0: no bound."),
    ("rate_per_minute", click.INT, None, "Submissions in a minute; 0: no bound."),
    ("timeout_s", click.FLOAT, None, "Seconds one call may take."),
    ("connect_s", click.FLOAT, None, "Seconds to connect."),
    ("on_unknown", click.Choice(["fail", "resend"]), None, "What happens when the outcome is not known."),
    ("proxy", TEXT, "URL", "HTTP proxy of its calls, without a password; 'none': no proxy."),
)
_LISTS = (
    ("capability", "capabilities", "CAPABILITY", "What it may be asked for; repeatable; 'none': all it can."),
    ("model", "models", "PATTERN", "Models it answers; repeatable; 'none': every one."),
    ("application", "applications", "APPLICATION", "Who may use it, by id or name; repeatable; 'none': everybody."),
)
_PAIRS = (
    ("model-map", "model_map", "NAME=UPSTREAM", "A model's name and the upstream's; repeatable; 'none': no map."),
    ("option", "options", "NAME=VALUE", "A setting of the provider, JSON or text; repeatable; 'none': no options."),
)
_SOURCES = ("key_stdin", "key_env", "key_file", "no_key")


def channel_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a channel. The command gets them as one mapping: `asked(options)`."""
    options = [
        click.option(f"--{name.replace('_', '-')}", name, type=kind, metavar=metavar, help=help)
        for name, kind, metavar, help in _PLAIN
    ]
    options += [
        click.option(f"--{name}", into, type=TEXT, metavar=metavar, multiple=True, help=help)
        for name, into, metavar, help in (*_LISTS, *_PAIRS)
    ]
    options += [
        click.option("--key-stdin", is_flag=True, help="Read the key from standard input; a terminal is asked."),
        click.option("--key-env", metavar="VARIABLE", type=TEXT, help="Take the key from a variable."),
        click.option("--key-file", metavar="FILE", type=TEXT, help="Read the key from a file, now and only now."),
        click.option("--no-key", is_flag=True, help="It has no key, or no longer."),
        click.option("--from", "source", metavar="FILE", type=TEXT,
                     help="Settings as in a [[channels]] table of bide.toml, a key too; '-': standard input."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def asked(options: dict[str, Any]) -> dict[str, Any]:
    """What the options ask for, by the names of `ChannelSettings`; a file's settings give way to options."""
    found = _of_file(options["source"]) if options.get("source") else {}
    for name, *_ in _PLAIN:
        if options.get(name) is not None:
            found[name] = "" if options[name] == NONE else options[name]
    for _, name, _, _ in _LISTS:
        if options[name]:
            found[name] = () if options[name] == (NONE,) else options[name]
    for option, name, _, _ in _PAIRS:
        if options[name]:
            found[name] = {} if options[name] == (NONE,) else _pairs(option, options[name], json=name == "options")
    given = {name: found[name] for name in ("options", "proxy") if options.get(name)}
    if configured.holds_secret(given):
        raise CommandError("a secret on the command line can be seen by others: give it with --from FILE")
    key = _key(options)
    return found if key is None else {**found, "key": key}


def _pairs(option: str, values: Sequence[str], *, json: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not name or not equals:
            raise CommandError(f"--{option}: write it as NAME=VALUE")
        found[name] = _value(text) if json else text
    return found


def _value(text: str) -> Any:
    """JSON, or the text itself where it is none."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _key(options: dict[str, Any]) -> str | None:
    """The key, empty if there is to be none; None: nothing is said of it."""
    given = [name for name in _SOURCES if options.get(name)]
    if len(given) > 1:
        raise CommandError("name one source of the key: --key-stdin, --key-env, --key-file or --no-key")
    if options.get("no_key"):
        return ""
    if options.get("key_env"):
        key = os.environ.get(options["key_env"])
        if not key:
            raise CommandError(f"--key-env: the variable {options['key_env']} is not set, or empty")
        return key.strip()
    if options.get("key_file"):
        return _kept(_read("--key-file", options["key_file"]), "--key-file")
    if options.get("key_stdin"):
        text = click.prompt("Key", hide_input=True, err=True) if sys.stdin.isatty() else _stdin()
        return _kept(text, "--key-stdin")
    return None


def _kept(text: str, option: str) -> str:
    if not text.strip():
        raise CommandError(f"{option}: there is no key: '--no-key' if there is to be none")
    return text.strip()


def _stdin() -> str:
    try:
        return bytes(sys.stdin.buffer.read()).decode("utf-8")
    except UnicodeDecodeError:
        raise CommandError("what is read from standard input is not UTF-8 text") from None


def _read(option: str, path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{option}: {getattr(error, 'strerror', None) or 'is not UTF-8 text'}: {path}") from None


def _of_file(path: str) -> dict[str, Any]:
    """The keys of a `[[channels]]` table, alone or as the only table of a file such as `bide.toml`."""
    text = _stdin() if path == "-" else _read("--from", path)
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CommandError(f"--from: {error}") from None
    tables = found.get("channels", [found])
    if not isinstance(tables, list) or len(tables) != 1 or not isinstance(tables[0], dict):
        raise CommandError("--from: the file must hold one channel")
    one = dict(tables[0])
    unknown = sorted(set(one) - set(ChannelSettings.__struct_fields__))
    if unknown:
        raise CommandError(f"--from: there is no setting {unknown[0]!r}")
    one.pop("name", None)  # the argument says it
    if one.get("key_file"):
        one["key"] = _kept(_read("key_file", str(one.pop("key_file"))), "key_file")
    return one
