"""The catalogue: what is sold, read from one TOML file per service.

The files of the package (`catalog/services/*.toml`) come first, then those of the operator. A file whose `name` is
there already changes that service: a group of prices, a class of limits, an operation or a field of it replaces the
one of the same name, anything else the whole. A file is checked as strictly as a program: an unknown key, a bound
that does not fit its type, a rule about a field that does not exist or a path that is taken means no start, in a
sentence that names the file and the place. A table of an operation without a `type` changes keys of the one there:
`[operations."extend"]` with `enabled = true` switches on what the package knows and does not offer.

    name, title, summary        the service; `name` is its URL prefix
    [type_groups]               name of a task filter → the task types it stands for
    [fields.NAME]               fields that operations name in `shared` (see `bide.catalog.fields.Field`)
    [[rules.GROUP]]             rules that operations name in `rules` (see `bide.catalog.rules.Rule`)
    [[prices.GROUP]]            price rules that an operation names in `prices` (see `bide.catalog.prices.PriceRule`)
    free, free_amount           whether what no price rule speaks of costs nothing; credits for a new subscriber
    [limits.CLASS]              limits that an operation names in `limits` (see `Limits`)
    polls_per_s                 how often a credential may ask for tasks of the service
    [[answers]]                 what differs in an answer for some requests (see `bide.catalog.entries.Answer`)
    [operations."PATH"]         see `bide.catalog.entries.OperationEntry`
    [operations."PATH".fields.NAME]

Fields every service has (`callback_url`, `async`, `trace_id`, `dry_run`, `stream`) are in `catalog/common.toml`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from bide.catalog import chat
from bide.catalog.consistency import check_entry, check_names, check_rule, check_used, read_fields
from bide.catalog.entries import Accepts, Answer, OperationEntry, ServiceEntry
from bide.catalog.fields import ITEMS, Field
from bide.catalog.files import CatalogError, convert, of_package, tables_of, toml, waiting
from bide.catalog.prices import PriceError, PriceRule, Pricing, compile_prices, nothing, shown_rule
from bide.catalog.rules import Rule, Values, compile_body, condition, pattern, without_brackets
from bide.catalog.sentences import shown
from bide.catalog.template import Table, TemplateError, parse
from bide.credits.pricing import Price, micro
from bide.errors import BadRequest, NotImplementedHere
from bide.settings import Settings

_T = TypeVar("_T")

MOUNTS = ("", "/v1")
"""Every path of a service exists bare and below `/v1` (both forms are in use by clients)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one credential may do with the operations of a class. 0 means no limit."""

    submits_per_s: float
    concurrent: int
    """Tasks that are not finished."""


DEFAULT_LIMITS = Limits(submits_per_s=60.0, concurrent=0)
"""For the class `default` of a service that does not define it: the rate published for any synchronous endpoint,
and no bound on open tasks, which differs too much between services to guess."""


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
    abilities: tuple[tuple[Callable[[Mapping[str, Any]], bool], str], ...]
    pricing: Pricing
    prices_shown: tuple[dict[str, Any], ...]
    """The price rules that are not hidden, in their order, as JSON data."""
    limits: Limits
    template: Table
    listed: Table
    """How a persona is shown in the list of them; empty: it lists none."""
    pictures: tuple[str, ...]
    """Fields whose values are or hold pictures, or sounds, for the provider: files, or addresses to fetch."""
    addresses: tuple[str, ...]
    """Fields whose values may be or hold addresses of callers: to fetch here, or for an upstream to fetch."""
    items: tuple[str, ...]
    """Fields that name what was made before."""
    headers: tuple[tuple[str, bytes], ...]
    """Fields that a header says where the body does not, and that header."""

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

    @property
    def limit_class(self) -> str:
        return self.entry.limits

    def capability_for(self, values: Mapping[str, Any]) -> str:
        """What a channel must be able to do for a request."""
        return next((capability for holds, capability in self.abilities if holds(values)), self.capability)

    def run_s(self, values: Mapping[str, Any]) -> float:
        """Seconds a task may take."""
        wanted = values.get(self.entry.run_s_field)
        return self.entry.run_s_max if wanted is None else min(float(wanted), self.entry.run_s_max)

    def model(self, values: Mapping[str, Any]) -> str:
        """The model a request asks for; empty where the operation has none."""
        return str(values.get("model") or "")

    def price(self, values: Mapping[str, Any]) -> Price:
        """What a request costs, from its checked values. Never raises."""
        return self.pricing(values)

    def check(self, body: Mapping[str, Any], *, form: bool = False) -> Values:
        """The values of a body in their types, with defaults; `body` itself is not changed.

        In a form every value is a text, a file (see `bide.catalog.fields`) or a list of those, and `image[]` is
        the same as `image`. Raises `BadRequest` with one sentence about the first thing that is wrong.
        """
        if not form:
            values = self.checks["json"](body)
            if not self.is_offered(values):
                raise NotImplementedHere(
                    f"`model` is {shown(self.model(values))}, which is not known to make pictures: models that answer"
                    " in words are not offered here."
                )
            return {**values, **chat.asked(values["messages"])} if self.entry.chat else values
        if "multipart" not in self.checks:
            raise BadRequest("this operation takes a JSON body, not multipart/form-data")
        return self.checks["multipart"](without_brackets(body))

    def is_offered(self, values: Mapping[str, Any]) -> bool:
        """Whether the operation is for the model of a request."""
        models = self.entry.picture_models
        return not models or re.search(pattern(models), self.model(values)) is not None

    def for_provider(self, values: Values) -> Values:
        """The values without what is for the gateway itself, by the names that the capability has for them."""
        return self.renamed({name: value for name, value in values.items() if name not in self.gateway})

    def renamed(self, values: Mapping[str, _T]) -> dict[str, _T]:
        """By the names that the capability has for the fields."""
        becomes = self.entry.becomes
        return {becomes.get(name, name): value for name, value in values.items()}

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
    free_amount: int
    """Micro-credits granted with the first subscription of a user."""
    polls_per_s: float
    """Queries of tasks by one credential; 0 means no limit."""
    prices_shown: tuple[dict[str, Any], ...]
    """The price rules of all groups that are not hidden, as JSON data."""

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


def load(directories: Iterable[Path] = (), inline: Iterable[str] = ()) -> Catalog:
    """The catalogue of the package and of `directories`. Raises `CatalogError`.

    `inline`: services of which every call waits unless it asks otherwise, whatever the files say.
    """
    common = read_fields("common.toml", "", toml("common.toml", of_package("common.toml")).get("fields", {}))
    services: dict[str, Service] = {}
    by_path: dict[str, Operation] = {}
    tasks_paths: dict[str, Service] = {}
    api_ids: dict[str, str] = {}
    tables = tables_of(directories)
    waits: frozenset[Any] = frozenset(inline)
    if unknown := sorted(waits - set(tables)):
        raise CatalogError(f"inline_services: there is no service {unknown[0]!r}")
    for file, table in tables.values():
        if table.get("name") in waits:
            table = waiting(table)
        service = _service(file, table, common)
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


def of_settings(settings: Settings) -> Catalog:
    """The catalogue of a gateway: the package's, with the operator's own."""
    return load([Path(settings.catalog_dir)] if settings.catalog_dir else [], settings.inline_services)


# -- one service


def _service(file: str, table: dict[str, Any], common: Mapping[str, Field]) -> Service:
    entry = convert(file, "", table, ServiceEntry)
    shared = read_fields(file, "", entry.fields)
    rules = {
        group: tuple(convert(file, f"rules.{group}[{at}]", one, Rule) for at, one in enumerate(listed))
        for group, listed in entry.rules.items()
    }
    prices = {
        group: tuple(convert(file, f"prices.{group}[{at}]", one, PriceRule) for at, one in enumerate(listed))
        for group, listed in entry.prices.items()
    }
    groups = _Groups((shared, common), rules, prices)
    operations = {path: _operation(file, entry, path, table, groups) for path, table in entry.operations.items()}
    check_used(file, "prices", prices, {operation.entry.prices for operation in operations.values()})
    check_used(file, "limits", entry.limits, {"default", *(one.limit_class for one in operations.values())})
    operations = {path: operation for path, operation in operations.items() if operation.entry.enabled}
    if not operations:
        raise CatalogError(f"{file}: none of its operations is enabled")
    known = {operation.type for operation in operations.values()}
    for group, types in entry.type_groups.items():
        if unknown := sorted(set(types) - known):
            raise CatalogError(f"{file}: type_groups.{group}: no operation has the type {unknown[0]!r}")
    return Service(
        name=entry.name, title=entry.title, summary=entry.summary,
        operations=MappingProxyType(operations), type_groups=MappingProxyType(entry.type_groups),
        tasks_paths=tuple(f"{mount}/{entry.name}/tasks" for mount in MOUNTS),
        free_amount=micro(entry.free_amount), polls_per_s=entry.polls_per_s,
        prices_shown=tuple(shown_rule(one) for listed in prices.values() for one in listed if not one.hidden),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Groups:
    """What the operations of a service name: shared and common fields, groups of rules and of price rules."""

    fields: tuple[Mapping[str, Field], Mapping[str, Field]]
    rules: Mapping[str, tuple[Rule, ...]]
    prices: Mapping[str, tuple[PriceRule, ...]]


def _operation(file: str, service: ServiceEntry, path: str, table: dict[str, Any], groups: _Groups) -> Operation:
    place = f'operations."{path}"'
    table = dict(table)
    own = convert(file, f"{place}.fields", table.pop("fields", {}), dict[str, dict[str, Any]])
    fields = read_fields(file, place, own)
    entry = convert(file, place, table, OperationEntry)
    for names_, source, what in (
        (entry.shared, groups.fields[0], "shared field"),
        (entry.common, groups.fields[1], "common field"),
    ):
        for name in names_:
            if name not in source:
                raise CatalogError(f"{file}: {place}: there is no {what} {name!r}")
            fields.setdefault(name, source[name])
    own_rules: list[Rule] = []
    for group in entry.rules:
        if group not in groups.rules:
            raise CatalogError(f"{file}: {place}: there is no group of rules {group!r}")
        own_rules += groups.rules[group]
    for rule in own_rules:
        check_rule(file, place, rule, fields)
    check_names(file, place, fields)
    check_entry(file, place, entry, fields)
    try:
        template, listed = parse(entry.answer, tuple(fields)), parse(entry.listed, ())
    except TemplateError as error:
        raise CatalogError(f"{file}: {place}: {error}") from None
    for answer in service.answers if entry.shape != "template" else ():
        if unknown := sorted({*answer.when, *answer.items.values()} - set(fields)):
            raise CatalogError(f"{file}: answers: {path} has no field {unknown[0]!r}")
    return Operation(
        service=service.name, path=path, entry=entry, fields=MappingProxyType(fields), rules=tuple(own_rules),
        paths=(*(f"{mount}/{service.name}/{path}" for mount in MOUNTS), *entry.aliases),
        checks={one: compile_body(fields, own_rules, form=one == "multipart") for one in entry.accepts},
        gateway=frozenset(name for name, field in fields.items() if field.gateway),
        abilities=tuple((condition(one.when), one.capability) for one in entry.abilities),
        answers=tuple((condition(answer.when), answer) for answer in service.answers),
        pricing=_pricing(file, place, service, entry, groups, fields),
        prices_shown=tuple(shown_rule(one) for one in groups.prices.get(entry.prices, ()) if not one.hidden),
        limits=_limits(file, place, service, entry), template=template, listed=listed,
        pictures=tuple(name for name, field in fields.items() if field.is_fetched),
        addresses=tuple(name for name, field in fields.items() if field.has_addresses),
        items=tuple(name for name, field in fields.items() if field.type in ITEMS),
        headers=tuple((name, field.header.encode()) for name, field in fields.items() if field.header),
    )  # fmt: skip


def _pricing(
    file: str, place: str, service: ServiceEntry, entry: OperationEntry, groups: _Groups, fields: Mapping[str, Field]
) -> Pricing:
    if entry.prices and entry.prices not in groups.prices:
        raise CatalogError(f"{file}: {place}: there is no group of prices {entry.prices!r}")
    if not entry.prices and service.free:
        return nothing
    if not entry.prices:
        raise CatalogError(f"{file}: {place}: it has no `prices`, and the service does not say `free = true`")
    try:
        return compile_prices(entry.prices, groups.prices[entry.prices], fields, free=service.free)
    except PriceError as error:
        raise CatalogError(f"{file}: {place}: {error}") from None


def _limits(file: str, place: str, service: ServiceEntry, entry: OperationEntry) -> Limits:
    if (found := service.limits.get(entry.limits)) is not None:
        return Limits(found.submits_per_s, found.concurrent)
    if entry.limits == "default":
        return DEFAULT_LIMITS
    raise CatalogError(f"{file}: {place}: there are no limits {entry.limits!r}")
