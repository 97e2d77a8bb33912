"""The bodies of the `openai` service: what is taken, what the provider gets, what is refused and in which words."""

from typing import Any

import pytest

from bide.catalog.load import Operation, load
from bide.errors import BadRequest
from tests.catalog.bodies import EDITS_REFUSED, EDITS_TAKEN, FORMS, FORMS_REFUSED, REFUSED, TAKEN, URL

CATALOG = load()
GENERATE = CATALOG.by_path["/openai/images/generations"]
EDIT = CATALOG.by_path["/openai/images/edits"]

DEFAULTS = {
    "model": "gpt-image-1", "n": 1, "size": "auto", "output_format": "png", "response_format": "url",
    "partial_images": 0,
}  # fmt: skip


@pytest.mark.parametrize("body", TAKEN)
def test_a_body_that_keeps_the_rules_is_taken(body: dict[str, Any]) -> None:
    body = {"prompt": "a boat", **body}
    before = dict(body)
    values = GENERATE.check(body)
    assert body == before
    given = {name: value for name, value in body.items() if value is not None and name in GENERATE.fields}
    if body.get("size") == "":
        given["size"] = "auto"
    assert values == {**DEFAULTS, **given}


@pytest.mark.parametrize(("body", "sentence"), REFUSED)
def test_a_body_that_breaks_a_rule_is_refused_with_the_field_named(body: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadRequest) as caught:
        GENERATE.check({"prompt": "a boat", **body})
    assert str(caught.value).startswith(sentence)
    assert len(str(caught.value)) < 400


def test_a_missing_prompt_is_named() -> None:
    with pytest.raises(BadRequest, match=r"^`prompt` is missing; it must be a text of 1 to 32,000 characters$"):
        GENERATE.check({})


def test_the_provider_sees_nothing_that_is_for_the_gateway() -> None:
    values = EDIT.check({
        "prompt": "a boat", "image": URL, "callback_url": "https://example.com/", "async": True, "trace_id": "t",
        "stream": True, "response_format": "url", "partial_images": 1, "quality": "low", "other": 1,
    })  # fmt: skip
    assert EDIT.for_provider(values) == {
        "prompt": "a boat", "model": "gpt-image-1", "n": 1, "size": "auto", "output_format": "png", "quality": "low",
    }  # fmt: skip


@pytest.mark.parametrize(("body", "images"), EDITS_TAKEN)
def test_pictures_of_a_json_body_are_urls(body: dict[str, Any], images: list[Any]) -> None:
    assert EDIT.check({"prompt": "x", **body})["image"] == images


@pytest.mark.parametrize(("body", "sentence"), EDITS_REFUSED)
def test_an_edit_that_breaks_a_rule_is_refused(body: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadRequest) as caught:
        EDIT.check({"prompt": "x", **body})
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(("form", "values"), FORMS)
def test_the_texts_of_a_form_are_read_as_the_types_of_their_fields(
    form: dict[str, Any], values: dict[str, Any]
) -> None:
    assert EDIT.check({"prompt": "null", **form}, form=True) == {**DEFAULTS, "prompt": "null", **values}


@pytest.mark.parametrize(("form", "sentence"), FORMS_REFUSED)
def test_a_form_that_breaks_a_rule_is_refused(form: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadRequest) as caught:
        EDIT.check({"prompt": "x", **form}, form=True)
    assert str(caught.value).startswith(sentence)


def test_an_operation_without_files_takes_no_form() -> None:
    with pytest.raises(BadRequest, match="takes a JSON body"):
        GENERATE.check({"prompt": "x"}, form=True)


@pytest.mark.parametrize("operation", [GENERATE, EDIT], ids=lambda operation: str(operation.key))
def test_every_field_of_a_preset_size_is_taken_by_the_newest_family(operation: Operation) -> None:
    for size in operation.fields["size"].suggest:
        operation.check({"prompt": "x", "image": URL, "model": "gpt-image-2", "size": size})
