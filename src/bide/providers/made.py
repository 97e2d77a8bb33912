"""The files in a model's output, whatever its shape: an address, a list, an object, a data URL, or all of these.

    "https://…/a.png"    ["https://…", "data:image/png;base64,…"]    {"video": {"url": "https://…", "width": 1280}}

A file counts if it is of the kind asked for, or if nothing says what it is; if there is none such, every file does. A
picture beside a film or a song goes with it. What is neither is not fetched.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from bide.providers import errors, films, redact
from bide.providers.base import Asset, Call, Failed, Item, Succeeded
from bide.providers.exchange import store_base64, web_address

KINDS: Mapping[str, str] = {"image": "image", "video": "video", "music": "audio"}
"""What a capability makes, by its first word."""
BESIDE: Mapping[str, str] = {"video": "thumbnail", "audio": "image"}
"""The role of a picture beside a film or a song."""
SUFFIXES: Mapping[str, str] = {
    suffix: kind
    for kind, suffixes in (
        ("image", "png jpg jpeg webp gif avif"),
        ("video", "mp4 mov webm"),
        ("audio", "mp3 m4a aac wav ogg flac"),
        ("other", "json txt srt vtt zip tar safetensors glb obj ply"),
    )
    for suffix in suffixes.split()
}
FILES_MAX = 64
DEPTH_MAX = 8
_SAID = ("width", "height", "seed", "duration", "fps")


@dataclass(frozen=True, slots=True)
class Found:
    """A file of an output. `said`: what stands beside its address."""

    value: str
    kind: str
    said: Mapping[str, Any]

    @property
    def inline(self) -> bool:
        return self.value.startswith("data:")


def within(output: Any, path: str) -> Any:
    """The part of an output that the channel names, `a.b.0`; all of it for an empty path."""
    for name in filter(None, path.split(".")):
        if isinstance(output, dict):
            output = output.get(name)
        elif isinstance(output, list) and name.isdecimal() and int(name) < len(output):
            output = output[int(name)]
        else:
            return None
    return output


def found_in(output: Any) -> list[Found]:
    """Its files in their order, each once."""
    found: dict[str, Found] = {}
    for one in _walked(output, {}, DEPTH_MAX):
        if len(found) < FILES_MAX:
            found.setdefault(one.value, one)
    return list(found.values())


def _walked(value: Any, beside: Mapping[str, Any], depth: int) -> Iterator[Found]:
    if isinstance(value, str):
        if (value.startswith("data:") and ";base64," in value[:100]) or web_address(value):
            yield Found(value, _kind(value, beside), {name: beside[name] for name in _SAID if name in beside})
    elif depth and isinstance(value, list):
        for one in value:
            yield from _walked(one, {}, depth - 1)
    elif depth and isinstance(value, dict):
        for name, one in value.items():
            yield from _walked(one, value if name == "url" else {}, depth - 1)


def _kind(value: str, beside: Mapping[str, Any]) -> str:
    if value.startswith("data:"):
        said = value[5:100]
    else:
        named = beside.get("content_type")
        said = named if isinstance(named, str) else ""
        suffix = urlsplit(value).path.rpartition("/")[2].rpartition(".")
        if not said and suffix[1]:
            return SUFFIXES.get(suffix[2].lower(), "")
    kind = said.partition("/")[0]
    return kind if kind in ("image", "video", "audio") else "" if kind in ("", "application", "binary") else "other"


# -- the result


async def made(call: Call, capability: str, output: Any, about: Mapping[str, Any]) -> Succeeded | Failed:
    """What the gateway is told of an output. `about` is kept with each item for what follows up on it."""
    kind, found = KINDS[capability.partition(".")[0]], found_in(output)
    main = [one for one in found if one.kind == kind] or [one for one in found if not one.kind] or found
    if not main:
        shown = redact.secrets(str(output)[:1000], call.key)
        return errors.no_picture("The upstream answered without a file.", shown, scope="channel")
    seed = within(output, "seed")
    shared = {"seed": seed} if isinstance(seed, int) and not isinstance(seed, bool) else {}
    assets: list[tuple[Found, Asset]] = []
    failed: Failed | None = None
    for one in main:
        asset = await _asset(call, one, "" if kind == "image" else kind, {**shared, **one.said})
        if isinstance(asset, Failed):
            failed = asset
        else:
            assets.append((one, asset))
    if not assets:
        assert failed is not None
        return failed
    if kind == "image":
        return Succeeded(tuple(asset for _, asset in assets), units=len(assets))
    beside = [one for one in found if one.kind == "image" and one not in main]
    items = []
    for number, (one, asset) in enumerate(assets):
        files = [asset]
        if number < len(beside):
            picture = await _asset(call, beside[number], BESIDE[kind], {})
            files += [picture] if isinstance(picture, Asset) else []
        fields = {**shared, **_told(call, kind), **_numbers(kind, one.said)}
        items.append(Item(tuple(files), fields, dict(about), same_as=_same(call, capability)))
    return Succeeded(items=tuple(items), response={"state": "succeeded"}, units=_units(kind, items))


async def _asset(call: Call, one: Found, role: str, about: Mapping[str, Any]) -> Asset | Failed:
    if not one.inline:
        return Asset(url=one.value, role=role, about=about)
    stored = await store_base64(call, one.value)
    return stored if isinstance(stored, Failed) else Asset(stored, role=role, about=about)


def _told(call: Call, kind: str) -> dict[str, Any]:
    """What is known from the request alone."""
    film, request = films.asked(call), call.request
    if kind == "video":
        seconds = {"seconds": film.seconds} if film.seconds else {}
        return {"state": "succeeded", "prompt": film.prompt, "model": call.model, **seconds}
    names = ("title", "lyric", "style")
    said = {name: films.text(request, name) for name in names if films.text(request, name)}
    return {**said, "title": said.get("title") or film.prompt[:80], "prompt": film.prompt}


def _numbers(kind: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes and lengths that the upstream gave, by our names."""
    names = {"width": "width", "height": "height", "duration": "seconds" if kind == "video" else "duration"}
    return {
        ours: said[theirs] for theirs, ours in names.items()
        if isinstance(said.get(theirs), int | float) and not isinstance(said[theirs], bool) and said[theirs] > 0
    }  # fmt: skip


def _units(kind: str, items: list[Item]) -> int:
    """Films are billed by their seconds where these are known, songs as one."""
    if kind != "video":
        return 1
    return max(1, round(sum(item.fields.get("seconds") or 0 for item in items)))


def _same(call: Call, capability: str) -> str:
    """The id of the earlier film where this is another form of it."""
    source = call.source("video_id")
    return source.id if capability == "video.upsample" and source is not None else ""
