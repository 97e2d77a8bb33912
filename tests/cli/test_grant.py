"""`bide grant`: credit by hand, exactly once where it has an id, and never below zero."""

import pytest

from bide.settings import Settings
from tests.cli.program import bide, output, parsed, refusal


def application(settings: Settings) -> str:
    """The id of an application without credit."""
    return output(settings, "application", "create", "--name", "mine", "--quiet")


def test_credit_is_added_and_taken_away_exactly(on_both: Settings) -> None:
    one = application(on_both)
    assert output(on_both, "grant", "mine", "10.000001", "--memo", "a gift", "--quiet") == "10.000001"
    assert output(on_both, "grant", one, "-4", "--quiet") == "6.000001"
    assert "6.500001" in output(on_both, "grant", one, "0.5")
    assert "6.500001" in refusal(on_both, "grant", one, "-7")
    shown = parsed(on_both, "application", "show", one)
    assert (shown["remaining_amount"], shown["paid"]) == (6.500001, True)


def test_the_same_id_twice_is_one_grant(on_both: Settings) -> None:
    one = application(on_both)
    assert output(on_both, "grant", one, "5", "--id", "order-1", "--quiet") == "5"
    assert output(on_both, "grant", one, "5", "--id", "order-1", "--quiet") == "5"
    assert "before" in output(on_both, "grant", one, "5", "--id", "order-1")
    assert "another amount" in refusal(on_both, "grant", one, "6", "--id", "order-1")


@pytest.mark.parametrize("amount", ["0", "x", "nan", "inf", "1e13", "0.0000001", "-1", "--5", "1e999999999"])
def test_what_is_no_amount_is_refused(on_sqlite: Settings, amount: str) -> None:
    one = application(on_sqlite)
    assert "amount" in refusal(on_sqlite, "grant", one, amount)
    assert parsed(on_sqlite, "application", "show", one)["remaining_amount"] == 0


def test_an_application_that_is_not_there_is_one_sentence(on_sqlite: Settings) -> None:
    assert "'nothing'" in refusal(on_sqlite, "grant", "nothing", "5")


def test_an_option_that_is_not_there_is_a_usage_error(on_sqlite: Settings) -> None:
    bide(on_sqlite, "grant", "x", "5", "--memoo", "why", code=2)
    bide(on_sqlite, "grant", "x", code=2)
