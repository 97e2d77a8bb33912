"""progress: what can be said of a task that is still being made, to a caller who wants to know how far it is.

A line has the fields of the answer, as far as they are known, with `progress` in percent. Where the request names a
callback it is POSTed there as well, in order and before the work goes on: at most once, for it is out of date when
the next one comes. A receiver that does not take one is not told further; the result itself is owed and delivered as
any other (`bide.flow.callback`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from bide.callbacks.schedule import delivered
from bide.callbacks.send import post
from bide.callbacks.signing import sign
from bide.catalog import shape
from bide.catalog.load import Operation
from bide.catalog.template import times
from bide.clock import time_of
from bide.flow import results
from bide.gateway import Gateway
from bide.providers.base import Item, Progress

POST_S = 5.0
"""The work waits for the receiver of a line, and no longer than this."""

Json = dict[str, Any]


@dataclass(slots=True)
class Telling:
    """One task whose caller is told how far it is. `callback_url` None: nobody else is told, or not any more."""

    gateway: Gateway
    operation: Operation
    values: Mapping[str, Any]
    task_id: str
    trace_id: str
    base_url: str
    callback_url: str | None

    def line(self, progress: Progress) -> Json:
        """One line: success, task_id, trace_id, the answer as far as it is known, progress."""
        seen = results.seen(Item(progress.assets, progress.fields), self.base_url)
        answer = shape.from_template(
            self.operation, self.values, {}, [seen], task={"id": self.task_id, "trace_id": self.trace_id},
            time=times(time_of(self.task_id), self.gateway.clock.now_ms()),
        )  # fmt: skip
        return {**shape.task_response(self.task_id, self.trace_id, answer), "progress": progress.percent}

    async def tell(self, line: Json) -> None:
        """POSTs a line to the callback, if there is one that takes it."""
        if self.callback_url is None:
            return
        gateway, settings = self.gateway, self.gateway.settings
        content = msgspec.json.encode(line)
        sent = await post(
            gateway.outbound.callbacks, self.callback_url, content, self._headers(content),
            timeout_s=min(POST_S, settings.callback_timeout_s), connect_s=settings.callback_connect_s,
            ranges=gateway.outbound.ranges, clock=gateway.clock,
        )  # fmt: skip
        if not delivered(sent.status):
            self.callback_url = None

    def _headers(self, content: bytes) -> dict[str, str]:
        """Those of any callback; every line is a message of its own."""
        now, secret = self.gateway.clock.now_ms(), self.gateway.settings.webhook_secret
        headers = {
            "content-type": "application/json",
            "webhook-id": self.gateway.clock.new_id(now),
            "webhook-timestamp": str(now // 1000),
            "x-task-id": self.task_id,
            "x-delivery-attempt": "1",
        }
        if self.trace_id.isascii() and self.trace_id.isprintable():
            headers["x-trace-id"] = self.trace_id
        if secret:
            headers["webhook-signature"] = sign(secret, headers["webhook-id"], now // 1000, content)
        return headers
