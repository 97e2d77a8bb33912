"""Amounts and prices: exact decimals, and never more than was asked for."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bide.credits.pricing import (
    CREDITS_MAX,
    MICRO,
    UNIT_CREDITS_MAX,
    UNITS_MAX,
    Price,
    credits,
    fixed,
    micro,
    shown,
    unit_price,
    units,
)


@pytest.mark.parametrize(("amount", "found"), [
    (0.14, 140_000), (0.1 + 0.2, 300_000), (1, 1_000_000), ("0.000001", 1), ("0.0000005", 1), ("0.0000004", 0),
    ("0.00000049999999999999999999999999999999999", 0), (1.0000005, 1_000_001), (Decimal("2.5"), 2_500_000),
    (-1, -1_000_000), ("-0.5", -500_000), (0, 0), (1e-300, 0), (CREDITS_MAX, CREDITS_MAX * MICRO),
])  # fmt: skip
def test_credits_become_whole_micro_credits(amount: Any, found: int) -> None:
    assert micro(amount) == found


@pytest.mark.parametrize("amount", [
    "nan", "inf", "-inf", "sNaN", float("nan"), float("inf"), Decimal("nan"), "", "a lot", "1,5", "1e400", 1e300,
    "1e99999999999999999999", CREDITS_MAX + 1, 10**4000, None,
])  # fmt: skip
def test_what_is_not_an_amount_is_refused(amount: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        micro(amount)


@pytest.mark.parametrize(("amount", "text"), [
    (140_000, "0.14"), (1_000_000, "1"), (0, "0"), (1, "0.000001"), (-2_000_000, "-2"), (-500_000, "-0.5"),
    (10_000_000, "10"), (1_000_001, "1.000001"),
])  # fmt: skip
def test_micro_credits_are_shown_as_credits(amount: int, text: str) -> None:
    assert shown(amount) == text
    assert repr(credits(amount)) == (text if amount != 1 else "1e-06")


@given(st.integers(-(10**15), 10**15))
def test_an_amount_that_was_shown_is_read_back_as_it_was(amount: int) -> None:
    assert micro(shown(amount)) == amount
    assert micro(credits(amount)) == amount


@given(st.integers(0, 10**12), st.integers(1, UNITS_MAX), st.integers())
def test_a_charge_is_never_negative_and_never_above_the_total(each: int, asked: int, done: int) -> None:
    price = Price(each, asked, "Count")
    assert 0 <= price.charge(done) <= price.total == price.charge(asked)
    assert price.charge(0) == 0
    assert price.total <= 2**63 - 1


def test_only_the_units_that_succeeded_are_charged() -> None:
    price = Price(140_000, 4, "Count")
    assert [price.charge(done) for done in (-1, 0, 1, 3, 4, 9)] == [0, 0, 140_000, 420_000, 560_000, 560_000]


@pytest.mark.parametrize(("value", "found"), [
    (0.14, 140_000), ("0.5", 500_000), (-1, 0), (float("nan"), 0), (float("inf"), UNIT_CREDITS_MAX * MICRO),
    (float("-inf"), 0), (1e300, UNIT_CREDITS_MAX * MICRO), ([5], 0), ({}, 0), ("five", 0), (None, 0), (True, MICRO),
    (1e-9, 0),
])  # fmt: skip
def test_a_rule_that_gives_nonsense_gives_a_price_within_bounds(value: Any, found: int) -> None:
    assert unit_price(value) == found


@pytest.mark.parametrize(("value", "found"), [
    (1, 1), (7, 7), (0, 1), (-5, 1), (2.0, 2), (2.1, 3), (0.2, 1), (float("nan"), 1), (float("inf"), UNITS_MAX),
    (10**400, UNITS_MAX), (None, 1), ("3", 1), (True, 1), ([1], 1),
])  # fmt: skip
def test_units_are_whole_and_at_least_one(value: Any, found: int) -> None:
    assert units(value) == found


@given(st.integers(1, 100))
def test_prices_made_in_advance_are_those_made_when_asked(count: int) -> None:
    assert fixed(140_000, "Count")(count) == Price(140_000, count, "Count")
