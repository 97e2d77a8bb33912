"""Sound files: WAV with nothing but the standard library, MP3 where the package `lameenc` is, and FLAC for films.

FLAC (RFC 9639) is written without an attempt to make it small: a film's sound track needs a form that browsers
play in MP4, and of these it is the one that takes samples as they are.
"""

import struct
from array import array
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Final

from bide.providers.media.boxes import Track, box, full
from bide.providers.media.turn import alone

BLOCK = 576
"""Samples of each channel in a FLAC frame."""
_TEXT_BYTES_MAX = 20_000
_RATE_CODES: Final = {22_050: 6, 44_100: 9}


def wav(pcm: bytes, *, rate: int, channels: int = 1, title: str = "", comment: str = "") -> bytes:
    """A RIFF file of 16-bit samples; behind them a LIST of kind INFO with title (INAM) and comment (ICMT), UTF-8."""
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * 2 * channels, 2 * channels, 16)
    texts = [_riff(kind, _text(text) + b"\0") for kind, text in ((b"INAM", title), (b"ICMT", comment)) if text]
    info = _riff(b"LIST", b"INFO" + b"".join(texts)) if texts else b""
    return _riff(b"RIFF", b"WAVE" + _riff(b"fmt ", form) + _riff(b"data", pcm) + info)


def mp3_encoder() -> ModuleType | None:
    """The package that writes MP3, where it is installed: it is no dependency."""
    try:
        return import_module("lameenc")
    except ModuleNotFoundError as error:
        if error.name != "lameenc":
            raise
        return None


def mp3(
    encoder: ModuleType, pcm: bytes, *, rate: int, channels: int = 1, title: str = "", comment: str = ""
) -> bytes:
    """An MP3 file at 64 kbit/s a channel, with title and comment in front as ID3v2.3."""
    made = encoder.Encoder()
    made.set_bit_rate(64 * channels)
    made.set_in_sample_rate(rate)
    made.set_channels(channels)
    made.set_quality(7)
    made.silence()
    return _id3(title, comment) + bytes(made.encode(pcm)) + bytes(made.flush())


def song_file(pcm: bytes, *, rate: int, channels: int = 1, title: str = "", comment: str = "") -> tuple[bytes, str]:
    """A file and its type: `audio/mpeg` where it can be written, else `audio/wav`."""
    encoder = mp3_encoder()
    if encoder is not None:
        return mp3(encoder, pcm, rate=rate, channels=channels, title=title, comment=comment), "audio/mpeg"
    return wav(pcm, rate=rate, channels=channels, title=title, comment=comment), "audio/wav"


@alone
def flac_track(pcm: bytes, *, rate: int, channels: int = 1, block: int = BLOCK) -> Track:
    """The sound track of a film, as the box `fLaC` (Xiph's mapping of FLAC into ISO BMFF) and its frames.

    `block`: samples of each channel in a frame, 16 to 65535. Frames that sound alike are summed up once, so a song
    takes least time with those of one step of its tune."""
    count = len(pcm) // (2 * channels)
    frames = _flac_frames(pcm, rate, channels, count, block)
    about = (rate << 44 | (channels - 1) << 41 | 15 << 36 | count).to_bytes(8)
    stream = struct.pack(">HH", block, block) + bytes(6) + about + bytes(16)
    head = bytes(6) + struct.pack(">HQHHII", 1, 0, channels, 16, 0, rate << 16)
    entry = box(b"fLaC", head, full(b"dfLa", struct.pack(">I", 0x80 << 24 | len(stream)), stream))
    return Track(entry=entry, scale=rate, per_sample=block, length=count, samples=frames)


def _riff(kind: bytes, body: bytes) -> bytes:
    """A chunk; one of an odd length is followed by a byte that does not count."""
    return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def _text(text: str) -> bytes:
    kept = text.encode("utf-8", "backslashreplace")[:_TEXT_BYTES_MAX].decode("utf-8", "ignore")
    return kept.replace("\0", " ").encode()


