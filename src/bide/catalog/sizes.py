"""Picture sizes: `auto` or `WIDTHxHEIGHT` in pixels, and what a model family allows. Pure."""

import re
from collections.abc import Callable

import msgspec

AUTO = "auto"
PATTERN = "^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})?$"
"""All that can be a size; the empty text means `auto`."""

_SIZE = re.compile("[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")


class SizeBounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bounds of both sides, of the pixels in all, and of long side over short side. `auto` meets all."""

    multiple_of: int | None = None
    side_min: int | None = None
    side_max: int | None = None
    pixels_min: int | None = None
    pixels_max: int | None = None
    ratio_max: float | int | None = None


def is_size(text: str) -> bool:
    return text == AUTO or _SIZE.fullmatch(text) is not None


def tests(bounds: SizeBounds) -> list[Callable[[str], bool]]:
    """The tests a text that `is_size` must pass; none if nothing bounds it, as in a rule that only lists sizes."""
    if all(getattr(bounds, name) is None for name in SizeBounds.__struct_fields__):
        return []
    step = bounds.multiple_of or 1
    side_min, side_max = bounds.side_min or 1, bounds.side_max or 99_999
    pixels_min, pixels_max = bounds.pixels_min or 1, bounds.pixels_max or side_max * side_max
    ratio_max = bounds.ratio_max or side_max

    def test(size: str) -> bool:
        if size == AUTO:
            return True
        before, _, after = size.partition("x")
        width, height = int(before), int(after)
        short, long = (width, height) if width < height else (height, width)
        return (
            side_min <= short and long <= side_max
            and width % step == 0 and height % step == 0
            and pixels_min <= width * height <= pixels_max
            and long <= short * ratio_max
        )  # fmt: skip

    return [test]


def allowed(bounds: SizeBounds) -> str:
    """The bounds in words, to follow 'it must be'."""
    parts = []
    if bounds.multiple_of:
        parts.append(f"both sides multiples of {bounds.multiple_of}")
    if bounds.side_min:
        parts.append(f"sides of at least {bounds.side_min} pixels")
    if bounds.side_max:
        parts.append(f"sides of at most {bounds.side_max} pixels")
    if bounds.pixels_min:
        parts.append(f"at least {bounds.pixels_min:,} pixels in all")
    if bounds.pixels_max:
        parts.append(f"at most {bounds.pixels_max:,} pixels in all")
    if bounds.ratio_max:
        parts.append(f"a long side of at most {bounds.ratio_max} times the short one")
    words = '"auto" or WIDTHxHEIGHT such as "1024x1024"'
    if not parts:
        return words
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"{words}, with {listed}"
