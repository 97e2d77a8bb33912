"""The commands as a whole: each explains itself, and a small one loads little."""

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from bide.cli import COMMANDS, main


def _all(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from _all(inner, (*path, name))


TREE = dict(_all(main))


@pytest.mark.parametrize("path", TREE, ids="-".join)
def test_every_command_and_every_option_is_explained(path: tuple[str, ...]) -> None:
    command = TREE[path]
    found = CliRunner().invoke(main, [*path, "--help"])
    assert found.exit_code == 0
    assert command.help
    assert command.help.split("\n")[0] in " ".join(found.output.split())
    assert all(option.help for option in command.params if isinstance(option, click.Option))


def test_the_help_lists_the_commands_with_the_first_one_first() -> None:
    said = CliRunner().invoke(main, ["--help"]).output
    listed = [line.split()[0] for line in said.partition("Commands:\n")[2].splitlines()]
    assert listed == list(COMMANDS)
    assert "..." not in said.partition("Commands:\n")[2], "a summary is too long for its line"


def test_an_unknown_command_is_a_usage_error() -> None:
    assert CliRunner().invoke(main, ["serv"]).exit_code == 2


def test_a_small_command_loads_neither_web_server_nor_http_client() -> None:
    program = (
        "import sys; from bide.cli import main; main(['settings'], standalone_mode=False);"
        " sys.exit(bool({'uvicorn', 'aiohttp', 'asyncpg', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.DEVNULL, timeout=60, check=False)
    assert done.returncode == 0
