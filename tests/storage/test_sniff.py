"""The table of types: what is served, and what is not."""

import io
import wave
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

from bide.storage.sniff import EXTENSIONS, HEAD_BYTES, content_type, extension


def box(major: bytes, *compatible: bytes) -> bytes:
    body = b"ftyp" + major + b"\0\0\2\0" + b"".join(compatible)
    return (len(body) + 4).to_bytes(4, "big") + body + b"\0\0\0\x08free"


def ogg(codec: bytes) -> bytes:
    return b"OggS\0\2" + bytes(20) + b"\1\x1e" + codec + bytes(20)


def ebml(kind: bytes) -> bytes:
    return b"\x1aE\xdf\xa3\x9fB\x86\x81\1B\xf7\x81\1B\xf2\x81\4B\xf3\x81\x08B\x82" + bytes([0x80 | len(kind)]) + kind


def drawn(kind: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, kind)
    return out.getvalue()


def sound() -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(100))
    return out.getvalue()


def archive() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("a.png", b"\x89PNG\r\n\x1a\n")
    return out.getvalue()


MEDIA = [
    ("image/png", drawn("PNG")), ("image/jpeg", drawn("JPEG")), ("image/gif", drawn("GIF")),
    ("image/webp", drawn("WEBP")), ("image/gif", b"GIF87a"), ("image/avif", box(b"avif", b"mif1")),
    ("image/avif", box(b"mif1", b"avif", b"miaf")), ("video/mp4", box(b"isom", b"iso2", b"avc1", b"mp41")),
    ("video/mp4", box(b"mp42")), ("video/mp4", box(b"M4V ")), ("video/quicktime", box(b"qt  ", b"qt  ")),
    ("audio/mp4", box(b"M4A ", b"mp42", b"isom")), ("video/webm", ebml(b"webm")),
    ("audio/mpeg", b"ID3\4\0\0\0\0\x02\x01TSSE"), ("audio/mpeg", b"\xff\xfb\x90\x64\0"),
    ("audio/mpeg", b"\xff\xf3\x40\xc4"), ("audio/aac", b"\xff\xf1\x50\x80"), ("audio/wav", sound()),
    ("audio/ogg", ogg(b"\1vorbis")), ("audio/ogg", ogg(b"OpusHead")), ("video/ogg", ogg(b"\x80theora")),
    ("audio/flac", b"fLaC\0\0\0\x22"), ("audio/midi", b"MThd\0\0\0\6\0\1"),
]  # fmt: skip

REFUSED = [
    b"", b"\x89PNG", b"\xff\xd8", b"GIF88a", b"<!DOCTYPE html><script>alert(1)</script>", b"<html>", b"  <svg/>",
    b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", b"<?xml version='1.0'?><svg/>", b"%PDF-1.7",
    b"\xef\xbb\xbf<html>", b"\xff\xfe<\0h\0t\0m\0l\0", b"\xfe\xff\0<\0h", archive(), b"\x1f\x8b\x08", b"{}",
    b"MZ\x90", b"\x7fELF", b"#!/bin/sh", b"RIFF\0\0\0\0AVI ", b"RIFF<html>", ebml(b"matroska"), ogg(b"fishead"),
    box(b"heic", b"mif1"), box(b"mif1", b"heic"), box(b"xxxx", b"<scr"), b"<!--ftypisom<script>",
    b"ID3<script>alert(1)", b"II*\0", b"BM",
    b"\xff\xe2\xf0\0", b"\xff\xff\xff\xff", b"\0\0\1\0", b"wOFF", b"GIF", bytes(600),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "content"), MEDIA)
def test_media_is_known_by_its_first_bytes(kind: str, content: bytes) -> None:
    assert content_type(content[:HEAD_BYTES]) == kind
    assert extension(kind).isalnum()


@pytest.mark.parametrize("content", REFUSED)
def test_everything_else_is_refused(content: bytes) -> None:
    assert content_type(content[:HEAD_BYTES]) is None


def test_a_real_avif_is_known() -> None:
    if not features.check("avif"):
        pytest.skip("this Pillow draws no AVIF")
    assert content_type(drawn("AVIF")[:HEAD_BYTES]) == "image/avif"


def test_types_and_extensions_are_one_to_one_and_all_are_reached() -> None:
    assert len(set(EXTENSIONS.values())) == len(EXTENSIONS)
    assert {kind for kind, _ in MEDIA} == set(EXTENSIONS)


@given(st.binary(max_size=64))
def test_any_bytes_have_a_known_type_or_none(head: bytes) -> None:
    assert content_type(head) in {None, *EXTENSIONS}


@given(st.text(alphabet=st.characters(max_codepoint=0x7F), max_size=64))
def test_plain_text_is_a_type_only_by_a_whole_signature(text: str) -> None:
    if not text.startswith(("GIF87a", "GIF89a", "RIFF", "fLaC", "MThd", "OggS", "ID3")):
        assert content_type(text.encode()) is None
