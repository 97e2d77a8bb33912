"""Rules between fields, and the check of a whole body made from fields and rules. Pure.

A rule's `when` names fields and patterns (`*` stands for any text): it holds when every field is there, by the
caller or by default, and matches one of its patterns. A boolean is compared as `true` or `false`, a number as it is
written, a file as `(file)`, a list by any of its items. `without` names fields that must not be there.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from bide.catalog.checks import ABSENT, compile_check, compile_test
from bide.catalog.fields import Bounds, Field, narrowed
from bide.catalog.sentences import allowed, shown
from bide.credits.jsonlogic import compile_logic, truthy
from bide.errors import BadRequest

Values = dict[str, Any]
Refusal = Callable[[Values], BadRequest | None]

FILE = "(file)"

_SPECIAL = re.compile(r"[\\^$.|?*+()\[\]{}/]")


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """While `when` holds: what a field is that was left out (`default`) or whatever was sent (`force`), narrower
    bounds (`set`), needed fields (`require`, `require_one`), or a no (`message`), the last where `refuse`, JsonLogic
    over the values, holds too. Defaults and forces come first, in the order of the rules."""

    when: dict[str, tuple[str, ...]] = {}
    without: tuple[str, ...] = ()
    default: dict[str, Any] = {}
    force: dict[str, Any] = {}
    set: dict[str, Bounds] = {}
    require: tuple[str, ...] = ()
    require_one: tuple[str, ...] = ()
    refuse: dict[str, Any] = {}
    message: str = ""


def names(rule: Rule) -> set[str]:
    """All fields a rule speaks of. Raises `LogicError` for a wrong `refuse`."""
    of_logic = compile_logic(rule.refuse).names if rule.refuse else ()
    return {*rule.when, *rule.without, *rule.default, *rule.force, *rule.set, *rule.require, *rule.require_one,
            *of_logic}  # fmt: skip


def pattern(globs: Sequence[str]) -> str:
    """The regular expression (Python's and JSON Schema's) of values that match one of the patterns."""
    return f"^({'|'.join(_SPECIAL.sub(_escape, glob) for glob in globs)})$"


def _escape(found: re.Match[str]) -> str:
    return ".*" if found[0] == "*" else "\\" + found[0]


def condition(
    when: Mapping[str, Sequence[str]], without: Sequence[str] = ()
) -> Callable[[Mapping[str, Any]], bool]:
    """The test whether values meet a `when`, and lack what they must be `without`."""
    parts = [(name, re.compile(pattern(globs)).search) for name, globs in when.items()]

    def holds(values: Mapping[str, Any]) -> bool:
        for name, search in parts:
            value = values.get(name)
            if value is None:
                return False
            if value.__class__ is list:
                if not any(search(_text(item)) for item in value):
                    return False
            elif not search(value if value.__class__ is str else _text(value)):
                return False
        return True

    if without:
        return lambda values: holds(values) and all(values.get(name) is None for name in without)
    return holds


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return FILE if isinstance(value, dict) else str(value)


def compile_body(
    fields: Mapping[str, Field], rules: Sequence[Rule], *, form: bool
) -> Callable[[Mapping[str, Any]], Values]:
    """The check of a body: what is in `fields`, as the provider wants it; unknown fields are left aside."""
    checks = {name: compile_check(name, field, form=form) for name, field in fields.items()}
    aliases = [(alias, name) for name, field in fields.items() for alias in field.aliases]
    checks |= {alias: compile_check(alias, fields[name], form=form) for alias, name in aliases}
    defaults = {name: field.default for name, field in fields.items() if field.default is not None}
    required = [(name, allowed(field)) for name, field in fields.items() if field.required]
    changes = [_change(rule) for rule in rules if rule.default or rule.force]
    limits = _limits(rules, fields)
    refusals = [refusal for rule in rules for refusal in _refusals(rule)]

    def check(body: Mapping[str, Any]) -> Values:
        values = defaults.copy()
        for name, value in body.items():
            if name in checks:
                value = checks[name](value)
                if value is not ABSENT:
                    values[name] = value
        for alias, name in aliases:
            if alias in values:
                value = values.pop(alias)
                if body.get(name) is None:
                    values[name] = value
        for name, words in required:
            if name not in values:
                raise BadRequest(f"`{name}` is missing; it must be {words}")
        for change in changes:
            change(values)
        for name, its_limits in limits:
            if name in values:
                value = values[name]
                for test, holds, refuse in its_limits:  # most values pass the test, so few conditions are asked
                    if not test(value) and holds(values):
                        raise refuse(values)
        for refusal in refusals:
            if (error := refusal(values)) is not None:
                raise error
        return values

    return check


def _change(rule: Rule) -> Callable[[Values], None]:
    holds = condition(rule.when, rule.without)

    def change(values: Values) -> None:
        if holds(values):
            for name, value in rule.default.items():
                values.setdefault(name, value)
            values.update(rule.force)

    return change


Limit = tuple[Callable[[Any], bool], Callable[[Values], bool], Callable[[Values], BadRequest]]


def _limits(rules: Sequence[Rule], fields: Mapping[str, Field]) -> list[tuple[str, list[Limit]]]:
    """The narrower bounds of all rules, by field."""
    limits: dict[str, list[Limit]] = {}
    for rule in rules:
        for name, bounds in rule.set.items():
            test = compile_test(fields[name].type, bounds)
            words = allowed(narrowed(fields[name], bounds))
            holds = condition(rule.when, rule.without)
            limits.setdefault(name, []).append((test, holds, partial(_refuse, name, rule, words)))
    return list(limits.items())


def _refuse(name: str, rule: Rule, words: str, values: Values) -> BadRequest:
    because = _because(rule, values)
    return BadRequest(f"`{name}` is {shown(values[name])}; {because + ' ' if because else ''}it must be {words}")


def _refusals(rule: Rule) -> list[Refusal]:
    holds = condition(rule.when, rule.without)
    made = [_needed((name,), rule, holds) for name in rule.require]
    if rule.require_one:
        made.append(_needed(rule.require_one, rule, holds))
    if rule.message:
        run = compile_logic(rule.refuse).run if rule.refuse else None
        made.append(
            lambda values: BadRequest(rule.message)
            if holds(values) and (run is None or truthy(run(values))) else None
        )  # fmt: skip
    return made


def _needed(wanted: tuple[str, ...], rule: Rule, holds: Callable[[Values], bool]) -> Refusal:
    listed = " or ".join(f"`{name}`" for name in wanted)

    def refusal(values: Values) -> BadRequest | None:
        if any(name in values for name in wanted) or not holds(values):
            return None
        return BadRequest(f"{listed} is missing; {_because(rule, values)} it is needed".replace(";  it", "; it"))

    return refusal


def _because(rule: Rule, values: Values) -> str:
    """`with `action` "extend" and without `image_urls``; empty where a rule always holds."""
    given = " and ".join(f"`{name}` {shown(values[name])}" for name in rule.when)
    lacking = " and ".join(f"without `{name}`" for name in rule.without)
    return " and ".join(part for part in (f"with {given}" if given else "", lacking) if part)


# -- forms


def without_brackets(form: Mapping[str, Any]) -> dict[str, Any]:
    """A form with `image[]` (the spelling of lists in some clients) merged into `image`."""
    if not any(name.endswith("[]") for name in form):
        return dict(form)
    merged: dict[str, Any] = {}
    for name, value in form.items():
        plain = name.removesuffix("[]")
        if plain in merged or plain != name:
            value = [*_as_list(merged.get(plain, [])), *_as_list(value)]
        merged[plain] = value
    return merged


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
