"""JsonLogic: what expressions mean, which are refused, and that no request can make one raise."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bide.credits.jsonlogic import DEPTH_MAX, LogicError, compile_logic, equal, number, same, truthy

DATA: dict[str, Any] = {
    "model": "a", "n": 3, "seconds": 7.5, "loop": True, "off": False, "empty": "", "text": "12", "none": None,
    "tags": ["x", "y"], "numbers": [1, 2, 3], "nothing": [],
    "scene": {"kind": "day", "cuts": [{"s": 1}, {"s": 4}], "": 1}, "pairs": [[1, 2], [3, 4]],
}  # fmt: skip


def var(*arguments: Any) -> dict[str, Any]:
    return {"var": list(arguments)}


MEANS: list[tuple[Any, Any]] = [
    (5, 5), ("a", "a"), (None, None), ([1, var("n")], [1, 3]),
    # var
    ({"var": "n"}, 3), (var("n"), 3), (var("nowhere"), None), (var("nowhere", 4), 4), (var("none", 4), None),
    (var("nowhere", var("n")), 3), (var("nowhere", var("nowhere", 1)), 1), (var("scene.kind"), "day"),
    (var("scene.cuts.1.s"), 4), (var("scene.cuts.2.s"), None), (var("scene.cuts.2.s", 9), 9), (var("n.x", 1), 1),
    (var("scene.cuts.-1", "no"), "no"), (var("scene.cuts.٠", "no"), "no"), (var("model.0", "no"), "no"),
    (var("none.x", "no"), "no"), (var("tags.length"), 2), (var("text.length"), 2), (var("n.length", "no"), "no"),
    # and, or, !, if
    ({"and": [True, var("n")]}, 3), ({"and": [var("empty"), True]}, ""), ({"and": var("n")}, 3),
    ({"or": [var("empty"), var("n")]}, 3), ({"or": [0, var("none")]}, None), ({"or": [var("n"), 1]}, 3),
    ({"!": var("n")}, False), ({"!": [var("nothing")]}, True), ({"!": {"var": "scene"}}, False),
    ({"if": [var("n"), "yes", "no"]}, "yes"), ({"if": [var("off"), "yes", "no"]}, "no"),
    ({"if": [var("off"), "yes"]}, None), ({"if": [var("off"), 1, var("none"), 2, 3]}, 3),
    ({"if": [var("off"), 1, var("loop"), 2, 3]}, 2),
    # ==, ===, !=, !==
    ({"==": [var("model"), "a"]}, True), ({"==": ["a", var("model")]}, True), ({"==": [var("model"), "b"]}, False),
    ({"==": [var("text"), 12]}, True), ({"===": [var("text"), 12]}, False), ({"==": [var("n"), "3"]}, True),
    ({"===": [var("n"), "3"]}, False), ({"===": [var("n"), 3.0]}, True), ({"==": [var("loop"), 1]}, True),
    ({"===": [var("loop"), 1]}, False), ({"==": [var("empty"), 0]}, True), ({"==": [var("none"), 0]}, False),
    ({"==": [var("none"), var("nowhere")]}, True), ({"==": [var("off"), ""]}, True),
    ({"==": [var("tags"), var("tags")]}, False), ({"==": [var("tags"), "x,y"]}, False),
    ({"!=": [var("text"), 12]}, False), ({"!==": [var("text"), 12]}, True), ({"!=": [var("tags"), 1]}, True),
    # order
    ({"<": [var("n"), 4]}, True), ({"<": [var("n"), 3]}, False), ({"<=": [var("n"), 3]}, True),
    ({">": [var("n"), 2]}, True), ({">=": [var("n"), 4]}, False), ({"<": [1, var("n"), 4]}, True),
    ({"<": [3, var("n"), 4]}, False), ({"<=": [3, var("n"), 3]}, True), ({"<=": [1, var("n"), 2]}, False),
    ({"<": [var("text"), 13]}, True), ({"<": [var("text"), "13"]}, True), ({"<": [var("text"), "2"]}, True),
    ({"<": [var("model"), 1]}, False), ({">=": [var("model"), 1]}, False), ({"<": [var("none"), 1]}, True),
    ({"<": [var("tags"), 1]}, False), ({">": [var("scene"), 1]}, False),
    ({"or": [{"<": [var("model"), 1]}, True]}, True),
    # in
    ({"in": [var("model"), ["a", "b"]]}, True), ({"in": [var("n"), ["3", "b"]]}, False),
    ({"in": [var("n"), [1, 3]]}, True), ({"in": [var("loop"), [1, 3]]}, False), ({"in": ["y", var("tags")]}, True),
    ({"in": ["z", var("tags")]}, False), ({"in": ["ay", "day"]}, True), ({"in": ["ay", var("scene.kind")]}, True),
    ({"in": [1, "1"]}, False), ({"in": ["a", var("n")]}, False), ({"in": ["a", var("nowhere")]}, False),
    ({"in": [var("tags"), ["a"]]}, False), ({"in": [var("scene"), ["a", 1]]}, False),
    # some, all, none
    ({"some": [var("numbers"), {">": [var(""), 2]}]}, True), ({"some": [var("numbers"), {">": [var(""), 3]}]}, False),
    ({"some": [var("scene.cuts"), {">": [var("s"), 3]}]}, True), ({"all": [var("numbers"), var("")]}, True),
    ({"some": [var("pairs"), {"==": [var("1"), 4]}]}, True),
    ({"some": [var("pairs"), {"==": [var("5", 7), 7]}]}, True),
    ({"all": [var("numbers"), {">": [var(""), 1]}]}, False), ({"all": [var("nothing"), True]}, False),
    ({"none": [var("numbers"), {">": [var(""), 3]}]}, True), ({"none": [var("nothing"), True]}, True),
    ({"some": [var("n"), True]}, False), ({"all": [var("n"), True]}, False), ({"none": [var("n"), True]}, True),
    ({"some": [[1, 2], {"==": [var(""), 2]}]}, True), ({"some": [var("numbers"), var("n")]}, False),
    # arithmetic
    ({"+": [var("n"), 1, "2"]}, 6), ({"+": var("text")}, 12), ({"-": [var("n"), 1]}, 2), ({"-": var("n")}, -3),
    ({"*": [0.5, var("seconds")]}, 3.75), ({"*": [2, var("nowhere", 5)]}, 10), ({"*": [2, var("nowhere")]}, 0),
    ({"/": [var("seconds"), 2]}, 3.75), ({"/": [1, 0]}, float("inf")), ({"/": [-1, 0]}, float("-inf")),
    ({"%": [var("seconds"), 2]}, 1.5), ({"%": [-7, 2]}, -1), ({"min": [var("n"), 2, 9]}, 2),
    ({"max": [var("n"), 2]}, 3),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "value"), MEANS, ids=str)
def test_an_expression_means_what_it_means_in_javascript(expression: Any, value: Any) -> None:
    found = compile_logic(expression).run(DATA)
    assert found == value
    assert isinstance(found, bool) == isinstance(value, bool)


@pytest.mark.parametrize("expression", [
    {"+": [1, var("model")]}, {"*": [1, var("tags")]}, {"/": [0, 0]}, {"/": [var("model"), 0]}, {"%": [1, 0]},
    {"%": [{"/": [1, 0]}, 2]}, {"min": [1, var("model")]}, {"max": [var("model"), 1]}, {"max": [1, var("model")]},
])  # fmt: skip
def test_arithmetic_with_what_is_no_number_gives_none_and_it_counts_as_false(expression: Any) -> None:
    value = compile_logic(expression).run(DATA)
    assert value != value
    assert not truthy(value)


@pytest.mark.parametrize(("value", "holds"), [
    ("", False), ("0", True), (0, False), (0.0, False), (-1, True), (None, False), ([], False), ([0], True),
    ({}, True), (False, False), (float("nan"), False), (float("inf"), True),
])  # fmt: skip
def test_truth_is_that_of_javascript_except_that_an_empty_list_is_false(value: Any, holds: bool) -> None:
    assert truthy(value) is holds


@pytest.mark.parametrize(("value", "found"), [
    ("1e3", 1000), (" 5 ", 5), (".5", 0.5), ("5.", 5), ("-2", -2), ("", 0), (None, 0), (True, 1),
    (10**400, float("inf")), (-(10**400), float("-inf")), ("1e999", float("inf")),
])  # fmt: skip
def test_a_text_that_is_a_number_counts_as_one(value: Any, found: float) -> None:
    assert number(value) == found


@pytest.mark.parametrize("value", ["5px", "0x10", "1_000", "٣", "nan", "Infinity", "1" * 101, [], [1], {}])
def test_anything_else_is_no_number(value: Any) -> None:
    assert number(value) != number(value)


@pytest.mark.parametrize(("expression", "sentence"), [
    ({"foo": 1}, "foo: there is no operator 'foo'"),
    ({"and": [True, {"<": [1, {"cat": ["a"]}]}]}, "and[1].<[1].cat: there is no operator 'cat'"),
    ({"==": [1]}, "==: it takes 2 arguments, this has 1"),
    ({"<": 1}, "<: it takes 2 or 3 arguments, this has 1"),
    ({">": [1, 2, 3]}, ">: it takes 2 arguments, this has 3"),
    ({"!": []}, "!: it takes 1 argument, this has 0"),
    ({"and": []}, "and: it takes at least 1 argument, this has 0"),
    ({"if": [1]}, "if: it takes at least 2 arguments, this has 1"),
    ({"some": [1]}, "some: it takes 2 arguments, this has 1"),
    ({"some": [1, {"var": "a..b"}]}, "some[1].var: 'a..b' names no field"),
    ({"var": []}, "var: it takes 1 or 2 arguments, this has 0"),
    ({"var": ""}, "var: '' names no field"),
    ({"var": {"var": "n"}}, "var: the path must be a text, not {'var': 'n'}"),
    ({"var": True}, "var: the path must be a text, not True"),
    ({}, "an operation has one operator, this has 0"),
    ({"<": [1, {"+": [1], "-": [1]}]}, "<[1]: an operation has one operator, this has 2"),
    ({"<": [1, float("nan")]}, "<[1]: nan is not a JSON value"),
    (float("inf"), "inf is not a JSON value"),
    ({"<": [1, b"x"]}, "<[1]: b'x' is not a JSON value"),
])  # fmt: skip
def test_a_wrong_expression_is_refused_with_the_place(expression: Any, sentence: str) -> None:
    with pytest.raises(LogicError) as caught:
        compile_logic(expression)
    assert str(caught.value) == sentence


def test_an_expression_cannot_be_nested_without_end() -> None:
    expression: Any = {"var": "n"}
    for _ in range(DEPTH_MAX + 1):
        expression = {"!": [expression]}
    with pytest.raises(LogicError, match="nested more than"):
        compile_logic(expression)


def test_it_is_known_which_fields_are_read_and_whether_any_is() -> None:
    logic = compile_logic({"and": [var("a.b", var("c")), {"some": [var("d"), {"==": [var("e"), 1]}]}]})
    assert (logic.names, logic.constant) == ({"a", "c", "d"}, False)
    logic = compile_logic({"some": [[1, 2], {"==": [{"+": [1, 1]}, var("")]}]})
    assert (logic.names, logic.constant, logic.run({})) == (frozenset(), True, True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["a", "1", 10**400]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)
BODIES = st.dictionaries(st.sampled_from("abcd"), JSON, max_size=4)
PATHS = st.sampled_from(["a", "b", "c", "a.b", "a.0", "b.c.1.a", "c.length", "1"])
LEAVES = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "a", "1", "x"]) | PATHS.map(lambda path: {"var": path})
    | st.tuples(PATHS, st.integers(-1, 5)).map(lambda both: {"var": list(both)})
)  # fmt: skip
COUNTS = {
    "and": (1, 3), "or": (1, 3), "if": (2, 5), "!": (1, 1), "==": (2, 2), "===": (2, 2), "!=": (2, 2), "!==": (2, 2),
    "<": (2, 3), "<=": (2, 3), ">": (2, 2), ">=": (2, 2), "in": (2, 2), "+": (1, 3), "-": (1, 2), "*": (1, 3),
    "/": (2, 2), "%": (2, 2), "min": (1, 3), "max": (1, 3), "some": (2, 2), "all": (2, 2), "none": (2, 2),
}  # fmt: skip


def operations(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    listed = st.lists(inner, max_size=3)
    made = [
        st.lists(inner | listed, min_size=least, max_size=most).map(lambda given, name=name: {name: given})
        for name, (least, most) in COUNTS.items()
    ]
    return st.one_of(made)


EXPRESSIONS = st.recursive(LEAVES, operations, max_leaves=10)


@given(EXPRESSIONS, BODIES)
def test_no_body_makes_an_expression_raise(expression: Any, body: dict[str, Any]) -> None:
    logic = compile_logic(expression)
    value = logic.run(body)
    assert truthy(value) in (True, False)
    assert isinstance(number(value), float)
    if logic.constant:
        assert repr(logic.run({})) == repr(value)


@given(JSON, JSON)
def test_equality_goes_both_ways_and_the_strict_one_is_part_of_the_loose_one(left: Any, right: Any) -> None:
    assert equal(left, right) == equal(right, left)
    assert same(left, right) == same(right, left)
    assert equal(left, right) or not same(left, right)
