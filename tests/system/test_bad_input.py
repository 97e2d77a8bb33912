"""What clients must not be able to do: each of these is refused with the envelope, and nothing is lost by it."""

import contextlib
import io
import json
import socket
import struct
import sys
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from tests.system.client import Answer, Client, Part, multipart
from tests.system.loopback import picture
from tests.system.processes import Process, running

GENERATE = "/openai/images/generations"
EDIT = "/openai/images/edits"
TASKS = "/openai/tasks"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """With the default settings: private addresses are not allowed."""
    directory = tmp_path_factory.mktemp("bad")
    with running("serve", directory, callback_allow_private=None, upload_bytes_max=64 * MIB) as process:
        yield process
        assert process.client().post(GENERATE, {"prompt": "a boat"}).status == 200  # it came through all of this
        said = process.output()
        assert "Traceback" not in said
        assert not process.events("request failed")


ORDINARY: list[Part] = [("prompt", "a boat"), ("image", ("a.png", picture(), "image/png"))]


@pytest.fixture(scope="module")
def client(serve: Process) -> Client:
    return serve.client(checked=True)


def refused(answer: Answer, status: int = 400, code: str = "bad_request") -> None:
    assert (answer.status, answer.code) == (status, code), answer
    message = answer.json["error"]["message"]
    assert 0 < len(message) < 1000
    assert "Traceback" not in message


NESTED = b'{"prompt":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
NOT_JSON = [
    b"", b" ", b"not json", b"{", b'{"prompt":"a boat"', b'{"prompt":"a boat"}}', b"{'prompt':'a'}", b"[]", b"[{}]",
    b"null", b"true", b"1", b'"text"', b"\xff\xfe{\x00}\x00", b'\xef\xbb\xbf{"prompt":"a"}', b'{"prompt":"\xff"}',
    b'{"prompt":NaN}', b'{"prompt":"a","n":NaN}', b'{"prompt":"a","x":Infinity}', b'{"prompt":"a","x":-Infinity}',
    b'{"prompt":"a","x":1e999}', b'{"prompt":"a","x":' + b"9" * 5000 + b"}", b'{"prompt":"a","prompt":"b"}',
    b'{"prompt":"a","x":{"y":1,"y":2}}', b'{"prompt":"a\\ud800"}', b'{"prompt":"a","x":["\\udc00\\ud800"]}',
    b'{"prompt":"a\\u0000b"}', b'{"prompt":"a","x\\u0000":1}', b'{"prompt":"a\x00b"}', b'{"prompt":"a\nb"}', NESTED,
    b"[" * 900_000, b'{"a":' * 150_000, b'{"prompt":"' + b"\\" * 900_000 + b'"}', b"\x00" * 1000,
]  # fmt: skip


@pytest.mark.parametrize("path", [GENERATE, EDIT, TASKS])
@pytest.mark.parametrize("number", range(len(NOT_JSON)))
def test_a_body_that_is_not_a_plain_json_object_is_refused(client: Client, path: str, number: int) -> None:
    refused(client.post(path, NOT_JSON[number]))


@pytest.mark.parametrize("more", [
    {"prompt": None}, {"prompt": ""}, {"prompt": 5}, {"prompt": ["a"]}, {"prompt": {"a": "b"}}, {"prompt": True},
    {"prompt": "x" * 32_001}, {"n": 0}, {"n": 11}, {"n": -1}, {"n": "two"}, {"n": 1.5}, {"n": True}, {"n": [1]},
    {"n": 2**63}, {"n": 2**64 - 1}, {"n": 2, "response_format": "b64_json"}, {"size": "256"}, {"size": "axb"},
    {"size": "0x0"}, {"size": "-1x5"}, {"size": "1024X1024"}, {"size": "99999999999x16"}, {"size": "1024x1024 "},
    {"size": 1024}, {"size": "\u0661\u0662\u0668x\u0661\u0662\u0668"}, {"size": "1023x1023", "model": "gpt-image-2"},
    {"size": "3856x1024", "model": "gpt-image-2"}, {"size": "256x256", "model": "gpt-image-2"},
    {"size": "3840x1024", "model": "gpt-image-2"}, {"size": "2048x2048", "model": "dall-e-3"},
    {"n": 2, "model": "dall-e-3"}, {"model": 5}, {"model": "x" * 129}, {"model": "a\tb"},
    {"quality": "best"}, {"style": "wild"}, {"background": "blue"}, {"moderation": "none"},
    {"output_format": "gif"}, {"output_format": "png\n"}, {"output_compression": 101}, {"output_compression": -1},
    {"response_format": "xml"}, {"partial_images": 4}, {"partial_images": "x"}, {"async": "maybe"}, {"async": 2},
    {"stream": "perhaps"}, {"stream": []}, {"trace_id": 5}, {"trace_id": "x" * 129}, {"trace_id": ["x"]},
    {"callback_url": 5}, {"callback_url": ["http://example.com"]}, {"user": 5}, {"user": "x" * 513},
])  # fmt: skip
def test_a_field_that_is_wrong_is_refused_and_named(client: Client, more: dict[str, Any]) -> None:
    answer = client.post(GENERATE, {"prompt": "a boat", **more})
    refused(answer)
    assert any(f"`{name}`" in answer.json["error"]["message"] for name in more), answer


