"""Words about pictures: `image.describe`, `prompt.shorten`, `text.translate` and `grid.seed`.

A description tells what can be seen without knowing anything: shape, light and colour; of a picture the sandbox made
it knows the prompt. A translation knows some sixty Chinese words and keeps what is English already.
"""

import colorsys
import json
import re
from typing import Final

from PIL import Image

from bide.providers.base import Call, Outcome, Succeeded
from bide.providers.drawing_files import Refused, decoded, opened
from bide.providers.drawing_kept import paint
from bide.providers.media import words
from bide.providers.sandbox_steps import Steps, read, text

CAPABILITIES = frozenset({"image.describe", "prompt.shorten", "text.translate", "grid.seed"})

SHORTENED_MAX = 5
_COLOURS: Final = ("red", "orange", "yellow", "green", "teal", "blue", "violet", "pink")
_LOOKS: Final = (
    "{what}, {light} light, {colour} tones, {shape}",
    "a {shape} of {what} in {colour}, calm and {light}",
    "{what} seen from afar, {colour} haze, {light} and quiet, fine grain",
    "{light} study of {what}, {shape}, mostly {colour}, soft edges",
)
_ENGLISH: Final = {
    "一只": "a", "一个": "a", "一位": "a", "一座": "a", "一艘": "a", "一朵": "a", "女孩": "girl", "男孩": "boy",
    "老人": "old man", "孩子": "child", "机器人": "robot", "宇航员": "astronaut", "熊猫": "panda",
    "小猫": "kitten", "小狗": "puppy", "猫": "cat", "狗": "dog", "鸟": "bird", "鱼": "fish", "马": "horse",
    "龙": "dragon", "老虎": "tiger", "狐狸": "fox", "花": "flower", "树": "tree", "森林": "forest",
    "山": "mountain", "河": "river", "湖": "lake", "大海": "sea", "海": "sea", "海边": "seaside",
    "沙漠": "desert", "天空": "sky", "太阳": "sun", "月亮": "moon", "星星": "stars", "云": "clouds",
    "雨": "rain", "雪": "snow", "城市": "city", "街道": "street", "房子": "house", "城堡": "castle",
    "灯塔": "lighthouse", "船": "boat", "纸船": "paper boat", "汽车": "car", "桥": "bridge", "未来": "future",
    "日落": "sunset", "黄昏": "dusk", "夜晚": "night", "早晨": "morning", "春天": "spring", "秋天": "autumn",
    "冬天": "winter", "红色": "red", "蓝色": "blue", "绿色": "green", "白色": "white", "黑色": "black",
    "美丽": "beautiful", "可爱": "cute", "在": "in", "和": "and", "坐": "sits", "跑": "runs", "飞": "flies",
    "的": "", "上": "on", "里": "inside", "下": "below",
}  # fmt: skip
_LONGEST = max(map(len, _ENGLISH))
_MARKS: Final = {"，": ", ", "。": ". ", "、": ", ", "！": "! ", "？": "? ", "：": ": ", "；": "; "}


def check(call: Call) -> None:
    """Raises `Refused` for what there are no words for."""
    if call.capability == "image.describe" and not call.inputs:
        raise Refused("image_url is missing: there is nothing to describe")
    if call.capability == "grid.seed" and call.source("image_id") is None:
        raise Refused("image_id is missing")


async def make(call: Call, steps: Steps) -> Outcome:
    """The words, as `Succeeded.response`."""
    if steps.crash:
        raise RuntimeError("the sandbox was asked to crash")
    match call.capability:
        case "image.describe":
            return Succeeded(response={"descriptions": await paint(described, await read(call.inputs[0]))})
        case "prompt.shorten":
            return Succeeded(response={"prompts": shortened(text(call.request, "prompt"))})
        case "text.translate":
            return Succeeded(response={"content": translated(text(call.request, "content"))})
    source = call.source("image_id")
    assert source is not None  # looked at by `check`
    return Succeeded(response={"seed": str(source.about["seed"])})


def described(data: bytes) -> list[str]:
    """Four descriptions of a picture. Raises `Refused`."""
    file = opened(data, "image_url")
    said = _prompt_of(file)
    image, size = decoded(file, "image_url", (64, 64))
    red, green, blue = image.convert("RGB").resize((1, 1), Image.Resampling.BOX).tobytes()
    hue, strength, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
    colour = "grey" if strength < 0.12 else _COLOURS[round(hue * len(_COLOURS)) % len(_COLOURS)]
    light = "bright" if value > 0.66 else "soft" if value > 0.33 else "dark"
    shape = "wide picture" if size[0] > size[1] else "tall picture" if size[0] < size[1] else "square picture"
    what = said or "a scene"
    ratio = f"--ar {size[0]}:{size[1]}" if size[0] != size[1] else "--ar 1:1"
    return [
        f"{look.format(what=what, colour=colour, light=light, shape=shape)} {ratio}" for look in _LOOKS
    ]


def _prompt_of(file: Image.Image) -> str:
    """What a picture of ours says of itself."""
    said = file.info.get("prompt")
    if said is None and isinstance(comment := file.info.get("comment"), bytes):
        try:
            about = json.loads(comment)
        except ValueError:
            return ""
        said = about.get("prompt") if isinstance(about, dict) else None
    return said[:200] if isinstance(said, str) else ""


def shortened(prompt: str) -> list[str]:
    """One to five shorter prompts, the longest first: each drops more of what the prompt speaks of."""
    subjects = words.about(prompt) or [prompt.strip()[:80] or "a picture"]
    counts = sorted({max(1, len(subjects) * part // SHORTENED_MAX) for part in range(1, SHORTENED_MAX + 1)})
    return [", ".join(subjects[:count]) for count in reversed(counts)]


def translated(content: str) -> str:
    """English for Chinese words that are known; a word that is not becomes `something`; the rest stays."""
    found: list[str] = []
    at = 0
    while at < len(content):
        word = next((content[at : at + n] for n in range(_LONGEST, 0, -1) if content[at : at + n] in _ENGLISH), "")
        one = content[at]
        if word:
            found.append(f" {_ENGLISH[word]} ")
        elif "\u3400" <= one <= "\u9fff":
            if not found or found[-1] != " something ":
                found.append(" something ")
        else:
            found.append(_MARKS.get(one, one))
        at += len(word) or 1
    return re.sub(r"\s+([,.!?:;])", r"\1", re.sub(r"\s+", " ", "".join(found))).strip()
