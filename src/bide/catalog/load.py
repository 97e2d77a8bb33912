"""The catalogue: what is sold, read from one TOML file per service.

The files of the package (`catalog/services/*.toml`) come first, then those of further directories. A file is
checked as strictly as a program: an unknown key, a bound that does not fit its type, a rule about a field that
does not exist or a path that is taken means no start, in a sentence that names the file and the place.

    name, title, summary        the service; `name` is its URL prefix
    [type_groups]               name of a task filter → the task types it stands for
    [fields.NAME]               fields that operations name in `shared` (see `bide.catalog.fields.Field`)
    [[rules.GROUP]]             rules that operations name in `rules` (see `bide.catalog.rules.Rule`)
    [[answers]]                 what differs in the public answer for some requests (see `Answer`)
    [operations."PATH"]         see `OperationEntry`
    [operations."PATH".fields.NAME]

Fields every service has (`callback_url`, `async`, `trace_id`, `stream`) are in `catalog/common.toml`.
"""

import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from bide.catalog.fields import FORM_TYPES, Bounds, Field, compile_check, unfit_bounds
from bide.catalog.rules import Rule, Values, compile_body, condition, names
from bide.errors import BadRequest, GatewayError

MOUNTS = ("", "/v1")
"""Every path of a service exists bare and below `/v1` (both forms are in use by clients)."""

Accepts = Literal["json", "multipart"]
Shape = Literal["openai_images"]

_Name = Annotated[str, msgspec.Meta(pattern="^[a-z0-9][a-z0-9_-]*$")]
_Path = Annotated[str, msgspec.Meta(pattern="^[a-z0-9_-]+(/[a-z0-9_-]+)*$")]
_Alias = Annotated[str, msgspec.Meta(pattern="^(/[a-z0-9_-]+)+$")]
_Uuid = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
_Seconds = Annotated[float, msgspec.Meta(gt=0)]
_T = TypeVar("_T")


class CatalogError(GatewayError):
    """A catalogue file that is wrong, in one sentence that names the file and the place."""


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """For requests that match `when`: fixed values of the public answer, and fields of each item that repeat a
    field of the request."""

    when: dict[str, tuple[str, ...]]
    set: dict[str, Any] = {}
    items: dict[str, str] = {}


class OperationEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `[operations."PATH"]` table without its fields."""

    type: _Name
    """The public task type."""
    api_id: _Uuid
    title: str
    summary: str
    capability: str
    """What a channel must be able to do: `image.generate`, `image.edit`, …"""
    shape: Shape
    """How the public answer is built (`bide.catalog.shape`)."""
    inline: bool
    """Whether the caller waits unless it asks otherwise."""
    inline_stored: bool
    """Whether a call that waited leaves a task that can be queried."""
    run_s_max: _Seconds
    expected_s: _Seconds
    """Seconds it usually takes: a hint for how often to poll."""
    callback: Literal["flat", "nested"] = "flat"
    """`nested`: the setting `callback_shape` decides; `flat`: always the same body as the task's response."""
    stream_prefix: str = ""
    """First part of the event names of a streamed answer; empty: no streaming."""
    accepts: tuple[Accepts, ...] = ("json",)
    aliases: tuple[_Alias, ...] = ()
    """Further public paths."""
    common: tuple[str, ...] = ("callback_url", "async", "trace_id")
    shared: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()


class ServiceEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One file; fields, rules and operations are read one by one, so that an error can name them."""

    name: _Name
    title: str
    summary: str
    operations: Annotated[dict[_Path, dict[str, Any]], msgspec.Meta(min_length=1)]
    type_groups: dict[_Name, tuple[str, ...]] = {}
    fields: dict[str, dict[str, Any]] = {}
    rules: dict[str, list[dict[str, Any]]] = {}
    answers: tuple[Answer, ...] = ()


@dataclass(frozen=True, eq=False)
class Operation:
    """One thing a service does: what the entry says, all public paths, and the checks made from its fields."""

    service: str
    path: str
    entry: OperationEntry
    fields: Mapping[str, Field]
    rules: tuple[Rule, ...]
    paths: tuple[str, ...]
    checks: Mapping[Accepts, Callable[[Mapping[str, Any]], Values]]
    gateway: frozenset[str]
    """Fields that no provider sees."""
    answers: tuple[tuple[Callable[[Mapping[str, Any]], bool], Answer], ...]

    @property
    def key(self) -> str:
        """`openai/images/generations`: the name of the operation in rows and logs."""
        return f"{self.service}/{self.path}"

    @property
    def type(self) -> str:
        return self.entry.type

    @property
    def capability(self) -> str:
        return self.entry.capability

    def check(self, body: Mapping[str, Any], *, form: bool = False) -> Values:
        """The values of a body in their types, with defaults; `body` itself is not changed.

        In a form every value is a text, a file (see `bide.catalog.fields`) or a list of those, and `image[]` is
        the same as `image`. Raises `BadRequest` with one sentence about the first thing that is wrong.
        """
        if not form:
            return self.checks["json"](body)
        if "multipart" not in self.checks:
            raise BadRequest("this operation takes a JSON body, not multipart/form-data")
        return self.checks["multipart"](without_brackets(body))

    def for_provider(self, values: Values) -> Values:
        """The values without what is for the gateway itself."""
        return {name: value for name, value in values.items() if name not in self.gateway}

    def answer_for(self, values: Mapping[str, Any]) -> Answer | None:
        """What differs in the public answer to this request, if anything does."""
        return next((answer for holds, answer in self.answers if holds(values)), None)


@dataclass(frozen=True, eq=False)
class Service:
    """What is sold under one URL prefix."""

    name: str
    title: str
    summary: str
    operations: Mapping[str, Operation]
    type_groups: Mapping[str, tuple[str, ...]]
    tasks_paths: tuple[str, ...]

    def types(self, wanted: str) -> tuple[str, ...]:
        """The task types that a `type` filter stands for; an unknown one stands for itself."""
        return self.type_groups.get(wanted, (wanted,))


@dataclass(frozen=True, eq=False)
class Catalog:
    """All services, and what each public path leads to."""

    services: Mapping[str, Service]
    by_path: Mapping[str, Operation]
    tasks_paths: Mapping[str, Service]

    def operation(self, service: str, path: str) -> Operation:
        """The operation a row names. `KeyError` if the catalogue has it no longer."""
        return self.services[service].operations[path]


def load(directories: Iterable[Path] = ()) -> Catalog:
    """The catalogue of the package and of `directories`. Raises `CatalogError`."""
    common = _fields("common.toml", "", _toml("common.toml", _package("common.toml")).get("fields", {}))
    services: dict[str, Service] = {}
    by_path: dict[str, Operation] = {}
    tasks_paths: dict[str, Service] = {}
    api_ids: dict[str, str] = {}
    for file, text in _files(directories):
        service = _service(file, text, common)
        if service.name in services:
            raise CatalogError(f"{file}: the service {service.name!r} is there already")
        services[service.name] = service
        tasks_paths |= dict.fromkeys(service.tasks_paths, service)
        for operation in service.operations.values():
            if (other := api_ids.setdefault(operation.entry.api_id, operation.key)) != operation.key:
                raise CatalogError(f"{file}: {operation.path}: its api_id is that of {other}")
            for path in operation.paths:
                if by_path.setdefault(path, operation) is not operation or path in tasks_paths:
                    raise CatalogError(f"{file}: {operation.path}: the path {path} is taken")
    return Catalog(
        services=MappingProxyType(services),
        by_path=MappingProxyType(by_path),
        tasks_paths=MappingProxyType(tasks_paths),
    )


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


# -- reading the files


def _package(name: str) -> str:
    return (resources.files("bide.catalog") / name).read_text("utf-8")


def _files(directories: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """File name and text of every service file, the package's first, each directory in order of names."""
    own = (entry for entry in resources.files("bide.catalog").joinpath("services").iterdir())
    for entry in sorted((entry for entry in own if entry.name.endswith(".toml")), key=lambda entry: entry.name):
        yield entry.name, entry.read_text("utf-8")
    for directory in directories:
        if not directory.is_dir():
            raise CatalogError(f"{directory}: there is no such directory")
        for path in sorted(directory.glob("*.toml")):
            try:
                yield str(path), path.read_text("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise CatalogError(f"{path}: {error}") from None


def _toml(file: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CatalogError(f"{file}: {error}") from None


def _convert(file: str, place: str, value: Any, kind: type[_T]) -> _T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise CatalogError(f"{file}: {place + ': ' if place else ''}{error}") from None


def _service(file: str, text: str, common: Mapping[str, Field]) -> Service:
    entry = _convert(file, "", _toml(file, text), ServiceEntry)
    shared = _fields(file, "", entry.fields)
    rules = {
        group: tuple(_convert(file, f"rules.{group}[{at}]", one, Rule) for at, one in enumerate(listed))
        for group, listed in entry.rules.items()
    }
    more = (shared, common)
    operations = {
        path: _operation(file, entry, path, table, more, rules) for path, table in entry.operations.items()
    }
    known = {operation.type for operation in operations.values()}
    for group, types in entry.type_groups.items():
        if unknown := sorted(set(types) - known):
            raise CatalogError(f"{file}: type_groups.{group}: no operation has the type {unknown[0]!r}")
    return Service(
        name=entry.name, title=entry.title, summary=entry.summary,
        operations=MappingProxyType(operations), type_groups=MappingProxyType(entry.type_groups),
        tasks_paths=tuple(f"{mount}/{entry.name}/tasks" for mount in MOUNTS),
    )  # fmt: skip


def _operation(
    file: str, service: ServiceEntry, path: str, table: dict[str, Any],
    more: tuple[Mapping[str, Field], Mapping[str, Field]], rules: Mapping[str, tuple[Rule, ...]],
) -> Operation:  # fmt: skip
    place = f'operations."{path}"'
    table = dict(table)
    own = _convert(file, f"{place}.fields", table.pop("fields", {}), dict[str, dict[str, Any]])
    fields = _fields(file, place, own)
    entry = _convert(file, place, table, OperationEntry)
    for names_, source, what in ((entry.shared, more[0], "shared field"), (entry.common, more[1], "common field")):
        for name in names_:
            if name not in source:
                raise CatalogError(f"{file}: {place}: there is no {what} {name!r}")
            fields.setdefault(name, source[name])
    own_rules: list[Rule] = []
    for group in entry.rules:
        if group not in rules:
            raise CatalogError(f"{file}: {place}: there is no group of rules {group!r}")
        own_rules += rules[group]
    for rule in own_rules:
        _check_rule(file, place, rule, fields)
    if "multipart" in entry.accepts:
        for name, field in fields.items():
            if field.type not in FORM_TYPES:
                raise CatalogError(f"{file}: {place}: field {name!r}: a form cannot hold the type {field.type}")
    for answer in service.answers:
        if unknown := sorted({*answer.when, *answer.items.values()} - set(fields)):
            raise CatalogError(f"{file}: answers: {path} has no field {unknown[0]!r}")
    return Operation(
        service=service.name, path=path, entry=entry, fields=MappingProxyType(fields), rules=tuple(own_rules),
        paths=(*(f"{mount}/{service.name}/{path}" for mount in MOUNTS), *entry.aliases),
        checks={one: compile_body(fields, own_rules, form=one == "multipart") for one in entry.accepts},
        gateway=frozenset(name for name, field in fields.items() if field.gateway),
        answers=tuple((condition(answer.when), answer) for answer in service.answers),
    )  # fmt: skip


def _fields(file: str, place: str, tables: Mapping[str, dict[str, Any]]) -> dict[str, Field]:
    fields = {}
    for name, table in tables.items():
        where = f"{place}.fields.{name}".removeprefix(".")
        field = _convert(file, where, table, Field)
        if unfit := unfit_bounds(field, field.type):
            raise CatalogError(f"{file}: {where}: {unfit[0]!r} means nothing for the type {field.type}")
        for what, value in (("default", field.default), ("assumed", field.assumed), ("example", field.example)):
            _check_value(file, f"{where}.{what}", name, field, value)
        for value in field.suggest:
            _check_value(file, f"{where}.suggest", name, field, value)
        fields[name] = field
    return fields


def _check_value(file: str, where: str, name: str, field: Field, value: Any) -> None:
    """What the catalogue itself says of a field must pass the field's own check."""
    if value is None or field.form_only:
        return
    try:
        compile_check(name, field, form=False)(value)
    except BadRequest as error:
        raise CatalogError(f"{file}: {where}: {error}") from None


def _check_rule(file: str, place: str, rule: Rule, fields: Mapping[str, Field]) -> None:
    if unknown := sorted(names(rule) - set(fields)):
        raise CatalogError(f"{file}: {place}: a rule names the field {unknown[0]!r}, which is not there")
    if not (rule.set or rule.require or rule.require_one or rule.message):
        raise CatalogError(f"{file}: {place}: a rule does nothing")
    for name, bounds in rule.set.items():
        if unfit := unfit_bounds(bounds, fields[name].type):
            raise CatalogError(
                f"{file}: {place}: a rule sets {unfit[0]!r} of {name!r}, which means nothing for its type"
            )
        if bounds == Bounds():
            raise CatalogError(f"{file}: {place}: a rule sets nothing of {name!r}")
