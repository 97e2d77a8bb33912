"""The stock OpenAI client, unmodified, with either of the two base URLs that it may be given."""

import base64
import io
import re
import urllib.request
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from PIL import Image

from tests.system.loopback import picture
from tests.system.processes import TOKEN, Process, running


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with running("serve", tmp_path_factory.mktemp("sdk")) as process:
        yield process


@pytest.fixture(params=["/v1", "/openai"])
def client(serve: Process, request: pytest.FixtureRequest) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{serve.url}{request.param}", api_key=TOKEN, max_retries=0, timeout=30) as client:
        yield client


def opened(data: bytes) -> Image.Image:
    """The picture, wholly decoded."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def decoded(b64_json: str | None) -> Image.Image:
    assert b64_json is not None
    return opened(base64.b64decode(b64_json, validate=True))


def fetched(url: str | None) -> Image.Image:
    """The picture at a result's URL, which opens without a token."""
    assert url is not None
    with urllib.request.urlopen(url, timeout=10) as answer:
        return opened(answer.read())


def test_generate_answers_a_url_that_opens_without_a_token(client: openai.OpenAI) -> None:
    answer = client.images.generate(model="gpt-image-1", prompt="a boat", size="1536x1024")
    openai.types.ImagesResponse.model_validate(answer.model_dump())
    assert answer.data is not None
    assert len(answer.data) == 1
    image = fetched(answer.data[0].url)
    assert (image.format, image.size) == ("PNG", (1536, 1024))


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_generate_answers_base64_in_the_format_that_was_asked_for(client: openai.OpenAI, output_format: Any) -> None:
    answer = client.images.generate(
        model="dall-e-2", prompt="a boat", size="256x256", response_format="b64_json", output_format=output_format,
        output_compression=60,
    )  # fmt: skip
    assert answer.data is not None
    assert answer.data[0].url is None
    image = decoded(answer.data[0].b64_json)
    assert (image.format, image.size) == (output_format.upper(), (256, 256))


def test_generate_draws_as_many_as_were_asked_for(client: openai.OpenAI) -> None:
    answer = client.images.generate(model="dall-e-2", prompt="boats", n=3, size="256x256")
    assert answer.data is not None
    assert len({one.url for one in answer.data}) == 3
    assert [fetched(one.url).size for one in answer.data] == [(256, 256)] * 3


def test_edit_takes_one_file(client: openai.OpenAI) -> None:
    answer = client.images.edit(
        model="gpt-image-1", image=picture(300, 200), prompt="a boat", size="1024x1024", response_format="b64_json"
    )
    assert answer.data is not None
    assert decoded(answer.data[0].b64_json).size == (1024, 1024)


def test_edit_takes_several_files_and_a_mask(client: openai.OpenAI) -> None:
    answer = client.images.edit(
        model="gpt-image-1", prompt="a red boat", mask=("mask.png", picture(128, 128, alpha=True)),
        image=[("one.png", picture(128, 128)), ("two.jpg", picture(90, 60, "JPEG")), ("x", picture(32, 32, "WEBP"))],
        size="1024x1536", n=2,
    )  # fmt: skip
    assert answer.data is not None
    assert [fetched(one.url).size for one in answer.data] == [(1024, 1536)] * 2


def test_a_generated_picture_is_streamed_with_partial_ones_before_it(client: openai.OpenAI) -> None:
    stream = client.images.generate(
        model="gpt-image-1", prompt="a boat", size="1024x1024", stream=True, partial_images=2, output_format="jpeg"
    )
    events = list(stream)
    assert [event.type for event in events] == [
        "image_generation.partial_image", "image_generation.partial_image", "image_generation.completed",
    ]  # fmt: skip
    assert [event.partial_image_index for event in events[:2] if hasattr(event, "partial_image_index")] == [0, 1]
    for event in events:
        decoded(event.b64_json)
        assert (event.size, event.output_format) == ("1024x1024", "jpeg")
    last = decoded(events[-1].b64_json)
    assert (last.format, last.size) == ("JPEG", (1024, 1024))
    assert isinstance(events[-1], openai.types.ImageGenCompletedEvent)
    openai.types.ImageGenCompletedEvent.model_validate(events[-1].model_dump())
    assert events[-1].usage.total_tokens >= 0


