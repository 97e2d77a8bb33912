"""The files of the catalogue: found, read, and turned into typed values."""

import tomllib
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bide.errors import GatewayError

_T = TypeVar("_T")


class CatalogError(GatewayError):
    """A catalogue file that is wrong, in one sentence that names the file and the place."""


def of_package(name: str) -> str:
    return (resources.files("bide.catalog") / name).read_text("utf-8")


def service_files(directories: Iterable[Path]) -> Iterator[tuple[str, str]]:
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


def toml(file: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CatalogError(f"{file}: {error}") from None


def convert(file: str, place: str, value: Any, kind: type[_T]) -> _T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise CatalogError(f"{file}: {place + ': ' if place else ''}{error}") from None


def tables_of(directories: Iterable[Path]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Every service as read, by name, with the file that had the last word on it."""
    tables: dict[str, tuple[str, dict[str, Any]]] = {}
    for file, text in service_files(directories):
        table = toml(file, text)
        name = str(table.get("name", file))
        tables[name] = (file, _changed(tables[name][1], table) if name in tables else table)
    return tables


def _changed(service: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """A service with what a later file says of it: entries of tables one by one, anything else as a whole."""
    changed = dict(service)
    for key, value in table.items():
        both = isinstance(value, dict) and isinstance(service.get(key), dict)
        changed[key] = {**service[key], **value} if both else value
        if both and key == "operations":
            changed[key] |= {path: {**service[key][path], **one} for path, one in value.items()
                             if path in service[key] and isinstance(one, dict) and "type" not in one}  # fmt: skip
    return changed


def waiting(service: dict[str, Any]) -> dict[str, Any]:
    """A service whose callers wait unless they ask otherwise."""
    operations = {path: {**one, "inline": True} for path, one in service.get("operations", {}).items()}
    return {**service, "operations": operations}
