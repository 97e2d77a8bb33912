"""Takes the pictures out of a JSON document while it arrives.

A picture in a JSON answer is a base64 string of up to tens of megabytes under the key `b64_json`; all
the rest of the document is a few hundred bytes. `JsonSplit` is fed the bytes as they come, in pieces of
any size. It decodes what belongs to a picture at once and keeps the rest, the skeleton, in which each
picture is replaced by its number:

    {"data": [{"b64_json": "iVBORw0KGgo…"}]}   →   {"data": [{"b64_json":"0"}]}  +  part 0: the bytes

so memory does not grow with the size of a picture. Pure: it reads and writes nothing. The fast path
looks for a quote and a backslash with `bytes.find` and decodes the slice between in one call.
"""

import binascii
import re
from typing import Any, NamedTuple

import msgspec
import pybase64

SKELETON_BYTES_MAX = 1024 * 1024
"""Bytes of a document without its pictures: what is longer is not an answer to a picture request."""
PICTURES_MAX = 64
"""Pictures in one document: several times what any upstream makes in one call."""
DATA_URL_HEAD_MAX = 256
"""Characters of `data:image/png;base64,` before the comma."""

PICTURE_KEYS = ("b64_json",)
"""Keys of pictures in OpenAI's answers."""
_SPACE = re.compile(rb"[ \t\r\n]*")
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NOT_BASE64 = bytes(sorted(set(range(256)) - set(_ALPHABET) - set(b"-_")))
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_BACKSLASH, _QUOTE, _COLON = b'\\":'


class Malformed(Exception):
    """The bytes are not a JSON document that can be an answer."""


class Part(NamedTuple):
    """Decoded bytes of picture `number`, in order; `ended` when nothing more of it will come."""

    number: int
    pieces: list[bytes]
    ended: bool


class Base64Text:
    """Decodes one base64 text that arrives in pieces.

    Strict first. Text that is not strict base64 (line breaks, the URL-safe alphabet, no padding) is cleaned
    and decoded as well as it can be: whether it is a picture shows when the file is looked at. A data URL's
    head is skipped.
    """

    __slots__ = ("_head", "_lenient", "_rest")

    def __init__(self) -> None:
        self._head: bytes | None = b""
        self._rest = b""
        self._lenient = False

    def feed(self, text: bytes | memoryview, out: list[bytes]) -> None:
        """Appends what `text` decodes to; up to three characters wait for the next call."""
        if self._head is not None:
            text = self._after_head(text)
        if not text:
            return
        rest = self._rest
        if self._lenient:
            text = _clean(text)
        try:
            self._groups(text, out)
        except binascii.Error:
            self._lenient = True
            self._rest = b""
            self._groups(_clean(rest + bytes(text)), out)

    def end(self, out: list[bytes]) -> None:
        """Appends the bytes of the last, unpadded characters."""
        if self._head is not None:
            text, self._head = self._head, None
            self.feed(text, out)
        rest = _clean(self._rest)
        if len(rest) > 1:
            out.append(pybase64.b64decode(rest + b"=" * (-len(rest) % 4)))

    def _after_head(self, text: bytes | memoryview) -> bytes | memoryview:
        if not self._head and len(text) >= 5 and bytes(text[:5]) != b"data:":
            self._head = None
            return text
        head = (self._head or b"") + bytes(text)
        if not b"data:".startswith(head[:5]):
            self._head = None
            return head
        comma = head.find(b",", 0, DATA_URL_HEAD_MAX)
        if comma >= 0:
            self._head = None
            return head[comma + 1 :]
        if len(head) > DATA_URL_HEAD_MAX:
            raise Malformed("a data URL has no comma")
        self._head = head
        return b""

    def _groups(self, text: bytes | memoryview, out: list[bytes]) -> None:
        """Decodes whole groups of four characters. Raises before anything is appended."""
        first = b""
        if self._rest:
            missing = 4 - len(self._rest)
            group = self._rest + bytes(text[:missing])
            if len(group) < 4:
                self._rest = group
                return
            first = pybase64.b64decode(group, validate=True)
            text = text[missing:]
        whole = len(text) & ~3
        bulk = pybase64.b64decode(text[:whole], validate=True)
        self._rest = bytes(text[whole:])
        out.extend(piece for piece in (first, bulk) if piece)


