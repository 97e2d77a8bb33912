"""Words for songs: lyrics that speak of the prompt, a title, tags; and when each word of a song is sung.

Simple English of our own around the words of the prompt, whatever language these are in.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

TITLE_MAX = 80
WORDS_TAKEN_MAX = 12
"""Words of a prompt that are used."""
_WORD_MAX, _PROMPT_MAX = 32, 4_000

_SMALL: Final = frozenset((
    "a", "about", "all", "also", "an", "and", "any", "are", "as", "at", "be", "been", "but", "by", "can",
    "create", "do", "for", "from", "generate", "get", "give", "had", "has", "have", "he", "her", "his", "how",
    "i", "in", "into", "is", "it", "its", "like", "lyrics", "make", "me", "music", "my", "of", "on", "or",
    "our", "out", "please", "she", "so", "some", "song", "that", "the", "their", "them", "then", "there",
    "they", "this", "to", "track", "tune", "us", "very", "was", "we", "what", "when", "which", "who", "will",
    "with", "write", "you", "your",
))  # fmt: skip
"""Words of a prompt that are not what it is about."""

_VERSES: Final = (
    "I saw the {a} when the morning came", "No two days with the {a} are the same",
    "There is {b} in the window and rain on the stone", "I carry the {a} so I am never alone",
    "We walked by the {b} till the lights went low", "You asked of the {a} and I said I don't know",
    "The road to the {b} is a long way down", "They still talk of the {a} in this sleepy town",
    "I kept a picture of {b} in my coat", "And a line on the {a} that nobody wrote",
    "The clock counts slowly, the {b} counts on", "I will wait for the {a} until night is gone",
)  # fmt: skip
_CHORUS: Final = (
    "Oh {a}, take me with you", "Oh {a}, and the {b} too", "All of my days I will sing it through",
    "{a}, {a}, I come back to you", "Sing for the {b}, sing it loud", "{a} above me like a cloud",
    "Hold on to the {a}, hold on tight", "We will find the {b} tonight",
)  # fmt: skip
_BRIDGE: Final = (
    "And if the {b} should fade away", "I would ask the {a} to stay", "Slow and quiet, hear it grow",
    "Everything the {a} would know",
)  # fmt: skip
_ENDING: Final = ("The {a} is quiet now", "And so am I")
_TITLES: Final = ("{a} and {b}", "The Way to {a}", "Song of the {a}", "{a} Tonight", "After the {a}", "Where {b} Was")
_TAGS: Final = (
    "acoustic", "bright", "calm", "cinematic", "dreamy", "driving", "folk", "gentle", "hopeful", "indie", "mellow",
    "melodic", "pop", "rhythmic", "soulful", "warm",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Lyrics:
    """A text with its parts in square brackets, as `[Verse 1]`."""

    title: str
    text: str
    tags: tuple[str, ...]


def lyrics(prompt: str, seed: int) -> Lyrics:
    """Two verses, choruses, a bridge and an ending that speak of the prompt."""
    chance = Random(f"words {seed}")
    subjects = about(prompt) or ["harbour", "light"]
    first = chance.choice(subjects)
    second = chance.choice([one for one in subjects if one != first] or ["light"])
    names = {"a": first, "b": second}
    verses = [_VERSES[at : at + 2] for at in range(0, len(_VERSES), 2)]
    taken = chance.sample(verses, 4)
    start = chance.randrange(2) * 4
    chorus = _CHORUS[start : start + 4]
    parts = (
        ("Verse 1", taken[0] + taken[1]), ("Chorus", chorus), ("Verse 2", taken[2] + taken[3]), ("Chorus", chorus),
        ("Bridge", _BRIDGE), ("Chorus", chorus), ("Outro", _ENDING),
    )  # fmt: skip
    text = "\n\n".join("\n".join([f"[{name}]", *[_line(line, names) for line in lines]]) for name, lines in parts)
    return Lyrics(title(prompt, seed), text, tags(prompt, seed))


def mashup(first: str, second: str, seed: int) -> Lyrics:
    """The parts of two lyrics in turn."""
    one, other = (re.split(r"\n\s*\n", text.strip()) for text in (first, second))
    mixed = [part for at in range(max(len(one), len(other))) for part in (*one[at : at + 1], *other[at : at + 1])]
    both = f"{first[:_PROMPT_MAX]} {second[:_PROMPT_MAX]}"
    return Lyrics(title(both, seed), "\n\n".join(part for part in mixed if part), tags(both, seed))


def title(prompt: str, seed: int) -> str:
    """Up to `TITLE_MAX` characters."""
    chance = Random(f"title {seed}")
    subjects = [_capital(one) for one in about(prompt)] or ["Harbour", "Light"]
    first = chance.choice(subjects)
    second = chance.choice([one for one in subjects if one != first] or ["Light"])
    return chance.choice(_TITLES).format_map({"a": first, "b": second})[:TITLE_MAX]


def tags(style: str, seed: int) -> tuple[str, ...]:
    """Three to five words of style: those the text names first."""
    chance = Random(f"tags {seed}")
    named = [tag for tag in _TAGS if tag in style.lower()]
    others = [tag for tag in _TAGS if tag not in named]
    return tuple((named + chance.sample(others, len(others)))[: chance.randint(3, 5)])


def style(prompt: str, seed: int) -> str:
    """A longer description of a style from a short one."""
    chance = Random(f"style {seed}")
    said = " ".join(prompt[:_PROMPT_MAX].split())
    tempo = chance.choice(("unhurried", "steady", "flowing", "lively"))
    sound = chance.choice(("warm bass and soft drums", "bright guitars and a clear beat", "wide strings over keys"))
    return ", ".join([*([said] if said else []), *tags(prompt, seed), f"{tempo} tempo", sound])


def about(prompt: str) -> list[str]:
    """What a prompt speaks of: its words but for the small ones, each once, in order, lower case unless it is a
    name; of a text without spaces between words, its first characters."""
    found: dict[str, str] = {}
    text = unicodedata.normalize("NFC", prompt[:_PROMPT_MAX].encode("utf-8", "replace").decode("utf-8"))
    for word in re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", text):
        key = word.casefold()
        if key not in _SMALL and (len(word) > 2 or not word.isascii()):
            found.setdefault(key, (word if word[1:] != word[1:].lower() else word.lower())[:_WORD_MAX])
    return list(found.values())[:WORDS_TAKEN_MAX]


def aligned(text: str, seconds: float, seed: int) -> list[dict[str, Any]]:
    """`{word, success, start_s, end_s, p_align}` for each word of a lyric sung over `seconds`, in order and without
    overlap; marks in brackets belong to the word behind them, line ends to the word before, as singers' files do."""
    chance = Random(f"aligned {seed}")
    words = _sung(text)
    weights = [
        1.0 + 0.35 * len(re.sub(r"\[[^\]]*\]|\s", "", word)) + (2.0 if "\n" in word else 0.0) for word in words
    ]
    lead, total = min(2.0, seconds * 0.08), sum(weights) or 1.0
    scale, at, found = (seconds - 2 * lead) / total, lead, []
    for word, weight in zip(words, weights, strict=True):
        end = at + weight * scale * (0.7 if "\n" in word else 0.94)
        found.append(
            {
                "word": word, "success": True, "start_s": round(at, 3), "end_s": round(end, 3),
                "p_align": round(chance.uniform(0.86, 0.999), 3),
            }
        )  # fmt: skip
        at += weight * scale
    return found


def _sung(text: str) -> Sequence[str]:
    words, marks = [], ""
    for piece in re.findall(r"\[[^\[\]\n]*\]\s*|[^\s\[]+\s*|\[", text):
        if piece.startswith("[") and "]" in piece:
            marks += piece
            continue
        end = "\n" if "\n" in piece else " "
        words.append(marks + piece.strip() + end)
        marks = ""
    if marks and words:
        words[-1] += marks
    return words


def _line(line: str, names: dict[str, str]) -> str:
    return _capital(line.format_map(names))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
