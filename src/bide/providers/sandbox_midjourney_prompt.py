"""A prompt as it is written for grids: addresses of pictures, words, and parameters behind two dashes. Pure."""

import re
from dataclasses import dataclass

from bide.providers.drawing_files import Refused

PICTURES_MAX = 5
RATIO_MAX = 4.0
SEED_MAX = 4_294_967_295

_PARAMETER = re.compile(r"(?:^|(?<=\s))--([A-Za-z][\w-]*)((?:\s+(?!--)[^\s]+)*)")
_ADDRESS = re.compile(r"https?://\S+\s*", re.IGNORECASE)
_KNOWN = frozenset((
    "ar", "aspect", "bs", "c", "chaos", "cref", "creative", "cw", "draft", "dref", "dw", "end", "exp", "fast", "hd",
    "iw", "loop", "motion", "niji", "no", "oref", "ow", "p", "personalize", "profile", "public", "q", "quality", "r",
    "raw", "relax", "repeat", "s", "sameseed", "seed", "sref", "stealth", "stop", "style", "stylize", "sv", "sw",
    "test", "testp", "tile", "turbo", "v", "version", "video", "w", "weird",
))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Prompt:
    """`text`: the words alone. `ratio` is width by height, `seed` what `--seed` says."""

    text: str
    pictures: tuple[str, ...] = ()
    ratio: float = 1.0
    seed: int | None = None


def parsed(prompt: str) -> Prompt:
    """Raises `Refused` for a parameter that nobody knows, or one with a value that it cannot have."""
    parameters = {found[1].lower(): found[2].strip().partition(" ")[0] for found in _PARAMETER.finditer(prompt)}
    if unknown := sorted(set(parameters) - _KNOWN):
        raise Refused(f"Unrecognized argument: --{unknown[0]}")
    words = _PARAMETER.sub("", prompt).strip()
    pictures: list[str] = []
    while found := _ADDRESS.match(words):
        pictures.append(found[0].strip())
        words = words[found.end() :]
    if len(pictures) > PICTURES_MAX:
        many = f"{len(pictures)} addresses of pictures"
        raise Refused(f"`prompt` begins with {many}; at most {PICTURES_MAX} are taken")
    ratio = parameters.get("ar", parameters.get("aspect"))
    return Prompt(words, tuple(pictures), 1.0 if ratio is None else _ratio(ratio), _seed(parameters.get("seed")))


def _ratio(value: str) -> float:
    wide, _, tall = value.partition(":")
    if not (re.fullmatch("[0-9]{1,4}", wide) and re.fullmatch("[0-9]{1,4}", tall) and int(wide) and int(tall)):
        raise Refused(f"--ar is {value!r}; it must be two whole numbers, as in 16:9")
    ratio = int(wide) / int(tall)
    if not 1 / RATIO_MAX <= ratio <= RATIO_MAX:
        raise Refused(f"--ar is {value}; one side may be at most {RATIO_MAX:.0f} times the other")
    return ratio


def _seed(value: str | None) -> int | None:
    if value is None:
        return None
    if not re.fullmatch("[0-9]{1,10}", value) or int(value) > SEED_MAX:
        raise Refused(f"--seed is {value!r}; it must be a whole number from 0 to {SEED_MAX}")
    return int(value)
