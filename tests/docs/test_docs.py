"""The documentation says what the code does: every name is there, every command runs, every link leads somewhere."""

import base64
import re
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from bide import settings
from bide.callbacks.signing import sign
from bide.catalog.load import load
from bide.cli import main as program
from bide.errors import ERRORS
from bide.settings import OTHER_VARIABLES, ChannelSettings

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    page for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md") for page in ROOT.glob(pattern)
)  # fmt: skip
REFERENCE = ROOT / "docs" / "reference"
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-tools.lock")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def _blocks(page: Path) -> Iterator[tuple[str, str]]:
    """(language, text) of each fenced block."""
    for found in re.finditer(r"^```(\w*)\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE):
        yield found[1], found[2]


def _commands(page: Path) -> Iterator[list[str]]:
    """The words of every `bide …` in a shell block, and of every one in the running text, with the `bide` first."""
    text = page.read_text("utf-8")
    lines = [line for language, block in _blocks(page) if language == "sh" for line in block.splitlines()]
    lines += re.findall(r"`(bide [^`\n]+)`", text)
    for line in lines:
        if found := re.search(r"(?:^|\s)(bide\s.+)", line.split("#")[0]):
            yield shlex.split(found[1])


def test_the_reference_is_up_to_date() -> None:
    made = subprocess.run(
        [sys.executable, "tools/reference.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr


def test_every_setting_is_documented() -> None:
    text = (REFERENCE / "settings.md").read_text("utf-8")
    names = [settings.variable(name) for name in settings.FIELDS if name != "channels"]
    missing = [name for name in names if f"| `{name}` |" not in text]
    missing += [name for name in ChannelSettings.__struct_fields__ if f"| `{name}` |" not in text]
    assert missing == []
    assert [name for name in settings.FIELDS if not settings.meaning(name)] == []


def test_every_setting_that_a_page_names_exists() -> None:
    known = {settings.variable(name) for name in settings.FIELDS} | OTHER_VARIABLES
    for page in PAGES:
        named = set(re.findall(r"\bBIDE_[A-Z0-9_]*[A-Z0-9]", page.read_text("utf-8")))
        assert {name for name in named if name.removesuffix("_FILE") not in known} == set(), page


def test_every_error_is_documented() -> None:
    text = (REFERENCE / "errors.md").read_text("utf-8")
    assert [
        code for code, error in ERRORS.items() if f"| {error.status} | `{code}` | {error.meaning} |" not in text
    ] == []


def test_every_operation_with_its_paths_and_fields_is_documented() -> None:
    text = (REFERENCE / "operations.md").read_text("utf-8")
    for service in load().services.values():
        for operation in service.operations.values():
            section = text.split(f"`{operation.key}`")[1].split("\n### ")[0]
            assert [path for path in operation.paths if f"`POST {path}`" not in section] == []
            assert [name for name in operation.fields if f"| `{name}`" not in section] == []
        assert [path for path in service.tasks_paths if f"`POST {path}`" not in text] == []


def test_every_command_is_documented() -> None:
    text = (REFERENCE / "commands.md").read_text("utf-8")
    assert [path for path in _paths(program, "bide") if f"## {path}\n" not in text] == []


def _paths(command: click.Command, path: str) -> list[str]:
    if not isinstance(command, click.Group):
        return [path]
    return [found for name in command.commands for found in _paths(command.commands[name], f"{path} {name}")]


@pages
def test_every_documented_command_is_understood(page: Path) -> None:
    for words in _commands(page):
        _parse(words)


def _parse(words: list[str]) -> None:
    """Follows the words through the groups and lets the last command parse the rest; nothing is run."""
    command: click.Command = program
    rest = words[1:]
    if rest[0] in ("COMMAND", "--help", "--version"):
        return
    with click.Context(program, info_name="bide") as context:
        while isinstance(command, click.Group) and rest:
            name, found, rest = command.resolve_command(context, rest)
            assert found is not None, f"{shlex.join(words)}: there is no command {name}"
            command = found
        if rest and "[OPTIONS]" not in rest:
            command.make_context(" ".join(words), [part for part in rest if part != "\\"], resilient_parsing=False)


@pages
def test_every_documented_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    text = page.read_text("utf-8")
    named = set(re.findall(r"`make ([a-z]+)", text))
    for language, block in _blocks(page):
        if language == "sh":
            named |= set(re.findall(r"^make ([a-z]+)", block, re.MULTILINE))
    assert named <= targets


@pages
def test_every_link_between_files_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        file = page if not target else page.parent / target
        assert file.exists(), link
        assert ROOT in file.resolve().parents, link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}, link


@pages
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    for name in re.findall(r"`((?:src|tests|tools|bench|docs|examples)/[\w./-]+)`", page.read_text("utf-8")):
        assert (ROOT / name).exists() or name.startswith("bench/out"), name


@pages
def test_every_example_in_toml_or_python_is_well_formed(page: Path) -> None:
    for language, block in _blocks(page):
        if language == "toml":
            tomllib.loads(block)
        if language == "python":
            compile(block, str(page), "exec")


def test_the_example_of_channels_is_accepted(tmp_path: Path) -> None:
    (block, *_) = [block for language, block in _blocks(ROOT / "docs" / "channels.md") if language == "toml"]
    (tmp_path / "bide.toml").write_text(block, "utf-8")
    found, _ = settings.load({}, directory=tmp_path)
    assert [channel.name for channel in found.channels] == ["openai", "own-server"]


def test_the_example_that_verifies_a_callback_does() -> None:
    (block, *_) = [block for language, block in _blocks(ROOT / "docs" / "callbacks.md") if language == "python"]
    names: dict[str, Any] = {}
    exec(block, names)
    secret, sent_at, body = "whsec_" + base64.b64encode(b"k" * 24).decode(), int(time.time()), b'{"success":true}'
    headers = {
        "webhook-id": "an-id",
        "webhook-timestamp": str(sent_at),
        "webhook-signature": sign(f"another {secret}", "an-id", sent_at, body),
    }
    assert names["is_genuine"](secret, headers, body)
    assert not names["is_genuine"](secret, headers, body + b" ")
    assert not names["is_genuine"](secret, headers | {"webhook-timestamp": str(sent_at - 301)}, body)


def test_decisions_are_short_and_listed() -> None:
    decisions = [page for page in (ROOT / "docs" / "decisions").glob("*.md") if page.name != "README.md"]
    index = (ROOT / "docs" / "decisions" / "README.md").read_text("utf-8")
    assert decisions
    assert [page.name for page in decisions if len(page.read_text("utf-8").splitlines()) >= 40] == []
    assert [page.name for page in decisions if f"({page.name})" not in index] == []


def test_lock_files_name_no_host() -> None:
    for name in LOCKS:
        text = (ROOT / name).read_text("utf-8")
        assert "://" not in text
        assert "--index" not in text
        assert "--hash=sha256:" in text


def test_the_locks_agree_with_each_other() -> None:
    """What the tests run with is what a run installs."""
    run, dev = (set(re.findall(r"^(\S+==\S+)", (ROOT / name).read_text("utf-8"), re.M)) for name in LOCKS[:2])
    assert run - dev == set()


def test_no_file_names_a_place_on_one_machine() -> None:
    """A path of somebody's home or work directory means that it works there alone."""
    place = re.compile(r"(?:^|[\s\"'(=`])/(?:home|Users)/\w|" + re.escape(str(ROOT)))
    found = []
    for folder in ("src", "tests", "bench", "docs", "tools", "examples", ".ci", "."):
        files = (ROOT / folder).rglob("*") if folder != "." else ROOT.glob("*")
        for file in files:
            if file.suffix in (".py", ".md", ".toml", ".sql", ".lock", ".sh", "") and file.is_file():
                text = file.read_text("utf-8", errors="replace")
                found += [f"{file}: {line.strip()}" for line in text.splitlines() if place.search(line)]
    assert found == []
