"""What the Midjourney proxies call things: buttons, parameters of prompts, answers in words. Pure."""

import re
from collections.abc import Mapping
from typing import Any, Final

# -- what can follow a picture

GRID: Final = (*(f"upscale{n}" for n in range(1, 5)), *(f"variation{n}" for n in range(1, 5)), "reroll")
"""What the older proxy does with a grid; a single picture it leaves as it is."""
CHANGES: Final[Mapping[str, Mapping[str, Any]]] = {
    **{f"upscale{n}": {"action": "UPSCALE", "index": n} for n in range(1, 5)},
    **{f"variation{n}": {"action": "VARIATION", "index": n} for n in range(1, 5)},
    "reroll": {"action": "REROLL"},
}
"""Actions as `/submit/change` of the older proxy takes them."""

_BUTTONS: Final = tuple((re.compile(pattern), action) for pattern, action in (
    (r"MJ::JOB::upsample::([1-4])::", r"upscale\1"), (r"MJ::JOB::variation::([1-4])::", r"variation\1"),
    (r"MJ::JOB::reroll::", "reroll"),
    (r"MJ::JOB::upsample_\w*redo\w*_subtle::", "redo_upscale_subtle"),
    (r"MJ::JOB::upsample_\w*redo\w*_creative::", "redo_upscale_creative"),
    (r"MJ::JOB::upsample_\w*redo\w*_?2x::", "redo_upscale_2x"),
    (r"MJ::JOB::upsample_\w*redo\w*_?4x::", "redo_upscale_4x"),
    (r"MJ::JOB::upsample_\w+_subtle::", "upscale_subtle"), (r"MJ::JOB::upsample_\w+_creative::", "upscale_creative"),
    (r"MJ::JOB::upsample_\w+_2x::", "upscale_2x"), (r"MJ::JOB::upsample_\w+_4x::", "upscale_4x"),
    (r"MJ::JOB::low_variation::", "variation_subtle"), (r"MJ::JOB::high_variation::", "variation_strong"),
    (r"MJ::Inpaint::", "variation_region"), (r"MJ::Outpaint::50::", "zoom_out_2x"),
    (r"MJ::Outpaint::75::", "zoom_out_1_5x"), (r"MJ::Outpaint::100::", "square"),
    (r"MJ::JOB::pan_(left|right|up|down)::", r"pan_\1"),
))  # fmt: skip
"""How the id of a button begins, and the action it is. The whole id is copied from the parent, never made."""
_REDO: Final = re.compile(r"(?i)^redo\b")
_ID_MAX, _BUTTONS_MAX = 300, 60


def buttons(listed: Any) -> dict[str, str]:
    """The ids of a picture's buttons by our actions, in the order of the buttons."""
    found: dict[str, str] = {}
    for one in listed[:_BUTTONS_MAX] if isinstance(listed, list) else ():
        custom_id = one.get("customId") if isinstance(one, dict) else None
        if not isinstance(custom_id, str) or len(custom_id) > _ID_MAX:
            continue
        for pattern, action in _BUTTONS:
            if match := pattern.match(custom_id):
                name = match.expand(action)
                again = name.startswith("upscale_") and _REDO.match(str(one.get("label") or ""))
                found.setdefault(f"redo_{name}" if again else name, custom_id)
                break
    return found


def is_single(action: str) -> bool:
    """Whether one picture comes of it; of everything else four."""
    return action.startswith(("upscale", "redo_upscale"))


# -- prompts

_DASHES = r"(?:^|(?<=\s))(?:--|—|–)"
_SETTLED: Final = re.compile(
    rf"(?i){_DASHES}(?:fast|relax|turbo|public|stealth|(?:r|repeat)(?:\s+\d+)?|video)(?=\s|$)"
)
"""What is not the caller's to say: the speed and the number of works are paid for, who sees them is the account's."""
_VERSION: Final = re.compile(rf"(?i){_DASHES}(?:v|version|niji)(?:\s+[\d.]+)?(?=\s|$)")
_QUALITY: Final = re.compile(rf"(?i){_DASHES}(?:q|quality)(?:\s+[\d.]+)?(?=\s|$)")
_HD: Final = re.compile(rf"(?i){_DASHES}hd(?=\s|$)")
_MOTION: Final = re.compile(rf"(?i){_DASHES}motion\s+(low|high)(?=\s|$)")


def prompt(request: Mapping[str, Any]) -> str:
    """The prompt with the parameters that fields stand for. What a field says is not said by the prompt."""
    text = _SETTLED.sub("", str(request.get("prompt") or ""))
    text = _HD.sub("", text)
    version, quality = request.get("version"), request.get("quality")
    if version:
        text = f"{_VERSION.sub('', text)} --v {version}"
    if quality:
        text = f"{_QUALITY.sub('', text)} --q {quality}"
    if request.get("hd"):
        text = f"{text} --hd"
    return " ".join(text.split())


def motion(text: str) -> tuple[str, str]:
    """A film's prompt without `--motion`, and how much is to move."""
    said = _MOTION.search(text)
    return " ".join(_MOTION.sub("", text).split()), said[1].lower() if said else "low"


# -- answers in words

_NUMBERED: Final = re.compile(r"^\s{0,8}(?:([1-9])\ufe0f?\u20e3|([1-9])[.)])\s{0,8}(.{1,4000})$", re.MULTILINE)
WORDS_MAX = 5


def listed(task: Mapping[str, Any], asked: str) -> list[str]:
    """The prompts a task answers: its numbered lines, else all its lines. Never the prompt that was sent."""
    inner = task.get("properties")
    final = inner.get("finalPrompt") if isinstance(inner, dict) else None
    for text in (final, task.get("promptEn"), task.get("prompt")):
        if not isinstance(text, str) or not text.strip() or text.strip() == asked.strip():
            continue
        found = [match[3].strip() for match in _NUMBERED.finditer(text[:20_000])]
        return (found or [line.strip() for line in text.splitlines() if line.strip()])[:WORDS_MAX]
    return []
