"""What the capabilities of the sandbox share: the words that steer it, and reading and storing files."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bide.providers.base import Call, Input, Stored
from bide.providers.drawing_files import Refused

DELAY_MAX_S = 3600.0
INPUT_BYTES_MAX = 50 * 1024 * 1024
NEXT = "next"
"""The key of an item's `about` with the words for whatever follows it up."""

_STEP = re.compile(
    r"\[(fail|delay|partial):([A-Za-z0-9_.-]{1,64})\]|\[(moderation|rate|unknown|crash)\]"
)
_NEXT = re.compile(r"\[next:([a-z]+(?::[A-Za-z0-9_.-]{1,64})?)\]")


@dataclass(frozen=True, slots=True)
class Steps:
    """What the words of a request ask for. `next`: words for what follows up on its results."""

    delay_s: float
    fail: str = ""
    rate: bool = False
    unknown: bool = False
    crash: bool = False
    partial: int | None = None
    next: str = ""

    @property
    def fails(self) -> bool:
        return bool(self.fail) or self.crash or self.partial == 0


NOTHING = Steps(0.0)


def read_steps(prompt: str, delay_s: float) -> Steps:
    """The steering words of a text; the last of a kind wins, a number that is none is ignored."""
    found: dict[str, Any] = {}
    for match in _STEP.finditer(prompt):
        name, value, word = match[1], match[2], match[3]
        if word == "moderation":
            found["fail"] = "forbidden"
        elif word:
            found[word] = True
        elif name == "fail":
            found["fail"] = value
        elif name == "delay" and re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
            delay_s = min(float(value), DELAY_MAX_S)
        elif name == "partial" and value.isdigit():
            found["partial"] = int(value)
    words = "".join(f"[{word}]" for word in _NEXT.findall(prompt))
    return Steps(delay_s, next=words, **found)


def steps_of(call: Call) -> Steps:
    """The steps of a call: the words of what it follows up, then those in any text of its own."""
    said = [str(source.about.get(NEXT) or "") for listed in call.sources.values() for source in listed]
    said += texts(call.request)
    return read_steps("\n".join(said), float(call.options.get("delay_s", 0.0)))


def texts(value: Any) -> list[str]:
    """Every text in a value, however deep."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return [text for one in inner for text in texts(one)]


def text(request: Mapping[str, Any], name: str) -> str:
    """A text of a request, empty where it has none. Raises `Refused` for anything else."""
    value = request.get(name)
    if value is not None and not isinstance(value, str):
        raise Refused(f"`{name}` must be a text")
    return value or ""


async def store(call: Call, data: bytes, steps: Steps) -> Stored:
    """Writes a file; half of it and then no more, if that was asked for."""
    sink = call.sink()
    try:
        if steps.crash:
            await sink.write(data[: len(data) // 2])
            raise RuntimeError("the sandbox was asked to crash")
        await sink.write(data)
        return await sink.close()
    except BaseException:
        await sink.abort()
        raise


async def read(one: Input) -> bytes:
    """A whole input. Raises `Refused` when it is too large."""
    data = bytearray()
    async for chunk in one.chunks():
        data += chunk
        if len(data) > INPUT_BYTES_MAX:
            raise Refused(f"`{one.field}` is larger than {INPUT_BYTES_MAX // (1024 * 1024)} MB")
    return bytes(data)
