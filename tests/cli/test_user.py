"""`bide user`: who pays, by id or by name."""

import json

import pytest

from bide.settings import Settings
from tests.cli.program import bide, output, parsed, refusal


def test_a_user_is_made_listed_and_shown_with_its_balances(on_both: Settings) -> None:
    made = output(on_both, "user", "create", "Zoë 灯台", "--quiet")
    (row,) = parsed(on_both, "user", "list")
    assert (row["id"], row["name"], row["erased_at"]) == (made, "Zoë 灯台", None)
    assert made in output(on_both, "user", "list")
    application = output(on_both, "application", "create", "--user", "Zoë 灯台", "--service", "openai", "--quiet")
    for named in (made, "Zoë 灯台"):
        shown = parsed(on_both, "user", "show", named)
        assert shown["id"] == made
        (found,) = shown["applications"]
        assert (found["id"], found["service_id"], found["remaining_amount"]) == (application, "openai", 2)
        assert application in output(on_both, "user", "show", named)


def test_a_name_is_taken_once_and_must_be_one(on_both: Settings) -> None:
    assert "Ada" in output(on_both, "user", "create", "Ada")
    assert "'Ada'" in refusal(on_both, "user", "create", "Ada")
    for wrong in ("", "n" * 101, "a\nb"):
        assert "name" in refusal(on_both, "user", "create", wrong)
    assert len(parsed(on_both, "user", "list")) == 1


def test_a_user_that_is_not_there_is_one_sentence(on_sqlite: Settings) -> None:
    assert "'nobody'" in refusal(on_sqlite, "user", "show", "nobody")


def test_a_list_that_was_cut_says_so_beside_what_it_lists(on_sqlite: Settings) -> None:
    for name in ("Ada", "Zoë", "Eve"):
        output(on_sqlite, "user", "create", name)
    found = bide(on_sqlite, "user", "list", "--limit", "2", "--json")
    assert [row["name"] for row in json.loads(found.stdout)] == ["Ada", "Zoë"]
    assert found.stderr == "bide: 1 more not listed: see --limit\n"


def test_an_empty_list_says_where_it_looked(on_sqlite: Settings) -> None:
    assert on_sqlite.sqlite_path in output(on_sqlite, "user", "list")
    assert parsed(on_sqlite, "user", "list") == []


@pytest.mark.parametrize("arguments", [("create",), ("create", "\udcff"), ("show",), ("list", "--limit", "0")])
def test_a_wrong_argument_is_a_usage_error(on_sqlite: Settings, arguments: tuple[str, ...]) -> None:
    bide(on_sqlite, "user", *arguments, code=2)
