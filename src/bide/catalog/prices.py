"""Price rules of the catalogue: what a group of them makes a request cost. Pure.

A group is an ordered list and the first rule whose `conditions` hold decides, so the last one has none, except in a
service that is free, where a request that no rule speaks of costs nothing. Conditions and consumptions are JsonLogic
(`bide.credits.jsonlogic`) over the checked values of the body, with the names the caller uses.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import msgspec

from bide.catalog.fields import Field
from bide.credits.jsonlogic import Logic, LogicError, compile_logic, truthy
from bide.credits.pricing import UNIT_CREDITS_MAX, Price, fixed, micro, unit_price, units

Pricing = Callable[[Mapping[str, Any]], Price]
Holds = Callable[[Mapping[str, Any]], bool]
Asked = list[tuple[Holds, Pricing]]

FREE = Price(0, 1, "Count")


class PriceError(ValueError):
    """A price rule that is wrong, in one sentence that names the rule."""


class PriceRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `[[prices.GROUP]]` table."""

    consumption: int | float | dict[str, Any]
    """Credits, or JsonLogic that gives them; for one unit where `per` is set."""
    conditions: dict[str, Any] = {}
    """JsonLogic; `{}` always holds."""
    unit: Annotated[str, msgspec.Meta(pattern="^[A-Z][A-Za-z]{0,31}$")] = "Count"
    per: str = ""
    """The field that says how many units are asked for. Only those that succeeded are charged."""
    remark: str = ""
    hidden: bool = False
    """Left out of what is shown to callers."""
    official_price: int | float | str | None = None
    """What the maker of the model asks for, for comparison only."""


def shown_rule(rule: PriceRule) -> dict[str, Any]:
    """The rule as callers see it, as JSON data."""
    shown: dict[str, Any] = {"conditions": rule.conditions, "consumption": rule.consumption, "unit": rule.unit}
    more = {"per": rule.per, "remark": rule.remark, "official_price": rule.official_price}
    return shown | {name: value for name, value in more.items() if value not in (None, "")}


def compile_prices(group: str, rules: Sequence[PriceRule], fields: Mapping[str, Field], *, free: bool) -> Pricing:
    """The price of a request from its checked values; it never raises. Raises `PriceError` for a wrong rule."""
    compiled: list[tuple[Holds | None, Pricing]] = []
    for at, rule in enumerate(rules):
        place = f"prices.{group}[{at}]"
        if compiled and compiled[-1][0] is None:
            raise PriceError(f"{place}: it is never asked, the rule before it always holds")
        compiled.append((_conditions(place, rule, fields), _consumption(place, rule, fields)))
    if not free and (not compiled or compiled[-1][0] is not None):
        raise PriceError(f"prices.{group}: the last rule must have no conditions (or the service `free = true`)")
    asked = [(holds, price) for holds, price in compiled if holds is not None]
    otherwise = compiled[-1][1] if compiled and compiled[-1][0] is None else nothing
    name, by_text, rest = _sorted_out(rules, asked)

    def price_of(values: Mapping[str, Any]) -> Price:
        text = values.get(name)
        for holds, price in by_text.get(text, rest) if text.__class__ is str else asked:
            if holds(values):
                return price(values)
        return otherwise(values)

    return price_of


def _sorted_out(rules: Sequence[PriceRule], asked: Asked) -> tuple[str, Mapping[Any, Asked], Asked]:
    """Most rules are about one model. So that a long list is not walked for every request: the field that most rules
    compare with texts, the rules that can hold for each of those texts, and those that can hold for any other."""
    needs = [_needs(rule.conditions) for rule, _ in zip(rules, asked, strict=False)]
    ranked = Counter(name for need in needs for name in need if "." not in name).most_common(1)
    name = ranked[0][0] if ranked else ""
    texts = frozenset[str]().union(*(need.get(name, frozenset()) for need in needs))

    def left(text: str | None) -> Asked:
        return [one for one, need in zip(asked, needs, strict=True) if name not in need or text in need[name]]

    return name, {text: left(text) for text in texts}, left(None)


def _needs(conditions: Any) -> dict[str, frozenset[str]]:
    """Fields that must be one of some texts, given that they are texts, for conditions to hold."""
    match conditions:
        case {"and": list(parts)}:
            return {name: texts for part in reversed(parts) for name, texts in _needs(part).items()}
        case {"==": [{"var": str(name) | [str(name), *_]}, str(text)]}:
            return {name: frozenset([text])}
        case {"===": [{"var": str(name) | [str(name), *_]}, str(text)]}:
            return {name: frozenset([text])}
        case {"in": [{"var": str(name) | [str(name), *_]}, list(texts)]} if all(isinstance(x, str) for x in texts):
            return {name: frozenset(texts)}
    return {}


def nothing(values: Mapping[str, Any]) -> Price:
    """The price of what costs nothing."""
    return FREE


def _logic(place: str, expression: Any, fields: Mapping[str, Field]) -> Logic:
    try:
        logic = compile_logic(expression)
    except LogicError as error:
        raise PriceError(f"{place}: {error}") from None
    if unknown := sorted(logic.names - set(fields)):
        raise PriceError(f"{place}: it names the field {unknown[0]!r}, which is not there")
    return logic


def _conditions(place: str, rule: PriceRule, fields: Mapping[str, Field]) -> Holds | None:
    """None: the rule always holds."""
    if not rule.conditions:
        return None
    logic = _logic(f"{place}.conditions", rule.conditions, fields)
    if logic.constant:
        raise PriceError(f"{place}.conditions: they are the same for every request")
    run = logic.run

    def holds(values: Mapping[str, Any]) -> bool:
        value = run(values)
        return value is True or (value is not False and truthy(value))

    return holds


def _consumption(place: str, rule: PriceRule, fields: Mapping[str, Field]) -> Pricing:
    unit, per = rule.unit, rule.per
    if per and per not in fields:
        raise PriceError(f"{place}: `per` names the field {per!r}, which is not there")
    if per and fields[per].type not in ("integer", "number"):
        raise PriceError(f"{place}: `per` names the field {per!r}, which is not a number")
    logic = _logic(f"{place}.consumption", rule.consumption, fields)
    run = logic.run
    if not logic.constant:
        if not per:
            return lambda values: Price(unit_price(run(values)), 1, unit)
        return lambda values: Price(unit_price(run(values)), units(values.get(per)), unit)
    price = fixed(_constant(f"{place}.consumption", run({})), unit)
    if not per:
        always = price(1)
        return lambda values: always
    return lambda values: price(units(values.get(per)))


def _constant(place: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise PriceError(f"{place}: it gives {value!r}, which is not a number of credits")
    if not 0 <= value <= UNIT_CREDITS_MAX:
        raise PriceError(f"{place}: it gives {value!r} credits; it must be 0 to {UNIT_CREDITS_MAX:,}")
    return micro(value)
