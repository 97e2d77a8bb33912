"""What is sent to an OpenAI-compatible server, and what becomes of its answers. The server is real."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from bide.providers import openai_images
from bide.providers.base import Asset, Failed, Input, Outcome, Provider
from bide.providers.openai_images import submit, without_settings

from .upstream import (
    ANSWER,
    JPEG,
    JPEG64,
    KEY,
    PNG,
    PNG64,
    Reply,
    Upstream,
    answer,
    failed,
    given,
    run,
    succeeded,
    unknown,
)


def test_the_module_is_a_provider() -> None:
    provider: Provider = openai_images
    assert sorted(provider.CAPABILITIES) == ["image.edit", "image.generate"]
    assert not provider.TAKES_OUR_ID

    async def poll() -> Outcome:
        async with Upstream() as upstream:
            return await provider.poll(upstream.call(), "x")

    polled = run(poll())
    assert isinstance(polled, Failed)
    assert polled.code == "api_error"


# -- what is sent


def test_a_generation_sends_what_the_caller_asked_and_no_defaults() -> None:
    _, upstream = succeeded(
        answer(ANSWER),
        n=1,
        size="1024x1024",
        quality="auto",
        style="vivid",
        background="transparent",
        moderation="auto",
        output_format="webp",
        output_compression=80,
        input_fidelity=None,
        user="u1",
        unknown="x",
        response_format="url",
    )
    asked = upstream.requests[0]
    assert asked.path == "/v1/images/generations"
    assert asked.json == {
        "model": "gpt-image-2",
        "prompt": "a boat",
        "n": 1,
        "size": "1024x1024",
        "background": "transparent",
        "output_format": "webp",
        "output_compression": 80,
        "user": "u1",
    }
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert asked.headers["Content-Type"] == "application/json"
    assert asked.headers["Content-Length"] == str(len(asked.body))


@pytest.mark.parametrize(
    ("model", "options", "request_fields", "expected"),
    [
        ("gpt-image-2", {"response_format": "b64_json"}, {"style": "natural"}, {}),
        ("openai/gpt-image-1", {"response_format": "b64_json"}, {"style": "natural"}, {}),
        ("chatgpt-image-latest", {"response_format": "b64_json"}, {}, {}),
        (
            "dall-e-3",
            {"response_format": "b64_json"},
            {"style": "natural"},
            {"style": "natural", "response_format": "b64_json"},
        ),
        ("tiny-sd", {"response_format": "b64_json"}, {}, {"response_format": "b64_json"}),
        ("tiny-sd", {}, {"style": "vivid"}, {}),
        ("tiny-sd", {"drop": ["n", "size"]}, {"n": 2, "size": "512x512", "quality": "hd"}, {"quality": "hd"}),
        (
            "tiny-sd",
            {"extra": {"kwargs": {"steps": 4}, "model": "other"}},
            {},
            {"kwargs": {"steps": 4}, "model": "other"},
        ),
        ("tiny-sd", {"stream": True}, {}, {"stream": True}),
        ("tiny-sd", {"stream": True, "drop": ["stream"]}, {}, {}),
        ("tiny-sd", {}, {"size": "", "output_format": "png", "output_compression": 100, "quality": None}, {}),
    ],
)
def test_the_options_of_the_channel_shape_the_request(
    model: str, options: dict[str, Any], request_fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    _, upstream = succeeded(answer(ANSWER), model=model, options=options, **request_fields)
    assert upstream.requests[0].json == {"model": model, "prompt": "a boat", **expected}


def test_partial_images_are_asked_for_only_if_somebody_watches() -> None:
    _, watched = succeeded(answer(ANSWER), watched=True, partial_images=2)
    assert watched.requests[0].json["stream"] is True
    assert watched.requests[0].json["partial_images"] == 2
    for call in ({"watched": True}, {"partial_images": 2}):
        _, unwatched = succeeded(answer(ANSWER), **call)
        assert not {"stream", "partial_images"} & set(unwatched.requests[0].json)


TAG, END = "<sd_cpp_extra_args>", "</sd_cpp_extra_args>"


@pytest.mark.parametrize(
    ("prompt", "sent"),
    [
        ("a boat", "a boat"),
        (f'a boat{TAG}{{"steps": 900}}{END}', "a boat"),
        (f"a{TAG}1{END}b<SD_CPP_EXTRA_ARGS>2{END}c", "a  b  c"),
        (f"a {TAG} boat", "a   boat"),
        (f"a {END} boat", "a   boat"),
        (f"<sd_cpp_{TAG}x{END}extra_args>boat", "<sd_cpp_  extra_args>boat"),
        (f"<sd_cpp_{TAG}extra_args>boat", "<sd_cpp_ extra_args>boat"),
        ("  plain <b>text</b>  ", "  plain <b>text</b>  "),
    ],
)
def test_a_prompt_carries_no_settings_for_the_server(prompt: str, sent: str) -> None:
    assert without_settings(prompt) == sent
    assert TAG not in without_settings(prompt)


def test_an_edit_streams_its_files_as_a_form() -> None:
    big = PNG * 800
    inputs = (
        given("image", big, '../../etc/my boat\r\n".png'),
        given("image", JPEG, "äöü.jpeg", "image/jpeg"),
        given("mask", PNG, "", "image/png"),
    )
    _, upstream = succeeded(
        answer(ANSWER),
        capability="image.edit",
        inputs=inputs,
        n=2,
        input_fidelity="high",
        prompt="grün",
        options={"extra": {"kwargs": {"steps": 4}}},
    )
    asked = upstream.requests[0]
    assert asked.path == "/v1/images/edits"
    text = "text/plain; charset=utf-8"
    assert asked.parts == [
        ("model", None, text, b"gpt-image-2"),
        ("prompt", None, text, "grün".encode()),
        ("n", None, text, b"2"),
        ("input_fidelity", None, text, b"high"),
        ("kwargs", None, text, b'{"steps":4}'),
        ("image[]", "my_boat.png", "image/png", big),
        ("image[]", "image.jpg", "image/jpeg", JPEG),
        ("mask", "mask.png", "image/png", PNG),
    ]
    assert "Transfer-Encoding" not in asked.headers
    assert int(asked.headers["Content-Length"]) > len(big)


def test_one_picture_is_sent_as_image_and_an_odd_type_as_bytes() -> None:
    _, upstream = succeeded(
        answer(ANSWER), capability="image.edit", inputs=(given("image", PNG, "x.php", "text/x-php\r\nX: y"),)
    )
    assert upstream.requests[0].parts[-1] == ("image", "x.bin", "application/octet-stream", PNG)


def test_a_file_that_changed_while_it_was_sent_is_no_submission() -> None:
    for said in (len(PNG) + 1, len(PNG) - 1):
        short = replace(given("image", PNG), size=said)

        async def work(short: Input = short) -> Outcome:
            async with Upstream(answer(ANSWER)) as upstream:
                return await submit(upstream.call(capability="image.edit", inputs=(short,)))

        outcome = run(work())
        assert isinstance(outcome, Failed)
        assert outcome.retryable


# -- answers


def test_the_picture_is_stored_and_the_rest_is_told() -> None:
    outcome, upstream = succeeded(answer(ANSWER))
    assert upstream.store.of(outcome.assets[0].stored) == PNG
    assert outcome.assets[0].stored is not None
    assert outcome.assets[0].stored.content_type == "image/png"
    assert outcome.response == {name: value for name, value in ANSWER.items() if name != "data"}
    assert outcome.units == 1


def test_several_pictures_and_addresses_keep_their_order() -> None:
    outcome, upstream = succeeded(
        answer(
            {
                "data": [
                    {"url": "https://cdn.example/a.png", "b64_json": None, "revised_prompt": "a red boat"},
                    {"url": None, "b64_json": JPEG64, "revised_prompt": None},
                    {"b64_json": "", "url": "http://cdn.example/b.png"},
                    {"b64_json": "data:image/png;base64," + PNG64, "revised_prompt": "a blue boat"},
                ],
                "created": 12.7,
                "usage": None,
                "size": 7,
            }
        )
    )
    first, second, third, fourth = outcome.assets
    assert first == Asset(url="https://cdn.example/a.png", about={"revised_prompt": "a red boat"})
    assert upstream.store.of(second.stored) == JPEG
    assert second.about == {}
    assert third.url == "http://cdn.example/b.png"
    assert upstream.store.of(fourth.stored) == PNG
    assert fourth.about == {"revised_prompt": "a blue boat"}
    assert outcome.response == {"created": 12}
    assert outcome.units == 4


def test_a_picture_is_found_at_any_depth() -> None:
    outcome, upstream = succeeded(
        answer({"result": {"data": {"images": [{"b64_json": PNG64}]}}, "url": "https://x.example/"})
    )
    assert [upstream.store.of(asset.stored) for asset in outcome.assets] == [PNG]


def test_a_large_answer_in_small_pieces_arrives_whole() -> None:
    picture = PNG * 2000
    body = json.dumps({"data": [{"b64_json": base64.b64encode(picture).decode()}]}).encode()
    outcome, upstream = succeeded(Reply(200, [body[at : at + 65_537] for at in range(0, len(body), 65_537)]))
    assert upstream.store.of(outcome.assets[0].stored) == picture


@pytest.mark.parametrize(
    "url",
    [
        "/root/image/x.jpg",
        "file:///etc/passwd",
        "ftp://x.example/a",
        "http://",
        "http://[::1",
        "https://x.example/\n",
        "",
    ],
)
def test_an_address_that_is_not_of_the_web_is_no_picture(url: str) -> None:
    outcome = failed(answer({"created": 1, "data": [{"url": url, "b64_json": None}]}))
    assert (outcome.code, outcome.scope, outcome.retryable) == ("api_error", "channel", False)
    assert "without a picture" in outcome.message


@pytest.mark.parametrize(
    "document", [{"data": []}, {"data": None}, {"created": 1}, {}, [], None, 7, {"data": [{"b64_json": ""}]}]
)
def test_success_without_a_picture_is_a_failure(document: Any) -> None:
    assert failed(answer(document)).code == "api_error"


def test_an_error_inside_a_success_is_read_as_an_error() -> None:
    outcome = failed(answer({"error": {"code": "moderation_blocked", "message": "No."}}, **{"x-request-id": "req_9"}))
    assert (outcome.code, outcome.message) == ("forbidden", "No.")
    assert "req_9" in outcome.detail


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><title>Welcome</title></html>",
        b'{"data":[{"b64_json":"' + PNG64.encode(),
        b'[{"b64_json":"AAAA"}',
    ],
)
def test_a_success_that_cannot_be_read_is_unknown(body: bytes) -> None:
    outcome = unknown(Reply(200, body, {"x-request-id": "req_3"}))
    assert outcome.status == 200
    assert "req_3" in outcome.detail


def test_bytes_that_are_no_picture_are_a_failure() -> None:
    text = base64.b64encode(b"<html>not a picture</html>").decode()
    assert "not a picture" in failed(answer({"data": [{"b64_json": text}]})).message


def test_a_picture_that_is_too_large_is_a_failure_and_does_not_spoil_the_others() -> None:
    large = base64.b64encode(PNG * 700).decode()
    outcome = failed(answer({"data": [{"b64_json": large}]}), bytes_max=10_000)
    assert (outcome.code, outcome.scope) == ("api_error", "task")
    assert "larger" in outcome.message
    both, upstream = succeeded(answer({"data": [{"b64_json": large}, {"b64_json": PNG64}]}), bytes_max=10_000)
    assert [upstream.store.of(asset.stored) for asset in both.assets] == [PNG]


def test_an_answer_beyond_the_bound_is_not_listened_to() -> None:
    outcome = failed(answer({"data": [{"b64_json": base64.b64encode(PNG * 50).decode()}]}), answer_bytes_max=20_000)
    assert (outcome.code, outcome.scope, outcome.retryable) == ("api_error", "task", False)


def test_a_fault_of_our_own_storage_is_not_taken_for_one_of_the_wire() -> None:
    async def work() -> None:
        async with Upstream(answer(ANSWER)) as upstream:
            call = upstream.call()

            class Full(type(call.sink())):  # type: ignore[misc]
                async def write(self, data: bytes) -> None:
                    raise OSError(28, "No space left on device")

            sink = Full(upstream.store)
            with pytest.raises(OSError, match="No space"):
                await submit(replace(call, sink=lambda: sink))
            assert sink.state == "aborted"

    run(work())
