"""The command line: one file per group of commands, loaded when it is asked for.

A process that serves needs a web server and an HTTP client, `bide settings` needs neither; loading both would
make every small command wait for them.
"""

import io
import sys

import click

from bide import __version__
from bide.cli.lazy import Loaded

COMMANDS = {
    "serve": "bide.cli.serve",
    "api": "bide.cli.serve",
    "worker": "bide.cli.serve",
    "demo": "bide.cli.demo",
    "channel": "bide.cli.channel",
    "user": "bide.cli.user",
    "application": "bide.cli.application",
    "credential": "bide.cli.credential",
    "grant": "bide.cli.grant",
    "platform-token": "bide.cli.platform_token",
    "usage": "bide.cli.usage",
    "audit": "bide.cli.audit",
    "task": "bide.cli.task",
    "settings": "bide.cli.settings",
    "db": "bide.cli.db",
}
"""Each command and the module that has it under the same name (`-` is `_` there), in the order of the help."""


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # not sorted: what is asked for first stands first


@click.group(cls=_Group, commands=Loaded(COMMANDS), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bide")
def main() -> None:
    """A self-hosted gateway for generative media.

    'bide serve' runs it, 'bide demo' shows it. Settings come from bide.toml and from BIDE_... variables:
    'bide settings' prints them all.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a character the terminal does not have is no failure
