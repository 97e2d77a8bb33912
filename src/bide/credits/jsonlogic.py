"""JsonLogic, checked and compiled once to a function. Pure.

An expression is a JSON value; an object with one key is an operator and its arguments, `{"<": [1, {"var": "n"}]}`.
A single argument needs no list around it. Values mean what they mean in the JavaScript original:

    truth    `""`, 0, null, NaN and `[]` are false; `"0"` and `{}` are true
    ==       numbers, texts and booleans are compared as numbers where they differ in type; null only equals null
    < <=     two texts by their order, everything else as numbers; a third argument means "between"
    var      the path `scene.cuts.0`; what is not there is null, or the second argument

A run never raises and takes time in proportion to the data: a value that is no number (a list, an object, a text of
letters) is NaN, which equals nothing and is below nothing. Two things differ from the original: a list or an object
equals nothing, not even itself, and arithmetic takes null as 0 and a text only if all of it is a number.
`length` at the end of a path is the number of items of a list or of characters of a text.
"""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

DEPTH_MAX = 32
NUMBER_LENGTH_MAX = 100
"""Longer texts are not read as numbers."""

Run = Callable[[Any], Any]
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_MISSING: Final[Any] = object()


class LogicError(ValueError):
    """An expression that is wrong, in one sentence that names the place inside it."""


@dataclass(frozen=True, slots=True)
class Logic:
    """A compiled expression: `run` takes the data (a mapping) and gives a JSON value or a number that is not."""

    run: Run
    names: frozenset[str]
    """The keys of the data that it reads."""
    constant: bool
    """Whether it gives the same for any data."""


def compile_logic(expression: Any) -> Logic:
    """Raises `LogicError` for an unknown operator, a wrong number of arguments, or a path that is not fixed."""
    return _compile(expression, "", 0, inner=False)


def truthy(value: Any) -> bool:
    if value.__class__ is float:
        return bool(value == value and value != 0)
    return value.__class__ is dict or bool(value)


def number(value: Any) -> float:
    """The value as a number; NaN for what is none."""
    kind = value.__class__
    if kind is float:
        return float(value)
    if kind is int or kind is bool:
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    if kind is str:
        return _number_in(value)
    return 0.0 if value is None else math.nan


def _number_in(text: str) -> float:
    if len(text) > NUMBER_LENGTH_MAX:
        return math.nan
    text = text.strip()
    if not text:
        return 0.0
    return float(text) if _NUMBER.fullmatch(text) else math.nan


def same(left: Any, right: Any) -> bool:
    """`===`"""
    if left.__class__ is right.__class__:
        return left.__class__ not in (list, dict) and bool(left == right)
    return {left.__class__, right.__class__} == {int, float} and bool(left == right)


def equal(left: Any, right: Any) -> bool:
    """`==`"""
    if left.__class__ is right.__class__:
        return left.__class__ not in (list, dict) and bool(left == right)
    return left is not None and right is not None and number(left) == number(right)


# -- compiling


def _compile(expression: Any, place: str, depth: int, *, inner: bool) -> Logic:
    """`inner`: the data is an item of a list (inside `some`, `all`, `none`), which can be anything."""
    if depth > DEPTH_MAX:
        raise LogicError(f"{place[:60]}…: it is nested more than {DEPTH_MAX} deep")
    if isinstance(expression, list):
        items = [_compile(one, f"{place}[{at}]", depth + 1, inner=inner) for at, one in enumerate(expression)]
        return _made(_list_of([item.run for item in items]), items)
    if not isinstance(expression, dict):
        finite = not isinstance(expression, float) or math.isfinite(expression)
        if not finite or not (expression is None or isinstance(expression, bool | int | float | str)):
            raise LogicError(f"{_at(place)}{expression!r} is not a JSON value")
        return Logic(lambda data: expression, frozenset(), True)
    if len(expression) != 1:
        raise LogicError(f"{_at(place)}an operation has one operator, this has {len(expression)}")
    ((name, given),) = expression.items()
    place = f"{place}.{name}".removeprefix(".")
    given = given if isinstance(given, list) else [given]
    if name == "var":
        return _variable(given, place, depth, inner=inner)
    if name in _LISTS:
        return _over_list(name, given, place, depth, inner=inner)
    if name not in _OPERATORS:
        raise LogicError(f"{place}: there is no operator {name!r}")
    least, most, make = _OPERATORS[name]
    _count(place, given, least, most)
    arguments = [_compile(one, f"{place}[{at}]", depth + 1, inner=inner) for at, one in enumerate(given)]
    return _made(make(arguments), arguments)


