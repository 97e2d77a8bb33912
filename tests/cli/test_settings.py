"""`bide settings`: all of them, with their sources, and no secret among them."""

import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bide.cli import main
from bide.settings import FIELDS, Settings, is_secret, load
from tests.cli.program import parsed

CHANNEL = """
lease_s = 3.5
[[channels]]
name = "ours"
provider = "openai_images"
base_url = "https://me:hidden-1@upstream.example/v1"
key = "hidden-2"
model_map = {"*" = "m"}
options = {api_key = "hidden-3", region = "eu", nested = {client_secret = "hidden-4", depth = 2}}
"""


def _settings(*arguments: str, code: int = 0, **environment: str) -> Result:
    found = CliRunner().invoke(main, ["settings", *arguments], env=environment)
    assert found.exit_code == code, found.output
    return found


def test_every_setting_is_printed_with_its_meaning(on_sqlite: Settings) -> None:
    shown = parsed(on_sqlite, "settings")
    assert [one["name"] for one in shown] == list(FIELDS)
    assert all(one["meaning"] for one in shown)
    text = _settings().stdout
    for one in shown:
        assert f"# {one['meaning']}\n{one['name']} = " in text


def test_what_is_printed_is_a_settings_file_with_the_same_meaning(tmp_path: Path) -> None:
    (tmp_path / "bide.toml").write_text(_settings().stdout, "utf-8")
    assert load({}, directory=tmp_path)[0] == Settings()


def test_a_source_is_the_default_the_file_or_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("lease_s = 3.5\nport = 1\n")
    said = _settings(BIDE_CONFIG=str(path), BIDE_PORT="8123").stdout
    assert "lease_s = 3.5  # mine.toml; BIDE_LEASE_S\n" in said
    assert "port = 8123  # environment; BIDE_PORT\n" in said
    assert 'host = "127.0.0.1"  # default; BIDE_HOST\n' in said


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_no_secret_is_printed(arguments: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "bide.toml"
    path.write_text(CHANNEL)
    environment = {f"BIDE_{name.upper()}": f"hidden-of-{name}" for name in FIELDS if is_secret(name)}
    said = _settings(
        *arguments, BIDE_CONFIG=str(path), BIDE_DATABASE_URL="postgresql://me:hid/den@5@h:5432/d?sslpassword=hidden",
        **environment,
    ).stdout  # fmt: skip
    assert "hid" not in said
    assert "postgresql://me:***@h:5432/d?sslpassword=***" in said
    assert said.count('"***"') == len(environment) + 3
    for kept in ("https://me:***@upstream.example/v1", "eu", "ours", "openai_images"):
        assert kept in said


def test_a_channel_is_printed_as_the_file_would_have_it(tmp_path: Path) -> None:
    path = tmp_path / "bide.toml"
    path.write_text(CHANNEL)
    (channel,) = tomllib.loads(_settings(BIDE_CONFIG=str(path)).stdout)["channels"]
    assert channel["model_map"] == {"*": "m"}
    assert channel["options"] == {"api_key": "***", "region": "eu", "nested": {"client_secret": "***", "depth": 2}}


def test_a_wrong_setting_is_one_sentence_that_names_it() -> None:
    found = _settings(code=1, BIDE_PORT="x")
    assert found.stdout == ""
    assert found.stderr.startswith("bide: BIDE_PORT (environment): ")
    assert found.stderr.count("\n") == 1
