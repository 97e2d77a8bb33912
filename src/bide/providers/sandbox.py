"""The sandbox: an upstream without a key, without a network and without a bill, that draws real pictures.

It answers after `delay_s` seconds (option of the channel), as an upstream does that takes its time. Words in the
prompt steer it, so that a client's whole error handling can be tried:

    [fail:CODE]     fails with that error code, after the delay
    [moderation]    fails with `forbidden`, after the delay
    [rate]          is refused at once with `too_many_requests`
    [unknown]       breaks off at once: nobody knows whether the work was done
    [crash]         raises in the middle, with half a picture written, as a defect in a provider would
    [delay:S]       takes S seconds instead, 3600 at most
    [partial:N]     only N of the pictures succeed; 0: the task fails with `api_error`

The last word of a kind wins, and a word that is none of these is part of the prompt. The same request draws
the same picture. Encoded pictures are kept for a while, so asking again costs little.

What takes time is `Pending`, and drawn when it is asked for; that needs no memory between the two. Only a call
that somebody watches waits here, with unfinished pictures spread over the time.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from bide.clock import Clock
from bide.errors import ERRORS
from bide.providers import drawing
from bide.providers.base import Asset, Call, Failed, Input, Outcome, Partial, Pending, Stored, Succeeded, Unknown
from bide.providers.drawing import DETAIL, SIDE_MAX, Picture, Size, Source
from bide.providers.drawing_files import WRITABLE, Refused
from bide.providers.drawing_kept import generated, paint

CAPABILITIES = frozenset({"image.generate", "image.edit"})
TAKES_OUR_ID = True
POLLS_WITH_INPUTS = True

DELAY_MAX_S = 3600.0
AUTO_SIZE = (1024, 1024)
PIXELS_MAX = 16_777_216
PICTURES_MAX = 10
INPUTS_MAX = 16
INPUT_BYTES_MAX = 50 * 1024 * 1024
EDITS_AT_ONCE = 2
"""Edits whose inputs are in memory at the same time: one may take 50 MB encoded and 200 MB decoded."""

_STEP = re.compile(r"\[(fail|delay|partial):([A-Za-z0-9_.-]{1,64})\]|\[(moderation|rate|unknown|crash)\]")
_SIZE = re.compile(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})")
_BACKGROUNDS = ("auto", "opaque", "transparent")
_INPUT_TOKENS = 323
"""What one input picture counts as."""
_TOKENS = {"low": 272, "standard": 1056, "medium": 1056, "hd": 4160, "high": 4160, "xhigh": 6240, "max": 8320}
"""What a picture of 1024x1024 counts as, by quality; the first, third and fifth are those of OpenAI's models."""

