"""Films and moving pictures, read back box by box, sample by sample."""

import io
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageStat

from bide.providers.media import h264
from bide.providers.media.boxes import Film, box, full
from bide.providers.media.sound import flac_track
from bide.providers.media.video import FPS_MAX, Shot, film, gif, probe


def picture(size: tuple[int, int], turn: int = 0) -> Image.Image:
    """Three gradients that no two turns share."""
    across, down = Image.linear_gradient("L").rotate(90), Image.linear_gradient("L")
    bands = [across, down, Image.radial_gradient("L")]
    return Image.merge("RGB", [bands[(one + turn) % 3].resize(size) for one in range(3)])


DAWN, DUSK = picture((320, 176)), picture((320, 176), 1)
SHORT = film([Shot(DAWN, 2.0)], fps=12, title="Dawn", comment="a red sun \u6d77")


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8 : at + size]
        at += size


def inside(data: bytes, *path: bytes) -> bytes:
    for kind in path:
        data = dict(boxes(data))[kind]
    return data


def units(data: bytes) -> list[bytes]:
    """The NAL units of a film, in order, without their escapes."""
    body, found = inside(data, b"mdat"), []
    while body:
        size = int.from_bytes(body[:4])
        found.append(body[4 : 4 + size].replace(b"\0\0\3", b"\0\0"))
        body = body[4 + size :]
    return found


