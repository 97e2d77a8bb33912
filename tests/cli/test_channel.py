"""`bide channel`: accounts at upstreams are added, shown, tried, changed and removed; their keys are never seen."""

import json
import sqlite3
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bide.channels.secrets import FILE
from bide.cli import main
from bide.settings import Settings
from tests.cli.program import bide, output, parsed, real, refusal
from tests.system.processes import running, until

SECRET = "a secret key that is long enough for this"
KEY = "sk-live-0123456789abcdef"


@pytest.fixture(autouse=True)
def _secret_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BIDE_SECRET_KEY", SECRET)
    monkeypatch.setenv("UPSTREAM_KEY", KEY)
    monkeypatch.chdir(tmp_path)


def add(settings: Settings, name: str = "main", *more: str) -> str:
    return output(settings, "channel", "add", name, "--provider", "openai_images", "--base-url",
                  "https://api.example.com/v1", "--key-env", "UPSTREAM_KEY", *more)  # fmt: skip


def typed(settings: Settings, text: str, *arguments: str) -> Result:
    env = {"BIDE_DATA_DIR": settings.data_dir, "BIDE_DATABASE_URL": settings.database_url or None}
    return CliRunner().invoke(main, arguments, input=text, env=env)


def test_a_channel_is_added_listed_shown_changed_and_removed(on_both: Settings) -> None:
    said = add(on_both, "main", "--priority", "2", "--model-map", "a=b", "--application", "shop", "--option",
               "stream=true", "--option", "api_version=2025-04-01", "--capability", "image.edit")  # fmt: skip
    assert said == "Channel main is added; 'bide channel test main' tries it."
    assert output(on_both, "channel", "list", "--quiet") == "main\nsandbox"
    main_, sandbox = parsed(on_both, "channel", "list")
    assert (main_["state"], main_["configured_in"], main_["key"]) == ("in use", "database", "…cdef")
    assert (sandbox["state"], sandbox["configured_in"]) == ("disabled", "bide.toml")
    found = parsed(on_both, "channel", "show", "main")
    assert found["options"] == {"stream": True, "api_version": "2025-04-01"}
    assert (found["priority"], found["model_map"], found["applications"]) == (2, {"a": "b"}, ["shop"])
    assert (found["capabilities"], found["open"]) == (["image.edit"], 0)
    assert output(on_both, "channel", "update", "main", "--priority", "7", "--capability", "none", "-q") == "main"
    changed = parsed(on_both, "channel", "show", "main")
    assert (changed["priority"], changed["capabilities"], changed["model_map"]) == (7, [], {"a": "b"})
    assert "priority" in output(on_both, "channel", "show", "main")
    assert parsed(on_both, "channel", "disable", "main")["state"] == "disabled"
    assert parsed(on_both, "channel", "enable", "main")["state"] == "in use"
    assert output(on_both, "channel", "remove", "main") == "Channel main is removed."
    assert refusal(on_both, "channel", "show", "other") == "there is no channel 'other'"
    assert refusal(on_both, "channel", "update", "main", "--priority", "1") == "there is no channel 'main'"
    assert "its last work is not over" in refusal(
        on_both, "channel", "add", "main", "--provider", "sandbox", "--key-env", "UPSTREAM_KEY"
    )


def test_no_command_and_no_table_shows_a_key(on_sqlite: Settings) -> None:
    said = add(on_sqlite)
    said += output(on_sqlite, "channel", "update", "main", "--key-env", "UPSTREAM_KEY", "--json")
    said += output(on_sqlite, "channel", "list") + output(on_sqlite, "channel", "list", "--json")
    said += output(on_sqlite, "channel", "show", "main") + output(on_sqlite, "channel", "show", "main", "--json")
    assert KEY not in said
    assert "…cdef" in said
    with sqlite3.connect(on_sqlite.sqlite_path) as connection:
        dump = "\n".join(connection.iterdump())
    connection.close()
    assert "openai_images" in dump
    assert KEY not in dump
    assert KEY.encode().hex() not in dump.lower()


def test_a_key_comes_from_standard_input_a_file_a_variable_or_a_table_and_not_from_the_command_line(
    on_sqlite: Settings, tmp_path: Path
) -> None:
    ends = {}
    base = ("--provider", "openai_images", "--base-url", "https://a.test")
    assert typed(on_sqlite, "key-of-the-stdin-1111\n", "channel", "add", "a", *base, "--key-stdin").exit_code == 0
    (tmp_path / "key").write_text("key-of-the-file-2222\n")
    output(on_sqlite, "channel", "add", "b", *base, "--key-file", str(tmp_path / "key"))
    table = '[[channels]]\nname = "x"\nprovider = "openai_images"\nkey = "key-of-the-table-3333"\nweight = 4\n'
    assert typed(on_sqlite, table, "channel", "add", "c", "--from", "-").exit_code == 0
    output(on_sqlite, "channel", "add", "d", *base)
    ends = {one["name"]: one["key"] for one in parsed(on_sqlite, "channel", "list")}
    assert ends == {"a": "…1111", "b": "…2222", "c": "…3333", "d": None, "sandbox": None}
    bide(on_sqlite, "channel", "add", "e", *base, "--key", "sk-on-the-command-line", code=2)
    for secret in (("--option", "api_key=abc"), ("--proxy", "http://me:pass@proxy.test:1")):
        assert "--from" in refusal(on_sqlite, "channel", "add", "e", *base, *secret)
    assert output(on_sqlite, "channel", "update", "c", "--no-key") == "Channel c is changed."
    assert parsed(on_sqlite, "channel", "show", "c")["key"] is None