class JsonSplit:
    """One document. `feed` all bytes, then `close`. `first` is the number of its first picture."""

    def __init__(self, first: int = 0, keys: tuple[str, ...] = PICTURE_KEYS) -> None:
        self.next_number = first
        self._first = first
        self._keys = keys
        self._quoted = tuple(f'"{key}"'.encode() for key in keys)
        self._key_bytes_max = 6 * max(map(len, self._quoted))  # every character may be escaped
        self._skeleton = bytearray()
        self._step = JsonSplit._outside
        self._string_at = 0
        self._text = Base64Text()
        self._held = b""

    def feed(self, chunk: bytes) -> list[Part]:
        """The decoded parts in this chunk. Raises `Malformed`."""
        data = self._held + chunk if self._held else chunk
        self._held = b""
        parts: list[Part] = []
        at, end = 0, len(data)
        while at < end:
            at = self._step(self, data, at, parts)
        if len(self._skeleton) > SKELETON_BYTES_MAX:
            raise Malformed("the document is too long")
        return parts

    def close(self) -> Any:
        """The document, each picture replaced by its number as a string. Raises `Malformed`."""
        if self._step is not JsonSplit._outside:
            raise Malformed("the document ends too early")
        try:
            return msgspec.json.decode(bytes(self._skeleton).removeprefix(b"\xef\xbb\xbf"))
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise Malformed("the document is not JSON") from error

    # The steps: each eats some bytes of `data` from `at` and answers where it stopped.

    def _outside(self, data: bytes, at: int, parts: list[Part]) -> int:
        quote = data.find(b'"', at)
        if quote < 0:
            self._skeleton += data[at:]
            return len(data)
        self._string_at = len(self._skeleton) + quote - at
        self._skeleton += data[at : quote + 1]
        self._step = JsonSplit._string
        return quote + 1

    def _string(self, data: bytes, at: int, parts: list[Part]) -> int:
        quote = data.find(b'"', at)
        if quote < 0:
            self._skeleton += data[at:]
            return len(data)
        self._skeleton += data[at:quote]
        escaped = _backslashes(self._skeleton, len(self._skeleton), self._string_at) % 2
        self._skeleton += b'"'
        if not escaped:
            self._step = JsonSplit._after_key if self._is_key() else JsonSplit._outside
        return quote + 1

    def _is_key(self) -> bool:
        length = len(self._skeleton) - self._string_at
        for quoted in self._quoted:
            if length == len(quoted) and self._skeleton.endswith(quoted):
                return True
        if length > self._key_bytes_max or b"\\" not in self._skeleton[self._string_at :]:
            return False
        try:
            return msgspec.json.decode(self._skeleton[self._string_at :]) in self._keys
        except (msgspec.DecodeError, UnicodeError):
            return False

    def _after_key(self, data: bytes, at: int, parts: list[Part]) -> int:
        at = _skip_space(data, at)
        if at < len(data):
            if data[at] != _COLON:
                self._step = JsonSplit._outside
                return at
            self._skeleton += b":"
            self._step = JsonSplit._before_value
            at += 1
        return at

    def _before_value(self, data: bytes, at: int, parts: list[Part]) -> int:
        at = _skip_space(data, at)
        if at < len(data):
            if data[at] != _QUOTE:
                self._step = JsonSplit._outside
                return at
            if self.next_number - self._first >= PICTURES_MAX:
                raise Malformed("the document has too many pictures")
            self._skeleton += b'"%d"' % self.next_number
            self.next_number += 1
            self._text = Base64Text()
            self._step = JsonSplit._picture
            at += 1
        return at

    def _picture(self, data: bytes, at: int, parts: list[Part]) -> int:
        close = data.find(b'"', at)
        stop = len(data) if close < 0 else close
        if data.find(b"\\", at, stop) < 0:
            self._take(memoryview(data)[at:stop], close >= 0, parts)
            return stop + 1 if close >= 0 else stop
        return self._escaped_picture(data, at, parts)

    def _escaped_picture(self, data: bytes, at: int, parts: list[Part]) -> int:
        """Some encoders write `\\/` or `\\u002B`: the slow path for a piece that has a backslash."""
        close = data.find(b'"', at)
        while close >= 0 and _backslashes(data, close, at) % 2:
            close = data.find(b'"', close + 1)
        text = data[at:] if close < 0 else data[at:close]
        if close < 0:
            complete = _complete_escapes(text)
            self._held = text[complete:]
            text = text[:complete]
        self._take(_unescape(text), close >= 0, parts)
        return len(data) if close < 0 else close + 1

    def _take(self, text: bytes | memoryview, ended: bool, parts: list[Part]) -> None:
        pieces: list[bytes] = []
        self._text.feed(text, pieces)
        if ended:
            self._text.end(pieces)
            self._step = JsonSplit._outside
        if pieces or ended:
            parts.append(Part(self.next_number - 1, pieces, ended))


def _clean(text: bytes | memoryview) -> bytes:
    return bytes(text).translate(_URL_SAFE, _NOT_BASE64)


def _skip_space(data: bytes, at: int) -> int:
    space = _SPACE.match(data, at)
    return space.end() if space else at


def _backslashes(data: bytes | bytearray, before: int, start: int) -> int:
    """How many backslashes stand directly before an index; not looking before `start`."""
    at = before
    while at > start and data[at - 1] == _BACKSLASH:
        at -= 1
    return before - at


def _complete_escapes(text: bytes) -> int:
    """The length of `text` without an escape sequence that is cut off at its end."""
    last = text.rfind(b"\\", max(0, len(text) - 5))
    if last < 0 or _backslashes(text, last + 1, 0) % 2 == 0:
        return len(text)
    length = 6 if text[last + 1 : last + 2] == b"u" else 2
    return last if last + length > len(text) else len(text)


def _unescape(text: bytes) -> bytes:
    text = text.replace(b"\\/", b"/")
    if b"\\" not in text:
        return text
    try:
        return msgspec.json.decode(b'"' + text + b'"', type=str).encode("utf-8", "replace")
    except (msgspec.DecodeError, UnicodeError) as error:
        raise Malformed("a picture's text is not JSON") from error
