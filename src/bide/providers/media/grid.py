"""Four pictures of one prompt, their grid, and what is made of one of them afterwards.

A picture is a `View`: a follow-up needs these numbers and no bytes. They are JSON values through `numbers` and
`from_numbers`.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

from PIL import Image

from bide.providers.media.scene import MASK_SIDE, SIDE_MAX, WINDOW_MAX, Patch, Size, View, paint

CHANGES_MAX = 8
"""Changes and patches of a picture that are remembered; older ones are forgotten."""
SUBTLE, STRONG = 0.04, 0.45
"""How far a variation moves from its picture."""

GRID_ACTIONS: Final = (
    "upscale1", "upscale2", "upscale3", "upscale4", "reroll", "variation1", "variation2", "variation3", "variation4",
)  # fmt: skip
Action = Callable[[View, int], tuple[View, ...]]


def views(seed: int, size: Size) -> tuple[View, View, View, View]:
    """Four different pictures; `size` is that of each, in pixels."""
    one, two, three, four = (
        View(part_seed(seed, index), 0.0, 0.0, size[0] / size[1], 1.0, size) for index in range(4)
    )
    return one, two, three, four


def part_seed(seed: int, index: int) -> int:
    """The seed of the picture `index` (from 0): 48 bits, which every JSON reader keeps."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=6).digest())


def sheet(of: Sequence[View], captions: Sequence[str] = (), size: Size | None = None) -> Image.Image:
    """Four pictures as one, two by two and without a gap; `size`: pixels of each (None: of the first)."""
    width, height = size or of[0].pixels
    whole = Image.new("RGB", (2 * width, 2 * height))
    for index, view in enumerate(of):
        caption = captions[index] if captions else ""
        whole.paste(paint(replace(view, pixels=(width, height)), caption), place(index, (width, height)))
    return whole


def place(index: int, size: Size) -> tuple[int, int]:
    """Where the picture `index` (from 0) has its upper left corner in a sheet of pictures of that size."""
    return index % 2 * size[0], index // 2 * size[1]


# -- one picture made from another


def upscaled(view: View, factor: float = 2.0) -> View:
    """The same picture in more pixels, at most `SIDE_MAX` a side."""
    factor = min(factor, SIDE_MAX / max(view.pixels))
    return replace(view, pixels=(round(view.pixels[0] * factor), round(view.pixels[1] * factor)))


def changed(view: View, seed: int, strength: float) -> View:
    """A picture near this one: 0 is the same, 1 another."""
    return replace(view, changes=(*view.changes, (seed, strength))[-CHANGES_MAX:])


def variations(view: View, seed: int, strength: float) -> tuple[View, ...]:
    """Four pictures near this one."""
    return tuple(changed(view, part_seed(seed, index), strength) for index in range(4))


def zoomed_out(view: View, factor: float) -> View:
    """The picture smaller in the middle of a wider scene; as many pixels as before."""
    factor = min(factor, WINDOW_MAX / max(view.width, view.height))
    return _around(view, view.width * factor, view.height * factor)


def panned(view: View, across: int, down: int) -> View:
    """Goes on by half of the picture: `across` 1 is to the right and -1 to the left, `down` likewise.

    The picture grows that way, and its pixels with it; beyond the bounds it moves instead."""
    more_x, more_y = view.width / 2 * abs(across), view.height / 2 * abs(down)
    pixels = round(view.pixels[0] * (1 + abs(across) / 2)), round(view.pixels[1] * (1 + abs(down) / 2))
    if max(view.width + more_x, view.height + more_y) > WINDOW_MAX or max(pixels) > SIDE_MAX:
        return replace(view, left=view.left + across * more_x, top=view.top + down * more_y)
    left, top = view.left - (more_x if across < 0 else 0), view.top - (more_y if down < 0 else 0)
    return replace(view, left=left, top=top, width=view.width + more_x, height=view.height + more_y, pixels=pixels)


