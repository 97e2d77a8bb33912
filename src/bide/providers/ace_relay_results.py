"""What a relay's answer means: done, failed or not yet, and what was made.

The same document is an answer to a submission and the `response` of a task. A word in it (`state`, `status`) counts
before everything else, then `error` and `success`, then whether there are media. Of several things of which some
failed, the others are the result.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from bide.providers.base import ALLOWS, Asset, Call, Failed, Item, Outcome, Succeeded
from bide.providers.exchange import Answer, failed_work, store_base64, web_address

Json = Mapping[str, Any]

DONE: Final = frozenset({"succeeded", "succeed", "success", "completed", "complete", "finished", "done"})
FAILED: Final = frozenset({"failed", "failure", "fail", "error", "cancelled", "canceled", "rejected"})
WORKING: Final = frozenset({
    "queued", "pending", "processing", "running", "in_progress", "submitted", "waiting", "starting", "created",
    "streaming",
})  # fmt: skip

BARE: Final = frozenset({"midjourney/describe", "midjourney/shorten", "midjourney/translate", "midjourney/seed"})
"""They answer at once, without an envelope and without a task."""
SAID: Final = {
    "image.describe": "descriptions", "prompt.shorten": "prompts", "text.translate": "content", "grid.seed": "seed",
    "music.lyrics": "text", "music.mashup_lyrics": "text", "music.style": "upsampled_tags",
    "music.timing": "aligned_words",
}  # fmt: skip
"""Capabilities whose result is words, and the key without which there are none."""
WITHOUT_FILES: Final = frozenset({"music.persona", "music.voice", "voice.clone"})
PICTURES: Final = frozenset({"image.generate", "image.edit"})

URLS: Final = {
    "url": "", "image_url": "image", "raw_image_url": "raw", "sub_image_urls": "part",
    "image_large_url": "image_large", "thumbnail_url": "thumbnail", "cover_url": "thumbnail",
    "last_frame_url": "last_frame", "video_url": "video", "video_urls": "video", "source_video_url": "source",
    "audio_url": "audio", "vocal_audio_url": "audio", "file_url": "audio",
}  # fmt: skip
"""Keys of results, and what each is of its item."""
URLS_OF: Final[Mapping[str, Mapping[str, str]]] = {
    "grid.generate": {"image_url": "thumbnail"}, "grid.edit": {"image_url": "thumbnail"},
    "music.midi": {"file_url": "midi"}, "video.generate": {"cover_url": "thumbnail", "file_url": "video"},
}  # fmt: skip
"""Where they are something else."""
IDS: Final = ("id", "image_id", "video_id", "audio_id", "persona_id", "voice_id")
FIELDS: Final = {
    "video_width": "width", "video_height": "height", "sound": "style", "topic": "prompt", "vocal_start_s": "start_s",
    "vocal_end_s": "end_s", "wave_response": "wave",
}  # fmt: skip
"""What is called otherwise in our items."""
ENVELOPE: Final = frozenset({
    *IDS, "success", "task_id", "trace_id", "state", "status", "error", "progress", "data", "content", "created_at",
    "complete_at", "updated_at", "started_at", "finished_at", "elapsed", "b64_json", "url", "source_clip_id",
})  # fmt: skip
SECONDS: Final = 8.0
"""Of a film of which nobody says how long it is."""
FOUND_MAX = 64
"""Addresses that are taken from one answer."""


async def finished(
    call: Call, service: str, answer: Answer, response: Json, *, task_id: str, ended: bool
) -> Outcome | None:
    """The outcome, or None while it is not done. `ended`: the task says that nothing will change any more."""
    entries = _entries(response)
    said = {word for one in (response, *entries) if (word := _word(one))}
    whole = [one for one in entries if _word(one) not in FAILED]
    if said & WORKING:
        return None
    if call.capability in SAID:
        words = _said(call.capability, response)
        if words is not None and not _refused(response):
            return Succeeded(response=words)
        whole = []
    wrong = _refused(response) or (bool(said & FAILED) and not said & DONE)
    if (not wrong or any(_word(one) in DONE for one in whole)) and whole:
        made = await _made(call, service, response, whole, task_id)
        if made is not None:
            return made
    if wrong and (response.get("error") or said & FAILED or ended):
        return failed_work(call, answer)
    if ended or said & DONE:
        return failed_work(call, answer, "The upstream says it succeeded, but there is no result.")
    return None


def percent(*documents: Any) -> int | None:
    """How far it is, where a document says so: 0.37, 37 or `"37%"`."""
    for one in documents:
        value = one.get("progress") if isinstance(one, dict) else None
        if isinstance(value, str):
            text = value.strip().rstrip("%")
            value = int(text) if text.isascii() and text.isdigit() and len(text) < 4 else None
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 100:
            return round(value * 100 if isinstance(value, float) and value <= 1 else value)
    return None


def _refused(response: Json) -> bool:
    return bool(response.get("error")) or response.get("success") is False


def _word(entry: Json) -> str:
    word = entry.get("state") or entry.get("status")
    return word.lower() if isinstance(word, str) else ""


def _entries(response: Json) -> list[Json]:
    """The things that a response speaks of: those of `data`, or itself."""
    data = response.get("data")
    if isinstance(data, list):
        return [one for one in data if isinstance(one, dict)]
    return [data] if isinstance(data, dict) else [response]


def _said(capability: str, response: Json) -> dict[str, Any] | None:
    """Words, if they are there."""
    needed, entries = SAID[capability], _entries(response)
    variants = [one for one in entries if one.get(needed)]
    if not variants:
        return None
    words = {name: value for name, value in variants[0].items() if name not in ENVELOPE or name == needed}
    return {**words, "variants": variants} if capability == "music.lyrics" else words


# -- what was made


async def _made(
    call: Call, service: str, response: Json, entries: list[Json], task_id: str
) -> Succeeded | Failed | None:
    if call.capability in PICTURES:
        return await _pictures(call, response, entries)
    items: list[Item] = []
    echoes = set(_texts(call.request))
    for entry in entries:
        assets = _assets(call.capability, entry, echoes)
        own = next((str(entry[name]) for name in IDS if isinstance(entry.get(name), (str, int))), "")
        if not assets and not (own and call.capability in WITHOUT_FILES) and not entry.get("instruments"):
            continue
        items.append(_item(call, service, entry, assets, own or task_id))
    if not items:
        return None
    return Succeeded(items=tuple(items), response={"state": "succeeded"}, units=_units(call, items))


async def _pictures(call: Call, response: Json, entries: list[Json]) -> Succeeded | Failed | None:
    assets: list[Asset] = []
    for entry in entries[:FOUND_MAX]:
        about = {name: entry[name] for name in ("revised_prompt", "seed") if entry.get(name) is not None}
        url = next((found for name in ("url", "image_url") if (found := web_address(entry.get(name)))), None)
        if url is None and isinstance(text := entry.get("b64_json") or entry.get("url"), str) and text:
            stored = await store_base64(call, text)
            if isinstance(stored, Failed):
                return stored
            assets.append(Asset(stored, about=about))
        elif url is not None:
            assets.append(Asset(url=url, about=about))
    if not assets:
        return None
    kinds = {"created": int, "size": str, "quality": str, "background": str, "output_format": str, "usage": dict}
    about = {name: response[name] for name, kind in kinds.items() if isinstance(response.get(name), kind)}
    return Succeeded(tuple(assets), about, units=len(assets))


def _assets(capability: str, entry: Json, echoes: set[str]) -> tuple[Asset, ...]:
    """What lies at the addresses of an entry. Where none has a key we know, at whatever looks like one."""
    roles = {**URLS, **URLS_OF.get(capability, {})}
    inner = entry.get("content")
    whole = {**entry, **inner} if isinstance(inner, dict) else entry
    found = [(roles[name], url) for name, value in whole.items() if name in roles for url in _urls(value, echoes)]
    if not found:
        found = [("", url) for name, value in whole.items() if name.endswith(("url", "urls"))
                 for url in _urls(value, echoes)]  # fmt: skip
    return tuple(Asset(url=url, role=role) for role, url in found[:FOUND_MAX])


def _urls(value: Any, echoes: set[str]) -> list[str]:
    listed = value if isinstance(value, list) else [value]
    return [url for one in listed if (url := web_address(one)) and url not in echoes]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for one in value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ():
        yield from _texts(one)


def _item(call: Call, service: str, entry: Json, assets: tuple[Asset, ...], id: str) -> Item:
    fields = {FIELDS.get(name, name): value for name, value in entry.items()
              if name not in ENVELOPE and name not in URLS and value is not None}  # fmt: skip
    if isinstance(duration := entry.get("duration"), (int, float)):
        fields["seconds"] = duration
    if call.capability == "image.code":
        fields |= {"width": entry.get("image_width"), "height": entry.get("image_height")}
    about: dict[str, Any] = {"id": id[:200], "service": service}
    actions = entry.get("actions")
    if isinstance(actions, list) and call.capability == "grid.generate":
        about[ALLOWS] = {"action": [one for one in actions if isinstance(one, str)]}
    if call.capability in WITHOUT_FILES:
        kind = "voice" if call.capability == "music.voice" else "persona"
        shown = {name: str(call.request.get(name) or "") for name in ("name", "description")} | {"source_type": kind}
        fields, about = {**fields, **shown}, {**about, **shown}
    return Item(assets, fields, about, same_as=_same_as(call))


def _same_as(call: Call) -> str:
    """A film made larger is still that film. Its id is in the request; a look at a task knows no sources."""
    again = call.capability == "video.upsample" or str(call.request.get("action") or "").startswith("get")
    return str(call.request.get("video_id") or "") if again else ""


def _units(call: Call, items: list[Item]) -> int:
    """Seconds of films, as far as anybody says; else how many things there are."""
    if not call.capability.startswith("video."):
        return len(items)
    asked = call.request.get("duration")
    asked = int(asked) if isinstance(asked, str) and asked.isascii() and asked.isdigit() else asked
    otherwise = float(asked) if isinstance(asked, (int, float)) and asked > 0 else SECONDS
    lengths = [one.fields.get("seconds") for one in items]
    return max(1, round(sum(one if isinstance(one, (int, float)) else otherwise for one in lengths)))
