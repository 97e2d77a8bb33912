"""`bide credential`, before the first start, while a gateway runs, and with arguments that are wrong."""

import re
from functools import partial
from pathlib import Path

import pytest

from bide.accounts.tokens import hashed
from bide.settings import Settings
from tests.cli.program import bide, output, parsed, real, refusal
from tests.system.client import Client
from tests.system.processes import running, until

TOKEN = re.compile(r"[0-9a-f]{32}")
CACHE_S = 2.0
"""Seconds a running gateway may go on with what it knows of a token."""


def test_tokens_made_before_and_during_a_run_work_until_they_are_revoked(on_both: Settings, tmp_path: Path) -> None:
    early = real(on_both, "credential", "create", "--name", "early", "--quiet", cwd=tmp_path)
    assert early.returncode == 0, early.stderr
    assert TOKEN.fullmatch(early.stdout.rstrip("\n"))
    before = early.stdout.strip()
    with running("serve", tmp_path, database_url=on_both.database_url or None) as serve:
        assert serve.client().task("x") == {}, "the bootstrap token works beside a credential that was there first"
        during = output(on_both, "credential", "create", "--quiet")
        names = {row["token_end"]: row["id"] for row in parsed(on_both, "credential", "list")}
        clients = serve.client(before), serve.client(during)
        for client in clients:
            assert client.task("x") == {}
        for named, token in ((before, before), (names[during[-4:]], during)):
            assert output(on_both, "credential", "revoke", named, "--quiet") == names[token[-4:]]
        for client in clients:
            assert until(partial(_refused, client), CACHE_S + 1, "a refusal") == "invalid_token"
        assert serve.client().task("x") == {}


def _refused(client: Client) -> str:
    answer = client.post("/openai/tasks", {"action": "retrieve", "id": "x"})
    return answer.code if answer.status == 401 else ""


def test_the_first_credential_makes_the_owner_and_later_ones_share_its_application(on_both: Settings) -> None:
    output(on_both, "credential", "create")
    output(on_both, "credential", "create")
    rows = parsed(on_both, "credential", "list")
    assert len(rows) == 2
    assert {row["user"] for row in rows} == {"owner"}
    assert len({row["application_id"] for row in rows}) == 1


def test_a_token_is_shown_once_and_no_list_has_it_or_its_hash(on_both: Settings) -> None:
    said = output(on_both, "credential", "create", "--name", "laptop")
    (token,) = TOKEN.findall(said)
    (row,) = parsed(on_both, "credential", "list")
    assert (row["name"], row["token_end"], row["expires_at"], row["revoked_at"]) == ("laptop", token[-4:], None, None)
    for listed in (output(on_both, "credential", "list"), output(on_both, "credential", "list", "--json")):
        assert row["id"] in listed
        assert token[-4:] in listed
        assert token not in listed
        assert hashed(token) not in listed


def test_a_credential_can_expire(on_sqlite: Settings) -> None:
    output(on_sqlite, "credential", "create", "--expires-in", "1.5")
    (row,) = parsed(on_sqlite, "credential", "list")
    assert round(row["expires_at"] - row["created_at"]) == 129_600


def test_revoking_says_what_was_revoked_and_the_list_says_when(on_sqlite: Settings) -> None:
    output(on_sqlite, "credential", "create")
    (row,) = parsed(on_sqlite, "credential", "list")
    assert row["id"] in output(on_sqlite, "credential", "revoke", row["id"])
    (after,) = parsed(on_sqlite, "credential", "list")
    assert after["revoked_at"] >= row["created_at"]


def test_revoking_what_is_not_there_fails_without_repeating_it(on_both: Settings) -> None:
    token = output(on_both, "credential", "create", "--quiet")
    assert output(on_both, "credential", "revoke", token, "--quiet")
    for unknown in (token, "f" * 32):
        assert unknown not in refusal(on_both, "credential", "revoke", unknown, "--quiet")


def test_an_empty_list_says_where_it_looked(on_sqlite: Settings) -> None:
    assert on_sqlite.sqlite_path in output(on_sqlite, "credential", "list")
    assert parsed(on_sqlite, "credential", "list") == []


@pytest.mark.parametrize("name", ["", "n" * 101])
def test_a_name_is_neither_empty_nor_endless(on_sqlite: Settings, name: str) -> None:
    assert "--name" in refusal(on_sqlite, "credential", "create", "--name", name)


@pytest.mark.parametrize("arguments", [
    ("create", "--expires-in", "0"), ("create", "--expires-in", "-1"), ("create", "--expires-in", "1e9"),
    ("create", "--expires-in", "nan"), ("create", "--name", "\udcff"), ("revoke",), ("revoke", "\udcff"),
])  # fmt: skip
def test_a_wrong_argument_is_a_usage_error(on_sqlite: Settings, arguments: tuple[str, ...]) -> None:
    bide(on_sqlite, "credential", *arguments, code=2)
    assert not Path(on_sqlite.data_dir).exists()


