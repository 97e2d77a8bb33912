"""The films of the sandbox: `video.generate`, `video.upsample`, `video.extend`, `video.edit`, `video.talk` (somebody
in a picture or a film speaks) and `video.motion` (a picture moves as a film does).

A film shows the landscape of its prompt, or the pictures it was given, each for its part of the time. What it is
made of is kept with the item as numbers (and the given pictures as its files of the role `still`), so a follow-up
makes the film again: larger, longer, or changed.
"""

import hashlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from bide.providers.base import Asset, Call, Input, Item, Outcome, Source, Succeeded
from bide.providers.drawing_files import Refused, decoded, encode, opened
from bide.providers.drawing_kept import paint
from bide.providers.media import scene, video
from bide.providers.media.scene import View
from bide.providers.sandbox_steps import NEXT, Steps, read, store, text

CAPABILITIES = frozenset({
    "video.generate", "video.upsample", "video.extend", "video.edit", "video.talk", "video.motion",
})  # fmt: skip
_FOLLOWING = frozenset({"video.upsample", "video.extend", "video.edit"})

SECONDS, SECONDS_MAX = 8, 600
FRAMES_PER_S = 24
"""Of films whose length is asked for in frames."""
EXTEND_S = 7
FILM_SECONDS_MAX = 150
STILLS_MAX = 3
_SHORT_SIDES = {
    "360p": 360, "480p": 480, "540p": 540, "720p": 720, "768p": 768, "1080p": 1080, "2k": 1440, "4k": 2160,
    "gif": 720,
}  # fmt: skip
_GIF = "gif"
_SIZES = {"small": (1280, 720), "large": (1920, 1080)}
_STILL_SIDE = 1280
_POSTER_SIDE = 640
_STILL = "still"

Size = tuple[int, int]
About = Mapping[str, Any]


def check(call: Call) -> None:
    """Raises `Refused` for what cannot be made."""
    _planned(call)


async def make(call: Call, steps: Steps) -> Outcome:
    """Makes and stores the film, and a picture of its beginning."""
    source, about = _source(call), _planned(call)
    given = _pictures_of(call, source)
    pictures = await paint(_decoded, [await read(one) for one in given], about["size"])
    data, poster = await paint(_made, about, pictures)
    assets = [
        Asset(await store(call, data, steps), role="video"),
        Asset(await store(call, poster, steps), role="thumbnail"),
    ]
    if source is not None and call.capability not in ("video.extend", "video.talk"):
        stills = []  # the earlier item has them
    else:
        stills = [await paint(_still, one) for one in pictures]
    assets += [Asset(await store(call, one, steps), role=_STILL) for one in stills]
    seconds = sum(shot["seconds"] for shot in about["shots"])
    fields = {"seconds": seconds, "width": about["size"][0], "height": about["size"][1], "state": "succeeded",
              "prompt": about["prompt"], "model": call.model, **_sides("thumbnail", poster),
              **_counted(call.request, about, seconds)}  # fmt: skip
    same = source.id if source is not None and call.capability in ("video.upsample", "video.generate") else ""
    item = Item(tuple(assets), fields, {**about, NEXT: steps.next}, same_as=same)
    charged = about["shots"][-1]["seconds"] if call.capability == "video.extend" else seconds
    return Succeeded(items=(item,), units=max(1, round(charged)), response={"state": "succeeded"})


# -- what is asked


