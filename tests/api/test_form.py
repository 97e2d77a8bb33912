"""Forms: what is kept in memory is bounded, and texts are UTF-8 whatever the caller says."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from bide.api.answers import Message
from bide.api.form import Form, read_form
from bide.errors import BadRequest, GatewayError, RequestTooLarge
from bide.settings import Settings

KIB = 1024
PLAIN = "multipart/form-data; boundary=b"


def part(name: str, data: bytes, more: str = "") -> bytes:
    return f'--b\r\ncontent-disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + data + b"\r\n"


def read(*parts: bytes, content_type: str = PLAIN, piece: int = 64 * KIB, **settings: Any) -> Form:
    """What a form of these parts is read as, when it arrives in pieces."""
    body = b"".join(parts) + b"--b--\r\n"
    pieces = [body[at : at + piece] for at in range(0, len(body), piece)]

    async def receive() -> Message:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def inside() -> Form:
        gateway: Any = SimpleNamespace(settings=Settings(**settings))
        form = await read_form(gateway, receive, [(b"content-type", content_type.encode("latin-1"))])
        await form.close()
        return form

    return asyncio.run(inside())


def test_text_parts_together_may_be_as_large_as_a_json_body() -> None:
    form = read(*(part(f"t{n}", b"x" * 200 * KIB) for n in range(5)), json_bytes_max=1024 * KIB)
    assert [len(text) for text in form.body.values()] == [200 * KIB] * 5
    with pytest.raises(RequestTooLarge, match="text parts of the form have more than 1,048,576 bytes together"):
        read(*(part(f"t{n}", b"x" * 200 * KIB) for n in range(6)), json_bytes_max=1024 * KIB)


def test_the_names_of_parts_count_too() -> None:
    with pytest.raises(RequestTooLarge):
        read(*(part("n" * 3000, b"") for _ in range(90)), json_bytes_max=100 * KIB)


def test_files_do_not_count_as_texts() -> None:
    form = read(part("image", b"x" * 300 * KIB, '; filename="a.png"'), json_bytes_max=100 * KIB)
    assert form.body["image"]["size"] == 300 * KIB


@pytest.mark.parametrize("charset", ["punycode", "utf-16", "latin-1", "idna", "zip", "no-such-charset", "utf-8"])
def test_texts_are_utf_8_whatever_charset_is_named(charset: str) -> None:
    for content_type in (f"{PLAIN}; charset={charset}", f"multipart/form-data; charset={charset}; boundary=b"):
        form = read(part("prompt", "ein Böötchen ⛵".encode()), part("ü", b"a-b"), content_type=content_type)
        assert form.body == {"prompt": "ein Böötchen ⛵", "ü": "a-b"}


@pytest.mark.parametrize("content_type", [
    PLAIN, 'multipart/form-data; boundary="b"', "Multipart/Form-Data;BOUNDARY=b",
    "multipart/form-data ;  boundary = b ", 'multipart/form-data; x="; boundary"; boundary=b',
])  # fmt: skip
def test_a_boundary_is_found_as_clients_write_it(content_type: str) -> None:
    assert read(part("prompt", b"a boat"), content_type=content_type).body == {"prompt": "a boat"}


def test_a_boundary_with_signs_in_quotes_is_taken() -> None:
    signs = "'()+_,-./:=? b"
    body = part("prompt", b"a boat").replace(b"--b", b"--" + signs.encode()) + f"--{signs}--\r\n".encode()
    assert read(body, content_type=f'multipart/form-data; boundary="{signs}"').body == {"prompt": "a boat"}


@pytest.mark.parametrize("content_type", [
    "multipart/form-data", "multipart/form-data; boundary", "multipart/form-data; boundary=", PLAIN + "x" * 1000,
    'multipart/form-data; boundary=""', "multipart/form-data; charset=utf-8", "multipart/form-data; aboundary=b",
])  # fmt: skip
def test_a_form_without_a_boundary_is_refused(content_type: str) -> None:
    with pytest.raises(BadRequest, match="names no boundary"):
        read(part("prompt", b"a boat"), content_type=content_type)


def test_a_form_in_small_pieces_is_read_and_bounded_as_well() -> None:
    parts = [part("prompt", b"a boat"), part("image", b"x" * KIB, '; filename="a.png"')]
    assert read(*parts, piece=7).body["prompt"] == "a boat"
    with pytest.raises(GatewayError):
        read(*(part(f"t{n}", b"x" * 100) for n in range(50)), piece=7, json_bytes_max=4 * KIB)
