"""The pictures of the sandbox: `image.generate`, `image.edit`, and `image.code`, which can be scanned."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary
from zlib import crc32

from bide.clock import Clock
from bide.providers import drawing, drawing_code
from bide.providers.base import Asset, Call, Failed, Input, Outcome, Partial, Stored, Succeeded
from bide.providers.drawing import DETAIL, SIDE_MAX, Picture, Size, Source
from bide.providers.drawing_files import WRITABLE, Refused
from bide.providers.drawing_kept import generated, paint
from bide.providers.sandbox_steps import NOTHING, Steps, read, store, text

_CODE = "image.code"
CAPABILITIES = frozenset({"image.generate", "image.edit", _CODE})

AUTO_SIZE = (1024, 1024)
PIXELS_MAX = 16_777_216
PICTURES_MAX = 10
INPUTS_MAX = 16
EDITS_AT_ONCE = 2
"""Edits whose inputs are in memory at the same time: one may take 50 MB encoded and 200 MB decoded."""

_SIZE = re.compile(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})")
_RATIO = re.compile(r"([1-9][0-9]?):([1-9][0-9]?)")
_LONGEST = {"1K": 1024, "2K": 2048, "3K": 3072, "4K": 4096}
_BACKGROUNDS = ("auto", "opaque", "transparent")
_INPUT_TOKENS = 323
"""What one input picture counts as."""
_TOKENS = {"low": 272, "standard": 1056, "medium": 1056, "hd": 4160, "high": 4160, "xhigh": 6240, "max": 8320}
"""What a picture of 1024x1024 counts as, by quality; the first, third and fifth are those of OpenAI's models."""

_clock = Clock()
_slots: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


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


def check(call: Call) -> None:
    """Raises `Refused` for what cannot be drawn."""
    _asked(call, NOTHING)
    if call.capability == _CODE:
        drawing_code.check(_content(call))


async def make(call: Call, steps: Steps) -> Outcome:
    """Draws and stores all pictures."""
    return await _finish(call, _asked(call, steps))


async def watched(call: Call, steps: Steps, progress: Callable[[Partial], Awaitable[None]]) -> Outcome:
    """Somebody watches: unfinished pictures come while the time passes, then the finished ones."""
    return await _watched(call, _asked(call, steps), progress)


# -- what is asked


def _asked(call: Call, steps: Steps) -> Asked:
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
        steps=steps,
        prompt=prompt,
        n=_whole(request, "n", 1, 1, PICTURES_MAX),
        size=_size(request),
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


def _size(request: Mapping[str, Any]) -> Size | None:
    """Pixels: `size` as `WxH`, or names and ratios in `size`, `resolution` and `aspect_ratio`; None: `auto`."""
    value = request.get("size")
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is not None:
        return _bounded(int(match[1]), int(match[2]))
    said = [str(one) for one in (value, request.get("resolution"), request.get("aspect_ratio"))
            if one not in (None, "", "auto", "adaptive")]  # fmt: skip
    if not said:
        return None
    longest, ratio = AUTO_SIZE[0], (1, 1)
    for one in said:
        if one.upper() in _LONGEST:
            longest = _LONGEST[one.upper()]
        elif found := _RATIO.fullmatch(one):
            ratio = int(found[1]), int(found[2])
        else:
            raise Refused("size must be auto, WIDTHxHEIGHT in pixels (as in 1024x1024), a ratio (16:9) or 1K to 4K")
    scale = longest / max(ratio)
    return _bounded(round(ratio[0] * scale), round(ratio[1] * scale))


def _bounded(width: int, height: int) -> Size:
    if max(width, height) > SIDE_MAX or width * height > PIXELS_MAX:
        raise Refused(f"size {width}x{height} is too large: at most {PIXELS_MAX:,} pixels can be drawn")
    return max(width, 16), max(height, 16)


# -- one request


