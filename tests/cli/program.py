"""Runs commands of the program: in this process where that is enough, and as a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from bide.cli import main
from bide.settings import Settings
from tests.system.processes import environment


def bide(settings: Settings, *arguments: str, code: int = 0, **more: object) -> Result:
    """One command on the data directory and the database of `settings`; it must end with `code`."""
    found = CliRunner().invoke(main, arguments, env=_environment(settings, more))
    assert found.exit_code == code, f"{arguments} ended with {found.exit_code}: {found.output} {found.exception!r}"
    if code:
        assert isinstance(found.exception, SystemExit), found.exception
    return found


def output(settings: Settings, *arguments: str) -> str:
    """What a command that succeeds prints, without the last line break."""
    found = bide(settings, *arguments)
    assert not found.stderr, found.stderr
    return found.stdout.rstrip("\n")


def parsed(settings: Settings, *arguments: str) -> Any:
    """The JSON a command prints."""
    return json.loads(output(settings, *arguments, "--json"))


def refusal(settings: Settings, *arguments: str) -> str:
    """The one sentence with which a command fails; nothing else is printed."""
    found = bide(settings, *arguments, code=1)
    assert found.stdout == ""
    assert found.stderr.startswith("bide: ")
    assert found.stderr.count("\n") == 1
    return found.stderr.removeprefix("bide: ").rstrip("\n")


def real(settings: Settings, *arguments: str, cwd: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """The real program, as a process of its own, with further variables of the environment."""
    env = {name: value for name, value in _environment(settings, {}).items() if value is not None}
    return subprocess.run(
        [sys.executable, "-m", "bide", *arguments], cwd=cwd, env=environment(cwd) | env | variables,
        capture_output=True, encoding=variables.get("PYTHONIOENCODING", "utf-8"), timeout=60, check=False,
    )  # fmt: skip


def _environment(settings: Settings, more: dict[str, object]) -> dict[str, str | None]:
    given = {f"BIDE_{name.upper()}": str(value) for name, value in more.items()}
    return {"BIDE_DATA_DIR": settings.data_dir, "BIDE_DATABASE_URL": settings.database_url or None} | given
