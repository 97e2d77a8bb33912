"""Blocks as one HTML page that needs nothing else: no script, no other file. Whatever a text holds is escaped."""

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources

from bide.api.pages_blocks import Block, Bullets, Code, Entry, Grid, Heading, Index, Paragraph, Routes

_STYLE = resources.files("bide.api").joinpath("pages.css").read_text("utf-8")
_END = "</ul></li>\n"
_CODE = re.compile(r"`([^`]*)`")

STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
"""For the content policy: no other style is applied."""


def page(title: str, blocks: Sequence[Block]) -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#top">To the content</a>\n'
        '<p class="bar"><a class="brand" href="#top">bide</a> <a class="menu" href="#contents">Contents</a></p>\n'
        '<nav id="contents" aria-label="Contents">\n<a class="close" href="#top">Close</a>\n'
        f"{_contents(blocks)}</nav>\n"
        f'<main id="top">\n{_body(blocks)}</main>\n</body>\n</html>\n'
    )


def _contents(blocks: Iterable[Block]) -> str:
    """Links to all headings, those of the third level below those of the second."""
    lines: list[str] = ["<ul>\n"]
    is_open = False
    for block in blocks:
        if not isinstance(block, Heading):
            continue
        link = f'<a href="#{escape(block.anchor)}">{_inline(block.text)}</a>'
        if block.level == 1:
            lines.append(f'<li class="brand">{link}</li>\n')
        elif block.level == 2:
            lines.append(f"{_END if is_open else ''}<li>{link}<ul>\n")
            is_open = True
        else:
            lines.append(f"<li>{link}</li>\n")
    return "".join(lines) + (_END if is_open else "") + "</ul>\n"


def _body(blocks: Iterable[Block]) -> str:
    return "\n".join(_block(one) for one in blocks) + "\n"


def _block(block: Block) -> str:
    match block:
        case Heading():
            anchor = escape(block.anchor)
            return (
                f'<h{block.level} id="{anchor}">{_inline(block.text)}'
                f' <a class="here" href="#{anchor}" aria-label="Link to this heading">#</a></h{block.level}>'
            )
        case Paragraph():
            return f"<p>{_inline(block.text)}</p>"
        case Bullets():
            return "<ul>" + "".join(f"<li>{_inline(one)}</li>" for one in block.items) + "</ul>"
        case Grid():
            return _grid(block)
        case Index():
            return "\n".join(_group(*one) for one in block.groups)
        case Code():
            return (
                f'<figure class="{escape(block.language)}"><figcaption>{_inline(block.title)}</figcaption>'
                f'<pre tabindex="0"><code class="language-{escape(block.language)}">{escape(block.text.rstrip())}'
                "</code></pre></figure>"
            )
        case Routes():
            first, *others = (escape(path) for path in block.paths)
            listed = ", ".join(f"<code>{one}</code>" for one in others)
            also = f'<span class="also">also {listed}</span>' if others else ""
            return (
                f'<p class="route"><span class="method">{escape(block.method)}</span> <code>{first}</code> {also}</p>'
            )


def _grid(grid: Grid) -> str:
    """Each cell says of which column it is: where there is no room for columns, the cells stand below each other."""
    head = "".join(f'<th scope="col">{_inline(cell)}</th>' for cell in grid.head)
    names = [escape(cell.replace("`", "")) for cell in grid.head]
    rows = "\n".join(
        "<tr>"
        + "".join(f'<td data-of="{name}">{_inline(cell)}</td>' for name, cell in zip(names, row, strict=True))
        + "</tr>"
        for row in grid.rows
    )
    return (
        f'<div class="grid of{len(names)}" tabindex="0"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody>\n</table></div>"
    )


def _group(anchor: str, title: str, entries: Iterable[Entry]) -> str:
    lines = "\n".join(
        f'<li><a href="#{escape(one.anchor)}">{_inline(one.text)}</a> <span>{_inline(one.summary)}</span></li>'
        for one in entries
    )
    return (
        f'<section class="index"><p><a href="#{escape(anchor)}">{_inline(title)}</a></p>\n'
        f"<ul>\n{lines}\n</ul></section>"
    )


def _inline(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text))
