"""Hundreds of connections that never finish a request: they are closed, and nobody else notices them."""

import asyncio
import contextlib
from pathlib import Path

from tests.system.processes import TOKEN, running

COUNT = 300
CLOSED_S = 60.0
"""Seconds within which a connection that stalls must be closed, whatever it does."""

HEAD = f"POST /openai/tasks HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 1000\r\n"
KINDS = {
    "says nothing": (b"", b""),
    "drips its request line": (b"P", b"O"),
    "drips its headers": (HEAD.encode(), b"x"),
    "stalls before its body": (f"{HEAD}\r\n".encode(), b""),
    "drips its body": (f"{HEAD}\r\n{{".encode(), b" "),
    "stalls in a form": (
        HEAD.replace("/tasks", "/images/edits").encode()
        + b"content-type: multipart/form-data; boundary=b\r\n\r\n--b\r\n", b"",
    ),
}  # fmt: skip


async def stall(port: int, opening: bytes, drip: bytes) -> bytes:
    """Opens a connection, never finishes its request, and answers what came until the other side closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    closed = asyncio.ensure_future(reader.read())
    try:
        writer.write(opening)
        while not closed.done():
            if drip:
                writer.write(drip)
            await asyncio.wait({closed}, timeout=0.25)
        return closed.result()
    except ConnectionError:
        return b""
    finally:
        await close(writer)


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def ask(port: int) -> bytes:
    """The first line of the answer to a healthy request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(HEAD.replace("1000", "10").encode() + b'connection: close\r\n\r\n{"id":"x"}')
        return (await reader.read()).partition(b"\r\n")[0]
    finally:
        await close(writer)


async def stalled_and_healthy(port: int) -> tuple[list[tuple[str, bytes]], int]:
    kinds = [name for _, name in zip(range(COUNT), list(KINDS) * COUNT, strict=False)]
    async with asyncio.timeout(CLOSED_S):
        stalled = [asyncio.create_task(stall(port, *KINDS[kind])) for kind in kinds]
        ended = asyncio.gather(*stalled)
        healthy = 0
        while not ended.done():
            assert await ask(port) == b"HTTP/1.1 200 OK"
            healthy += 1
            await asyncio.sleep(0.02)
        return list(zip(kinds, ended.result(), strict=True)), healthy


def test_connections_that_never_finish_are_closed_while_others_are_answered(tmp_path: Path) -> None:
    with running("serve", tmp_path, request_read_s=2) as serve:
        answers, healthy = asyncio.run(stalled_and_healthy(int(serve.url.rpartition(":")[2])))
        assert len(answers) == COUNT
        for kind, answer in answers:
            assert not answer or answer.startswith(b"HTTP/1.1 408 ") or kind == "drips its request line", kind
        assert any(answer for _, answer in answers)
        assert healthy > 10
