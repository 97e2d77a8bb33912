"""The sandbox: an upstream without a key, without a network and without a bill, that draws real pictures.

It answers after `delay_s` seconds (option of the channel), as an upstream does that takes its time. Words in the
prompt steer it, so that a client's whole error handling can be tried:

    [fail:CODE]     fails with that error code, after the delay
    [moderation]    fails with `forbidden`, after the delay
    [rate]          is refused at once with `too_many_requests`
    [unknown]       breaks off: nobody knows whether the work was done
    [crash]         raises in the middle, as a defect in a provider would
    [delay:S]       takes S seconds instead
    [partial:N]     only N of the pictures succeed

The same request draws the same picture. Encoded pictures are kept for a while, so asking again costs little.
"""

import asyncio
import os
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from bide.providers import drawing
from bide.providers.base import Asset, Call, Failed, Input, Outcome, Partial, Pending, Stored, Succeeded, Unknown
from bide.providers.drawing import Picture, Size, Source
from bide.providers.drawing_files import Refused

CAPABILITIES = frozenset({"image.generate", "image.edit"})
TAKES_OUR_ID = True

DELAY_MAX_S = 3600.0
AUTO_SIZE = (1024, 1024)
PIXELS_MAX = 16_777_216
KEPT_BYTES_MAX = 16 * 1024 * 1024
_STEP = re.compile(r"\[(fail|delay|partial):([A-Za-z0-9_.-]{1,64})\]|\[(moderation|rate|unknown|crash)\]")

T = TypeVar("T")

_painters = ThreadPoolExecutor(max_workers=max(1, (os.cpu_count() or 1) - 1), thread_name_prefix="bide-sandbox")


@dataclass(frozen=True, slots=True)
class Steps:
    """What the words of a prompt ask for."""

    delay_s: float
    fail: str = ""
    rate: bool = False
    unknown: bool = False
    crash: bool = False
    partial: int | None = None


async def submit(call: Call) -> Outcome:
    """Draws at once, or says when to ask again."""
    steps = read_steps(str(call.request.get("prompt", "")), float(call.options.get("delay_s", 0.0)))
    if steps.rate:
        return Failed("too_many_requests", "The sandbox was asked to refuse this.", status=429)
    if steps.unknown:
        return Unknown("The sandbox broke off before it answered.", detail="[unknown] in the prompt")
    if call.progress is not None and call.partial_images:
        return await _watched(call, steps)
    if steps.delay_s > 0:
        return Pending(f"sandbox-{call.task_id}", steps.delay_s)
    return await _finish(call, steps)


async def poll(call: Call, upstream_id: str) -> Outcome:
    """The delay is over: the caller comes back when it was told to."""
    return await _finish(call, read_steps(str(call.request.get("prompt", "")), 0.0))


def read_steps(prompt: str, delay_s: float) -> Steps:
    """The steering words of a prompt; the last of a kind wins, a number that is none is ignored."""
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
    return Steps(delay_s, **found)


# -- one request


async def _finish(call: Call, steps: Steps) -> Outcome:
    if steps.crash:
        raise RuntimeError("the sandbox was asked to crash")
    if steps.fail:
        text = "Content moderation refused this." if steps.fail == "forbidden" else "The sandbox was asked to fail."
        return Failed(steps.fail, text)
    try:
        source, size = await _source(call)
        pictures = _pictures(call, size)
        if steps.partial is not None:
            pictures = pictures[: steps.partial]
        stored = [await _store(call, await _drawn(picture, source)) for picture in pictures]
    except Refused as refusal:
        return Failed("bad_request", str(refusal))
    return _succeeded(call, size, stored)


async def _watched(call: Call, steps: Steps) -> Outcome:
    """Somebody watches: unfinished pictures come while the time passes."""
    assert call.progress is not None
    pause_s = steps.delay_s / (call.partial_images + 1)
    if not steps.fail and not steps.crash:
        try:
            source, size = await _source(call)
            first = _pictures(call, size)[0]
            unfinished = await _paint(lambda: drawing.unfinished(first, source, call.partial_images))
        except Refused as refusal:
            return Failed("bad_request", str(refusal))
        for index, data in enumerate(unfinished):
            await asyncio.sleep(pause_s)
            await call.progress(Partial(index, data))
    await asyncio.sleep(pause_s)
    return await _finish(call, steps)


