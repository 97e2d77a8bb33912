"""What a chat asks for: the last text of the user, and the pictures of all messages."""

from typing import Any

import pytest

from bide.catalog.chat import PICTURES_MAX, PROMPT_MAX, asked
from bide.catalog.load import load
from bide.errors import BadRequest, NotImplementedHere

CHAT = load().by_path["/v1/chat/completions"]
DATA = "data:image/png;base64,iVBORw0KGgo="


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def image(url: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


TAKEN: list[tuple[list[Any], dict[str, Any]]] = [
    ([user("a boat")], {"prompt": "a boat"}),
    ([{"role": "system", "content": "be brief"}, user("a boat")], {"prompt": "a boat"}),
    ([user("a boat"), {"role": "assistant", "content": "here"}, user("make it red")], {"prompt": "make it red"}),
    ([user([text("a boat"), text("in red")])], {"prompt": "a boat\nin red"}),
    ([user([text("a boat"), image("https://example.com/a.png")])],
     {"prompt": "a boat", "image": ["https://example.com/a.png"]}),
    ([user([image("https://example.com/1")]), user([text("both"), image(DATA)])],
     {"prompt": "both", "image": ["https://example.com/1", DATA]}),
    ([user("a boat"), user([image("https://example.com/1")])],
     {"prompt": "a boat", "image": ["https://example.com/1"]}),
    ([user("a boat"), {"role": "assistant", "content": None, "tool_calls": []}], {"prompt": "a boat"}),
    ([user([text("x"), {"type": "image_url", "image_url": "https://example.com/1"}])],
     {"prompt": "x", "image": ["https://example.com/1"]}),
]  # fmt: skip


@pytest.mark.parametrize(("messages", "expected"), TAKEN, ids=range(len(TAKEN)))
def test_the_prompt_and_the_pictures_are_found(messages: list[Any], expected: dict[str, Any]) -> None:
    assert asked(messages) == expected
    values = CHAT.check({"messages": messages})
    assert {name: values[name] for name in expected} == expected
    assert "messages" not in CHAT.for_provider(values)
    assert CHAT.capability_for(values) == ("image.edit" if "image" in expected else "image.generate")


REFUSED: list[tuple[list[Any], str]] = [
    (["hello"], '`messages[0]` is "hello"; it must be an object with `role` and `content`'),
    ([{"role": "system", "content": "x"}], "`messages` has no text of the user"),
    ([user("  ")], "`messages` has no text of the user"),
    ([user(7)], "`messages[0].content` is 7; it must be a text or a list of parts"),
    ([user(["x"])], '`messages[0].content[0]` is "x"; it must be a part of the type text or image_url'),
    ([user([{"type": "input_audio"}])], "`messages[0].content[0]` is an object; it must be a part of"),
    ([user([text("x"), image(7)])], "`messages[0].content[1]` is an object; it must be a part of"),
    ([user([text("x"), image("ftp://example.com/x")])],
     '`messages[0].content[1].image_url` is "ftp://example.com/x"; it must be an http:// or https:// URL'),
    ([user([text("x"), image("data:text/html,hello")])], "`messages[0].content[1].image_url` is a data URL that is"),
    ([user("x" * (PROMPT_MAX + 1))], "the last message of the user has 32,001 characters; at most 32,000 are taken"),
    ([user([text("x"), *[image("https://example.com/x")] * (PICTURES_MAX + 1)])], "`messages` has 17 pictures"),
]  # fmt: skip


@pytest.mark.parametrize(("messages", "sentence"), REFUSED, ids=range(len(REFUSED)))
def test_what_cannot_be_understood_is_refused_in_a_sentence(messages: list[Any], sentence: str) -> None:
    with pytest.raises(BadRequest) as refused:
        CHAT.check({"messages": messages})
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize("model", ["gpt-5", "gpt-4o", "claude-sonnet-4", "o3", "text-embedding-3-large"])
def test_a_model_that_answers_in_words_is_not_offered(model: str) -> None:
    with pytest.raises(NotImplementedHere, match=f'`model` is "{model}", which is not known to make pictures'):
        CHAT.check({"model": model, "messages": [user("x")]})


MODELS = ["gpt-4o-image", "gpt-image-2:official", "nano-banana", "gemini-3-pro-image", "dall-e-3"]


@pytest.mark.parametrize("model", MODELS)
def test_a_model_that_makes_pictures_is(model: str) -> None:
    assert CHAT.check({"model": model, "messages": [user("x")]})["model"] == model
