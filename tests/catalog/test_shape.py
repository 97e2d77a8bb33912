"""The public JSON of answers, tasks and callbacks."""

from typing import Any

import pytest

from bide.catalog import shape
from bide.catalog.load import load

CATALOG = load()
GENERATE = CATALOG.by_path["/openai/images/generations"]
TASK, TRACE = "0190c0a0-0000-7000-8000-000000000001", "order-7731"
IMAGES = {"created": 1764000037, "data": [{"url": "https://f/1.png"}]}
STORED = {"success": True, "task_id": TASK, "trace_id": TRACE, **IMAGES}


def answer(request: dict[str, Any], response: dict[str, Any], *items: dict[str, Any]) -> dict[str, Any]:
    return shape.answer(GENERATE, GENERATE.check({"prompt": "a boat", **request}), response, items, now_s=1764000000)


def test_an_answer_holds_the_pictures_and_what_the_upstream_said_of_them() -> None:
    usage = {"input_tokens": 12, "output_tokens": 272, "total_tokens": 284}
    said = {"created": 1764000037, "size": "1024x1024", "quality": "low", "background": "opaque",
            "output_format": "png", "usage": usage, "internal": "x", "model": None}  # fmt: skip
    made = answer(
        {"model": "gpt-image-2"}, said,
        {"url": "https://f/1.png", "revised_prompt": "a small boat", "b64_json": None, "secret": 1}, {"url": "https://f/2.png"},
    )  # fmt: skip
    assert made == {
        "created": 1764000037,
        "data": [{"url": "https://f/1.png", "revised_prompt": "a small boat"}, {"url": "https://f/2.png"}],
        "model": "gpt-image-2", "background": "opaque", "output_format": "png", "quality": "low", "size": "1024x1024",
        "usage": usage,
    }  # fmt: skip


@pytest.mark.parametrize("created", [None, "soon", {}])
def test_a_time_the_upstream_did_not_say_is_ours(created: Any) -> None:
    made = answer({}, {"created": created}, {"b64_json": "AAAA"})
    assert made == {"created": 1764000000, "data": [{"b64_json": "AAAA"}], "model": "gpt-image-1"}


@pytest.mark.parametrize("model", ["nano-banana", "nano-banana-pro", "nano-banana-2-lite"])
def test_a_nano_banana_answer_has_no_time_and_repeats_the_prompt(model: str) -> None:
    made = answer({"model": model}, {"created": 5}, {"url": "https://f/1.png", "revised_prompt": "other"})
    assert made["created"] == 0
    assert made["data"] == [{"url": "https://f/1.png", "revised_prompt": "a boat"}]


def test_a_task_keeps_the_flat_answer_and_an_inline_caller_gets_it_without_a_task_id() -> None:
    assert shape.task_response(TASK, TRACE, IMAGES) == STORED
    assert shape.inline_answer(GENERATE, STORED) == {"success": True, "trace_id": TRACE, **IMAGES}
    assert shape.accepted(TASK, TRACE) == {"success": True, "task_id": TASK, "trace_id": TRACE}


def test_a_callback_holds_the_answer_below_data_or_flat() -> None:
    envelope = {"success": True, "task_id": TASK, "trace_id": TRACE}
    assert shape.callback_body(GENERATE, TASK, TRACE, STORED, "nested") == {**envelope, "data": IMAGES}
    assert shape.callback_body(GENERATE, TASK, TRACE, STORED, "flat") == STORED


@pytest.mark.parametrize("setting", ["nested", "flat"])
def test_a_failure_looks_the_same_everywhere(setting: str) -> None:
    failed = shape.failure(TASK, TRACE, "forbidden", "No.")
    assert failed == {
        "success": False, "task_id": TASK, "trace_id": TRACE, "error": {"code": "forbidden", "message": "No."},
    }  # fmt: skip
    assert shape.callback_body(GENERATE, TASK, TRACE, failed, setting) == failed
