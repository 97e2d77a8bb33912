"""Four short films of a picture, and longer ones of one of them: `grid.animate`.

A film is a row of shots, each a part of a picture the caller gave. The shots of all four are kept with the item, and
the pictures as its files of the role `still`: a longer film begins with the same shots.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from bide.providers.base import Asset, Call, Input, Item, Outcome, Progress, Source, Succeeded
from bide.providers.drawing_files import Refused, decoded, encode, opened
from bide.providers.drawing_kept import paint
from bide.providers.media import video
from bide.providers.sandbox_midjourney_prompt import parsed
from bide.providers.sandbox_steps import NEXT, Steps, read, store, text

CAPABILITIES = frozenset({"grid.animate"})

FILMS = 4
SECONDS, EXTEND_S, SECONDS_MAX = 5, 4, 21
STILLS_MAX = 8
_SHORT_SIDES = {"480p": 480, "720p": 720}
_STILL, _STILL_SIDE = "still", 1280
_RATIO_MAX = 3.0

Shots = list[dict[str, Any]]


def check(call: Call) -> None:
    """Raises `Refused` for what cannot be made."""
    _takes(call)


async def make(call: Call, steps: Steps) -> Outcome:
    """Makes and stores the films, a picture of their beginning, and the pictures they are made of."""
    takes, source = _takes(call), _source(call)
    given = [*_stills(source), *_given(call)]
    pictures = await paint(_decoded, [await read(one) for one in given])
    size = _size(call, source, pictures[0])
    prompt = parsed(text(call.request, "prompt")).text or str(source.about["prompt"] if source else "")
    assets = []
    for shots in takes:  # one after the other: each is a megabyte
        data = await paint(_film, shots, pictures, size, prompt)
        assets.append(Asset(await store(call, data, steps), role="video"))
    poster = await paint(_poster, takes[0], pictures, size, prompt)
    assets.append(Asset(await store(call, poster, steps), role="image"))
    for one in pictures:
        assets.append(Asset(await store(call, await paint(_still, one), steps), role=_STILL))
    fields = {"image_width": size[0], "image_height": size[1]}
    about = {"prompt": prompt, "size": list(size), "takes": takes, NEXT: steps.next}
    return Succeeded(items=(Item(tuple(assets), fields, about),))


async def unfinished(call: Call, steps: Steps, percent: int) -> Progress:
    """How far it is; there is nothing to see of a film before it is there."""
    return Progress(percent)


# -- what is asked


def _source(call: Call) -> Source | None:
    return call.source("video_id") if call.request.get("action") == "extend" else None


def _stills(source: Source | None) -> list[Input]:
    return [one for one in source.files if one.field == _STILL] if source else []


def _given(call: Call) -> list[Input]:
    """The pictures of this request: the first one, then the last."""
    fields = ("end_image_url",) if call.request.get("action") == "extend" else ("image_url", "end_image_url")
    return [one for field in fields for one in call.inputs if one.field == field]


def _takes(call: Call) -> list[Shots]:
    """The shots of each film: a picture by number, which part of it, and seconds."""
    parsed(text(call.request, "prompt"))
    source, given = _source(call), _given(call)
    kept = len(_stills(source))
    if call.request.get("action") != "extend":
        if not any(one.field == "image_url" for one in given):
            raise Refused("image_url is missing: a film begins with a picture")
        return [_shots(number, len(given) > 1, bool(call.request.get("loop"))) for number in range(FILMS)]
    if source is None:
        raise Refused("video_id is missing: there is nothing to extend")
    before: Shots = source.about["takes"][int(call.request.get("video_index") or 0)]
    if sum(shot["seconds"] for shot in before) + EXTEND_S > SECONDS_MAX or kept + len(given) > STILLS_MAX:
        raise Refused(f"the film would be longer than {SECONDS_MAX} seconds")
    still = kept if given else before[-1]["still"]
    part = len(before) * FILMS
    return [[*before, {"still": still, "part": part + number, "seconds": EXTEND_S}] for number in range(FILMS)]


def _shots(number: int, has_end: bool, loop: bool) -> Shots:
    """A film that loops ends as it began."""
    parts = [(0, number), (1 if has_end else 0, number + (0 if has_end else FILMS))]
    if loop:
        parts.append((0, number))
    elif not has_end:
        parts = parts[:1]
    return [{"still": still, "part": part, "seconds": SECONDS / len(parts)} for still, part in parts]


def _size(call: Call, source: Source | None, first: Image.Image) -> tuple[int, int]:
    """Even sides: H.264 keeps colours for two pixels at a time."""
    short = _SHORT_SIDES[str(call.request.get("resolution") or "720p")]
    size: Sequence[int] = source.about["size"] if source else first.size
    ratio = min(_RATIO_MAX, max(1 / _RATIO_MAX, size[0] / size[1]))
    wide, tall = (short * ratio, short) if ratio >= 1 else (short, short / ratio)
    return 2 * round(wide / 2), 2 * round(tall / 2)


# -- pictures, in a thread


def _decoded(files: list[bytes]) -> list[Image.Image]:
    pictures = []
    for number, data in enumerate(files, 1):
        what = f"picture {number}"
        image, _ = decoded(opened(data, what), what, (_STILL_SIDE, _STILL_SIDE))
        plain = image.convert("RGB")
        plain.thumbnail((_STILL_SIDE, _STILL_SIDE))
        pictures.append(plain)
    return pictures


def _still(image: Image.Image) -> bytes:
    return encode(image, "jpeg", 90, {})


def _film(shots: Shots, pictures: list[Image.Image], size: tuple[int, int], prompt: str) -> bytes:
    shown = [video.Shot(_shown(shot, pictures), shot["seconds"]) for shot in shots]
    return video.film(shown, size=size, title=prompt[:80], comment=prompt)


def _poster(shots: Shots, pictures: list[Image.Image], size: tuple[int, int], prompt: str) -> bytes:
    return encode(_shown(shots[0], pictures).resize(size), "jpeg", 85, {"prompt": prompt})


def _shown(shot: Mapping[str, Any], pictures: list[Image.Image]) -> Image.Image:
    """A part of a picture: the whole of it is part 0, and each further one comes closer."""
    image: Image.Image = pictures[shot["still"]]
    part: int = shot["part"]
    scale = 1 / (1 + 0.06 * part)
    wide, tall = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    left, top = (image.width - wide) * (part % 3) // 2, (image.height - tall) // 2
    return image.crop((left, top, left + wide, top + tall))
