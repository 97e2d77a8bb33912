"""Holds an answer against `/openapi.json`: what is not described there must not be answered.

    check_answer(document, "POST", "/openai/tasks", 200, headers, body)

`document` is the parsed document, `headers` any mapping or pairs, `body` the bytes of the answer. Raises
`AssertionError` that says what differs. Compiled schemas are kept per document, so a check costs microseconds.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

_BASE = "urn:openapi"
_kept: dict[int, "Contract"] = {}


def check_answer(
    document: dict[str, Any], method: str, path: str, status: int,
    headers: Mapping[str, str] | Iterable[tuple[str, str]], body: bytes,
) -> None:  # fmt: skip
    """See the module. A path may have a query; an unknown path or method must be answered as an error."""
    contract = _kept.get(id(document))
    if contract is None or contract.document is not document:
        contract = _kept[id(document)] = Contract(document)
    contract.check(method, path, status, headers, body)


class Contract:
    """One document with its compiled schemas."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        resource = Resource.from_contents(document, default_specification=DRAFT202012)
        self._registry: Registry[Any] = Registry().with_resource(_BASE, resource)
        self._validators: dict[int, Draft202012Validator] = {}
        self._schemas: list[Any] = []  # so that the ids above stay theirs
        self._templates = [
            (re.compile(re.sub(r"\\\{[^/]+?\\\}", "[^/]+", re.escape(path))), item)
            for path, item in document["paths"].items()
            if "{" in path
        ]

    def check(
        self, method: str, path: str, status: int,
        headers: Mapping[str, str] | Iterable[tuple[str, str]], body: bytes,
    ) -> None:  # fmt: skip
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        named = {name.lower(): value for name, value in pairs}
        where = f"{method} {path} answered {status}"
        item = self._item(urlsplit(path).path)
        described = item.get(method.lower()) if item else None
        if described is None and item and method == "HEAD" and "get" in item:  # the head of what GET answers
            assert not body, f"{where} with a body"
            return
        if described is None:
            self._check_nowhere(where, 405 if item else 404, status, named, body)
            return
        responses = described["responses"]
        described = responses.get(str(status)) or responses.get(f"{status // 100}XX") or responses.get("default")
        assert described is not None, f"{where}, which is not described there (only {', '.join(sorted(responses))})"
        described = self._resolved(described)
        self._check_headers(where, described, named)
        self._check_body(where, described.get("content"), named.get("content-type", ""), body)

    def _check_nowhere(
        self, where: str, expected: int, status: int, headers: Mapping[str, str], body: bytes
    ) -> None:
        """A path or a method that is not in the document: 404 or 405, unless the connection itself was refused."""
        assert status in (expected, 400, 408, 413), f"{where}, but that is not in the document: {expected} is due"
        self._check_headers(where, {"headers": {"x-trace-id": {"required": True, "schema": {}}}}, headers)
        if status == expected and not where.startswith("HEAD "):
            self._validate(where, self.document["components"]["schemas"]["error_404"], self._json(where, body))

    def _item(self, path: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.document["paths"].get(path)
        if found is None:
            found = next((item for template, item in self._templates if template.fullmatch(path)), None)
        return found

    def _resolved(self, part: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in part:
            found: Any = self.document
            for name in part["$ref"].removeprefix("#/").split("/"):
                found = found[name.replace("~1", "/").replace("~0", "~")]
            part = found
        return part

    def _check_headers(self, where: str, described: dict[str, Any], headers: Mapping[str, str]) -> None:
        for name, header in described.get("headers", {}).items():
            header = self._resolved(header)
            value = headers.get(name.lower())
            if value is None:
                assert not header.get("required"), f"{where} without the header {name}"
                continue
            typed: Any = int(value) if header["schema"].get("type") == "integer" and value.isdigit() else value
            self._validate(f"{where}: header {name}", header["schema"], typed)

    def _check_body(self, where: str, content: dict[str, Any] | None, content_type: str, body: bytes) -> None:
        if content is None:
            assert not body, f"{where} with a body ({body[:80]!r}), but none is described"
            return
        kind = content_type.partition(";")[0].strip().lower()
        alike = [name for name in content if name == kind or (name.endswith("/*") and kind.startswith(name[:-1]))]
        assert alike, f"{where} with content type {content_type!r}; described are {', '.join(content)}"
        media = content[alike[0]]
        if kind == "application/json":
            self._validate(where, media["schema"], self._json(where, body))
        elif kind == "application/x-ndjson":
            for line in body.splitlines():
                self._validate(f"{where}: line", media["x-line-schema"], self._json(where, line))
        elif kind == "text/event-stream":
            for event in events(body):
                self._validate(f"{where}: event", media["x-event-schema"], event)

    def _json(self, where: str, body: bytes) -> Any:
        try:
            return json.loads(body)
        except ValueError:
            raise AssertionError(f"{where} with a body that is not JSON: {body[:80]!r}") from None

    def _validate(self, where: str, schema: Any, value: Any) -> None:
        validator = self._validators.get(id(schema))
        if validator is None:
            validator = Draft202012Validator(self._absolute(schema), registry=self._registry)
            self._validators[id(schema)] = validator
            self._schemas.append(schema)
        if validator.is_valid(value):
            return
        error = _deepest(validator, value)
        at = "/".join(str(part) for part in error.absolute_path)
        raise AssertionError(f"{where}: /{at}: {error.message[:600]}\nthe whole of it: {json.dumps(value)[:1500]}")

    def _absolute(self, schema: Any) -> Any:
        """The schema with references that find the document from anywhere."""
        if isinstance(schema, dict):
            return {
                key: f"{_BASE}{value}" if key == "$ref" and value.startswith("#") else self._absolute(value)
                for key, value in schema.items()
            }
        return [self._absolute(one) for one in schema] if isinstance(schema, list) else schema


def events(body: bytes) -> Iterator[Any]:
    """The JSON of the `data:` lines of an event stream, `[DONE]` aside."""
    for line in body.decode("utf-8").splitlines():
        data = line.removeprefix("data:").strip()
        if line.startswith("data:") and data != "[DONE]":
            yield json.loads(data)


def _deepest(validator: Draft202012Validator, value: Any) -> Any:
    """The error that came furthest into the value; of several alternatives, that of the one that was meant."""
    error = max(validator.iter_errors(value), key=_depth)
    while error.context:
        alternatives: dict[Any, list[Any]] = {}
        for inner in error.context:
            alternatives.setdefault(inner.schema_path[0], []).append(inner)
        error = max(min(alternatives.values(), key=_distance), key=_depth)
    return error


def _depth(error: Any) -> int:
    return max([len(error.absolute_path), *(_depth(inner) for inner in error.context or [])])


def _distance(errors: list[Any]) -> tuple[int, int, int]:
    """How far an alternative is from the value: its errors are shallow, keys are missing, there is much to say."""
    missing = sum(error.validator == "required" for error in errors)
    return -max(_depth(error) for error in errors), missing, sum(len(error.message) for error in errors)
