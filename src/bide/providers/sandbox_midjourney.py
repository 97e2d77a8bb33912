"""Grids of four pictures, and what is made of them: `grid.generate` and `grid.edit`.

A picture of a generation is a `View`: numbers, kept with the item, so that an upscale shows the same picture in more
pixels and a pan goes on beside it. An edit is made of the caller's own picture, of which no more is known than its
pixels: nothing follows it up.

A prompt is as on the wire: up to five addresses of pictures first (mixed into all that is drawn, and into what
follows it up), then words, then parameters (`--ar 16:9 --seed 7`). A parameter that nobody knows is refused.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from PIL import Image

from bide.providers.base import ALLOWS, Asset, Call, Input, Item, Outcome, Progress, Succeeded
from bide.providers.drawing_files import Refused, decoded, encode, opened
from bide.providers.drawing_kept import paint
from bide.providers.media import grid, scene
from bide.providers.media.scene import Size, View
from bide.providers.sandbox_midjourney_prompt import Prompt, parsed
from bide.providers.sandbox_midjourney_words import translated
from bide.providers.sandbox_steps import NEXT, Steps, read, store, text

CAPABILITIES = frozenset({"grid.generate", "grid.edit"})

PART_SIDE, HD_PART_SIDE = 512, 1024
"""A picture of a grid has about as many pixels as a square of this side."""
REGION: Final = "variation_region"
_QUALITY = 90
_EDITED = 0.4
"""How much of an edited picture without a mask is new."""
_MIXED = 0.3
"""How much of a picture shows that a prompt begins with."""
_GIVEN, _GIVEN_SIDE = "given", 512
"""The role of these pictures among the files of an item, and their longest side there."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be made: from `of` (four pictures, one, or none), by an action, in this size of a part."""

    action: str
    prompt: Prompt
    seed: int
    side: int
    of: tuple[View, ...] = ()


@dataclass(frozen=True, slots=True)
class _Drawn:
    """The files of a result, and the sizes of the first two."""

    raw: bytes
    thumbnail: bytes
    parts: tuple[bytes, ...]
    raw_size: Size
    thumbnail_size: Size


def check(call: Call) -> None:
    """Raises `Refused` for what cannot be made."""
    _planned(call)


async def make(call: Call, steps: Steps) -> Outcome:
    """Draws and stores the picture, its thumbnail and, if they are asked for, its four parts."""
    plan, split = _planned(call), bool(call.request.get("split_images"))
    views: tuple[View, ...] = ()
    given: list[bytes] = []
    if call.capability == "grid.edit":
        image, mask = await read(_input(call, "image_url")), await _mask(call)
        drawn = await paint(_edited, plan, image, mask, split)
    else:
        mask = await _mask(call) if plan.action == REGION else b""
        views = await paint(_views, plan, mask)
        given = [await paint(_small, await read(one)) for one in _given(call, plan)]
        drawn = await paint(_drawn, plan, views, given, split)
    assets = [Asset(await store(call, drawn.thumbnail, steps), role="thumbnail"),
              Asset(await store(call, drawn.raw, steps), role="raw")]  # fmt: skip
    assets += [Asset(await store(call, one, steps), role="part") for one in drawn.parts]
    assets += [Asset(await store(call, one, steps), role=_GIVEN) for one in given]
    fields = {
        "image_width": drawn.thumbnail_size[0], "image_height": drawn.thumbnail_size[1],
        "raw_image_width": drawn.raw_size[0], "raw_image_height": drawn.raw_size[1], "actions": _actions(views),
    }  # fmt: skip
    about = {"views": [grid.numbers(one) for one in views], "prompt": plan.prompt.text, "seed": plan.seed,
             ALLOWS: {"action": _actions(views)}, NEXT: steps.next}  # fmt: skip
    return Succeeded(items=(Item(tuple(assets), fields, about),))


async def unfinished(call: Call, steps: Steps, percent: int) -> Progress:
    """How it looks at that many percent: a small picture that will not stay. At 0 there is none yet."""
    nothing: dict[str, Any] = {"actions": []}
    if percent <= 0 or call.capability != "grid.generate":
        return Progress(percent, nothing)
    plan = _planned(call)
    data, size = await paint(_blurred, plan, percent)
    asset = Asset(await store(call, data, steps), role="thumbnail")
    return Progress(percent, {**nothing, "image_width": size[0], "image_height": size[1]}, (asset,))


# -- what is asked


def _planned(call: Call) -> _Plan:
    request = call.request
    action, prompt = text(request, "action") or "generate", parsed(text(request, "prompt"))
    if request.get("translation"):
        prompt = replace(prompt, text=translated(prompt.text))
    side = HD_PART_SIDE if request.get("hd") else PART_SIDE
    if call.capability == "grid.edit":
        if not any(one.field == "image_url" for one in call.inputs):
            raise Refused("image_url is missing: there is nothing to edit")
        return _Plan(action, prompt, _seed(call, prompt), side)
    if action == "generate":
        return _Plan(action, prompt, _seed(call, prompt), side)
    source = call.source("image_id")
    if source is None:
        raise Refused("image_id is missing: there is nothing to work on")
    of = tuple(grid.from_numbers(one) for one in source.about["views"])
    if action not in _actions(of):
        raise Refused(f"this picture has no action {action}")
    if action == REGION and not any(one.field == "mask" for one in call.inputs):
        raise Refused("mask is missing: it says where the picture is to change")
    if not prompt.text:
        prompt = replace(prompt, text=str(source.about["prompt"]))
    return _Plan(action, prompt, _seed(call, prompt), side, of)


