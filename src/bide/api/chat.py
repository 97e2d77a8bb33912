"""`stream: true` of a chat completion: chunks as server-sent events, `data: [DONE]` at the end.

A picture is there all at once, so one chunk holds the whole text. Until it is, comments keep the connection open.
"""

import asyncio
from typing import Any

from bide.api.answers import Send, encode, send_error
from bide.api.stream import SILENT_S, Events
from bide.catalog import shape
from bide.errors import GatewayError, from_code
from bide.flow.submit import Accepted, Submission
from bide.flow.waiting import ended
from bide.flow.work import Watch
from bide.gateway import Gateway

CHUNK = "chat.completion.chunk"


async def stream_chat(gateway: Gateway, wanted: Submission, accepted: Accepted, send: Send, trace_id: str) -> int:
    """Works on the task and streams its answer; answers the HTTP status, which is 200 once something was sent."""
    out = Events(send, trace_id)
    working = asyncio.create_task(ended(gateway, accepted, Watch()))
    try:
        while not working.done():
            await asyncio.wait({working}, timeout=SILENT_S)
            if not working.done():
                await out.write(b": waiting\n\n")
        response = working.result()
        if not response["success"]:
            raise from_code(response["error"]["code"], response["error"]["message"])
        for chunk in chunks(shape.inline_answer(wanted.operation, response), usage=_wants_usage(wanted)):
            await out.write(b"data: %s\n\n" % encode(chunk))
        await out.write(b"data: [DONE]\n\n")
        await out.end()
        return 200
    except GatewayError as error:
        if not out.is_open:
            await send_error(send, error, trace_id)
            return error.status
        failed = {"code": error.code, "message": str(error), "type": error.code, "param": None}
        await out.write(b"data: %s\n\n" % encode({"error": failed, "trace_id": trace_id}))
        await out.end()
        return 200
    finally:
        if not working.done():  # the process is stopping: the task is taken over by another
            working.cancel()


def chunks(completion: dict[str, Any], *, usage: bool) -> list[dict[str, Any]]:
    """A completion in pieces: who speaks, what it says, that it is over and, if asked for, what was counted."""
    about = {name: completion[name] for name in ("id", "created", "model")} | {"object": CHUNK}
    text = "\n\n".join(choice["message"]["content"] for choice in completion["choices"])
    steps: list[tuple[dict[str, str], str | None]] = [
        ({"role": "assistant", "content": ""}, None), ({"content": text}, None), ({}, "stop"),
    ]  # fmt: skip
    made: list[dict[str, Any]] = [
        {**about, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]} for delta, reason in steps
    ]
    return [*made, {**about, "choices": [], "usage": completion.get("usage", {})}] if usage else made


def _wants_usage(wanted: Submission) -> bool:
    options = wanted.values.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True
