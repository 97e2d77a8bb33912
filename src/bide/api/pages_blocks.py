"""What a page of documentation consists of. A text is one paragraph in which only `code` is marked up."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Heading:
    """`level` 1 is the page's, 2 a service or a chapter, 3 what is in it. `anchor` names it in addresses."""

    level: int
    text: str
    anchor: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    text: str


@dataclass(frozen=True, slots=True)
class Bullets:
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """A table."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Code:
    title: str
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Routes:
    """Where an operation is; the first path is the one to use."""

    method: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of an index: where it leads, what it is called there, what that is."""

    anchor: str
    text: str
    summary: str


@dataclass(frozen=True, slots=True)
class Index:
    """Links to what is further down, in groups: the anchor and the title of each, and its lines."""

    groups: tuple[tuple[str, str, tuple[Entry, ...]], ...]


Block = Heading | Paragraph | Bullets | Grid | Code | Routes | Index


def anchor(*words: str) -> str:
    """`anchor("openai", "images/generations")` → `openai-images-generations`."""
    return "-".join(words).replace("/", "-")
