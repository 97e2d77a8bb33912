"""An upstream whose works take as long as is said, for the benchmark, in the words of this gateway's own wire.

python -m bench.relay PORT

    POST /flux/images   takes a work; it is done after the seconds that its prompt says
    POST /flux/tasks    how it is doing
    GET  /p.png         every result
    GET  /lags          per work that is done and was seen to be: seconds from its end to that look, and between the
                        two looks around its end
"""

import itertools
import sys
import time
from dataclasses import dataclass
from typing import Any

import msgspec
import uvicorn

from bench.upstream import PIXEL


@dataclass
class Work:
    """Times are monotonic seconds."""

    done_at: float
    looked_at: float
    """The last look before it was seen to be done."""
    lag: float | None = None
    interval: float = 0.0
    looks: int = 0


def application(address: str) -> Any:
    works: dict[str, Work] = {}
    numbers = itertools.count()

    def submitted(body: Any) -> Any:
        now, name = time.monotonic(), f"w{next(numbers)}"
        works[name] = Work(now + float(body["prompt"]), now)
        return {"task_id": name}

    def looked(body: Any) -> Any:
        work, now = works[body["id"]], time.monotonic()
        work.looks += 1
        if now < work.done_at:
            work.looked_at = now
            return {"id": body["id"]}
        if work.lag is None:
            work.lag, work.interval = now - work.done_at, now - work.looked_at
        data = [{"image_url": f"{address}/p.png"}]
        return {"id": body["id"], "finished_at": 1, "response": {"success": True, "data": data}}

    def lags() -> Any:
        seen = [(one.lag, one.interval) for one in works.values() if one.lag is not None]
        return {"open": len(works) - len(seen), "looks": sum(one.looks for one in works.values()), "seen": seen}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        raw = b""
        while True:
            message = await receive()
            raw += message.get("body", b"")
            if not message.get("more_body"):
                break
        kind, path = b"application/json", scope["path"]
        if path == "/p.png":
            kind, answer = b"image/png", PIXEL
        elif path == "/flux/images":
            answer = msgspec.json.encode(submitted(msgspec.json.decode(raw)))
        elif path == "/flux/tasks":
            answer = msgspec.json.encode(looked(msgspec.json.decode(raw)))
        else:
            answer = msgspec.json.encode(lags())
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app


def main() -> None:
    port = int(sys.argv[1])
    uvicorn.run(application(f"http://127.0.0.1:{port}"), host="127.0.0.1", port=port, log_level="warning",
                access_log=False, lifespan="off", backlog=8192, timeout_keep_alive=120)  # fmt: skip


if __name__ == "__main__":
    main()