def test_text_of_every_other_kind_comes_back_unchanged(client: Client) -> None:
    prompt = "\u0001\x7f\u2028\ufeff\U0001f6a2 ' \" \\ <b> %00 \u202e {{7*7}} ${x} '; DROP TABLE tasks; --"
    task_id = client.post(GENERATE, {"prompt": prompt, "async": True, "strange": [prompt]}).json["task_id"]
    assert client.task(task_id)["request"] == {"prompt": prompt, "async": True, "strange": [prompt]}


HOSTILE = [
    "", "x", "/path", "example.com/cb", "//example.com/cb", "ftp://example.com/", "file:///etc/passwd",
    "javascript:alert(1)", "data:text/plain,x", "gopher://example.com/", "http://", "http:///cb", "http://?x",
    "http://exa mple.com/", "http://example.com:99999/", "http://example.com:x/", "http://example.com\\@127.0.0.1/",
    "http://user@example.com/", "http://user:pass@example.com/", "http://example.com/" + "a" * 2048,
    "http://127.0.0.1/", "http://127.0.0.1:80/", "https://127.0.0.1/", "http://localhost/", "http://LOCALHOST./",
    "http://a.localhost/", "http://127.1/", "http://127.0.1/", "http://2130706433/", "http://0x7f000001/",
    "http://0x7f.1/", "http://0177.0.0.1/", "http://017700000001/", "http://127.0.0.1./", "http://%31%32%37.0.0.1/",
    "http://①②⑦.⓪.⓪.①/", "http://127。0。0。1/", "http://0/", "http://0.0.0.0/", "http://10.0.0.1/",
    "http://172.16.0.1/", "http://172.31.255.255/", "http://192.168.1.1/", "http://169.254.169.254/latest/meta-data",
    "http://100.64.0.1/", "http://100.100.100.200/", "http://168.63.129.16/", "http://192.0.0.192/",
    "http://198.18.0.1/", "http://224.0.0.1/", "http://240.0.0.1/", "http://255.255.255.255/", "http://192.88.99.1/",
    "http://[::1]/", "http://[::]/", "http://[0:0:0:0:0:0:0:1]/", "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/", "http://[::127.0.0.1]/", "http://[64:ff9b::7f00:1]/", "http://[64:ff9b:1::a00:1]/",
    "http://[2002:7f00:1::]/", "http://[2002:a9fe:a9fe::1]/", "http://[2001:0:7f00:1::]/", "http://[fe80::1]/",
    "http://[fe80::1%25eth0]/", "http://[fc00::1]/", "http://[fd00:ec2::254]/", "http://[fec0::1]/",
    "http://[ff02::1]/", "http://[5f00::1]/", "http://[3fff::1]/", "http://[100::1]/", "http://[::1/", "http://::1/",
    "http://metadata.google.internal/", "http://printer.local/", "http://router.home.arpa/",
    "http://example.com\t/", "http://example.com\r\nhost: x/", " http://127.0.0.1/", "http:/127.0.0.1/",
    "http:127.0.0.1/", "http://256.256.256.256/", "http://1.2.3.4.5/",
]  # fmt: skip


@pytest.mark.parametrize("url", HOSTILE)
def test_an_address_that_is_not_a_public_one_is_refused(client: Client, url: str) -> None:
    if url:
        refused(client.post(GENERATE, {"prompt": "a boat", "callback_url": url}))
        parts: list[Part] = [*ORDINARY, ("callback_url", url)]
        if "\r" not in url:
            refused(client.form(EDIT, parts))
    refused(client.post(EDIT, {"prompt": "a boat", "image": url}))
    refused(client.post(EDIT, {"prompt": "a boat", "image": [url]}))


def test_a_refusal_does_not_tell_what_a_name_stands_for(client: Client) -> None:
    answer = client.post(GENERATE, {"prompt": "a boat", "callback_url": "http://localhost/"})
    assert "127." not in answer.json["error"]["message"]


# -- large bodies


