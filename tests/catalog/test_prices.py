"""What the requests of the `openai` service cost, and that no request makes a price rule raise."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bide.catalog.fields import Field
from bide.catalog.load import Operation, load
from bide.catalog.prices import FREE, PriceRule, Pricing, compile_prices
from bide.credits.pricing import UNIT_CREDITS_MAX, UNITS_MAX, Price, micro
from tests.credits.test_jsonlogic import JSON

SERVICE = load().services["openai"]
GENERATE = SERVICE.operations["images/generations"]
EDIT = SERVICE.operations["images/edits"]

COSTS: list[tuple[dict[str, Any], float]] = [
    ({"model": "nano-banana"}, 0.14),
    ({"model": "nano-banana-2-lite"}, 0.14),
    ({"model": "nano-banana-2"}, 0.28),
    ({"model": "nano-banana-pro"}, 0.35),
    ({"model": "gpt-image-2"}, 0.2),
    ({"model": "gpt-image-2", "size": "3840x2160", "quality": "high"}, 0.2),
    ({"model": "gpt-image-2:reverse"}, 0.2),
    ({"model": "gpt-image-2:official"}, 0.4),
    ({"model": "gpt-image-2.5-flare"}, 0.3),
    ({"model": "gpt-image-2.5-sunburst", "quality": "xhigh"}, 0.6),
    ({"model": "gpt-image-2.5-flare", "quality": "max"}, 0.6),
    ({}, 0.44),
    ({"model": "gpt-image-1", "quality": "low"}, 0.12),
    ({"model": "gpt-image-1", "quality": "low", "size": "1536x1024"}, 0.17),
    ({"model": "gpt-image-1", "quality": "medium", "size": "1024x1024"}, 0.44),
    ({"model": "gpt-image-1", "quality": "auto", "size": "1024x1536"}, 0.66),
    ({"model": "gpt-image-1", "quality": "high"}, 1.75),
    ({"model": "gpt-image-1", "quality": "high", "size": "1024x1536"}, 2.63),
    ({"model": "gpt-image-1.5", "quality": "low"}, 0.1),
    ({"model": "gpt-image-1.5"}, 0.36),
    ({"model": "gpt-image-1.5", "quality": "high"}, 1.4),
    ({"model": "gpt-image-1-mini", "quality": "low"}, 0.05),
    ({"model": "gpt-image-1-mini", "quality": "medium"}, 0.12),
    ({"model": "gpt-image-1-mini", "quality": "high"}, 0.38),
    ({"model": "dall-e-3"}, 0.42),
    ({"model": "dall-e-3", "size": "1792x1024"}, 0.84),
    ({"model": "dall-e-3", "quality": "hd"}, 0.84),
    ({"model": "dall-e-3", "quality": "hd", "size": "1024x1792"}, 1.26),
    ({"model": "dall-e-2", "size": "256x256"}, 0.17),
    ({"model": "dall-e-2", "size": "512x512"}, 0.19),
    ({"model": "dall-e-2"}, 0.21),
    ({"model": "a model nobody knows"}, 0.4),
]


@pytest.mark.parametrize(("body", "cost"), COSTS, ids=str)
def test_a_picture_costs_what_the_table_says(body: dict[str, Any], cost: float) -> None:
    price = GENERATE.price(GENERATE.check({"prompt": "a boat", **body}))
    assert price == Price(micro(cost), 1, "Count")


def test_every_rule_of_the_table_was_asked_for_above() -> None:
    reached = {GENERATE.price(GENERATE.check({"prompt": "x", **body})).unit_price for body, _ in COSTS}
    assert reached == {micro(rule["consumption"]) for rule in SERVICE.prices_shown}


def test_several_pictures_are_several_units() -> None:
    price = GENERATE.price(GENERATE.check({"prompt": "x", "model": "nano-banana", "n": 4}))
    assert (price.units, price.total, price.charge(3)) == (4, 560_000, 420_000)
    price = GENERATE.price(GENERATE.check({"prompt": "x", "model": "nano-banana", "n": 10}))
    assert price.total == 1_400_000


def test_an_edit_costs_what_a_new_picture_costs_sent_as_json_or_as_a_form() -> None:
    body = {"prompt": "x", "model": "gpt-image-2", "image": "https://example.com/a.png"}
    assert EDIT.price(EDIT.check({**body, "n": 2})) == Price(200_000, 2, "Count")
    assert EDIT.price(EDIT.check({**body, "n": "2"}, form=True)) == Price(200_000, 2, "Count")


def test_every_price_says_what_it_is_for() -> None:
    shown = GENERATE.prices_shown
    assert shown == EDIT.prices_shown == SERVICE.prices_shown[: len(shown)]
    assert all(rule["remark"] and rule["unit"] == "Count" for rule in SERVICE.prices_shown)
    assert all(rule["per"] == "n" for rule in shown)
    assert shown[-1]["conditions"] == {}


@given(st.dictionaries(st.sampled_from(sorted({*GENERATE.fields, *EDIT.fields})), JSON), st.integers(-5, 50))
def test_no_body_makes_the_price_of_a_picture_raise(values: dict[str, Any], done: int) -> None:
    for operation in (GENERATE, EDIT):
        within_bounds(operation, values, done)


def within_bounds(operation: Operation, values: Mapping[str, Any], done: int) -> None:
    price = operation.price(values)
    assert 0 <= price.charge(done) <= price.total
    assert 1 <= price.units <= UNITS_MAX


# -- rules of every kind

FIELDS = {
    name: Field(type=type_, description="") for name, type_ in [
        ("model", "string"), ("seconds", "integer"), ("speed", "number"), ("sound", "boolean"), ("shots", "array"),
    ]
}  # fmt: skip


def prices(*rules: PriceRule, free: bool = False) -> Pricing:
    return compile_prices("films", rules, FIELDS, free=free)


def is_model(name: str) -> dict[str, Any]:
    return {"==": [{"var": ["model", ""]}, name]}


def test_the_first_rule_that_holds_decides() -> None:
    price = prices(
        PriceRule(conditions={"<": [{"var": "seconds"}, 5]}, consumption=1),
        PriceRule(conditions=is_model("a"), consumption=2),
        PriceRule(conditions={"and": [{"var": "sound"}, is_model("b")]}, consumption=3),
        PriceRule(conditions={"in": [{"var": "model"}, ["a", "b", "c"]]}, consumption=4),
        PriceRule(conditions={"or": [is_model("d"), {"var": "sound"}]}, consumption=5),
        PriceRule(consumption=6),
    )
    found = [
        price({"seconds": 9, **values}).unit_price // 1_000_000 for values in (
            {"seconds": 4, "model": "a"}, {"model": "a", "sound": True}, {"model": "b", "sound": True},
            {"model": "b"}, {"model": "c", "sound": True}, {"model": "d"}, {"model": "e", "sound": True},
            {"model": "e"}, {}, {"model": None}, {"model": 5}, {"model": ["a"]}, {"sound": True},
        )
    ]  # fmt: skip
    assert found == [1, 2, 3, 4, 4, 5, 5, 6, 6, 6, 6, 6, 5]


def test_a_default_of_a_condition_counts_for_a_field_that_is_not_there() -> None:
    price = prices(
        PriceRule(conditions={"==": [{"var": ["model", "a"]}, "a"]}, consumption=1),
        PriceRule(conditions=is_model("b"), consumption=2),
        PriceRule(consumption=3),
    )
    assert [price(values).unit_price // 1_000_000 for values in ({}, {"model": "b"}, {"model": "c"})] == [1, 2, 3]


def test_a_price_can_depend_on_the_request() -> None:
    price = prices(PriceRule(consumption={"*": [0.2, {"var": ["seconds", 5]}]}, unit="Second"))
    assert price({"seconds": 8}) == Price(1_600_000, 1, "Second")
    assert price({}) == Price(1_000_000, 1, "Second")


def test_a_price_per_unit_is_multiplied_by_a_field_of_the_request() -> None:
    price = prices(
        PriceRule(conditions={"var": "sound"}, consumption=0.3, unit="Second", per="speed"),
        PriceRule(consumption={"if": [is_model("a"), 0.1, 0.2]}, unit="Second", per="seconds"),
    )
    assert price({"sound": True, "speed": 7.2}) == Price(300_000, 8, "Second")
    assert price({"model": "a", "seconds": 8}) == Price(100_000, 8, "Second")
    assert price({"model": "b"}) == Price(200_000, 1, "Second")


def test_in_a_free_service_what_no_rule_speaks_of_costs_nothing() -> None:
    price = prices(PriceRule(conditions=is_model("a"), consumption=1), free=True)
    assert price({"model": "a"}).total == 1_000_000
    assert price({"model": "b"}) == FREE
    assert FREE.total == 0


def test_a_price_that_comes_out_wrong_stays_within_bounds() -> None:
    price = prices(PriceRule(consumption={"-": [5, {"var": "seconds"}]}))
    assert price({"seconds": 6}).total == 0
    price = prices(PriceRule(consumption={"/": [5, {"var": "seconds"}]}))
    assert price({"seconds": 0}).unit_price == UNIT_CREDITS_MAX * 1_000_000


TEXTS = st.sampled_from(["a", "b", "c", ""])
CONDITIONS = st.recursive(
    TEXTS.map(is_model)
    | st.lists(TEXTS, max_size=2).map(lambda texts: {"in": [{"var": "model"}, texts]})
    | TEXTS.map(lambda text: {"===": [{"var": ["model", text]}, "a"]})
    | st.integers(0, 3).map(lambda count: {"<": [{"var": "seconds"}, count]}),
    lambda inner: st.builds(
        lambda name, parts: {name: parts}, st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=5,
)


@given(st.lists(CONDITIONS, max_size=6), st.fixed_dictionaries({}, optional={"model": TEXTS | JSON, "seconds": JSON}))
def test_rules_that_are_sorted_by_a_field_decide_as_if_asked_one_by_one(
    conditions: list[dict[str, Any]], values: dict[str, Any]
) -> None:
    rules = [PriceRule(conditions=one, consumption=at + 1) for at, one in enumerate(conditions)]
    alone = [prices(rule, free=True)(values) for rule in rules]
    expected = next((price for price in alone if price != FREE), Price(0, 1, "Count"))
    assert prices(*rules, PriceRule(consumption=0))(values) == expected


def test_a_rule_that_is_hidden_is_charged_but_not_shown(tmp_path: Any) -> None:
    tmp_path.joinpath("free.toml").write_text(FREE_SERVICE)
    service = load([tmp_path]).services["sketches"]
    assert service.prices_shown == (
        {"conditions": {"var": "n"}, "consumption": 0.5, "unit": "Count", "official_price": "0.05 USD"},
    )  # fmt: skip
    draw, idle = service.operations["draw"], service.operations["idle"]
    assert draw.prices_shown == service.prices_shown
    assert [draw.price(values).total for values in ({"n": 1}, {"n": 0, "big": True}, {})] == [500_000, 250_000, 0]
    assert (idle.price({}), idle.prices_shown) == (FREE, ())


FREE_SERVICE = """
name = "sketches"
title = "Sketches"
summary = "Sketches."
free = true

[fields.n]
type = "integer"
description = "How many."

[fields.big]
type = "boolean"
description = "How large."

[[prices.draw]]
conditions = { var = "n" }
consumption = 0.5
official_price = "0.05 USD"

[[prices.draw]]
conditions = { var = "big" }
consumption = 0.25
hidden = true
""" + "".join(
    f"""
[operations.{path}]
type = "{path}"
api_id = "00000000-0000-4000-8000-00000000000{at}"
title = "T"
summary = "S"
capability = "image.generate"
shape = "openai_images"
inline = false
inline_stored = true
run_s_max = 600
expected_s = 90
shared = ["n", "big"]
prices = "{prices_}"
"""
    for at, (path, prices_) in enumerate([("draw", "draw"), ("idle", "")])
)
