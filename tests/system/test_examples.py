"""Every example of `/docs` and `/llms.txt` is run as it stands, against a real server with the sandbox behind it.

What a reader has to put in is put in: the address of a picture of theirs, and the id of something made before.
"""

import contextlib
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bide.api import pages_examples
from bide.catalog.load import Catalog, Operation, load
from tests.services.bodies import everything
from tests.system.loopback import picture, pictures
from tests.system.processes import TOKEN, Process, running

AT_ONCE = 6


@dataclass(frozen=True)
class Place:
    """A running gateway, its pages, a picture and a sound it may fetch, and what was made: an id by operation."""

    process: Process
    catalog: Catalog
    directory: Path
    markdown: str
    picture: str
    sound: str
    made: dict[str, str] = field(default_factory=dict)

    def filled(self, code: str, ids: dict[str, str]) -> str:
        """An example with what its reader has."""
        code = re.sub(r"https://example\.com/[^\"'\s]*\.(mp3|wav)", self.sound, code)
        code = re.sub(r"https://example\.com/[^\"'\s]*", self.picture, code)
        for name, value in ids.items():
            code = code.replace(f'"{name}"', f'"{value}"')
        return code

    def examples(self, operation: Operation) -> dict[str, str]:
        """Title to code, of the section of an operation."""
        begins = self.markdown.index(f"\n`POST {operation.paths[0]}`")
        section = re.split(r"\n#{2,3} ", self.markdown[begins:])[0]
        found = re.findall(r"^([^\n]+):\n\n```\w*\n(.*?)\n```$", section, re.DOTALL | re.MULTILINE)
        wanted = ("Example", "With", "The list in", "Forgetting")
        return {title: code for title, code in found if title.startswith(wanted)}

    def ids(self, operation: Operation) -> dict[str, str]:
        """An id for every thing that the example speaks of, made as the other examples say."""
        wanted = pages_examples.body(operation)
        found: dict[str, str] = {}
        for name in operation.items:
            if name in wanted:
                found[pages_examples.placeholder(operation.fields[name].kind)] = self._made(operation, name)
        return found

    def _made(self, operation: Operation, name: str) -> str:
        wanted = operation.fields[name]
        makers = [
            one for one in self.catalog.services[operation.service].operations.values()
            if one.entry.makes == wanted.kind and (not wanted.of or one.path in wanted.of) and one is not operation
        ]  # fmt: skip
        maker = min(makers, key=lambda one: len(one.items))
        if maker.key in self.made:
            return self.made[maker.key]
        result = run_python(self, self.filled(self.examples(maker)["Example in Python"], self.ids(maker)))
        assert "'success': True" in result, result
        with contextlib.closing(sqlite3.connect(self.directory / "data" / "bide.db")) as connection:
            rows = connection.execute(
                "SELECT id FROM items WHERE service = ? AND operation = ? LIMIT 1", (maker.service, maker.path)
            ).fetchall()
        self.made[maker.key] = str(rows[0][0])
        return self.made[maker.key]


def sound(seconds: int) -> bytes:
    """A quiet tone."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8_000)
        file.writeframes((b"\0\1" * 10 + b"\0\0" * 10) * (400 * seconds))
    return out.getvalue()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("examples")
    services = everything(tmp_path_factory.mktemp("services"))
    files = {"boat": picture(640, 360), "humming": sound(12)}
    with pictures(**files) as address, running("serve", directory, catalog_dir=services) as process:
        with urllib.request.urlopen(f"{process.url}/llms.txt") as answer:
            markdown = answer.read().decode()
        yield Place(process, load([services]), directory, markdown, f"{address}/boat", f"{address}/humming")


def run(command: list[str]) -> str:
    done = subprocess.run(
        command, env={**os.environ, "BIDE_TOKEN": TOKEN}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, (command[-1], done.stdout, done.stderr)
    return done.stdout


def run_python(place: Place, code: str) -> str:
    return run([sys.executable, "-W", "error", "-c", code])


def operations(place: Place) -> list[Operation]:
    return [one for service in place.catalog.services.values() for one in service.operations.values()]


def each(place: Place, test: Any) -> None:
    """Several operations at once; every failure says which."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = [(one, pool.submit(test, one)) for one in operations(place)]
    failed = [f"{one.key}: {outcome.exception()}" for one, outcome in outcomes if outcome.exception() is not None]
    assert not failed, "\n".join(failed)


def test_every_example_in_python_prints_a_result(place: Place) -> None:
    def one(operation: Operation) -> None:
        code = place.filled(place.examples(operation)["Example in Python"], place.ids(operation))
        assert place.process.url in code
        printed = run_python(place, code)
        assert "'success': True" in printed or operation.entry.bare, printed

    each(place, one)


def test_every_example_in_curl_is_answered_as_the_page_says(place: Place) -> None:
    if shutil.which("curl") is None or shutil.which("sh") is None:
        pytest.skip("needs curl and a POSIX shell")

    def one(operation: Operation) -> None:
        code = place.filled(place.examples(operation)["Example in curl"], place.ids(operation))
        answer = json.loads(run(["sh", "-c", code]))
        assert "error" not in answer, answer
        assert ("task_id" in answer and len(answer) == 3) or operation.entry.inline, answer

    each(place, one)


def test_a_list_of_what_was_made_is_answered_and_one_of_it_forgotten(place: Place) -> None:
    if shutil.which("curl") is None or shutil.which("sh") is None:
        pytest.skip("needs curl and a POSIX shell")
    for operation in (one for one in operations(place) if one.listed.entries):
        examples = place.examples(operation)
        found = json.loads(run(["sh", "-c", examples["The list in curl"]]))
        assert set(found) == {"count", "items"}
        assert json.loads(run(["sh", "-c", examples["Forgetting in curl"]])) == {"success": False}


def test_the_examples_with_the_openai_client_work_as_they_stand(place: Place) -> None:
    pytest.importorskip("openai")
    shown = [one for one in operations(place) if one.entry.client_method]
    assert shown
    for operation in shown:
        printed = run([sys.executable, "-c", place.examples(operation)["With OpenAI's Python client"]])
        assert f"{place.process.url}/files/" in printed


def test_the_page_and_the_text_show_the_same_examples(place: Place) -> None:
    with urllib.request.urlopen(f"{place.process.url}/docs") as answer:
        html = answer.read().decode()
    for operation in operations(place):
        for title in place.examples(operation):
            assert title.replace("'", "&#x27;") in html
    assert place.process.url in html
    assert "bide.invalid" not in html + place.markdown


@pytest.mark.parametrize("path", ["/docs", "/llms.txt"])
def test_a_page_that_the_reader_has_is_not_sent_again(place: Place, path: str) -> None:
    with urllib.request.urlopen(place.process.url + path) as answer:
        etag = answer.headers["etag"]
    request = urllib.request.Request(place.process.url + path, headers={"if-none-match": f'"another", W/{etag}'})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    with refused.value as answer:
        assert (answer.status, answer.headers["etag"], answer.read()) == (304, etag, b"")
