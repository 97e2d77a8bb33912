"""`bide platform-token`: the keys of the management API, before and while a gateway runs."""

import re
from pathlib import Path

import pytest

from bide.accounts.tokens import hashed
from bide.settings import Settings
from tests.cli.program import bide, output, parsed, refusal
from tests.system.processes import running

TOKEN = re.compile(r"platform-v1-[0-9a-f]{32}")


def test_a_token_made_before_a_run_works_until_it_is_revoked(on_both: Settings, tmp_path: Path) -> None:
    token = output(on_both, "platform-token", "create", "--superuser", "--quiet")
    assert TOKEN.fullmatch(token)
    with running("serve", tmp_path, database_url=on_both.database_url or None) as serve:
        client = serve.client(token)
        me = client.get("/admin/api/v1/platform-tokens/me/")
        assert (me.status, me.json["superuser"], me.json["name"]) == (200, True, "owner")
        assert client.post("/openai/tasks", {"action": "retrieve", "id": "x"}).code == "invalid_token"
        assert output(on_both, "platform-token", "revoke", token, "--quiet") == me.json["id"]
        assert client.get("/admin/api/v1/platform-tokens/me/").code == "invalid_token"


def test_a_token_is_shown_once_and_no_list_has_it_or_its_hash(on_both: Settings) -> None:
    output(on_both, "user", "create", "Ada")
    said = output(on_both, "platform-token", "create", "--user", "Ada", "--expires-in", "2")
    (token,) = TOKEN.findall(said)
    (row,) = parsed(on_both, "platform-token", "list")
    assert (row["user"], row["token_end"], row["superuser"]) == ("Ada", token[-4:], False)
    assert round(row["expires_at"] - row["created_at"]) == pytest.approx(172_800, abs=60)
    for listed in (output(on_both, "platform-token", "list"), output(on_both, "platform-token", "list", "--json")):
        assert row["id"] in listed
        assert token not in listed
        assert hashed(token) not in listed
    assert parsed(on_both, "platform-token", "list", "--user", "Ada") == [row]
    assert row["id"] in output(on_both, "platform-token", "revoke", row["id"])
    assert parsed(on_both, "platform-token", "list") == []


def test_revoking_what_is_not_there_fails_without_repeating_it(on_both: Settings) -> None:
    token = output(on_both, "platform-token", "create", "--quiet")
    output(on_both, "platform-token", "revoke", token)
    for unknown in (token, "platform-v1-" + "f" * 32):
        assert unknown not in refusal(on_both, "platform-token", "revoke", unknown)


def test_what_is_wrong_is_said_in_one_sentence(on_sqlite: Settings) -> None:
    assert "'nobody'" in refusal(on_sqlite, "platform-token", "create", "--user", "nobody")
    assert "'nobody'" in refusal(on_sqlite, "platform-token", "list", "--user", "nobody")
    bide(on_sqlite, "platform-token", "create", "--expires-in", "0", code=2)


def test_an_empty_list_says_where_it_looked(on_sqlite: Settings) -> None:
    assert on_sqlite.sqlite_path in output(on_sqlite, "platform-token", "list")
    assert parsed(on_sqlite, "platform-token", "list") == []