def test_an_edited_picture_is_streamed_with_partial_ones_before_it(client: openai.OpenAI) -> None:
    stream = client.images.edit(
        model="gpt-image-1", image=picture(), prompt="a boat", size="1024x1024", stream=True, partial_images=1
    )
    events = list(stream)
    assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"]
    assert decoded(events[-1].b64_json).size == (1024, 1024)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("prompt", "error", "code"), [
    ("[moderation] a boat", openai.PermissionDeniedError, "forbidden"),
    ("[rate] a boat", openai.RateLimitError, "too_many_requests"),
    ("[fail:api_error] a boat", openai.InternalServerError, "api_error"),
    ("[fail:timeout] a boat", openai.InternalServerError, "timeout"),
    ("[fail:bad_request] a boat", openai.BadRequestError, "bad_request"),
])  # fmt: skip
def test_a_failure_is_the_clients_own_class_of_it(
    client: openai.OpenAI, prompt: str, error: type[openai.APIStatusError], code: str, stream: Any
) -> None:
    with pytest.raises(error) as raised:
        client.images.generate(model="gpt-image-1", prompt=prompt, stream=stream)
    assert raised.value.code == code
    assert raised.value.response.headers["x-trace-id"]


def test_a_size_that_the_model_does_not_have_is_a_bad_request(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.images.generate(model="gpt-image-1", prompt="a boat", size="256x256")
    assert raised.value.code == "bad_request"
    assert "size" in raised.value.message


def test_a_wrong_token_is_an_authentication_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as raised:
        client.with_options(api_key="f" * 32).images.generate(model="gpt-image-1", prompt="a boat")
    assert raised.value.code == "invalid_token"


def test_a_file_that_is_no_picture_is_a_bad_request(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        client.images.edit(model="gpt-image-1", image=b"no picture at all", prompt="a boat")


def shown_picture(content: str | None) -> Image.Image:
    """The picture that a chat's answer shows in Markdown."""
    found = re.match(r"!\[image\]\((\S+)\)", content or "")
    assert found is not None, content
    return fetched(found[1])


def test_a_chat_of_an_image_model_answers_a_picture(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="gpt-4o-image", messages=[{"role": "user", "content": "a boat"}]
    )
    openai.types.chat.ChatCompletion.model_validate(answer.model_dump())
    assert answer.choices[0].finish_reason == "stop"
    assert shown_picture(answer.choices[0].message.content).size == (1024, 1024)
    assert answer.usage is not None
    assert answer.usage.total_tokens > 0


def test_a_chat_draws_from_the_pictures_in_it(client: openai.OpenAI) -> None:
    data = base64.b64encode(picture(128, 64)).decode()
    answer = client.chat.completions.create(model="nano-banana", messages=[{"role": "user", "content": [
        {"type": "text", "text": "a red boat"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
    ]}])  # fmt: skip
    width, height = shown_picture(answer.choices[0].message.content).size
    assert width == 2 * height


def test_a_chat_is_streamed_in_chunks(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="gpt-4o-image", messages=[{"role": "user", "content": "a boat"}], stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    chunks = list(stream)
    for chunk in chunks:
        openai.types.chat.ChatCompletionChunk.model_validate(chunk.model_dump())
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert shown_picture(text).size == (1024, 1024)
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_of_a_text_model_is_a_bad_request_with_a_sentence(client: openai.OpenAI, stream: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="not known to make pictures") as raised:
        client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hello"}], stream=stream)
    assert raised.value.code == "api_not_implemented"
