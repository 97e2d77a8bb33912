"""Server-sent events as they arrive (WHATWG HTML, "Server-sent events", 9.2.6).

`EventStream.feed` takes bytes in pieces of any size and answers the events that are complete. Lines may
end with CR, LF or both. An event whose closing blank line never came is answered by `end`: several
servers leave it out, and a truncated document does not parse anyway.
"""

from typing import NamedTuple


class Event(NamedTuple):
    """`name` is the `event:` field or empty; `data` the `data:` lines, joined by line feeds."""

    name: str
    data: bytes


class EventTooLarge(Exception):
    """One event is larger than the bound."""


class EventStream:
    def __init__(self, event_bytes_max: int) -> None:
        self._bytes_max = event_bytes_max
        self._line: list[bytes] = []
        self._name = ""
        self._data: list[bytes] = []
        self._line_bytes = self._data_bytes = 0
        self._after_cr = False
        self._begun = False

    def feed(self, chunk: bytes) -> list[Event]:
        """The events completed by this chunk. Raises `EventTooLarge`."""
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            self._after_cr = False
        if not chunk:
            return []
        self._after_cr = chunk.endswith(b"\r")
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        events: list[Event] = []
        at = 0
        while (newline := chunk.find(b"\n", at)) >= 0:
            self._line.append(chunk[at:newline])
            at = newline + 1
            self._end_line(events)
        if at < len(chunk):
            self._line.append(chunk[at:])
            self._line_bytes += len(chunk) - at
        if self._line_bytes + self._data_bytes > self._bytes_max:
            raise EventTooLarge(f"more than {self._bytes_max} bytes")
        return events

    def end(self) -> list[Event]:
        """The event that was not closed, if any."""
        events: list[Event] = []
        self._end_line(events)
        self._dispatch(events)
        return events

    def _end_line(self, events: list[Event]) -> None:
        line = self._line[0] if len(self._line) == 1 else b"".join(self._line)
        self._line, self._line_bytes = [], 0
        if not self._begun:
            self._begun = True
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            self._dispatch(events)
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._data_bytes += len(value)
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")[:100]

    def _dispatch(self, events: list[Event]) -> None:
        if self._data:
            events.append(Event(self._name, self._data[0] if len(self._data) == 1 else b"\n".join(self._data)))
        self._name, self._data, self._data_bytes = "", [], 0