def _planned(call: Call) -> dict[str, Any]:
    """What the film is made of, as small JSON: `prompt`, `size`, `gif` and `shots` (a seed or the number of a given
    picture, and seconds)."""
    request, source = call.request, _source(call)
    if call.capability in _FOLLOWING and source is None and not _names_a_film(request):
        raise Refused("`video_id` is missing: there is nothing to work on")
    prompt = _prompt(request)
    if source is None:
        size = _size(request)
        return {
            "prompt": prompt, "size": list(size), "gif": request.get("resolution") == _GIF,
            "shots": _shots(call, prompt, _seconds(request)),
        }  # fmt: skip
    about = source.about
    if call.capability == "video.extend":
        seconds = EXTEND_S if request.get("duration") is None else _seconds(request)
        shots = [*about["shots"], {"seed": _seed(call, prompt, len(about["shots"])), "seconds": seconds}]
        if sum(shot["seconds"] for shot in shots) > FILM_SECONDS_MAX:
            raise Refused(f"the film would be longer than {FILM_SECONDS_MAX} seconds")
        size = _of_shape(about["size"], str(request.get("resolution") or "")) or tuple(about["size"])
        return {"prompt": prompt or about["prompt"], "size": list(size), "gif": False, "shots": shots}
    if call.capability == "video.talk":
        return {"prompt": prompt or about["prompt"], "size": about["size"], "gif": False, "shots": about["shots"]}
    if call.capability == "video.edit":
        changed = [{"seed": _seed(call, _said(request), at), "seconds": shot["seconds"]}
                   for at, shot in enumerate(about["shots"])]  # fmt: skip
        return {"prompt": prompt or about["prompt"], "size": about["size"], "gif": False, "shots": changed}
    wanted = str(request.get("action") or "1080p").removeprefix("get")
    larger = _of_shape(about["size"], wanted) or tuple(about["size"])
    return {"prompt": about["prompt"], "size": list(max(larger, tuple(about["size"]))), "gif": wanted == _GIF,
            "shots": about["shots"]}  # fmt: skip


def _prompt(request: Mapping[str, Any]) -> str:
    """What is asked for: `prompt`, `text`, or the texts among the parts of `content`."""
    parts = request.get("content")
    said = [one["text"] for one in parts if isinstance(one, Mapping) and isinstance(one.get("text"), str)] if (
        isinstance(parts, list)
    ) else []  # fmt: skip
    return text(request, "prompt") or text(request, "text") or " ".join(said)


def _names_a_film(request: Mapping[str, Any]) -> bool:
    """Whether it says where a film is that was made elsewhere: another is shown in its place."""
    return any(request.get(name) for name in ("video_url", "video_urls", "file_urls"))


def _source(call: Call) -> Source | None:
    """The earlier film; a new one has none, whatever the request names."""
    if call.capability == "video.generate" and not str(call.request.get("action") or "").startswith("get"):
        return None
    return call.source("video_id")


def _shots(call: Call, prompt: str, seconds: int) -> list[dict[str, Any]]:
    count = min(len(call.inputs), STILLS_MAX)
    if not count:
        return [{"seed": _seed(call, prompt, 0), "seconds": seconds}]
    return [{"still": at, "seconds": seconds / count} for at in range(count)]


def _seed(call: Call, prompt: str, number: int) -> int:
    said = f"{prompt}\0{call.model}\0{number}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(said, digest_size=4).digest())


def _said(request: Mapping[str, Any]) -> str:
    return "\0".join(f"{name}={value}" for name, value in sorted(request.items()) if isinstance(value, str))


def _seconds(request: Mapping[str, Any]) -> int:
    value = request.get("duration")
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    if value is None and isinstance(request.get("frames"), int):
        value = max(1, round(request["frames"] / FRAMES_PER_S))
    seconds = int(value) if isinstance(value, int | float) and value != -1 else SECONDS
    if not 1 <= seconds <= SECONDS_MAX:
        raise Refused(f"`duration` must be 1 to {SECONDS_MAX} seconds")
    return seconds


def _size(request: Mapping[str, Any]) -> Size:
    """Pixels: `size` as `WxH` or a name, turned by `orientation`, or else `resolution` in the `aspect_ratio`."""
    size = str(request.get("size") or "")
    width, cross, height = size.replace("*", "x").partition("x")
    if cross and width.isdigit() and height.isdigit():
        return _bounded(int(width), int(height))
    if size in _SIZES:
        wide, tall = _SIZES[size]
        return (tall, wide) if request.get("orientation") == "portrait" else (wide, tall)
    short = _SHORT_SIDES.get(str(request.get("resolution") or "720p").lower(), 720)
    return _in_ratio(short, str(request.get("aspect_ratio") or "16:9"))