def sent_in_part(client: Client, head: str, chunk: bytes, chunks: int) -> bytes:
    """Sends a request piece by piece until all was sent or the other side closed; answers what came back.

    Empty if the connection was reset before the answer could be read.
    """
    with socket.create_connection((client.host, client.port), timeout=20) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(head.encode())
            for _ in range(chunks):
                connection.sendall(chunk)
        with contextlib.suppress(ConnectionError):
            return connection.recv(65536)
    return b""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("path", [GENERATE, TASKS, EDIT])
@pytest.mark.parametrize("length", ["content-length: 104857600", "transfer-encoding: chunked"])
def test_a_body_of_100_mib_is_refused_and_not_kept(serve: Process, client: Client, path: str, length: str) -> None:
    before = serve.memory_mib("VmRSS")
    chunk = b"a" * MIB
    if "chunked" in length:
        chunk = b"100000\r\n" + chunk + b"\r\n"
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {client.token}\r\n" \
           f"content-type: application/json\r\n{length}\r\n\r\n"  # fmt: skip
    answer = sent_in_part(client, head, chunk, 100)
    assert not answer or answer.startswith(b"HTTP/1.1 413 ")
    assert serve.memory_mib("VmRSS") - before < 40
    refused(client.post(path, b'{"prompt":"' + b"a" * 2 * MIB + b'"}'), 413, "request_too_large")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("length", ["content-length: 104857600", "transfer-encoding: chunked"])
def test_a_form_of_100_mib_is_refused_and_not_kept(serve: Process, client: Client, length: str) -> None:
    before = serve.memory_mib("VmRSS")
    start = b'--b\r\ncontent-disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    start += b"a" * (MIB - len(start))
    head = f"POST {EDIT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {client.token}\r\n" \
           f"content-type: multipart/form-data; boundary=b\r\n{length}\r\n\r\n"  # fmt: skip
    if "chunked" in length:
        head += f"100000\r\n{start.decode()}\r\n"
        answer = sent_in_part(client, head, b"100000\r\n" + b"a" * MIB + b"\r\n", 99)
    else:
        answer = sent_in_part(client, head + start.decode(), b"a" * MIB, 99)
    assert not answer or answer.startswith(b"HTTP/1.1 413 ")
    assert serve.memory_mib("VmRSS") - before < 60


@pytest.mark.parametrize("head", [
    "GET / HTTP/1.1\r\n" + "".join(f"x-{n}: {'y' * 1000}\r\n" for n in range(1000)),
    "GET /" + "a" * 1_000_000 + " HTTP/1.1\r\n", "nonsense\r\n\r\n", "GET / HTTP/9.9\r\n\r\n",
    "\x16\x03\x01\x02\x00\x01", "POST /openai/tasks HTTP/1.1\r\ncontent-length: -5\r\n\r\n",
    "POST /openai/tasks HTTP/1.1\r\ncontent-length: x\r\n\r\n",
    "POST /openai/tasks HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    "POST /openai/tasks HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    "GET / HTTP/1.1\r\nbad header\r\n\r\n", "GET http://[::1 HTTP/1.1\r\n\r\n",
])  # fmt: skip
def test_what_is_not_http_gets_an_envelope_or_is_closed(client: Client, head: str) -> None:
    answer = sent_in_part(client, head, b"", 0)
    if not answer and len(head) > 65536:
        return
    assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 413", b"HTTP/1.1 404"), answer
    body = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert set(body) == {"error", "trace_id"}


# -- forms


def form(parts: list[Part], change: Any = None) -> tuple[str, bytes]:
    content_type, body = multipart(parts)
    return (content_type, change(body)) if change else (content_type, body)


