"""`bide application`: subscriptions and what may be changed about them, while a gateway runs and while none does."""

import json
import re
from pathlib import Path

import pytest

from bide.settings import Settings
from tests.cli.program import bide, output, parsed, refusal
from tests.system.client import Client
from tests.system.processes import running, until

CACHE_S = 2.0
"""Seconds a running gateway may go on with what it knows of a token."""


def test_on_a_laptop_an_application_is_the_owners_and_comes_with_the_free_quota_once(on_both: Settings) -> None:
    first = output(on_both, "application", "create", "--service", "openai", "--quiet")
    second = output(on_both, "application", "create", "--service", "openai", "--name", "more", "--quiet")
    rows = {row["id"]: row for row in parsed(on_both, "application", "list", "--service", "openai")}
    assert list(rows) == [first, second]
    assert [row["remaining_amount"] for row in rows.values()] == [2, 0]
    assert [row["paid"] for row in rows.values()] == [False, False]
    assert len({row["user_id"] for row in rows.values()}) == 1
    everything = parsed(on_both, "application", "list", "--user", "owner")
    assert [row["name"] for row in everything] == ["default", "openai", "more"]
    assert re.search(r"^left +2$", output(on_both, "application", "show", first), re.MULTILINE)


def test_an_application_is_named_by_its_id_or_by_a_name_that_no_other_has(on_both: Settings) -> None:
    one = output(on_both, "application", "create", "--name", "pictures", "--quiet")
    assert parsed(on_both, "application", "show", "pictures") == parsed(on_both, "application", "show", one)
    other = output(on_both, "application", "create", "--name", "pictures", "--quiet")
    assert "by its id" in refusal(on_both, "application", "show", "pictures")
    assert parsed(on_both, "application", "show", other)["id"] == other
    assert "'nothing'" in refusal(on_both, "application", "show", "nothing")


def test_what_is_given_is_changed_and_nothing_else(on_both: Settings) -> None:
    one = output(on_both, "application", "create", "--service", "openai", "--quiet")
    before = parsed(on_both, "application", "show", one)
    limits = {"openai": {"concurrent": 5}}
    output(on_both, "application", "update", one, "--name", "Zoë", "--fallback", "--limits", json.dumps(limits),
           "--retention-days", "1.5")  # fmt: skip
    after = parsed(on_both, "application", "show", one)
    changed = {"name": "Zoë", "allow_consume_global": True, "limits": limits, "retention_days": 1.5}
    assert after == before | changed | {"updated_at": after["updated_at"]}
    output(on_both, "application", "update", one, "--no-fallback", "--limits", "default", "--retention-days", "0")
    last = parsed(on_both, "application", "show", one)
    assert last == before | {"name": "Zoë", "updated_at": last["updated_at"]}
    assert "Zoë" in output(on_both, "application", "show", one)


def test_a_running_gateway_knows_within_two_seconds_that_an_application_is_disabled(
    on_sqlite: Settings, tmp_path: Path
) -> None:
    with running("serve", tmp_path) as serve:
        client = serve.client()
        assert client.task("x") == {}
        for command, code in (("disable", "disabled"), ("enable", "")):
            output(on_sqlite, "application", command, "default")
            until(lambda code=code: _code(client) == code, CACHE_S + 1, command)


def _code(client: Client) -> str:
    answer = client.post("/openai/tasks", {"action": "retrieve", "id": "x"})
    return "" if answer.status == 200 else answer.code


@pytest.mark.parametrize(("arguments", "word"), [
    (("create", "--service", "nothing"), "openai"), (("create", "--user", "nobody"), "nobody"),
    (("create", "--name", ""), "name"), (("update", "default"), "nothing is to be changed"),
    (("update", "default", "--limits", "{"), "--limits"), (("update", "default", "--limits", "[]"), "limits"),
    (("update", "default", "--limits", '{"*": {"calls": 1}}'), "calls"), (("disable", "nothing"), "nothing"),
    (("update", "default", "--name", "n" * 101), "name"), (("list", "--user", "nobody"), "nobody"),
])  # fmt: skip
def test_what_is_wrong_is_said_in_one_sentence(on_sqlite: Settings, arguments: tuple[str, ...], word: str) -> None:
    assert word in refusal(on_sqlite, "application", *arguments)


@pytest.mark.parametrize("arguments", [
    ("show",), ("update", "x", "--retention-days", "-1"), ("update", "x", "--retention-days", "nan"),
    ("create", "--name", "\udcff"),
])  # fmt: skip
def test_a_wrong_argument_is_a_usage_error(on_sqlite: Settings, arguments: tuple[str, ...]) -> None:
    bide(on_sqlite, "application", *arguments, code=2)


def test_an_empty_list_says_where_it_looked(on_sqlite: Settings) -> None:
    assert on_sqlite.sqlite_path in output(on_sqlite, "application", "list")
    assert parsed(on_sqlite, "application", "list") == []
