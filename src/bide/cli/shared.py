"""What every command needs: the settings, a database, errors as one sentence, and text that is safe to print."""

import asyncio
import contextlib
import functools
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar

import click
import msgspec
import uvloop

from bide import db as database
from bide import settings as settings_module
from bide.clock import Clock
from bide.db import Database, DatabaseError
from bide.db.migrate import prepare
from bide.errors import GatewayError
from bide.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")

MASKED = "***"

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


class CommandError(GatewayError):
    """Why a command did not do what it was asked for, in one sentence."""


def settings_of(**options: Any) -> Settings:
    """The settings of this process; options of the command line that were given win over all sources."""
    settings, _ = settings_module.load(os.environ, directory=Path.cwd())
    given = {name: value for name, value in options.items() if value is not None}
    return msgspec.structs.replace(settings, **given) if given else settings


def fail(error: GatewayError) -> NoReturn:
    click.echo(f"bide: {plain(' '.join(str(error).split()))}", err=True)
    sys.exit(1)


def one_sentence(command: Callable[P, T]) -> Callable[P, T]:
    """An error we know ends a command with its sentence, not with a traceback."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except GatewayError as error:
            fail(error)

    return wrapped


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine on the fast event loop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)


# -- the database


@contextlib.asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Database]:
    """The database as it is. What its driver raises becomes a sentence."""
    db = await database.connect(settings)
    try:
        yield db
    except db.errors as error:
        raise DatabaseError(f"The database refused: {error}") from error
    finally:
        await db.close()


@contextlib.asynccontextmanager
async def opened(settings: Settings, clock: Clock) -> AsyncIterator[Database]:
    """The database, made ready as a starting gateway makes it: so commands work before the first start too."""
    async with connected(settings) as db:
        await prepare(db, clock)
        yield db


# -- arguments


class _Text(click.ParamType[str]):
    """An argument that is not UTF-8 comes to us as lone surrogates, which no database takes."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            self.fail("is not UTF-8 text", param, ctx)
        return str(value)


TEXT = _Text()


# -- printing


def plain(text: str) -> str:
    """Text of callers and upstreams without what a terminal would obey."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def print_json(value: Any) -> None:
    """JSON in ASCII, which every terminal and every pipe can take."""
    click.echo(json.dumps(value, indent=2))


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they must be."""
    lines = [head, *([plain(value) for value in row] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    for line in lines:
        click.echo("  ".join(value.ljust(width) for value, width in zip(line, widths, strict=True)).rstrip())


def print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """One `name  value` per line."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        click.echo(f"{name.ljust(width)}  {plain(value)}".rstrip())


def when(at_ms: int | None) -> str:
    """A time for people: UTC, to the millisecond; `-` if there is none."""
    if at_ms is None:
        return "-"
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.") + f"{at_ms % 1000:03}Z"


def seconds(at_ms: int | None) -> float | None:
    """A time for programs: Unix seconds, as in task documents."""
    return None if at_ms is None else at_ms / 1000


def without_password(address: str) -> str:
    """An address whose password, in front of the host or in the query, is masked."""
    address = re.sub(r"(://[^:@/?#]*):.*@", rf"\1:{MASKED}@", address)
    return re.sub(r"(?i)([?&][^=&#]*(?:password|secret|token)=)[^&#]*", rf"\1{MASKED}", address)


def place(settings: Settings) -> str:
    """Where the database is."""
    return without_password(settings.database_url) or settings.sqlite_path