_clock = Clock()
_slots: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Steps:
    """What the words of a prompt ask for."""

    delay_s: float
    fail: str = ""
    rate: bool = False
    unknown: bool = False
    crash: bool = False
    partial: int | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was looked at: all of it can be done. `size` None is `auto`."""

    steps: Steps
    prompt: str
    n: int
    size: Size | None
    quality: str
    background: str
    output_format: str
    compression: int
    images: tuple[Input, ...]
    mask: Input | None


async def submit(call: Call) -> Outcome:
    """Draws at once, or says when to ask again."""
    try:
        asked = _asked(call)
    except Refused as refusal:
        return Failed("bad_request", str(refusal))
    steps = asked.steps
    if steps.rate:
        return Failed("too_many_requests", "The sandbox was asked to refuse this.", status=429)
    if steps.unknown:
        return Unknown("The sandbox broke off before it answered.", detail="[unknown] in the prompt")
    if call.progress is not None and call.partial_images > 0 and not _fails(steps):
        return await _watched(call, asked, call.progress)
    if steps.delay_s > 0:
        return Pending(f"sandbox-{call.task_id}", steps.delay_s)
    return await _finish(call, asked)


async def poll(call: Call, upstream_id: str) -> Outcome:
    """The delay is over: the caller comes back when it was told to."""
    try:
        asked = _asked(call)
    except Refused as refusal:
        return Failed("bad_request", str(refusal))
    return await _finish(call, asked)


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


# -- what is asked


def _asked(call: Call) -> Asked:
    """The request in our words, checked. Raises `Refused`."""
    request = call.request
    prompt = request.get("prompt") or ""
    if not isinstance(prompt, str):
        raise Refused("prompt must be a text")
    output_format = _choice(request, "output_format", "png", WRITABLE)
    background = _choice(request, "background", "auto", _BACKGROUNDS)
    if background == "transparent" and output_format == "jpeg":
        raise Refused("background transparent needs output_format png or webp; jpeg has no transparency")
    images = tuple(one for one in call.inputs if one.field == "image")
    masks = [one for one in call.inputs if one.field == "mask"]
    if len(images) > INPUTS_MAX or len(masks) > 1:
        raise Refused(f"at most {INPUTS_MAX} images and one mask can be used")
    if not images and (masks or call.capability == "image.edit"):
        raise Refused("image is missing: there is nothing to edit")
    return Asked(
        steps=read_steps(prompt, float(call.options.get("delay_s", 0.0))),
        prompt=prompt,
        n=_whole(request, "n", 1, 1, PICTURES_MAX),
        size=_size(request.get("size")),
        quality=_choice(request, "quality", "auto", ("auto", *DETAIL)),
        background=background,
        output_format=output_format,
        compression=_whole(request, "output_compression", 100, 0, 100),
        images=images,
        mask=masks[0] if masks else None,
    )


def _choice(request: Mapping[str, Any], name: str, default: str, allowed: tuple[str, ...]) -> str:
    value = request.get(name) or default
    if value not in allowed:
        raise Refused(f"{name} must be one of {', '.join(allowed)}")
    return str(value)


def _whole(request: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    value = request.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise Refused(f"{name} must be a whole number from {least} to {most}")
    return value


def _size(value: object) -> Size | None:
    """`WxH`; None for `auto`."""
    if value in (None, "", "auto"):
        return None
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Refused("size must be auto or WIDTHxHEIGHT in pixels, as in 1024x1024")
    width, height = int(match[1]), int(match[2])
    if max(width, height) > SIDE_MAX or width * height > PIXELS_MAX:
        raise Refused(f"size {value} is too large: at most {PIXELS_MAX:,} pixels can be drawn")
    return width, height


def _fails(steps: Steps) -> bool:
    return bool(steps.fail) or steps.crash or steps.partial == 0


# -- one request


async def _finish(call: Call, asked: Asked) -> Outcome:
    """Draws and stores all pictures, or fails as the prompt says."""
    steps = asked.steps
    if steps.fail:
        known = ERRORS.get(steps.fail)
        return Failed(steps.fail, known.meaning if known else "The sandbox was asked to fail with a code of its own.")
    count = asked.n if steps.partial is None else min(steps.partial, asked.n)
    if count == 0:
        return Failed("api_error", "The sandbox was asked to let no picture succeed.")
    try:
        pictures, stored = await (_edit if asked.images else _generate)(call, asked, count)
    except Refused as refusal:
        return Failed("bad_request", str(refusal))
    return _succeeded(asked, pictures[0], stored)


async def _generate(call: Call, asked: Asked, count: int) -> tuple[list[Picture], list[Stored]]:
    pictures = _pictures(call, asked, None, count)
    if count == 1:  # without a task of its own: the hot path of a benchmark
        drawn = [await generated(pictures[0])]
    else:
        drawn = await asyncio.gather(*[generated(picture) for picture in pictures])
    return pictures, [await _store(call, data, crash=asked.steps.crash) for data in drawn]


async def _edit(call: Call, asked: Asked, count: int) -> tuple[list[Picture], list[Stored]]:
    """One picture after the other is drawn and stored: each may be large."""
    async with _opened(asked) as source:
        pictures, stored = _pictures(call, asked, source, count), []
        for picture in pictures:
            data = await paint(drawing.finished, picture, source)
            stored.append(await _store(call, data, crash=asked.steps.crash))
    return pictures, stored


async def _watched(call: Call, asked: Asked, progress: Callable[[Partial], Awaitable[None]]) -> Outcome:
    """Somebody watches: unfinished pictures come while the time passes, then the finished ones."""
    try:
        async with _opened(asked) as source:
            first = _pictures(call, asked, source, 1)[0]
            unfinished = await paint(drawing.unfinished, first, source, call.partial_images)
    except Refused as refusal:
        return Failed("bad_request", str(refusal))
    pause_s = asked.steps.delay_s / (call.partial_images + 1)
    for index, data in enumerate(unfinished):
        await _clock.sleep(pause_s)
        await progress(Partial(index, data))
    await _clock.sleep(pause_s)
    return await _finish(call, asked)


def _pictures(call: Call, asked: Asked, source: Source | None, count: int) -> list[Picture]:
    width, height = source.base.size if source else asked.size or AUTO_SIZE
    clear = asked.background == "transparent"
    if source is not None and asked.background == "auto":  # what was transparent may stay so
        clear = source.base.mode == "RGBA" and asked.output_format != "jpeg"
    return [
        Picture(
            prompt=asked.prompt, model=call.model, width=width, height=height, index=index,
            quality=_quality(asked), transparent=clear, output_format=asked.output_format,
            compression=asked.compression, font=str(call.options.get("font") or ""),
        )
        for index in range(count)
    ]  # fmt: skip


def _quality(asked: Asked) -> str:
    return "medium" if asked.quality == "auto" else asked.quality


async def _store(call: Call, data: bytes, *, crash: bool) -> Stored:
    sink = call.sink()
    try:
        if crash:
            await sink.write(data[: len(data) // 2])
            raise RuntimeError("the sandbox was asked to crash")
        await sink.write(data)
        return await sink.close()
    except BaseException:
        await sink.abort()
        raise


def _succeeded(asked: Asked, picture: Picture, stored: list[Stored]) -> Succeeded:
    text = max(1, (len(asked.prompt) + 3) // 4)
    images = _INPUT_TOKENS * len(asked.images)
    output = max(1, picture.width * picture.height * _TOKENS[picture.quality] // (1024 * 1024)) * len(stored)
    response = {
        "created": _clock.now_ms() // 1000,
        "size": f"{picture.width}x{picture.height}",
        "quality": picture.quality,
        "background": "transparent" if picture.transparent else "opaque",
        "output_format": picture.output_format,
        "usage": {
            "input_tokens": text + images, "output_tokens": output, "total_tokens": text + images + output,
            "input_tokens_details": {"text_tokens": text, "image_tokens": images},
        },
    }  # fmt: skip
    assets = tuple(Asset(stored=one, about={"revised_prompt": asked.prompt}) for one in stored)
    return Succeeded(assets, response, units=len(assets))


# -- what an edit starts from


@asynccontextmanager
async def _opened(asked: Asked) -> AsyncIterator[Source | None]:
    """The decoded inputs of an edit, None for a generation. Few are open at once: they are large."""
    if not asked.images:
        yield None
        return
    loop = asyncio.get_running_loop()
    slot = _slots.setdefault(loop, asyncio.Semaphore(EDITS_AT_ONCE))
    async with slot:
        yield await _source(asked)


async def _source(asked: Asked) -> Source:
    """Reads and decodes one input after the other, so that only one is there in full size."""
    base, came = await paint(drawing.source_base, await _read(asked.images[0]), asked.size)
    repaint, insets = None, []
    if asked.mask is not None:
        repaint = await paint(drawing.source_mask, await _read(asked.mask), came, base.size)
    for number, one in enumerate(asked.images[1:], 2):
        insets.append(await paint(drawing.source_inset, await _read(one), number, base.size))
    return Source(base, repaint, tuple(insets))


async def _read(one: Input) -> bytes:
    data = bytearray()
    async for chunk in one.chunks():
        data += chunk
        if len(data) > INPUT_BYTES_MAX:
            raise Refused(f"{one.field} is larger than {INPUT_BYTES_MAX // (1024 * 1024)} MB")
    return bytes(data)