def _id3(title: str, comment: str) -> bytes:
    parts = []
    for kind, text in ((b"TIT2", title), (b"COMM", comment)):
        if text:
            said = b"\xff\xfe" + text[:5_000].encode("utf-16-le", "replace")
            body = b"\x01" + (b"eng\xff\xfe\0\0" if kind == b"COMM" else b"") + said
            parts.append(kind + struct.pack(">IH", len(body), 0) + body)
    whole = b"".join(parts)
    if not whole:
        return b""
    return b"ID3\3\0\0" + bytes(len(whole) >> shift & 0x7F for shift in (21, 14, 7, 0)) + whole


# -- FLAC


def _flac_frames(pcm: bytes, rate: int, channels: int, count: int, block: int) -> list[bytes]:
    """Frames of `block` samples a channel, the last one filled up with silence."""
    values = array("H", pcm)
    values.byteswap()  # the file has the higher byte first, whatever the machine: bytes are exchanged, not read
    total = -(-count // block)
    per_channel = []
    for channel in range(channels):
        data = values[channel::channels].tobytes()
        per_channel.append(data + bytes(2 * block * total - len(data)))
    kind, said = (2, b"") if block == BLOCK else (7, struct.pack(">H", block - 1))
    heads, bodies = [], []
    for number in range(total):
        head = bytes([0xFF, 0xF8, kind << 4 | _RATE_CODES[rate], (channels - 1) << 4 | 4 << 1])
        head += _coded(number) + said
        heads.append(head + bytes([_crc8(head)]))
        samples = slice(2 * block * number, 2 * block * (number + 1))
        bodies.append(b"".join([b"\x02" + data[samples] for data in per_channel]))  # kept as they are
    different = list(dict.fromkeys(bodies))
    sums = dict(zip(different, map(int.from_bytes, _crc16(different)), strict=True))
    further = _power(8 * channels * (1 + 2 * block))
    return [
        b"".join((head, body, (_times(int.from_bytes(crc), further) ^ sums[body]).to_bytes(2)))
        for head, body, crc in zip(heads, bodies, _crc16(heads), strict=True)
    ]


def _coded(number: int) -> bytes:
    """A number of up to 21 bits as FLAC codes it, which is as UTF-8 codes characters, surrogates and all."""
    return chr(number).encode("utf-8", "surrogatepass")


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1) ^ (0x107 if crc & 0x80 else 0)
    return crc


def _times(one: int, other: int) -> int:
    """Two polynomials of degree 15 or less, multiplied modulo that of the check sum."""
    product = 0
    for bit in range(15, -1, -1):
        product = product << 1 ^ (0x18005 if product & 0x8000 else 0)
        if other >> bit & 1:
            product ^= one
    return product


def _power(exponent: int) -> int:
    """x to the power of `exponent`, the same way: what a sum becomes when so many bits follow."""
    result, square = 1, 2
    while exponent:
        if exponent & 1:
            result = _times(result, square)
        exponent, square = exponent >> 1, _times(square, square)
    return result


def _crc16_table() -> tuple[bytes, bytes]:
    """What a byte adds to the upper and to the lower half of the remainder by x^16 + x^15 + x^2 + 1."""
    found = []
    for byte in range(256):
        crc = byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ (0x18005 if crc & 0x8000 else 0)
        found.append(crc)
    return bytes(one >> 8 for one in found), bytes(one & 0xFF for one in found)


_UPPER, _LOWER = _crc16_table()


def _crc16(frames: Sequence[bytes]) -> list[bytes]:
    """The check sums of many frames, all of them a byte further at each turn: a loop over every byte of a song
    would take far longer than making it. Zeros in front, to make them equally long, change no sum."""
    length, count = max(map(len, frames), default=0), len(frames)
    data = b"".join(frame.rjust(length, b"\0") for frame in frames)
    upper, lower = bytes(count), bytes(count)
    for at in range(length):
        mixed = int.from_bytes(upper) ^ int.from_bytes(data[at::length])
        index = mixed.to_bytes(count)
        upper = (int.from_bytes(lower) ^ int.from_bytes(index.translate(_UPPER))).to_bytes(count)
        lower = index.translate(_LOWER)
    return [bytes(pair) for pair in zip(upper, lower, strict=True)]