def _pictures(call: Call, size: Size) -> list[Picture]:
    request = call.request
    output_format = str(request.get("output_format") or "png")
    transparent = request.get("background") == "transparent" and output_format in ("png", "webp")
    compression = request.get("output_compression")
    return [
        Picture(
            prompt=str(request.get("prompt", "")), model=call.model, width=size[0], height=size[1], index=index,
            quality=str(request.get("quality") or "medium"), transparent=transparent, output_format=output_format,
            compression=int(compression) if compression is not None else 100,
            font=str(call.options.get("font", "")),
        )
        for index in range(int(request.get("n") or 1))
    ]  # fmt: skip


def _asked_size(call: Call) -> Size | None:
    """The size in the request; None for `auto`."""
    size = str(call.request.get("size") or "auto")
    if size == "auto":
        return None
    width, _, height = size.partition("x")
    if not (width.isdigit() and height.isdigit() and 0 < int(width) * int(height) <= PIXELS_MAX):
        raise Refused(f"size {size} cannot be drawn")
    return int(width), int(height)


async def _source(call: Call) -> tuple[Source | None, Size]:
    """What an edit starts from, and the size of the result."""
    asked = _asked_size(call)
    images = [one for one in call.inputs if one.field == "image"]
    masks = [one for one in call.inputs if one.field == "mask"]
    if not images:
        return None, asked or AUTO_SIZE
    data = [await _read(one) for one in images]
    mask = await _read(masks[0]) if masks else None

    def decode() -> tuple[Source, Size]:
        base, came = drawing.source_base(data[0], asked)
        repaint = drawing.source_mask(mask, came, base.size) if mask is not None else None
        insets = [drawing.source_inset(one, number, base.size) for number, one in enumerate(data[1:], 2)]
        return Source(base, repaint, tuple(insets)), base.size

    return await _paint(decode)


async def _read(one: Input) -> bytes:
    return b"".join([chunk async for chunk in one.chunks()])


async def _store(call: Call, data: bytes) -> Stored:
    sink = call.sink()
    try:
        await sink.write(data)
        return await sink.close()
    except BaseException:
        await sink.abort()
        raise


def _succeeded(call: Call, size: Size, stored: list[Stored]) -> Outcome:
    request, prompt = call.request, str(call.request.get("prompt", ""))
    text, image = max(1, len(prompt) // 4), sum(1 for one in call.inputs if one.field == "image") * 256
    output = max(1, size[0] * size[1] // 1024) * len(stored)
    response = {
        "created": int(time.time()),
        "size": f"{size[0]}x{size[1]}",
        "quality": request.get("quality") or "medium",
        "background": request.get("background") or "opaque",
        "output_format": request.get("output_format") or "png",
        "usage": {
            "input_tokens": text + image, "output_tokens": output, "total_tokens": text + image + output,
            "input_tokens_details": {"text_tokens": text, "image_tokens": image},
        },
    }  # fmt: skip
    assets = tuple(Asset(stored=one, about={"revised_prompt": prompt}) for one in stored)
    return Succeeded(assets, response, units=len(assets))


# -- drawing, off the event loop, and what was drawn before


class _Kept:
    """Encoded pictures by what they were drawn from, bounded in bytes."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max, self._bytes = bytes_max, 0
        self._pictures: OrderedDict[Picture, bytes] = OrderedDict()

    def get(self, picture: Picture) -> bytes | None:
        found = self._pictures.get(picture)
        if found is not None:
            self._pictures.move_to_end(picture)
        return found

    def put(self, picture: Picture, data: bytes) -> None:
        if len(data) > self._bytes_max // 4 or picture in self._pictures:
            return
        self._pictures[picture] = data
        self._bytes += len(data)
        while self._bytes > self._bytes_max:
            self._bytes -= len(self._pictures.popitem(last=False)[1])


_kept = _Kept(KEPT_BYTES_MAX)


async def _drawn(picture: Picture, source: Source | None) -> bytes:
    """The encoded picture; what does not start from an input may have been drawn before."""
    if source is not None:
        return await _paint(lambda: drawing.finished(picture, source))
    data = _kept.get(picture)
    if data is None:
        data = await _paint(lambda: drawing.finished(picture))
        _kept.put(picture, data)
    return data


async def _paint(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(_painters, work)
