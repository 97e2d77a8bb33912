"""Models of the `diffusers` library, run here: no upstream, no key, no network.

    bide worker --provider diffusers        (needs `pip install 'bide[diffusers]'`)

A channel of this provider is worked for by such workers alone; all others hand its tasks over to them. A worker has
one process that has the model (`inference`) and does one picture after the other. Sending again is harmless: it
costs electricity. A prompt is text for the model and nothing else; code that comes with a model is not run.

Options of the channel (`options` in its table):

    model      the folder of a model as diffusers saves it, or the id of one that was downloaded before. Required
    pipeline   the class that loads it; left out: the one that the model names
    device     `cuda`, `cuda:1`, `mps`, `cpu`; left out: the best there is
    dtype      `float32`, `float16` or `bfloat16`; left out: `float32`
    steps, guidance, strength    for every picture; left out: what the model's own are
    multiple   sides are multiples of this; left out: 8
    side_max   the longest side; left out: 2048
    download   true: a model that is not here is fetched from the Hugging Face hub
    idle_s     seconds without work after which the process ends and frees its memory; left out: 3600, 0: never

Where a call names no size, the model's own is made. A worker whose channels have different models loads one after the
other, as they are asked for.
"""

import asyncio
import hashlib
import math
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from bide.clock import Clock
from bide.providers import films
from bide.providers.base import (
    Asset,
    Call,
    Failed,
    FileTooLarge,
    Input,
    NotMedia,
    Outcome,
    Progress,
    Stored,
    Succeeded,
    Unknown,
)
from bide.providers.diffusers_process import BROKEN, FORBIDDEN, REFUSED, SETUP
from bide.providers.inference import Ended, Inference

CAPABILITIES = frozenset({"image.generate", "image.edit"})
TAKES_OUR_ID = True
APART = True

PICTURES_MAX = 10
FORMATS = ("png", "jpeg", "webp")
SETUP_COOL_S = 600.0
GONE = Failed("api_error", "The model's process ended while it worked.", "channel", retryable=True)
NO_MODEL = Failed("api_error", "The channel names no model.", "channel", cool_s=SETUP_COOL_S,
                  detail="the option `model` is missing")  # fmt: skip

_AREA = 1024 * 1024
_RATIO_PARTS_MAX = 100
_SEED_BYTES = 4
_clock = Clock()
_inferences: WeakKeyDictionary[asyncio.AbstractEventLoop, Inference] = WeakKeyDictionary()
"""The one thing a provider keeps here: a process with the model, one in each worker."""


def inference() -> Inference:
    """That of this process."""
    return _inferences.setdefault(asyncio.get_running_loop(), Inference())


async def close() -> None:
    """Ends the process that computes, if there is one."""
    found = _inferences.pop(asyncio.get_running_loop(), None)
    if found is not None:
        await found.close()


async def submit(call: Call) -> Outcome:
    """Makes the pictures and stores them."""
    load, make = _load(call), _make(call)
    if not load["model"]:
        return NO_MODEL
    if isinstance(make, Failed):
        return make
    files = [await _read(one) for one in _files(call)]
    made = _Made(call)
    try:
        idle_s = _number(call, "idle_s", 3600.0) or 0.0
        last = await inference().ask(load, make, files, made.told, idle_s=idle_s)
    except Ended as ended:
        return Failed(GONE.code, GONE.message, GONE.scope, retryable=True, detail=str(ended))
    except (FileTooLarge, NotMedia) as error:
        return Failed("api_error", "What the model made cannot be kept.", "channel", detail=repr(error))
    if "failed" in last:
        return _failed(last["failed"], last["message"])
    return made.succeeded(make)


async def poll(call: Call, upstream_id: str) -> Outcome:
    """Nothing is ever pending here."""
    return Unknown("The model answers at once.")


_CODES: Mapping[str, Failed] = {
    REFUSED: Failed("bad_request", ""),
    FORBIDDEN: Failed("forbidden", ""),
    SETUP: Failed("api_error", "The channel's model cannot be used.", "channel", cool_s=SETUP_COOL_S),
    BROKEN: Failed("api_error", "The model failed at this.", "channel"),
}


def _failed(kind: str, message: str) -> Failed:
    like = _CODES.get(kind, _CODES[BROKEN])
    return Failed(like.code, like.message or message, like.scope, cool_s=like.cool_s, detail=message)


# -- what is asked


