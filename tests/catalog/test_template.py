"""Answers as data: what a template says, what it leaves out, and every way in which one can be wrong."""

from typing import Any

import pytest

from bide.catalog.template import Made, TemplateError, fill, parse, times

FIELDS = ("prompt", "model")
CONTEXTS: dict[str, dict[str, Any]] = {
    "request": {"prompt": "a boat", "model": None},
    "said": {"words": [{"word": "a", "at": 0.5}, {"word": "boat"}, "no table"], "seed": "17"},
    "task": {"id": "t-1", "trace_id": "order-7731"},
    "time": times(1_764_000_000_125, 1_764_000_091_910),
}
MADE = [
    Made({"id": "i-1", "number": 1, "seconds": 8.0}, {"video": "u1"}, {"video": ["u1"]}),
    Made({"id": "i-2", "number": 2}, {"video": "u2", "part": "p1"}, {"video": ["u2"], "part": ["p1", "p2"]}),
]


def filled(template: dict[str, Any], made: list[Made] | None = None) -> dict[str, Any]:
    return fill(parse(template, FIELDS), CONTEXTS, MADE if made is None else made)


def test_a_list_is_repeated_for_every_item_and_what_has_no_value_leaves_its_key_out() -> None:
    each = {"each": "items", "id": "{item.id}", "seconds": "{item.seconds}", "url": "{asset.video}",
            "parts": "{assets.part}", "model": "{request.model}", "state": "succeeded"}  # fmt: skip
    assert filled({"data": [each]}) == {"data": [
        {"id": "i-1", "seconds": 8.0, "url": "u1", "state": "succeeded"},
        {"id": "i-2", "url": "u2", "parts": ["p1", "p2"], "state": "succeeded"},
    ]}  # fmt: skip
    assert filled({"data": [each]}, []) == {"data": []}


def test_outside_of_a_list_the_first_item_is_meant() -> None:
    assert filled({"id": "{item.id}", "data": {"url": "{asset.video}", "none": "{asset.audio}"}}) == {
        "id": "i-1", "data": {"url": "u1"},
    }  # fmt: skip
    assert filled({"id": "{item.id}", "n": 1}, []) == {"n": 1}


def test_values_keep_their_type_and_texts_may_hold_them() -> None:
    template = {"n": "{item.number}", "name": "{request.prompt} {item.number}", "gone": "x{item.nothing}",
                "yes": True, "list": [1, "{said.seed}", "{said.nothing}"], "task": "{task.id}"}  # fmt: skip
    assert filled(template) == {"n": 1, "name": "a boat 1", "yes": True, "list": [1, "17"], "task": "t-1"}


def test_a_list_of_the_provider_is_repeated_entry_by_entry() -> None:
    template = {"words": [{"each": "said.words", "text": "{one.word}", "start_s": "{one.at}"}],
                "none": [{"each": "said.nothing", "text": "{one.word}"}]}  # fmt: skip
    assert filled(template) == {"words": [{"text": "a", "start_s": 0.5}, {"text": "boat"}], "none": []}


def test_times_come_in_three_forms() -> None:
    names = ("created", "created_iso", "created_s", "finished", "finished_iso", "finished_s")
    assert list(filled({name: f"{{time.{name}}}" for name in names}).values()) == [
        "2025-11-24 16:00:00", "2025-11-24T16:00:00.125Z", 1764000000.125,
        "2025-11-24 16:01:31", "2025-11-24T16:01:31.910Z", 1764000091.91,
    ]  # fmt: skip


@pytest.mark.parametrize(("template", "says"), [
    ({"a": "{request.size}"}, "answer.a: there is no {request.size}"),
    ({"a": {"b": ["{time.noon}"]}}, r"answer.a.b\[0\]: there is no {time.noon}"),
    ({"a": "{task.secret}"}, "there is no {task.secret}"),
    ({"a": "{file.name}"}, "there is no {file.name}"),
    ({"a": "{item}"}, "there is no {item}"),
    ({"a": "{one.word}"}, "there is no {one.word}"),
    ({"each": "items"}, "`each` means something in a table of a list alone"),
    ({"a": {"each": "items"}}, "answer.a: `each` means something in a table of a list alone"),
    ({"a": [{"each": "request.size"}]}, "there is no {request.size}"),
    ({"a": [{"each": "everything"}]}, "there is no {everything}"),
])  # fmt: skip
def test_a_wrong_template_is_refused_with_its_place(template: dict[str, Any], says: str) -> None:
    with pytest.raises(TemplateError, match=says):
        parse(template, FIELDS)
