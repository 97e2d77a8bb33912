"""What a chat asks for, where pictures are made of it: the prompt and the pictures in its `messages`. Pure.

The prompt is the text of the last message of the user; pictures may be in any message. A part is
`{"type": "text", "text"}` or `{"type": "image_url", "image_url": {"url"}}`, a whole `content` may be a text.
"""

from collections.abc import Iterator
from typing import Any

from bide.catalog.checks import compile_check
from bide.catalog.fields import Field
from bide.catalog.places import is_picture_data
from bide.catalog.sentences import shown
from bide.errors import BadRequest

PROMPT, PICTURES = "prompt", "image"
"""The fields these become for a provider."""
PROMPT_MAX = 32_000
PICTURES_MAX = 16

_ADDRESS = Field(type="url", description="", required=True)


def asked(messages: list[Any]) -> dict[str, Any]:
    """`{"prompt": …, "image": […]}`, the second only where there are pictures. Raises `BadRequest`."""
    prompt, pictures = "", []
    for at, message in enumerate(messages):
        place = f"messages[{at}]"
        if not isinstance(message, dict):
            raise BadRequest(f"`{place}` is {shown(message)}; it must be an object with `role` and `content`")
        texts = []
        for where, kind, value in _parts(f"{place}.content", message.get("content")):
            if kind == "text":
                texts.append(value)
            else:
                pictures.append(_picture(where, value))
        if message.get("role") == "user" and texts:
            prompt = "\n".join(texts)
    if not prompt.strip():
        raise BadRequest("`messages` has no text of the user; the last message with the role user is the prompt")
    if len(prompt) > PROMPT_MAX:
        many = f"{len(prompt):,} characters"
        raise BadRequest(f"the last message of the user has {many}; at most {PROMPT_MAX:,} are taken")
    if len(pictures) > PICTURES_MAX:
        raise BadRequest(f"`messages` has {len(pictures)} pictures; at most {PICTURES_MAX} are taken")
    return {PROMPT: prompt, PICTURES: pictures} if pictures else {PROMPT: prompt}


def _parts(place: str, content: Any) -> Iterator[tuple[str, str, Any]]:
    """Place, kind and value of every part of a message; a content of null, as of a tool's call, has none."""
    if content is None:
        return
    if isinstance(content, str):
        yield place, "text", content
        return
    if not isinstance(content, list):
        raise BadRequest(f"`{place}` is {shown(content)}; it must be a text or a list of parts")
    for at, part in enumerate(content):
        where = f"{place}[{at}]"
        match part:
            case {"type": "text", "text": str(text)}:
                yield where, "text", text
            case {"type": "image_url", "image_url": {"url": str(url)} | str(url)}:
                yield f"{where}.image_url", "picture", url
            case _:
                raise BadRequest(f"`{where}` is {shown(part)}; it must be a part of the type text or image_url")


def _picture(where: str, url: str) -> str:
    """An address, or a picture in the request itself."""
    if is_picture_data(url):
        return url
    if url[:5].lower() == "data:":
        raise BadRequest(f"`{where}` is a data URL that is not a picture in base64")
    checked: str = compile_check(where, _ADDRESS, form=False)(url)
    return checked
