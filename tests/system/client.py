"""A plain HTTP client that hides nothing: one connection per request, bytes out, bytes back.

A checked client holds every answer against the gateway's own `/openapi.json`.
"""

import http.client
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from tests.contract import check_answer

Part = tuple[str, str | tuple[str, bytes, str]]
"""A part of a form: its name, and a text or a file as (file name, bytes, content type)."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @cached_property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of an error."""
        assert set(self.json) == {"error", "trace_id"}, self.body
        code: str = self.json["error"]["code"]
        return code

    def __str__(self) -> str:
        return f"{self.status} {self.body[:300]!r}"


class Client:
    """Talks to one server with one token; `token=None` sends none."""

    def __init__(self, url: str, token: str | None, *, checked: bool = False, timeout_s: float = 30.0) -> None:
        self.url, self.token, self._timeout_s = url, token, timeout_s
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or 80
        self._document: dict[str, Any] | None = None
        if checked:
            self._document = self.request("GET", "/openapi.json").json

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request and its answer; raises `OSError` when there is none."""
        sent = {**({"authorization": f"Bearer {self.token}"} if self.token else {}), **(headers or {})}
        connection = http.client.HTTPConnection(self.host, self.port, timeout=self._timeout_s)
        try:
            connection.request(method, path, body, sent)
            with connection.getresponse() as response:
                pairs = {name.lower(): value for name, value in response.getheaders()}
                answer = Answer(response.status, pairs, response.read())
        except http.client.HTTPException as error:
            raise ConnectionError(repr(error)) from None
        finally:
            connection.close()
        assert answer.headers.get("x-trace-id"), f"{method} {path} without a trace id"
        if self._document is not None:
            check_answer(self._document, method, path, answer.status, answer.headers, answer.body)
        return answer

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, None, _named(headers))

    def post(self, path: str, document: Any, **headers: str) -> Answer:
        """POSTs JSON; bytes are sent as they are."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return self.request("POST", path, body, {"content-type": "application/json"} | _named(headers))

    def form(self, path: str, parts: list[Part], **headers: str) -> Answer:
        """POSTs multipart/form-data."""
        content_type, body = multipart(parts)
        return self.request("POST", path, body, {"content-type": content_type} | _named(headers))

    def task(self, task_id: str) -> dict[str, Any]:
        """The task's document; empty if there is none."""
        answer = self.post("/openai/tasks", {"action": "retrieve", "id": task_id})
        assert answer.status == 200, answer
        found: dict[str, Any] = answer.json
        return found

    def tasks(self, ids: list[str]) -> dict[str, dict[str, Any]]:
        """Documents by id, of any number of tasks."""
        found: dict[str, dict[str, Any]] = {}
        for at in range(0, len(ids), 100):
            answer = self.post("/openai/tasks", {"action": "retrieve_batch", "ids": ids[at : at + 100]})
            assert answer.status == 200, answer
            found |= {item["id"]: item for item in answer.json["items"]}
        return found


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    """`idempotency_key="a"` is the header `idempotency-key: a`."""
    return {name.replace("_", "-"): value for name, value in headers.items()}


def multipart(parts: list[Part]) -> tuple[str, bytes]:
    """The content type and the bytes of a form."""
    boundary = uuid.uuid4().hex
    body = bytearray()
    for name, value in parts:
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        if isinstance(value, str):
            body += b"\r\n\r\n" + value.encode()
        else:
            filename, data, content_type = value
            body += f'; filename="{filename}"\r\nContent-Type: {content_type}\r\n\r\n'.encode() + data
        body += b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    return f"multipart/form-data; boundary={boundary}", bytes(body)
