"""What a task of the Midjourney proxies made, or why it failed. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from bide.providers import errors, mj_proxy_words, words
from bide.providers.base import ALLOWS, Asset, Call, Failed, Item, Outcome, Succeeded
from bide.providers.exchange import Answer, web_address

PARTS: Final = 4
"""Pictures of a grid."""


def failed(call: Call, answer: Answer, task: Mapping[str, Any]) -> Failed:
    """By the words of `failReason`."""
    reason = text(task.get("failReason")) or "The upstream failed without a reason."
    lower = reason.lower()
    codes = ("invalid_value",) if "invalid" in lower and "parameter" in lower else ()
    return errors.from_words(words.Words(reason, codes), key=call.key, detail=reason, headers=answer.headers,
                             status=answer.status)  # fmt: skip


def made(call: Call, answer: Answer, task: Mapping[str, Any], upstream_id: str) -> Outcome:
    """The words, the films or the picture of a task that succeeded."""
    if call.capability in ("image.describe", "prompt.shorten"):
        found = mj_proxy_words.listed(task, str(call.request.get("prompt") or ""))
        name = "descriptions" if call.capability == "image.describe" else "prompts"
        return Succeeded(response={name: found}) if found else _nothing(answer)
    image, small = web_address(task.get("imageUrl")), web_address(task.get("thumbnailUrl"))
    listed = task.get("imageUrls")
    parts = _addresses(listed)
    size = task.get("width"), task.get("height")
    about: dict[str, Any] = {"task": upstream_id, "prompt": text(task.get("prompt"))}
    if call.capability == "grid.animate":
        films = _addresses(task.get("videoUrls")) or _addresses([task.get("videoUrl")])
        if not films:
            return _nothing(answer)
        assets = [Asset(url=one, role="video") for one in films]
        assets += [Asset(url=image, role="image")] if image else []
        return Succeeded(items=(Item(tuple(assets), _sized("image", size), about),))
    image = image or (parts[0] if len(parts) == 1 else None)
    if image is None:
        return _nothing(answer)
    assets = [Asset(url=small or image, role="thumbnail"), Asset(url=image, role="raw")]
    if call.request.get("split_images") and len(parts) == PARTS:
        assets += [Asset(url=one, role="part") for one in parts]
    actions, kept = _actions(call, task)
    fields = {**_sized("raw_image", size), "actions": actions}
    about |= {"buttons": kept, ALLOWS: {"action": actions}}
    if seed := digits(task.get("seed")):
        about["seed"] = seed
    return Succeeded(items=(Item(tuple(assets), fields, about),))


def _actions(call: Call, task: Mapping[str, Any]) -> tuple[list[str], dict[str, str]]:
    """What can follow a picture, and with which buttons. Without any it is the older proxy's."""
    kept = mj_proxy_words.buttons(task.get("buttons"))
    if kept:
        return list(kept), kept
    single = mj_proxy_words.is_single(str(call.request.get("action") or ""))
    older = not isinstance(task.get("buttons"), list) and not single and call.capability == "grid.generate"
    return (list(mj_proxy_words.GRID) if older else []), {}


def _sized(name: str, size: tuple[Any, Any]) -> dict[str, int]:
    """Width and height of a picture, if both are known."""
    wide, tall = size
    known = all(isinstance(one, int) and not isinstance(one, bool) and one > 0 for one in size)
    return {f"{name}_width": wide, f"{name}_height": tall} if known else {}


def _nothing(answer: Answer) -> Failed:
    return errors.no_picture("The upstream says it succeeded, but there is no result.", answer.text)


def _addresses(listed: Any) -> list[str]:
    """Those of texts, or of `{"url"}`."""
    urls = [one.get("url") if isinstance(one, dict) else one for one in listed] if isinstance(listed, list) else []
    return [url for one in urls if (url := web_address(one))]


def text(value: Any) -> str:
    """A text, or a number as one: some relays answer ids so."""
    return str(value)[:4000] if isinstance(value, (str, int)) and not isinstance(value, bool) else ""


def digits(value: Any) -> str:
    """Digits, else nothing."""
    said = text(value)
    return said if said.isascii() and said.isdigit() and len(said) < 21 else ""


def percent(value: Any) -> int | None:
    """How far it is: `"37%"`."""
    said = text(value).strip().removesuffix("%")
    return min(int(said), 100) if said.isascii() and said.isdigit() and len(said) < 4 else None