@pytest.mark.parametrize(("arguments", "said"), [
    (("add", "x"), "--provider"),
    (("add", "x", "--provider", "no_such"), "there is no provider 'no_such'"),
    (("add", "a b", "--provider", "sandbox"), "`name`"),
    (("add", "x", "--provider", "sandbox", "--key-env", "NOT_SET"), "NOT_SET is not set"),
    (("add", "x", "--provider", "sandbox", "--key-file", "nowhere"), "--key-file: No such file"),
    (("add", "x", "--provider", "sandbox", "--key-env", "UPSTREAM_KEY", "--no-key"), "one source"),
    (("add", "x", "--provider", "sandbox", "--weight", "0"), "weight"),
    (("add", "x", "--provider", "sandbox", "--option", "stream"), "--option: write it as NAME=VALUE"),
    (("update", "x"), "nothing is to be changed"),
    (("test", "x"), "there is no channel 'x'"),
    (("disable", "x"), "there is no channel 'x'"),
    (("remove", "x"), "there is no channel 'x'"),
])  # fmt: skip
def test_what_makes_no_sense_is_refused_in_one_sentence(
    on_sqlite: Settings, arguments: tuple[str, ...], said: str
) -> None:
    assert said in refusal(on_sqlite, "channel", *arguments)


def test_a_channel_of_the_settings_file_is_shown_and_not_changed(on_sqlite: Settings, tmp_path: Path) -> None:
    (tmp_path / "bide.toml").write_text(f'[[channels]]\nname = "own"\nprovider = "sandbox"\nkey = "{KEY}"\n')
    (own,) = parsed(on_sqlite, "channel", "list")
    assert (own["name"], own["configured_in"], own["key"]) == ("own", "bide.toml", "…cdef")
    assert "bide.toml" in refusal(on_sqlite, "channel", "add", "own", "--provider", "sandbox")
    assert "bide.toml" in refusal(on_sqlite, "channel", "disable", "own")


def test_the_first_key_makes_a_secret_key_and_names_its_file_once(
    on_sqlite: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BIDE_SECRET_KEY")
    base = ("--provider", "sandbox", "--key-env", "UPSTREAM_KEY")
    first = bide(on_sqlite, "channel", "add", "a", *base, "--quiet")
    assert first.stdout == "a\n"
    assert str(Path(on_sqlite.data_dir) / FILE) in first.stderr
    assert bide(on_sqlite, "channel", "add", "b", *base).stderr == ""


def test_test_says_what_it_saw_and_ends_with_it(on_sqlite: Settings) -> None:
    output(on_sqlite, "channel", "add", "drawing", "--provider", "sandbox", "--option", "delay_s=0")
    found = json.loads(output(on_sqlite, "channel", "test", "drawing", "--capability", "image.generate", "--json"))
    assert (found["verdict"], found["capability"]) == ("answered", "image.generate")
    assert output(on_sqlite, "channel", "test", "drawing", "--quiet") == "answered"
    assert output(on_sqlite, "channel", "test", "sandbox", "--quiet") == "accepted"
    output(on_sqlite, "channel", "add", "gone", "--provider", "openai_images", "--base-url", "http://127.0.0.1:9",
           "--key-env", "UPSTREAM_KEY")  # fmt: skip
    said = bide(on_sqlite, "channel", "test", "gone", code=1)
    assert said.stdout.startswith("It cannot be reached at http://127.0.0.1:9. (image.generate with ")
    assert KEY not in said.output
    assert bide(on_sqlite, "channel", "test", "gone", "-q", code=1).stdout == "not_reachable\n"


def test_a_running_gateway_follows_within_two_seconds(on_both: Settings, tmp_path: Path) -> None:
    assert real(on_both, "credential", "list", cwd=tmp_path).returncode == 0
    with running("serve", tmp_path, database_url=on_both.database_url or None) as serve:
        client = serve.client()
        body = {"prompt": "a boat"}
        assert client.post("/openai/images/generations", body).status == 200
        output(on_both, "channel", "add", "films", "--provider", "openai_videos", "--base-url", "http://127.0.0.1:9")

        def refused() -> bool:
            return client.post("/openai/images/generations", body).status == 400

        assert until(partial(refused), 3.0, "the sandbox to rest")
        output(on_both, "channel", "remove", "films")
        assert until(lambda: not refused(), 3.0, "the sandbox to answer")
