"""Blocks as Markdown. Texts of the catalogue cannot become anything but text: no tag, no table cell, no heading."""

import re
from collections.abc import Iterable

from bide.api.pages_blocks import Block, Bullets, Code, Grid, Heading, Index, Paragraph, Routes

_CODE = re.compile(r"(`[^`]*`)")


def page(blocks: Iterable[Block]) -> str:
    return "\n\n".join(_block(one) for one in blocks) + "\n"


def _block(block: Block) -> str:
    match block:
        case Heading():
            return f"{'#' * block.level} {_line(block.text)}"
        case Paragraph():
            return _line(block.text)
        case Bullets():
            return "\n".join(f"- {_line(one)}" for one in block.items)
        case Grid():
            lines = [block.head, ("---",) * len(block.head), *block.rows]
            return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)
        case Code():
            fence = "`" * max(3, 1 + max((len(one) for one in re.findall("`+", block.text)), default=0))
            return f"{_line(block.title)}:\n\n{fence}{block.language}\n{block.text.rstrip()}\n{fence}"
        case Index():
            return "\n\n".join(
                f"**{_line(title)}**\n\n" + "\n".join(f"- {_line(one.text)}: {_line(one.summary)}" for one in entries)
                for _, title, entries in block.groups
            )
        case Routes():
            first, *others = (f"`{_line(f'{block.method} {path}'.replace('`', ''))}`" for path in block.paths)
            return first + (f", also {', '.join(others)}" if others else "")


def _line(text: str) -> str:
    """On one line, with no tag in it outside of code."""
    parts = _CODE.split(" ".join(text.split()))
    return "".join(part if part.startswith("`") else part.replace("<", "\\<") for part in parts)


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")
