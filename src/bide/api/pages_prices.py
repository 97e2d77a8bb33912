"""What an operation costs, in words: the price rules that the management API shows, as a table. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bide.api.pages_blocks import Block, Grid, Paragraph
from bide.catalog.load import Operation

_SIGNS: Mapping[str, str] = {"*": " × ", "/": " ÷ ", "+": " + ", "-": " − "}
_COMPARED: Mapping[str, str] = {
    "==": "is", "===": "is", "!=": "is not", "!==": "is not",
    "<": "is less than", "<=": "is at most", ">": "is more than", ">=": "is at least",
}  # fmt: skip


def prices(operation: Operation) -> list[Block]:
    """The rules that are not hidden, in the order in which they are asked."""
    shown = operation.prices_shown
    if not shown:
        return [Paragraph("No price is published for it. `dry_run` answers what a request costs.")]
    rows = tuple(
        (_cost(rule), str(rule.get("remark", "")), _when(rule["conditions"], at)) for at, rule in enumerate(shown)
    )
    return [
        Paragraph(
            "What it costs, in credits." + (" The first line that fits a request counts." if len(rows) > 1 else "")
            + " Only what succeeded is charged."
        ),
        Grid(("credits", "for", "when"), rows),
    ]  # fmt: skip


def _cost(rule: Mapping[str, Any]) -> str:
    """`0.4 × duration` where a field says how many units are asked for."""
    cost = _said(rule["consumption"], inside=bool(rule.get("per")))
    return f"{cost} × `{rule['per']}`" if rule.get("per") else cost


def _when(conditions: Any, at: int) -> str:
    if conditions:
        return _said(conditions)
    return "otherwise" if at else "always"


def _said(logic: Any, *, inside: bool = False) -> str:
    """JsonLogic in words; whatever has none is shown as it is. `inside`: it is a part of something longer."""
    match next(iter(logic.items())) if isinstance(logic, dict) and len(logic) == 1 else logic:
        case "var", str(name) | [str(name), *_]:
            return f"`{name}`"
        case "*" | "/" | "+" | "-" as sign, [_, _, *_] as parts:
            return _closed(_SIGNS[sign].join(_said(one, inside=True) for one in parts), inside)
        case "and" | "or" as word, [_, *_] as parts:
            return _closed(f" {word} ".join(_said(one, inside=True) for one in parts), inside and len(parts) > 1)
        case "!", [one]:
            text = _said(one)
            return f"not {_closed(text, ' ' in text)}"
        case "if", [condition, then, *rest]:
            other = {"if": rest} if len(rest) > 1 else rest[0] if rest else 0
            return _closed(f"{_said(then)} if {_said(condition)}, else {_said(other)}", inside)
        case "in", [value, [_, *_] as values]:
            return f"{_said(value)} is {_either(values)}"
        case str(sign), [one, other] if sign in _COMPARED:
            return f"{_said(one, inside=True)} {_COMPARED[sign]} {_value(other)}"
        case bool():
            return f"`{json.dumps(logic)}`"
        case int() | float():
            return f"{logic:,}" if isinstance(logic, int) else f"{logic:.6f}".rstrip("0").rstrip(".")
    return f"`{json.dumps(logic, ensure_ascii=False)}`"


def _closed(text: str, inside: bool) -> str:
    return f"({text})" if inside else text


def _value(other: Any) -> str:
    """What something is compared with: a text as it is written, anything else in words."""
    return f"`{other}`" if isinstance(other, str) else _said(other, inside=True)


def _either(values: Sequence[Any]) -> str:
    *first, last = (_value(one) for one in values)
    return f"{', '.join(first)} or {last}" if first else last
