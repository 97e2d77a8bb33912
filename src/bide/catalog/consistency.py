"""What one catalogue file says, held against itself: bounds that fit their type, examples that pass their own check,
rules and names that speak of something. Every function raises `CatalogError`, which names the file and the place.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from bide.catalog.checks import FORM_TYPES, compile_check
from bide.catalog.entries import OperationEntry
from bide.catalog.fields import ITEMS, Bounds, Field, unfit_bounds
from bide.catalog.files import CatalogError, convert
from bide.catalog.rules import Rule, names
from bide.credits.jsonlogic import LogicError
from bide.errors import BadRequest


def read_fields(file: str, place: str, tables: Mapping[str, dict[str, Any]]) -> dict[str, Field]:
    fields = {}
    for name, table in tables.items():
        where = f"{place}.fields.{name}".removeprefix(".")
        field = convert(file, where, table, Field)
        if unfit := unfit_bounds(field, field.type):
            raise CatalogError(f"{file}: {where}: {unfit[0]!r} means nothing for the type {field.type}")
        for what, value in (("default", field.default), ("assumed", field.assumed), ("example", field.example)):
            check_value(file, f"{where}.{what}", name, field, value)
        for value in field.suggest:
            check_value(file, f"{where}.suggest", name, field, value)
        fields[name] = field
    return fields


def check_value(file: str, where: str, name: str, field: Field, value: Any) -> None:
    """What the catalogue itself says of a field must pass the field's own check."""
    if value is None or field.form_only:
        return
    try:
        compile_check(name, field, form=False)(value)
    except BadRequest as error:
        raise CatalogError(f"{file}: {where}: {error}") from None


def check_rule(file: str, place: str, rule: Rule, fields: Mapping[str, Field]) -> None:
    try:
        named = names(rule)
    except LogicError as error:
        raise CatalogError(f"{file}: {place}: a rule's `refuse`: {error}") from None
    if unknown := sorted(named - set(fields)):
        raise CatalogError(f"{file}: {place}: a rule names the field {unknown[0]!r}, which is not there")
    if not (rule.set or rule.require or rule.require_one or rule.message or rule.default or rule.force):
        raise CatalogError(f"{file}: {place}: a rule does nothing")
    if rule.refuse and not rule.message:
        raise CatalogError(f"{file}: {place}: a rule refuses without a `message`")
    for name, value in (*rule.default.items(), *rule.force.items()):
        check_value(file, f"{place}: a rule", name, fields[name], value)
    for name, bounds in rule.set.items():
        if unfit := unfit_bounds(bounds, fields[name].type):
            raise CatalogError(
                f"{file}: {place}: a rule sets {unfit[0]!r} of {name!r}, which means nothing for its type"
            )
        if bounds == Bounds():
            raise CatalogError(f"{file}: {place}: a rule sets nothing of {name!r}")


def check_names(file: str, place: str, fields: Mapping[str, Field]) -> None:
    """A spelling stands for one field, and what a field may name is something that operations make."""
    taken = set(fields)
    for name, field in fields.items():
        for alias in field.aliases:
            if alias in taken:
                raise CatalogError(f"{file}: {place}: field {name!r}: the alias {alias!r} is taken")
            taken.add(alias)
        if field.type in ITEMS and not field.kind:
            raise CatalogError(f"{file}: {place}: field {name!r}: it has no `kind`")


def check_entry(file: str, place: str, entry: OperationEntry, fields: Mapping[str, Field]) -> None:
    """What an operation says of its fields and of its answer is about ones that are there."""
    if "multipart" in entry.accepts:
        for name, field in fields.items():
            if field.type not in FORM_TYPES:
                raise CatalogError(f"{file}: {place}: field {name!r}: a form cannot hold the type {field.type}")
    if entry.answer and entry.shape != "template":
        raise CatalogError(f"{file}: {place}: `answer` means nothing for the shape {entry.shape}")
    named = {*entry.becomes, *(name for one in entry.abilities for name in one.when), entry.run_s_field} - {""}
    if strange := sorted(named - set(fields)):
        raise CatalogError(f"{file}: {place}: it has no field {strange[0]!r}")
    if entry.status_in and entry.status_in not in entry.top:
        raise CatalogError(f"{file}: {place}: status_in: `top` has no {entry.status_in!r}")
    if unknown := sorted(set(entry.top) - {*entry.answer, "success", "error"}):
        raise CatalogError(f"{file}: {place}: top: the answer has no key {unknown[0]!r}")


def check_used(file: str, what: str, there: Iterable[str], used: set[str]) -> None:
    if unused := sorted(set(there) - used):
        raise CatalogError(f"{file}: {what}.{unused[0]}: no operation names it")
