"""A fixed upstream for the benchmark: the same answer for every call, after a fixed delay.

python -m bench.upstream PORT DELAY_S BASE64_BYTES
"""

import asyncio
import base64
import sys
from typing import Any

import uvicorn

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def answer_of(base64_bytes: int) -> bytes:
    """An OpenAI image answer with one picture of about so many bytes of base64."""
    picture = PIXEL + b"\0" * max(0, base64_bytes * 3 // 4 - len(PIXEL))
    return b'{"created":1764000000,"data":[{"b64_json":"%s"}]}' % base64.b64encode(picture)


def application(delay_s: float, answer: bytes) -> Any:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        if delay_s:
            await asyncio.sleep(delay_s)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app


def main() -> None:
    port, delay_s, size = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    uvicorn.run(application(delay_s, answer_of(size)), host="127.0.0.1", port=port, log_level="warning",
                access_log=False, lifespan="off", backlog=8192, timeout_keep_alive=120)  # fmt: skip


if __name__ == "__main__":
    main()