def _load(call: Call) -> dict[str, Any]:
    options = call.options
    return {
        "model": str(options.get("model") or ""), "pipeline": str(options.get("pipeline") or "DiffusionPipeline"),
        "device": str(options.get("device") or ""), "dtype": str(options.get("dtype") or "float32"),
        "download": options.get("download") is True,
    }  # fmt: skip


def _make(call: Call) -> dict[str, Any] | Failed:
    """One request in the words of the process."""
    request = call.request
    n, form = request.get("n"), request.get("output_format") or "png"
    n = 1 if n is None else n
    if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= PICTURES_MAX:
        return Failed("bad_request", f"n must be a whole number from 1 to {PICTURES_MAX}")
    if form not in FORMATS:
        return Failed("bad_request", f"output_format must be one of {', '.join(FORMATS)}")
    if request.get("background") == "transparent":
        return Failed("bad_request", "background: this model makes no transparent pictures")
    images, masks = _images(call), _masks(call)
    if len(images) > 1 or len(masks) > 1:
        return Failed("bad_request", "one picture, with one mask, can be changed at a time")
    if not images and (masks or call.capability == "image.edit"):
        return Failed("bad_request", "image is missing: there is nothing to change")
    size, most = _size(request), int(_number(call, "side_max", 2048) or 2048)
    if size is not None and max(size) > most:
        return Failed("bad_request", f"size: the longest side may have {most} pixels")
    steps, compression = _number(call, "steps", None), request.get("output_compression")
    return {
        "prompt": films.asked(call).prompt, "negative_prompt": films.text(request, "negative_prompt"), "n": n,
        "size": size, "seed": _seed(call), "steps": None if steps is None else max(1, int(steps)),
        "guidance": _number(call, "guidance", None), "strength": _number(call, "strength", None),
        "multiple": max(1, int(_number(call, "multiple", 8) or 8)), "side_max": most, "output_format": form,
        "compression": compression if isinstance(compression, int) and 0 <= compression <= 100 else 100,
    }  # fmt: skip


def _number(call: Call, name: str, otherwise: float | None) -> float | None:
    value = call.options.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else otherwise


def _size(request: Mapping[str, Any]) -> tuple[int, int] | None:
    """Pixels, by size or ratio; None: the model's own."""
    if (pixels := films.pixels(request)) is not None:
        return pixels
    across, _, down = (films.text(request, "aspect_ratio") or films.text(request, "size")).partition(":")
    if not (across.isdecimal() and down.isdecimal() and 0 < int(across) < _RATIO_PARTS_MAX > int(down) > 0):
        return None
    ratio = int(across) / int(down)
    return round(math.sqrt(_AREA * ratio)), round(math.sqrt(_AREA / ratio))


def _seed(call: Call) -> int:
    """That of the caller, or one that follows from the task, so that doing it again makes the same."""
    seed = call.request.get("seed")
    if isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 1 << 63:
        return seed
    return int.from_bytes(hashlib.blake2b(call.task_id.encode(), digest_size=_SEED_BYTES).digest())


def _masks(call: Call) -> list[Input]:
    return [one for one in call.inputs if one.field == "mask"]


def _images(call: Call) -> list[Input]:
    return [one for one in call.inputs if one.field != "mask"]


def _files(call: Call) -> list[Input]:
    """The picture, then the mask."""
    return [*_images(call), *_masks(call)]


async def _read(one: Input) -> bytes:
    return b"".join([chunk async for chunk in one.chunks()])


# -- what is made


class _Made:
    """The pictures of a request while they come."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._assets: list[Asset] = []

    async def told(self, fields: dict[str, Any], blob: bytes) -> None:
        if "picture" in fields:
            about = fields["picture"]
            said = {**about, "size": f"{about['width']}x{about['height']}"}
            self._assets.append(Asset(await self._stored(blob), about=said))
        elif self._call.report is not None:
            await self._call.report(Progress(100 * fields["step"] // max(fields["of"], 1)))

    async def _stored(self, data: bytes) -> Stored:
        sink = self._call.sink()
        try:
            await sink.write(data)
            return await sink.close()
        except BaseException:
            await sink.abort()
            raise

    def succeeded(self, make: Mapping[str, Any]) -> Succeeded:
        assets = self._assets
        response = {"created": _clock.now_ms() // 1000, "size": assets[0].about["size"], "background": "opaque",
                    "output_format": make["output_format"]}  # fmt: skip
        return Succeeded(tuple(assets), response, units=len(assets))