def shown(unit: bytes, frame: h264.Frame) -> Image.Image:
    """The picture of a unit that stands alone: its raw samples are at its end, before the stop bit."""
    count = frame.across * frame.down
    step = h264.BLOCK_BYTES + 2
    samples = b"\0\0" + unit[-1 - step * count + 2 : -1]
    image = Image.new("YCbCr", (frame.across * 16, frame.down * 16))
    for at in range(count):
        block = samples[step * at + 2 : step * (at + 1)]
        bands = [Image.frombytes("L", (side, side), part).resize((16, 16)) for side, part in
                 ((16, block[:256]), (8, block[256:320]), (8, block[320:]))]  # fmt: skip
        image.paste(Image.merge("YCbCr", bands), (at % frame.across * 16, at // frame.across * 16))
    return image


@pytest.mark.parametrize(
    ("size", "seconds", "fps"),
    [((320, 180), 4.0, 24), ((180, 320), 1.5, 30), ((1280, 720), 2.0, 24), ((100, 74), 1.0, 7), ((2, 2), 0.5, 10)],
)
def test_a_film_has_the_size_and_the_length_that_were_asked_for(
    size: tuple[int, int], seconds: float, fps: int
) -> None:
    data = film([Shot(DAWN, seconds)], size=size, fps=fps)
    frames = max(1, round(seconds * fps))
    assert probe(data) == Film(*size, seconds=pytest.approx(frames / fps), frames=frames, sound=False)
    assert len(units(data)) == frames


def test_an_odd_side_loses_a_pixel() -> None:
    found = probe(film([Shot(DAWN, 1)], size=(101, 75)))
    assert found is not None
    assert (found.width, found.height) == (100, 74)


def test_the_index_comes_before_the_samples_so_that_it_plays_while_it_arrives() -> None:
    assert [kind for kind, _ in boxes(SHORT)] == [b"ftyp", b"moov", b"mdat"]
    table = inside(inside(SHORT, b"moov"), b"trak", b"mdia", b"minf", b"stbl", b"stco")
    assert SHORT[int.from_bytes(table[8:12]) - 4 :][:4] == b"mdat"


def test_a_film_says_its_title_and_what_it_is_about() -> None:
    meta = inside(SHORT, b"moov", b"udta", b"meta")[4:]
    items = dict(boxes(inside(meta, b"ilst")))
    assert inside(items[b"\xa9nam"], b"data")[8:] == b"Dawn"
    assert inside(items[b"\xa9cmt"], b"data")[8:].decode() == "a red sun \u6d77"


def test_the_first_picture_is_the_one_that_was_given() -> None:
    unit = units(SHORT)[0]
    assert unit[0] & 0x1F == 5
    light, blue, red = shown(unit, h264.Frame(320, 176)).split()
    was = DAWN.convert("RGB", (0.1826, 0.6142, 0.062, 16, *[0.0] * 8)).split()[0]
    assert max(ImageStat.Stat(ImageChops.difference(light, was)).mean) < 1.5
    assert light.getextrema()[0] >= 16  # type: ignore[operator]
    assert light.getextrema()[1] <= 235  # type: ignore[operator]
    assert min(*blue.getextrema(), *red.getextrema()) > 0  # type: ignore[type-var]


def test_pictures_after_the_first_are_small_and_not_all_alike() -> None:
    later = units(SHORT)[1:]
    assert {unit[0] & 0x1F for unit in later} == {1}
    assert max(map(len, later)) < 2000
    assert len({len(unit) for unit in later}) > 1


def test_a_longer_film_begins_with_the_same_pictures() -> None:
    longer = film([Shot(DAWN, 2.0), Shot(DUSK, 1.5)], fps=12)
    assert units(longer)[:24] == units(SHORT)
    assert inside(longer, b"mdat").startswith(inside(SHORT, b"mdat"))
    found = probe(longer)
    assert found is not None
    assert found.seconds == pytest.approx(3.5)


def test_each_shot_begins_with_a_picture_of_its_own_that_players_can_jump_to() -> None:
    data = film([Shot(DAWN, 1.0), Shot(DUSK, 1.0), Shot(DAWN, 1.0)], fps=10)
    alone = [at for at, unit in enumerate(units(data), 1) if unit[0] & 0x1F == 5]
    table = inside(inside(data, b"moov"), b"trak", b"mdia", b"minf", b"stbl", b"stss")
    assert alone == [1, 11, 21] == list(struct.unpack(">3I", table[8:]))
    first, second = (shown(units(data)[at], h264.Frame(320, 176)).split()[0] for at in (0, 10))
    assert max(ImageStat.Stat(ImageChops.difference(first, second)).mean) > 20


def test_the_ends_of_shots_are_rounded_so_that_no_error_adds_up() -> None:
    found = probe(film([Shot(DAWN, 0.33)] * 30, size=(32, 32), fps=10))
    assert found is not None
    assert found.frames == 99


@settings(deadline=None)
@given(st.integers(2, 70), st.integers(2, 70), st.integers(1, FPS_MAX), st.integers(1, 40))
def test_any_size_and_length_makes_a_film(width: int, height: int, fps: int, frames: int) -> None:
    found = probe(film([Shot(DAWN, frames / fps)], size=(width, height), fps=fps))
    assert found is not None
    assert (found.width, found.height, found.frames) == (width - width % 2, height - height % 2, frames)


@pytest.mark.parametrize(
    ("shots", "how"),
    [([], {}), ([Shot(DAWN, 0)], {}), ([Shot(DAWN, float("nan"))], {}), ([Shot(DAWN, 1e9)], {}),
     ([Shot(DAWN, 1)], {"size": (1, 9)}), ([Shot(DAWN, 1)], {"size": (9000, 9)}), ([Shot(DAWN, 1)], {"fps": 0})],
)  # fmt: skip
def test_what_is_out_of_bounds_is_refused(shots: list[Shot], how: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        film(shots, **how)  # type: ignore[arg-type]


def test_a_film_with_sound_says_so() -> None:
    data = film([Shot(DAWN, 1.0)], size=(64, 64), sound=flac_track(bytes(2 * 22_050), rate=22_050))
    found = probe(data)
    assert found is not None
    assert found.sound
    assert found.seconds == pytest.approx(1.0)


def test_every_picture_and_its_sound_decode_with_ffmpeg() -> None:
    av = pytest.importorskip("av")
    tone = b"".join(struct.pack("<h", (at % 50 - 25) * 400) for at in range(3 * 22_050))
    shots = [Shot(DAWN, 2.0), Shot(DUSK, 1.0)]
    data = film(shots, fps=12, sound=flac_track(tone, rate=22_050))
    with av.open(io.BytesIO(data)) as opened:
        pictures = [one.to_image() for one in opened.decode(video=0)]
    with av.open(io.BytesIO(data)) as opened:
        heard = b"".join(bytes(one.planes[0])[: 2 * one.samples] for one in opened.decode(audio=0))
    assert (len(pictures), pictures[0].size) == (36, (320, 176))
    for at, shot in ((0, shots[0]), (24, shots[1])):
        above = 0, 0, 320, 144  # the bar is below
        error = ImageChops.difference(pictures[at].crop(above), shot.image.crop(above))
        assert max(ImageStat.Stat(error).mean) < 6
    assert heard.startswith(tone)


# -- the reader


def test_an_older_film_of_others_is_read_too() -> None:
    """Sixty-four bit times, unknown boxes, samples before the index."""
    head = full(b"mvhd", struct.pack(">QQIQ", 0, 0, 1000, 2500), bytes(80), version=1)
    track = full(b"tkhd", bytes(84), struct.pack(">II", 640 << 16, 360 << 16), version=1)
    media = full(b"mdhd", struct.pack(">QQIQ", 0, 0, 30, 75), bytes(4), version=1)
    table = box(b"minf", box(b"stbl", full(b"stsz", struct.pack(">II", 99, 75))))
    trak = box(
        b"trak", box(b"free", b"x"), track, box(b"mdia", media, full(b"hdlr", b"\0\0\0\0vide", bytes(13)), table)
    )
    data = box(b"ftyp", b"isom") + box(b"mdat", bytes(50)) + box(b"moov", head, trak)
    assert probe(data) == Film(640, 360, 2.5, 75, False)


def test_what_is_no_film_is_none() -> None:
    for data in (b"", b"\0" * 64, b"RIFF\0\0\0\0WAVE", SHORT[:40], SHORT[:800], box(b"ftyp", b"isom")):
        assert probe(data) is None


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_harm(data: bytes) -> None:
    probe(data)
    probe(box(b"ftyp", b"isom") + box(b"moov", data))


@settings(deadline=None)
@given(st.integers(0, 900), st.binary(min_size=1, max_size=16))
def test_a_film_with_some_bytes_changed_is_read_without_harm(at: int, put: bytes) -> None:
    found = probe(SHORT[:at] + put + SHORT[at + len(put) :])
    assert found is None or (0 <= found.width < 65536 and found.frames >= 0 and found.seconds >= 0)


@settings(deadline=None)
@given(st.integers(0, len(SHORT)))
def test_a_film_that_was_cut_off_is_read_without_harm(end: int) -> None:
    assert probe(SHORT[:end]) in (None, probe(SHORT))


def test_very_many_boxes_are_not_all_looked_at() -> None:
    assert probe(box(b"ftyp", b"isom") + box(b"free") * 200_000 + box(b"moov")) is None


# -- GIF


def test_a_gif_moves_for_as_long_as_its_shots() -> None:
    image = Image.open(io.BytesIO(gif([Shot(DAWN, 2.0), Shot(DUSK, 1.0)], fps=5, comment="dawn")))
    assert image.size == (320, 176)
    total = 0
    for at in range(image.n_frames):  # type: ignore[attr-defined]
        image.seek(at)
        total += image.info["duration"]
    assert total == 3000
    assert image.info["loop"] == 0


def test_a_long_gif_has_few_frames() -> None:
    image = Image.open(io.BytesIO(gif([Shot(DAWN, 60.0)], side_max=64, fps=10)))
    assert image.size == (64, 35)
    assert image.n_frames <= 150  # type: ignore[attr-defined]


def test_a_smaller_picture_is_stretched_to_the_film_and_looks_the_same() -> None:
    frame = h264.Frame(1280, 722)
    small, large = picture((640, 361)), picture((640, 361)).resize((1280, 722), Image.Resampling.BILINEAR)
    for one, other in zip(bands(small, frame), bands(large, frame), strict=True):
        assert max(ImageStat.Stat(ImageChops.difference(one, other)).mean) < 1.5


@pytest.mark.parametrize("size", [(640, 361), (150, 84), (2, 2)])
def test_no_sample_is_below_the_narrow_range_however_a_picture_is_stretched(size: tuple[int, int]) -> None:
    """A zero would look like the beginning of a start code."""
    black = Image.new("RGB", size)
    for frame in (h264.Frame(1282, 722), h264.Frame(2050, 1538)):
        assert min(map(min, h264.blocks(black, frame))) >= 16


def test_a_picture_of_another_shape_is_cut_and_not_squeezed() -> None:
    """The middle of a square, seen in a wide film."""
    square = Image.new("RGB", (200, 200), "white")
    square.paste("black", (0, 50, 200, 150))
    unit = units(film([Shot(square, 0.5)], size=(416, 208)))[0]
    assert shown(unit, h264.Frame(416, 208)).split()[0].getextrema()[1] < 20  # type: ignore[operator]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2000), st.sampled_from([0, 5, 40, 100]))
def test_a_picture_that_comes_again_has_only_another_number(number: int, at: int) -> None:
    new = {at: h264.WHITE} if at else {}
    assert h264._numbered(h264.changed(new, 120, 0), number) == h264.changed(new, 120, number)


def bands(image: Image.Image, frame: h264.Frame) -> list[Image.Image]:
    """Light of the upper left macroblocks of some rows, as it is written."""
    made = h264.blocks(image, frame)
    rows = range(0, frame.down - 1, 7)
    return [Image.frombytes("L", (16, 16), made[row * frame.across + row][:256]) for row in rows]