def _seed(call: Call, prompt: Prompt) -> int:
    """32 bits: those of `--seed`, or of all that decides how the result looks."""
    if prompt.seed is not None:
        return prompt.seed
    names = ("prompt", "action", "image_id", "image_url", "version", "quality")
    said = "\0".join(str(call.request.get(name) or "") for name in names)
    return int.from_bytes(hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=4).digest())


def _actions(of: Sequence[View]) -> list[str]:
    if not of:
        return []
    return [*grid.actions(of), *([REGION] if len(of) == 1 else [])]


def _input(call: Call, field: str) -> Input:
    return next(one for one in call.inputs if one.field == field)


def _given(call: Call, plan: _Plan) -> list[Input]:
    """The pictures that the prompt begins with, or that of what is followed up began with."""
    if not plan.of:
        return [one for one in call.inputs if one.field == "prompt"]
    source = call.source("image_id")
    return [one for one in source.files if one.field == _GIVEN] if source else []


async def _mask(call: Call) -> bytes:
    """Empty: there is none."""
    return await read(_input(call, "mask")) if any(one.field == "mask" for one in call.inputs) else b""


# -- drawing, in a thread


def _views(plan: _Plan, mask: bytes) -> tuple[View, ...]:
    """The four pictures of the result, or the one."""
    if plan.action == "generate":
        return grid.views(plan.seed, _part_size(plan.prompt.ratio, plan.side))
    if plan.action == REGION:
        white = _decoded(mask, "mask").convert("L")
        made = tuple(grid.repainted(plan.of[0], white, grid.part_seed(plan.seed, at)) for at in range(4))
    else:
        made = grid.follow(plan.of, plan.action, plan.seed)
    if len(made) == 1:
        return made
    return tuple(replace(one, pixels=_part_size(one.width / one.height, plan.side)) for one in made)


def _part_size(ratio: float, side: int) -> Size:
    """Even sides, so that a thumbnail is half as large."""
    wide, tall = side * math.sqrt(ratio), side / math.sqrt(ratio)
    return max(2, 2 * round(wide / 2)), max(2, 2 * round(tall / 2))


def _drawn(plan: _Plan, views: tuple[View, ...], given: Sequence[bytes], split: bool) -> _Drawn:
    pictures = [_decoded(one, "a picture of the prompt") for one in given]
    return _files([_mixed(scene.paint(one, plan.prompt.text), pictures) for one in views], plan, split)


def _mixed(image: Image.Image, pictures: Sequence[Image.Image]) -> Image.Image:
    for one in pictures:
        image = Image.blend(image, one.resize(image.size, Image.Resampling.BILINEAR), _MIXED)
    return image


def _small(data: bytes) -> bytes:
    image = _decoded(data, "a picture of the prompt")
    image.thumbnail((_GIVEN_SIDE, _GIVEN_SIDE))
    return encode(image, "jpeg", _QUALITY, {})


def _edited(plan: _Plan, image: bytes, mask: bytes, split: bool) -> _Drawn:
    """Four times the caller's picture: another landscape where the mask is white, or mixed into all of it."""
    base = _decoded(image, "image_url")
    size = _part_size(min(4.0, max(0.25, base.width / base.height)), plan.side)
    base = base.resize(size, Image.Resampling.BILINEAR)
    white = None
    if mask:
        white = _decoded(mask, "mask").convert("L").resize(size, Image.Resampling.NEAREST)
    parts = []
    for view in grid.views(plan.seed, size):
        other = scene.paint(view)
        parts.append(Image.composite(other, base, white) if white else Image.blend(base, other, _EDITED))
    return _files(parts, plan, split)


def _files(parts: list[Image.Image], plan: _Plan, split: bool) -> _Drawn:
    """One picture, or four as a grid."""
    raw = parts[0]
    if len(parts) == 4:
        size = parts[0].size
        raw = Image.new("RGB", (2 * size[0], 2 * size[1]))
        for at, one in enumerate(parts):
            raw.paste(one, grid.place(at, size))
    thumbnail = raw.reduce(2)
    return _Drawn(
        _jpeg(raw, plan), _jpeg(thumbnail, plan), tuple(_jpeg(one, plan) for one in _split(parts) if split),
        raw.size, thumbnail.size,
    )  # fmt: skip


def _split(parts: list[Image.Image]) -> list[Image.Image]:
    """The four single pictures; a picture that is one has no parts."""
    return parts if len(parts) == 4 else []


def _blurred(plan: _Plan, percent: int) -> tuple[bytes, Size]:
    """Much of a picture is coarse while it is made."""
    of = plan.of if len(plan.of) == 1 or plan.action != "generate" else grid.views(plan.seed, (128, 128))
    coarse = max(4, percent * 2)
    image = scene.paint(replace(of[0], pixels=_part_size(of[0].width / of[0].height, 256)))
    small = image.resize((coarse, max(1, coarse * image.height // image.width)), Image.Resampling.BOX)
    shown = small.resize(image.size, Image.Resampling.BILINEAR)
    return _jpeg(shown, plan), shown.size


def _decoded(data: bytes, what: str) -> Image.Image:
    image, _ = decoded(opened(data, what), what, None)
    return image.convert("RGB")


def _jpeg(image: Image.Image, plan: _Plan) -> bytes:
    about: Mapping[str, str] = {"prompt": plan.prompt.text, "seed": str(plan.seed)}
    return encode(image, "jpeg", _QUALITY, about)