def _in_ratio(short: int, ratio: str) -> Size:
    across, _, down = ratio.partition(":")
    if not (across.isdigit() and down.isdigit() and 0 < int(across) <= 100 and 0 < int(down) <= 100):
        across, down = "16", "9"
    wide, tall = int(across), int(down)
    if wide >= tall:
        return _bounded(round(short * wide / tall), short)
    return _bounded(short, round(short * tall / wide))


def _of_shape(size: Sequence[int], resolution: str) -> Size | None:
    """That resolution in the shape of an earlier film."""
    short = _SHORT_SIDES.get(resolution.lower())
    if short is None:
        return None
    scale = short / min(size)
    return _bounded(round(size[0] * scale), round(size[1] * scale))


def _bounded(width: int, height: int) -> Size:
    """Even sides: H.264 keeps colours for two pixels at a time."""
    if not 16 <= min(width, height) <= max(width, height) <= 4096:
        raise Refused(f"a film of {width}x{height} cannot be made: sides are 16 to 4096 pixels")
    return width - width % 2, height - height % 2


# -- pictures


def _pictures_of(call: Call, source: Source | None) -> list[Input]:
    if source is not None:
        return [one for one in source.files if one.field == _STILL]
    return list(call.inputs[:STILLS_MAX])


def _decoded(files: list[bytes], size: Sequence[int]) -> list[Image.Image]:
    pictures = []
    for number, data in enumerate(files, 1):
        what = f"picture {number}"
        image, _ = decoded(opened(data, what), what, (size[0], size[1]))
        pictures.append(image.convert("RGB"))
    return pictures


def _counted(request: Mapping[str, Any], about: About, seconds: float) -> dict[str, Any]:
    """The number that is said to make the same film again, and what the film counts as in tokens."""
    seed, (width, height) = request.get("seed"), about["size"]
    tokens = round(width * height * FRAMES_PER_S * seconds / 1024)
    return {
        "seed": seed if isinstance(seed, int) and seed >= 0 else int.from_bytes(
            hashlib.blake2b(about["prompt"].encode("utf-8", "surrogatepass"), digest_size=4).digest()),
        "usage": {"completion_tokens": tokens, "total_tokens": tokens},
    }  # fmt: skip


def _sides(name: str, picture: bytes) -> dict[str, int]:
    width, height = Image.open(io.BytesIO(picture)).size
    return {f"{name}_width": width, f"{name}_height": height}


def _still(image: Image.Image) -> bytes:
    small = image.copy()
    small.thumbnail((_STILL_SIDE, _STILL_SIDE))
    return encode(small, "jpeg", 85, {})


def _made(about: About, pictures: list[Image.Image]) -> tuple[bytes, bytes]:
    """The film, and its first picture as a JPEG."""
    size = about["size"][0], about["size"][1]
    shots = [video.Shot(_shown(about, shot, pictures, size), shot["seconds"]) for shot in about["shots"]]
    poster = video.fitted(shots[0].image, _within(size, _POSTER_SIDE))
    if about["gif"]:
        return video.gif(shots, comment=about["prompt"]), encode(poster, "jpeg", 80, {"prompt": about["prompt"]})
    film = video.film(shots, size=size, title=about["prompt"][:80], comment=about["prompt"])
    return film, encode(poster, "jpeg", 80, {"prompt": about["prompt"]})


def _within(size: Size, side_max: int) -> Size:
    """That shape with no side above `side_max` pixels."""
    scale = min(1.0, side_max / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _shown(about: About, shot: Mapping[str, Any], pictures: list[Image.Image], size: Size) -> Image.Image:
    if "still" in shot and shot["still"] < len(pictures):
        picture: Image.Image = pictures[shot["still"]]
        return picture
    return scene.sketch(View(shot.get("seed", 0), 0.0, 0.0, size[0] / size[1], 1.0, size), about["prompt"])