BROKEN = {
    "no boundary": ("multipart/form-data", multipart(ORDINARY)[1]),
    "another boundary": ("multipart/form-data; boundary=zzz", multipart(ORDINARY)[1]),
    "an empty boundary": ("multipart/form-data; boundary=", multipart(ORDINARY)[1]),
    "a huge boundary": (f"multipart/form-data; boundary={'z' * 20_000}", multipart(ORDINARY)[1]),
    "a boundary that is no text": ("multipart/form-data; boundary=\xff", b"--\xff\r\n\r\nx\r\n--\xff--"),
    "nothing": ("multipart/form-data; boundary=b", b""),
    "not a form": ("multipart/form-data; boundary=b", b"not a form"),
    "cut off": form(ORDINARY, lambda body: body[:-60]),
    "cut off in a header": form(ORDINARY, lambda body: body[:50]),
    "no name": ("multipart/form-data; boundary=b", b'--b\r\ncontent-disposition: form-data\r\n\r\nx\r\n--b--\r\n'),
    "no headers": ("multipart/form-data; boundary=b", b"--b\r\n\r\nx\r\n--b--\r\n"),
    "a header without end": ("multipart/form-data; boundary=b", b"--b\r\nx: " + b"y" * 500_000),
    "many headers": ("multipart/form-data; boundary=b", b"--b\r\n" + b"x: y\r\n" * 100_000 + b"\r\n--b--\r\n"),
    "a charset nobody knows": (
        "multipart/form-data; charset=nonsense; boundary=b",
        b'--b\r\ncontent-disposition: form-data; name="prompt"\r\n\r\nx\r\n--b--\r\n',
    ),
    "a text that is not UTF-8": (
        "multipart/form-data; boundary=b",
        b'--b\r\ncontent-disposition: form-data; name="prompt"\r\n\r\n\xff\xfe\r\n--b--\r\n',
    ),
    "thousands of texts": form([*ORDINARY, *((f"x{n}", "y") for n in range(5000))]),
    "thousands of files": form([*ORDINARY, *(("image", ("a.png", b"x", "image/png")) for _ in range(5000))]),
    "seventeen pictures": form([ORDINARY[0], *[ORDINARY[1]] * 17]),
    "two masks": form([*ORDINARY, *[("mask", ("m.png", picture(alpha=True), "image/png"))] * 2]),
    "a huge text": form([("prompt", "x" * 2 * MIB), ORDINARY[1]]),
    "no picture": form([("prompt", "a boat")]),
    "no prompt": form([ORDINARY[1]]),
    "a prompt that is a file": form([("prompt", ("a.txt", b"a boat", "text/plain")), ORDINARY[1]]),
    "two prompts": form([*ORDINARY, ("prompt", "another")]),
    "a NUL in a text": form([("prompt", "a\0b"), ORDINARY[1]]),
    "n that is no number": form([*ORDINARY, ("n", "two")]),
    "a mask with an address": form([
        ("prompt", "a boat"), ("image", "http://example.com/a.png"),
        ("mask", ("m.png", picture(alpha=True), "image/png")),
    ]),
    "a mask without transparency": form([*ORDINARY, ("mask", ("m.png", picture(), "image/png"))]),
    "a mask of another size": form([*ORDINARY, ("mask", ("m.png", picture(32, 32, alpha=True), "image/png"))]),
    "a mask that is no PNG": form([*ORDINARY, ("mask", ("m.jpg", picture(kind="JPEG"), "image/png"))]),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_form_that_is_broken_or_wrong_is_refused(client: Client, name: str) -> None:
    content_type, body = BROKEN[name]
    headers = {"content-type": content_type.encode("latin-1").decode("latin-1")}
    answer = client.request("POST", EDIT, body, headers)
    assert answer.status in (400, 413), answer
    assert answer.code in ("bad_request", "request_too_large")


def png_bomb(width: int, height: int, rows: int) -> bytes:
    """A PNG that says it is so large, with so many rows of zeros behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    data = zlib.compress(bytes((width + 7) // 8 + 1) * rows, 9)
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def large_jpeg_head() -> bytes:
    data = bytearray(picture(kind="JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 65_000, 65_000)
    return bytes(data)


def gif() -> bytes:
    out = io.BytesIO()
    Image.new("P", (64, 64)).save(out, "GIF")
    return out.getvalue()


NOT_PICTURES = {
    "a bomb": png_bomb(30_000, 30_000, 30_000),
    "an endless side": png_bomb(2**31 - 1, 2**31 - 1, 1),
    "a side of nothing": png_bomb(0, 100, 1),
    "a JPEG that says it is huge": large_jpeg_head(),
    "nothing": b"",
    "text": b"no picture",
    "markup": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    "a program": b"\x7fELF" + b"\0" * 1000,
    "the head of a PNG": picture()[:30],
    "another kind": gif(),
}


@pytest.mark.parametrize("name", NOT_PICTURES)
def test_a_file_that_is_no_picture_we_take_is_refused(serve: Process, client: Client, name: str) -> None:
    for filename, content_type in (("a.png", "image/png"), ("../../etc/passwd", "text/html")):
        refused(client.form(EDIT, [("prompt", "a boat"), ("image", (filename, NOT_PICTURES[name], content_type))]))


def test_what_was_refused_leaves_no_file_behind(serve: Process, client: Client) -> None:
    content_type, body = form([*ORDINARY, ("n", "two")])
    refused(client.request("POST", EDIT, body, {"content-type": content_type}))
    stored = [path for path in (serve.log.parent / "data").rglob("*") if path.is_file() and "private" in path.parts]
    assert stored == []