def test_a_terminal_that_lacks_a_character_is_no_failure(on_sqlite: Settings, tmp_path: Path) -> None:
    output(on_sqlite, "credential", "create", "--name", "Zoë 灯台")
    assert "Zoë 灯台" in output(on_sqlite, "credential", "list")
    listed = real(on_sqlite, "credential", "list", cwd=tmp_path, PYTHONIOENCODING="latin-1")
    assert listed.returncode == 0, listed.stderr
    assert r"Zoë \u706f\u53f0" in listed.stdout


# -- bounds, changes, rotation


def test_a_credential_has_the_bounds_it_was_made_with_and_they_can_be_changed(on_both: Settings) -> None:
    output(on_both, "application", "create", "--service", "openai", "--name", "pictures")
    token = output(
        on_both, "credential", "create", "--application", "pictures", "--cap", "2.5", "--host", "API.example.com",
        "--api", "openai/images/generations", "--api", "openai/images/edits", "--quiet",
    )  # fmt: skip
    shown = parsed(on_both, "credential", "show", token)
    assert (shown["limited_amount"], shown["used_amount"], shown["host"]) == (2.5, 0, "api.example.com")
    assert len(shown["allowed_api_ids"]) == 2
    assert token not in output(on_both, "credential", "show", token)
    assert parsed(on_both, "credential", "list", "--application", "pictures") == [shown]
    assert parsed(on_both, "credential", "list", "--user", "owner") == [shown]
    output(on_both, "credential", "update", shown["id"], "--cap", "none", "--host", "none", "--api",
           shown["allowed_api_ids"][0], "--name", "Zoë", "--disable", "--expires-in", "1")  # fmt: skip
    after = parsed(on_both, "credential", "show", shown["id"])
    assert after["allowed_api_ids"] == shown["allowed_api_ids"][:1]
    changed = {"limited_amount": None, "host": None, "name": "Zoë", "disabled": True}
    assert after.items() >= changed.items()
    assert after["expires_at"] is not None
    output(on_both, "credential", "update", token, "--enable", "--never-expires", "--api", "none")
    last = parsed(on_both, "credential", "show", token)
    assert (last["disabled"], last["expires_at"], last["allowed_api_ids"]) == (False, None, [])


def test_a_running_gateway_knows_a_new_token_at_once_and_forgets_the_old(on_both: Settings, tmp_path: Path) -> None:
    before = output(on_both, "credential", "create", "--quiet")
    with running("serve", tmp_path, database_url=on_both.database_url or None) as serve:
        old = serve.client(before)
        assert old.task("x") == {}
        after = output(on_both, "credential", "rotate", before, "--quiet")
        assert TOKEN.fullmatch(after)
        assert serve.client(after).task("x") == {}
        assert until(partial(_refused, old), CACHE_S + 1, "a refusal") == "invalid_token"
    (row,) = [one for one in parsed(on_both, "credential", "list") if one["token_end"] == after[-4:]]
    (other,) = TOKEN.findall(output(on_both, "credential", "rotate", row["id"]))
    assert parsed(on_both, "credential", "show", row["id"])["token_end"] == other[-4:]


@pytest.mark.parametrize(("arguments", "word"), [
    (("create", "--application", "nothing"), "nothing"), (("create", "--cap", "-1"), "--cap"),
    (("create", "--cap", "x"), "--cap"), (("create", "--host", "a b"), "host"),
    (("create", "--api", "openai/nothing"), "openai/nothing"), (("update", "x"), "nothing is to be changed"),
    (("update", "x", "--disable"), "there is no such credential"), (("rotate", "x"), "there is no such credential"),
    (("show", "x"), "there is no such credential"), (("list", "--application", "nothing"), "nothing"),
    (("list", "--user", "nobody"), "nobody"),
])  # fmt: skip
def test_what_is_wrong_is_said_in_one_sentence(on_sqlite: Settings, arguments: tuple[str, ...], word: str) -> None:
    assert word in refusal(on_sqlite, "credential", *arguments)


def test_a_revoked_credential_is_shown_but_not_changed(on_both: Settings) -> None:
    token = output(on_both, "credential", "create", "--quiet")
    output(on_both, "credential", "revoke", token)
    assert parsed(on_both, "credential", "show", token)["revoked_at"] is not None
    for arguments in (("update", token, "--enable"), ("rotate", token), ("revoke", token)):
        assert token not in refusal(on_both, "credential", *arguments)
