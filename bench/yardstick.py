"""Bare servers on the same uvicorn: the least that the same work can cost in Python.

python -m bench.yardstick PORT poll FILE       answers the bytes of FILE to every request
python -m bench.yardstick PORT submit FILE     one durable row per request, group commit, SQLite file FILE
"""

import asyncio
import queue
import random
import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

HEADERS = [(b"content-type", b"application/json")]


def poll(path: str) -> Any:
    body = Path(path).read_bytes()
    headers = [*HEADERS, (b"content-length", b"%d" % len(body))]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


class Body(msgspec.Struct):
    prompt: str


def submit(path: str) -> Any:
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    decode = msgspec.json.Decoder(Body).decode

    def write() -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE rows (id TEXT PRIMARY KEY, owner TEXT, body BLOB)")
        connection.execute("CREATE INDEX rows_owner ON rows (owner, id)")
        while True:
            items = [waiting.get()]
            while not waiting.empty():
                items.append(waiting.get())
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO rows VALUES (?, 'owner', ?)", [(i, raw) for i, raw, _ in items])
            connection.execute("COMMIT")
            items[0][2].get_loop().call_soon_threadsafe(lambda done=items: [d.set_result(None) for _, _, d in done])

    threading.Thread(target=write, daemon=True).start()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        if scope["method"] == "POST":
            raw = (await receive())["body"]
            decode(raw)
            row_id = f"{time.time_ns():016x}{random.getrandbits(64):016x}"
            done = asyncio.get_running_loop().create_future()
            waiting.put((row_id, raw, done))
            await done
            body = b'{"task_id":"%s"}' % row_id.encode()
        headers = [*HEADERS, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def main() -> None:
    port, what, path = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    app = {"poll": poll, "submit": submit}[what](path)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False, lifespan="off")


if __name__ == "__main__":
    main()