def squared(view: View) -> View:
    """As high as wide: the scene goes on at both ends of the shorter way."""
    side, pixels = max(view.width, view.height), max(view.pixels)
    return replace(_around(view, side, side), pixels=(pixels, pixels))


def repainted(view: View, mask: Image.Image, seed: int, strength: float = 0.9) -> View:
    """Something else where the mask is white; any size, seen over the whole picture."""
    points = mask.convert("L").resize((MASK_SIDE, MASK_SIDE), Image.Resampling.BOX)
    bits = points.point(lambda grey: 255 if grey > 127 else 0).convert("1", dither=Image.Dither.NONE).tobytes().hex()
    patch = Patch(view.left, view.top, view.width, view.height, bits, seed, strength)
    return replace(view, patches=(*view.patches, patch)[-CHANGES_MAX:])


def follow(of: Sequence[View], action: str, seed: int) -> tuple[View, ...]:
    """The one or four pictures an action makes of a grid (four views) or of a single picture (one).

    `seed` is that of the new task. The region of `variation_region` needs `repainted`. Raises `ValueError` for an
    action that such a picture does not have."""
    if action not in actions(of):
        raise ValueError(f"this picture has no action {action}")
    if action == "reroll":
        return views(seed, of[0].pixels)
    if len(of) == 1:
        return SINGLE_ACTIONS[action](of[0], seed)
    view = of[int(action[-1]) - 1]
    return (upscaled(view),) if action.startswith("upscale") else variations(view, seed, SUBTLE)


def actions(of: Sequence[View]) -> tuple[str, ...]:
    """What `follow` can do."""
    return GRID_ACTIONS if len(of) == 4 else tuple(SINGLE_ACTIONS)


def numbers(view: View) -> dict[str, Any]:
    """The picture as JSON values."""
    return asdict(view)


def from_numbers(kept: Mapping[str, Any]) -> View:
    """What `numbers` gave, also after a turn through JSON."""
    width, height = kept["pixels"]
    changes = tuple((seed, strength) for seed, strength in kept["changes"])
    patches = tuple(Patch(**patch) for patch in kept["patches"])
    return View(**{**kept, "pixels": (width, height), "changes": changes, "patches": patches})


def _around(view: View, width: float, height: float) -> View:
    left, top = view.left - (width - view.width) / 2, view.top - (height - view.height) / 2
    return replace(view, left=left, top=top, width=width, height=height)


SINGLE_ACTIONS: Final[Mapping[str, Action]] = {
    "upscale_2x": lambda view, seed: (upscaled(view, 2),),
    "upscale_4x": lambda view, seed: (upscaled(view, 4),),
    "upscale_subtle": lambda view, seed: (upscaled(view, 2),),
    "upscale_creative": lambda view, seed: (upscaled(changed(view, seed, 0.06), 2),),
    "redo_upscale_2x": lambda view, seed: (upscaled(changed(view, seed, 0.02), 2),),
    "redo_upscale_4x": lambda view, seed: (upscaled(changed(view, seed, 0.02), 4),),
    "redo_upscale_subtle": lambda view, seed: (upscaled(changed(view, seed, 0.02), 2),),
    "redo_upscale_creative": lambda view, seed: (upscaled(changed(view, seed, 0.08), 2),),
    "variation_subtle": lambda view, seed: variations(view, seed, SUBTLE),
    "variation_strong": lambda view, seed: variations(view, seed, STRONG),
    "zoom_out_2x": lambda view, seed: (zoomed_out(view, 2),),
    "zoom_out_1_5x": lambda view, seed: (zoomed_out(view, 1.5),),
    "square": lambda view, seed: (squared(view),),
    "pan_left": lambda view, seed: (panned(view, -1, 0),),
    "pan_right": lambda view, seed: (panned(view, 1, 0),),
    "pan_up": lambda view, seed: (panned(view, 0, -1),),
    "pan_down": lambda view, seed: (panned(view, 0, 1),),
}