def _at(place: str) -> str:
    return f"{place}: " if place else ""


def _count(place: str, given: Sequence[Any], least: int, most: int | None) -> None:
    if len(given) < least or (most is not None and len(given) > most):
        words = f"{least}" if least == most else f"at least {least}" if most is None else f"{least} or {most}"
        noun = "argument" if least == 1 and most != 2 else "arguments"
        raise LogicError(f"{place}: it takes {words} {noun}, this has {len(given)}")


def _made(run: Run, parts: Sequence[Logic]) -> Logic:
    """What is made of constants is worked out now."""
    if all(part.constant for part in parts):
        value = run({})
        return Logic(lambda data: value, frozenset(), True)
    return Logic(run, frozenset[str]().union(*(part.names for part in parts)), False)


def _list_of(runs: Sequence[Run]) -> Run:
    return lambda data: [run(data) for run in runs]


# -- var


def _variable(given: list[Any], place: str, depth: int, *, inner: bool) -> Logic:
    _count(place, given, 1, 2)
    path = given[0]
    if isinstance(path, bool) or not isinstance(path, str | int):
        raise LogicError(f"{place}: the path must be a text, not {path!r}")
    default = _compile(given[1] if len(given) == 2 else None, f"{place}[1]", depth + 1, inner=inner)
    parts = str(path).split(".")
    if parts == [""] and inner:
        return Logic(lambda data: data, frozenset(), False)
    if not all(parts):
        raise LogicError(f"{place}: {path!r} names no field")
    if inner:
        return Logic(_walk(parts, default.run), default.names, False)
    first, names = parts[0], default.names | {parts[0]}
    if len(parts) > 1:
        return Logic(_walk(parts[1:], default.run, first), names, False)
    if not default.constant:
        return Logic(_read(first, default.run), names, False)
    value = default.run({})
    return Logic(lambda data: data.get(first, value), names, False)


def _read(name: str, default: Run) -> Run:
    def run(data: Mapping[str, Any]) -> Any:
        value = data.get(name, _MISSING)
        return default(data) if value is _MISSING else value

    return run


def _walk(parts: Sequence[str], default: Run, first: str | None = None) -> Run:
    """Along a path; `first` is a key of the data itself, which may be any mapping."""
    steps = [(part, int(part) if re.fullmatch("[0-9]{1,9}", part) else None) for part in parts]

    def run(data: Any) -> Any:
        value = data if first is None else data.get(first)
        for part, at in steps:
            value = _step(value, part, at)
            if value is _MISSING:
                return default(data)
        return value

    return run


def _step(value: Any, part: str, at: int | None) -> Any:
    if value.__class__ is dict:
        return value.get(part, _MISSING)
    if value.__class__ is list and at is not None:
        return value[at] if at < len(value) else _MISSING
    if part == "length" and (value.__class__ is list or value.__class__ is str):
        return len(value)
    return _MISSING


# -- some, all, none


_LISTS = ("some", "all", "none")


def _over_list(name: str, given: list[Any], place: str, depth: int, *, inner: bool) -> Logic:
    """The test sees one item and nothing else, so no item is looked at twice however they are nested."""
    _count(place, given, 2, 2)
    listed = _compile(given[0], f"{place}[0]", depth + 1, inner=inner)
    test = _compile(given[1], f"{place}[1]", depth + 1, inner=True).run
    read = listed.run

    def some(data: Any) -> bool:
        items = read(data)
        return items.__class__ is list and any(truthy(test(item)) for item in items)

    def every(data: Any) -> bool:
        items = read(data)
        return items.__class__ is list and bool(items) and all(truthy(test(item)) for item in items)

    runs: Mapping[str, Run] = {"some": some, "all": every, "none": lambda data: not some(data)}
    return _made(runs[name], [listed])


# -- the other operators


def _and(arguments: Sequence[Logic]) -> Run:
    *first, last = [one.run for one in arguments]

    def run(data: Any) -> Any:
        for one in first:
            value = one(data)
            if value is not True and not truthy(value):
                return value
        return last(data)

    return run


def _or(arguments: Sequence[Logic]) -> Run:
    *first, last = [one.run for one in arguments]

    def run(data: Any) -> Any:
        for one in first:
            value = one(data)
            if value is not False and truthy(value):
                return value
        return last(data)

    return run


