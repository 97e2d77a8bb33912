"""Blocks as one HTML page that needs nothing else: no script, no other file. Whatever a text holds is escaped."""

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources

from bide.api.pages_blocks import Block, Bullets, Code, Grid, Heading, Paragraph, Routes

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
        f'<a class="skip" href="#top">To the content</a>\n<nav aria-label="Contents">\n{_contents(blocks)}</nav>\n'
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
            head = "".join(f'<th scope="col">{_inline(cell)}</th>' for cell in block.head)
            rows = "\n".join(f"<tr>{''.join(f'<td>{_inline(cell)}</td>' for cell in row)}</tr>" for row in block.rows)
            return (
                f'<div class="grid" tabindex="0"><table>\n<thead><tr>{head}</tr></thead>\n'
                f"<tbody>\n{rows}\n</tbody>\n</table></div>"
            )
        case Code():
            return (
                f'<figure><figcaption>{_inline(block.title)}</figcaption>'
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


def _inline(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text))
