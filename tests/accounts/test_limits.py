"""Which limit counts for a caller, and what may be written down as an application's own."""

import json
from typing import Any

import pytest

from bide.accounts.limits import KEYS_MAX, LIFTED, MOST, NAMES, check_limits, limit
from bide.errors import BadRequest

OWN = {
    "*": {"polls_per_s": 10, "concurrent": 7},
    "openai": {"submits_per_s": 5, "concurrent": 6},
    "openai/images": {"concurrent": 100},
}


def test_without_limits_of_its_own_the_catalogues_count() -> None:
    assert limit(None, "openai", "images", "concurrent", 10) == 10
    assert limit({}, "openai", "images", "concurrent", 10) == 10


@pytest.mark.parametrize(("service", "group", "name", "found"), [
    ("openai", "images", "concurrent", 100), ("openai", "other", "concurrent", 6),
    ("veo", "videos", "concurrent", 7), ("openai", "images", "submits_per_s", 5),
    ("openai", "", "polls_per_s", 10), ("veo", "videos", "submits_per_s", 1.5),
])  # fmt: skip
def test_the_closest_limit_counts_and_what_nothing_says_is_the_catalogues(
    service: str, group: str, name: str, found: float
) -> None:
    assert limit(OWN, service, group, name, 1.5) == found


def test_nought_lifts_a_limit_and_is_not_taken_for_none() -> None:
    for name in NAMES:
        assert limit(LIFTED, "openai", "images", name, 10) == 0
    assert limit({"*": {"concurrent": 5}, "openai": {"concurrent": 0}}, "openai", "images", "concurrent", 10) == 0


@pytest.mark.parametrize("value", [
    {}, OWN, LIFTED, {"openai": {}}, {"*": {"submits_per_s": 0.5}}, {"*": {"concurrent": MOST}},
    {"*": {"concurrent": 5.0}},
])  # fmt: skip
def test_limits_that_can_be_kept_are_taken(value: Any) -> None:
    check_limits(value)
    check_limits(json.loads(json.dumps(value)))


@pytest.mark.parametrize(("value", "said"), [
    (None, "object of limits by service"), ([], "object of limits by service"),
    ({str(number): {} for number in range(KEYS_MAX + 1)}, "object of limits by service"),
    ({"openai": 5}, "`openai` must be an object"), ({"*": {"polls": 5}}, "there is no limit `polls`"),
    ({"*": {"concurrent": -1}}, "from 0"), ({"*": {"concurrent": True}}, "from 0"),
    ({"*": {"concurrent": "5"}}, "from 0"),
    ({"*": {"concurrent": 2.5}}, "whole number"), ({"*": {"polls_per_s": MOST + 1}}, "from 0"),
    ({"*": {"polls_per_s": float("nan")}}, "from 0"), ({"*": {"polls_per_s": float("inf")}}, "from 0"),
    ({"*": {"concurrent": None}}, "from 0"), ({"x" * 500: 1}, "must be an object"),
])  # fmt: skip
def test_what_is_no_limit_is_refused_with_a_sentence(value: Any, said: str) -> None:
    with pytest.raises(BadRequest, match="`limits`") as refused:
        check_limits(value)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 250