def _if(arguments: Sequence[Logic]) -> Run:
    runs = [one.run for one in arguments]
    pairs = list(zip(runs[:-1:2], runs[1::2], strict=False))
    otherwise: Run = runs[-1] if len(runs) % 2 else lambda data: None

    def run(data: Any) -> Any:
        for condition, then in pairs:
            if truthy(condition(data)):
                return then(data)
        return otherwise(data)

    return run


def _two(test: Callable[[Any, Any], Any]) -> Callable[[Sequence[Logic]], Run]:
    def make(arguments: Sequence[Logic]) -> Run:
        left, right = (one.run for one in arguments)
        return lambda data: test(left(data), right(data))

    return make


def _equality(arguments: Sequence[Logic], test: Callable[[Any, Any], bool] = equal) -> Run:
    value, fixed = sorted(arguments, key=lambda one: one.constant)
    if not fixed.constant or not isinstance(text := fixed.run({}), str):
        return _two(test)(arguments)
    read = value.run

    def run(data: Any) -> bool:
        found = read(data)
        return found == text if found.__class__ is str else test(found, text)

    return run


def _ordered(test: Callable[[Any, Any], bool]) -> Callable[[Sequence[Logic]], Run]:
    def holds(left: Any, right: Any) -> bool:
        if left.__class__ is str and right.__class__ is str:
            return test(left, right)
        return test(number(left), number(right))

    def make(arguments: Sequence[Logic]) -> Run:
        if len(arguments) == 2:
            return _two(holds)(arguments)
        low, value, high = (one.run for one in arguments)
        return lambda data: holds(low(data), middle := value(data)) and holds(middle, high(data))

    return make


def _in(arguments: Sequence[Logic]) -> Run:
    needle, listed = (one.run for one in arguments)
    fixed = listed({}) if arguments[1].constant else None
    if not isinstance(fixed, list) or not all(isinstance(one, str) for one in fixed):
        return lambda data: _contains(listed(data), needle(data))
    texts = frozenset(fixed)

    def run(data: Any) -> bool:
        value = needle(data)
        return value.__class__ is str and value in texts

    return run


def _contains(listed: Any, value: Any) -> bool:
    if listed.__class__ is str:
        return value.__class__ is str and value in listed
    return listed.__class__ is list and any(same(one, value) for one in listed)


def _folded(function: Callable[[float, float], float]) -> Callable[[Sequence[Logic]], Run]:
    """An operator over any number of numbers."""

    def make(arguments: Sequence[Logic]) -> Run:
        first, *others = [one.run for one in arguments]

        def run(data: Any) -> float:
            result = number(first(data))
            for one in others:
                result = function(result, number(one(data)))
            return result

        return run

    return make


def _minus(arguments: Sequence[Logic]) -> Run:
    if len(arguments) == 2:
        return _folded(operator.sub)(arguments)
    run = arguments[0].run
    return lambda data: -number(run(data))


def _divided(left: float, right: float) -> float:
    if right:
        return left / right
    return math.copysign(math.inf, left) if left and left == left else math.nan


def _remainder(left: float, right: float) -> float:
    return math.fmod(left, right) if right and not math.isinf(left) else math.nan


def _least(left: float, right: float) -> float:
    return left if left != left or left < right else right


def _most(left: float, right: float) -> float:
    return left if left != left or left > right else right


def _not(arguments: Sequence[Logic]) -> Run:
    run = arguments[0].run
    return lambda data: not truthy(run(data))


_OPERATORS: Mapping[str, tuple[int, int | None, Callable[[Sequence[Logic]], Run]]] = {
    "and": (1, None, _and), "or": (1, None, _or), "if": (2, None, _if), "!": (1, 1, _not),
    "==": (2, 2, _equality), "===": (2, 2, lambda arguments: _equality(arguments, same)),
    "!=": (2, 2, _two(lambda left, right: not equal(left, right))),
    "!==": (2, 2, _two(lambda left, right: not same(left, right))),
    "<": (2, 3, _ordered(operator.lt)), "<=": (2, 3, _ordered(operator.le)),
    ">": (2, 2, _ordered(operator.gt)), ">=": (2, 2, _ordered(operator.ge)), "in": (2, 2, _in),
    "+": (1, None, _folded(operator.add)), "-": (1, 2, _minus), "*": (1, None, _folded(operator.mul)),
    "/": (2, 2, _folded(_divided)), "%": (2, 2, _folded(_remainder)),
    "min": (1, None, _folded(_least)), "max": (1, None, _folded(_most)),
}  # fmt: skip
