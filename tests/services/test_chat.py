"""Chat completions of models that make pictures, as their callers see them."""

import base64
import io
import re
from typing import Any

from PIL import Image

from bide.settings import Settings
from tests.services.world import Shop, serve
from tests.system.loopback import picture, pictures
from tests.world import receiving

CHAT, TASKS = "/openai/chat/completions", "/openai/tasks"
CONTENT = re.compile(r"!\[image\]\((\S+)\)\n\n\[Download\]\((\S+)\)")
MESSAGES = [{"role": "user", "content": "a red boat"}]


def link(content: str) -> str:
    """The picture of an answer: shown, and linked to below."""
    found = CONTENT.fullmatch(content)
    assert found is not None, content
    assert found[1] == found[2]
    return found[1]


async def drawn(shop: Shop, completion: dict[str, Any]) -> Image.Image:
    (choice,) = completion["choices"]
    assert (choice["index"], choice["finish_reason"], choice["message"]["role"]) == (0, "stop", "assistant")
    return await shop.picture(link(choice["message"]["content"]))


def test_a_caller_that_waits_gets_an_ordinary_completion(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        for path in (CHAT, "/v1/chat/completions", "/v1/openai/chat/completions"):
            answer = (await shop.ask(path, model="gpt-4o-image", messages=MESSAGES)).json
            assert set(answer) == {"id", "object", "created", "model", "choices", "usage"}
            assert (answer["object"], answer["model"]) == ("chat.completion", "gpt-4o-image")
            assert isinstance(answer["created"], int)
            assert (await drawn(shop, answer)).size == (1024, 1024)
            usage = answer["usage"]
            assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"] > 0

    serve(on_both, test)


def test_a_task_keeps_the_completion_and_its_success(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        async with receiving() as receiver:
            accepted = (await shop.ask(CHAT, messages=MESSAGES, callback_url=receiver.url, trace_id="mine")).json
            assert set(accepted) == {"success", "task_id", "trace_id"}
            await shop.work()
            assert await shop.world.deliver() == 1
            (posted,) = receiver.got
        task = await shop.retrieve(CHAT, accepted["task_id"])
        assert task["type"] == "chat_completions_image"
        response = task["response"]
        assert (response["success"], response["task_id"], response["trace_id"]) == (True, accepted["task_id"], "mine")
        assert response["object"] == "chat.completion"
        await drawn(shop, response)
        assert posted.body["data"]["choices"] == response["choices"]
        assert await shop.charged() == 0.4

    serve(on_both, test)


def test_pictures_of_the_messages_are_edited(on_both: Settings) -> None:
    """One from its address, one that came in the request."""

    async def test(shop: Shop, address: str) -> None:
        data = f"data:image/png;base64,{base64.b64encode(picture(96, 48)).decode()}"
        for url, size in ((f"{address}/one", (64, 32)), (data, (96, 48))):
            parts = [{"type": "text", "text": "in red"}, {"type": "image_url", "image_url": {"url": url}}]
            answer = (await shop.ask(CHAT, messages=[{"role": "user", "content": parts}])).json
            image = await drawn(shop, answer)
            assert image.width * size[1] == image.height * size[0], (image.size, size)

    with pictures(one=picture(64, 32)) as address:
        serve(on_both, lambda shop: test(shop, address))


def test_an_address_that_callers_may_not_name_is_refused(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        parts = [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "http://10.0.0.1/x.png"}}]
        sentence = await shop.refused(CHAT, messages=[{"role": "user", "content": parts}])
        assert sentence.startswith("`image`: ")
        broken = [parts[0], {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
        await shop.refused(CHAT, messages=[{"role": "user", "content": broken}])
        assert await shop.charged() == 0

    serve(on_both, test)


def test_a_model_that_answers_in_words_is_refused_before_anything_is_held(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        answer = await shop.ask(CHAT, model="gpt-5", messages=MESSAGES)
        assert (answer.status, answer.code) == (400, "api_not_implemented")
        assert "words are not offered" in answer.message
        assert (await shop.ask(TASKS, action="retrieve_batch")).json["count"] == 0

    serve(on_both, test)


def test_a_failure_is_an_ordinary_error_streamed_or_not(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        for stream in (False, True):
            messages = [{"role": "user", "content": "x [moderation]"}]
            answer = await shop.ask(CHAT, messages=messages, stream=stream)
            assert (answer.status, answer.code) == (403, "forbidden")
        assert await shop.charged() == 0

    serve(on_both, test)


def test_a_stream_is_chunks_and_done(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        answer = await shop.ask(CHAT, messages=MESSAGES, stream=True)
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.body.decode().split("\n\n") if line]
        assert lines[-1] == "data: [DONE]"
        assert len(lines) == 4
        assert "".join(re.findall(r"https?://[^)]*", lines[1])[:1]).startswith("http://gateway.test/files/")

    serve(on_both, test)


def test_a_picture_is_what_its_link_says(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        answer = (await shop.ask(CHAT, messages=MESSAGES)).json
        data = await shop.file(link(answer["choices"][0]["message"]["content"]))
        Image.open(io.BytesIO(data)).load()

    serve(on_both, test)
