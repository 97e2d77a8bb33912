"""What every command needs: the settings, a gateway or a database, and errors as one sentence."""

import asyncio
import functools
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar

import click
import msgspec
import uvloop

from bide import settings as settings_module
from bide.errors import GatewayError
from bide.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")


def settings_of(**options: Any) -> Settings:
    """The settings of this process; options of the command line that were given win over all sources."""
    settings, _ = settings_module.load(os.environ, directory=Path.cwd())
    given = {name: value for name, value in options.items() if value is not None}
    return msgspec.structs.replace(settings, **given) if given else settings


def fail(error: GatewayError) -> NoReturn:
    click.echo(f"bide: {error}", err=True)
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
