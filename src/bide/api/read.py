"""Reading a request: bounded in bytes here, bounded in time by the connection (`bide.api.server`)."""

from bide.api.answers import Headers, Receive
from bide.errors import GatewayError, RequestTooLarge


class Disconnected(GatewayError):
    """The caller is gone; nobody reads the answer."""

    status = 499


async def read_body(receive: Receive, headers: Headers, bytes_max: int) -> bytes:
    """The whole body. Raises `RequestTooLarge` before reading what is announced as larger than `bytes_max`."""
    length = content_length(headers)
    if length is not None and length > bytes_max:
        raise RequestTooLarge(f"The body has {length:,} bytes; at most {bytes_max:,} are accepted.")
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Disconnected
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False) and len(body) <= bytes_max:
        return body
    parts, size = [body], len(body)
    while size <= bytes_max:
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        parts.append(message.get("body", b""))
        size += len(parts[-1])
    raise RequestTooLarge(f"The body has more than {bytes_max:,} bytes.")


def content_length(headers: Headers) -> int | None:
    value = header(headers, b"content-length")
    return int(value) if value.isdigit() else None


def header(headers: Headers, wanted: bytes) -> bytes:
    """The first header of that (lowercase) name; empty if there is none."""
    for name, value in headers:
        if name == wanted:
            return value
    return b""