async def _finish(call: Call, asked: Asked) -> Outcome:
    steps = asked.steps
    count = asked.n if steps.partial is None else min(steps.partial, asked.n)
    try:
        pictures, stored = await (_edit if asked.images else _generate)(call, asked, count)
    except Refused as refusal:
        return Failed("bad_request", str(refusal))
    return _succeeded(call, asked, pictures[0], stored)


async def _generate(call: Call, asked: Asked, count: int) -> tuple[list[Picture], list[Stored]]:
    pictures = _pictures(call, asked, None, count)
    if call.capability == _CODE:
        drawn = await asyncio.gather(*[paint(drawing_code.finished, _code(call, one)) for one in pictures])
    elif count == 1:  # without a task of its own: the hot path of a benchmark
        drawn = [await generated(pictures[0])]
    else:
        drawn = await asyncio.gather(*[generated(picture) for picture in pictures])
    return pictures, [await store(call, data, asked.steps) for data in drawn]


async def _edit(call: Call, asked: Asked, count: int) -> tuple[list[Picture], list[Stored]]:
    """One picture after the other is drawn and stored: each may be large."""
    async with _opened(asked) as source:
        pictures, stored = _pictures(call, asked, source, count), []
        for picture in pictures:
            data = await paint(drawing.finished, picture, source)
            stored.append(await store(call, data, asked.steps))
    return pictures, stored


async def _watched(call: Call, asked: Asked, progress: Callable[[Partial], Awaitable[None]]) -> Outcome:
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


def _code(call: Call, picture: Picture) -> drawing_code.Code:
    """What is drawn around a code follows from the prompt, the model and the seed of the request."""
    given = call.request.get("seed")
    seed = picture.seed ^ given if isinstance(given, int) else picture.seed
    return drawing_code.Code(_content(call), picture.prompt, picture.model, seed, picture.size,
                             picture.output_format, picture.compression)  # fmt: skip


def _content(call: Call) -> str:
    """What a scanner reads. A picture that was given in place of a text is led to: nothing here reads a code."""
    return text(call.request, "content") or text(call.request, "content_image_url")


def _quality(asked: Asked) -> str:
    return "medium" if asked.quality == "auto" else asked.quality


def _seed(asked: Asked, request: Mapping[str, Any]) -> int:
    """The number that is said to make the same picture again; it is the prompt that does."""
    given = request.get("seed")
    return given if isinstance(given, int) and given >= 0 else crc32(asked.prompt.encode("utf-8", "surrogatepass"))


def _succeeded(call: Call, asked: Asked, picture: Picture, stored: list[Stored]) -> Succeeded:
    words = max(1, (len(asked.prompt) + 3) // 4)
    images = _INPUT_TOKENS * len(asked.images)
    output = max(1, picture.width * picture.height * _TOKENS[picture.quality] // (1024 * 1024)) * len(stored)
    response = {
        "created": _clock.now_ms() // 1000,
        "size": f"{picture.width}x{picture.height}",
        "quality": picture.quality,
        "background": "transparent" if picture.transparent else "opaque",
        "output_format": picture.output_format,
        "usage": {
            "input_tokens": words + images, "output_tokens": output, "total_tokens": words + images + output,
            "input_tokens_details": {"text_tokens": words, "image_tokens": images},
        },
    }  # fmt: skip
    about = {"revised_prompt": asked.prompt, "width": picture.width, "height": picture.height,
             "size": response["size"], "seed": _seed(asked, call.request)}  # fmt: skip
    assets = tuple(Asset(stored=one, about=about) for one in stored)
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
    base, came = await paint(drawing.source_base, await read(asked.images[0]), asked.size)
    repaint, insets = None, []
    if asked.mask is not None:
        repaint = await paint(drawing.source_mask, await read(asked.mask), came, base.size)
    for number, one in enumerate(asked.images[1:], 2):
        insets.append(await paint(drawing.source_inset, await read(one), number, base.size))
    return Source(base, repaint, tuple(insets))
