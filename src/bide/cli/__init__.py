"""The command line: one file per group of commands."""

import click

from bide import __version__
from bide.cli.serve import api, serve, worker


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bide")
def main() -> None:
    """A self-hosted gateway for generative media."""


for _command in (serve, api, worker):
    main.add_command(_command)
