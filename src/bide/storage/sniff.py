"""What a file is, from its first bytes and nothing else.

A name or a header of whoever sent it proves nothing. What is not in this table is not served: among the
refused are HTML and SVG (they run scripts), archives and HEIC. The signatures are those of each format's
own specification: PNG, RFC 9649 (WebP), ISO 14496-12 (`ftyp`), RFC 8794 (EBML), ISO 11172-3 (MPEG
audio), RFC 3533 (Ogg), RFC 9639 (FLAC), the MIDI file format and RIFF.
"""

from collections.abc import Callable

HEAD_BYTES = 512
"""As many first bytes as `content_type` looks at."""

EXTENSIONS: dict[str, str] = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "image/gif": "gif",
    "image/avif": "avif",
    "video/mp4": "mp4",
    "video/quicktime": "mov",
    "video/webm": "webm",
    "video/ogg": "ogv",
    "audio/mpeg": "mp3",
    "audio/mp4": "m4a",
    "audio/aac": "aac",
    "audio/wav": "wav",
    "audio/ogg": "ogg",
    "audio/flac": "flac",
    "audio/midi": "mid",
}
"""Content type to extension, one to one, so that a name we gave leads back to the type we saw."""


def extension(content_type: str) -> str:
    """`image/jpeg` → `jpg`. `KeyError` for a type that `content_type` never answers."""
    return EXTENSIONS[content_type]


def content_type(head: bytes) -> str | None:
    """The type of a file that begins with `head` (at best `HEAD_BYTES` of it); None: not media we know."""
    for signature, answer in _SIGNATURES:
        if head.startswith(signature):
            return answer if isinstance(answer, str) else answer(head)
    if head[4:8] == b"ftyp":
        return _iso_media(head)
    return _mpeg_audio(head)


def _riff(head: bytes) -> str | None:
    return {b"WEBP": "image/webp", b"WAVE": "audio/wav"}.get(head[8:12])


def _ogg(head: bytes) -> str | None:
    """The first page of a stream names its codec: byte 28 on is the codec's own identification."""
    if b"\x80theora" in head:
        return "video/ogg"
    if any(mark in head for mark in (b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   ")):
        return "audio/ogg"
    return None


def _ebml(head: bytes) -> str | None:
    """WebM is the Matroska container with the DocType (element 4282) `webm`; general Matroska is refused."""
    return "video/webm" if b"\x42\x82\x84webm" in head[:128] else None


def _id3(head: bytes) -> str | None:
    """A tag of version 2.2 to 2.4 whose four size bytes have no high bit, as text hardly ever has it."""
    plausible = len(head) >= 10 and head[3] in (2, 3, 4) and max(head[6:10]) < 0x80
    return "audio/mpeg" if plausible else None


_MOVIE_BRANDS = (b"iso", b"mp4", b"avc", b"dash", b"msdh", b"M4V", b"MSNV", b"3gp", b"f4v", b"cmf")


def _iso_media(head: bytes) -> str | None:
    """The major brand, then the compatible brands, of an ISO base media file."""
    size = int.from_bytes(head[:4], "big")
    if not 16 <= size <= 4096:
        return None
    end = min(size, len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))]
    if any(brand in (b"avif", b"avis") for brand in brands):
        return "image/avif"
    match brands[0]:
        case b"qt  ":
            return "video/quicktime"
        case b"M4A " | b"M4B ":
            return "audio/mp4"
        case b"heic" | b"heix" | b"hevc" | b"mif1" | b"msf1":
            return None
    return "video/mp4" if any(brand.startswith(_MOVIE_BRANDS) for brand in brands) else None


def _mpeg_audio(head: bytes) -> str | None:
    """The header of a bare frame: MPEG layer III, or AAC in ADTS; reserved values are refused."""
    if len(head) < 4 or head[0] != 0xFF:
        return None
    second, third = head[1], head[2]
    if second & 0xF6 == 0xF0:
        return "audio/aac" if (third >> 2) & 0x0F < 13 else None
    layer_three = second & 0xE6 == 0xE2 and second & 0x18 != 0x08
    bitrate, rate = third >> 4, (third >> 2) & 3
    return "audio/mpeg" if layer_three and bitrate not in (0, 15) and rate != 3 else None


_SIGNATURES: tuple[tuple[bytes, str | Callable[[bytes], str | None]], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"RIFF", _riff),
    (b"\x1aE\xdf\xa3", _ebml),
    (b"OggS\x00", _ogg),
    (b"fLaC", "audio/flac"),
    (b"MThd\x00\x00\x00\x06", "audio/midi"),
    (b"ID3", _id3),
)
