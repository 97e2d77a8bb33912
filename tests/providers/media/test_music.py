"""Songs: what is played, what it sounds like, and what it looks like as notes."""

import io
import json
import struct
import wave
from array import array
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bide.providers.media import midi, sound, synth
from bide.providers.media.music import (
    PARTS,
    VOICES,
    Song,
    covered,
    cut,
    extended,
    from_numbers,
    joined,
    notes,
    numbers,
    replaced,
    song,
    sped,
    tune,
)

RATE = 22_050
TUNE = song(7, "dreamy pop", 12.0)
PLAIN = replace(TUNE, fade_s=0.0)


def values(pcm: bytes) -> "array[int]":
    return array("h", pcm)


def seconds(pcm: bytes) -> float:
    return len(pcm) / 2 / RATE


def at(moment: float) -> int:
    return 2 * round(moment * RATE)


def test_a_song_lasts_as_long_as_asked_in_both_rates_and_channels() -> None:
    for rate, channels in ((22_050, 1), (22_050, 2), (44_100, 1), (44_100, 2)):
        pcm = synth.render(song(1, "jazz", 3.21), rate=rate, channels=channels)
        with wave.open(io.BytesIO(sound.wav(pcm, rate=rate, channels=channels, title="x", comment="y"))) as read:
            assert (read.getnchannels(), read.getframerate(), read.getsampwidth()) == (channels, rate, 2)
            assert read.getnframes() == round(3.21 * rate)
            assert read.readframes(1_000_000) == pcm


def test_the_same_seed_and_style_are_the_same_song_and_others_are_not() -> None:
    first = synth.render(TUNE)
    assert first == synth.render(song(7, "dreamy pop", 12.0))
    assert first != synth.render(song(8, "dreamy pop", 12.0))
    assert first != synth.render(song(7, "sad metal", 12.0))


def test_the_two_channels_differ_a_little() -> None:
    both = values(synth.render(TUNE, channels=2))
    assert both[0::2] == values(synth.render(TUNE))
    assert both[0::2] != both[1::2]


def test_a_song_is_heard_all_through_and_never_cut_off() -> None:
    pcm = synth.render(PLAIN)
    assert max(map(abs, values(pcm))) < 32_700
    assert min(synth.loudness(pcm, 24)) > 0.05


def test_twelve_tracks_differ_and_their_sum_is_the_song() -> None:
    assert len(PARTS) == 12
    stems = [synth.render(PLAIN, [part.name]) for part in PARTS]
    assert len(set(stems)) == 12
    assert all(any(values(stem)) for stem in stems)
    assert [sum(some) for some in zip(*map(values, stems), strict=True)] == list(values(synth.render(PLAIN)))


def test_voices_and_the_rest_are_the_song() -> None:
    sung, played = (values(synth.render(PLAIN, names)) for names in (VOICES, {p.name for p in PARTS} - set(VOICES)))
    assert [one + other for one, other in zip(sung, played, strict=True)] == list(values(synth.render(PLAIN)))
    assert values(synth.render(song(7, "dreamy pop", 12.0, voices=False))) != values(synth.render(TUNE))


def test_stems_of_a_song_that_fades_sum_up_but_for_rounding() -> None:
    stems = [values(synth.render(TUNE, [part.name])) for part in PARTS]
    whole = values(synth.render(TUNE))
    assert max(abs(sum(some) - one) for one, *some in zip(whole, *stems, strict=True)) <= len(PARTS)


def test_a_track_that_an_instrumental_song_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="track"):
        synth.render(song(1, "pop", 2, voices=False), ["vocals"])


def test_an_extended_song_is_longer_and_begins_as_it_was() -> None:
    longer = extended(TUNE, 8.0, 99, "jazz", 6.0)
    old, new = synth.render(TUNE), synth.render(longer)
    assert longer.seconds == 14.0 == pytest.approx(seconds(new))
    assert new[: at(8.0)] == old[: at(8.0)]
    assert new[at(8.0) : at(10.0)] != old[at(8.0) : at(10.0)]


def test_the_same_song_made_longer_begins_as_it_was() -> None:
    longer = synth.render(song(7, "dreamy pop", 20.0))
    assert longer[: at(10.4)] == synth.render(TUNE)[: at(10.4)]


def test_a_replaced_section_leaves_the_rest_as_it_was() -> None:
    old, new = synth.render(PLAIN), synth.render(replaced(PLAIN, 4.0, 6.5, 5, "techno"))
    assert len(old) == len(new)
    assert old[: at(4.0)] == new[: at(4.0)]
    assert old[at(6.5) + 4 :] == new[at(6.5) + 4 :]
    assert old[at(4.0) : at(6.5)] != new[at(4.0) : at(6.5)]


def test_a_part_that_is_cut_out_sounds_as_it_did_in_the_song() -> None:
    assert synth.render(cut(PLAIN, 3.0, 7.0)) == synth.render(PLAIN)[at(3.0) : at(7.0)]


def test_songs_are_joined_one_after_the_other() -> None:
    other = replace(song(3, "rock", 2.0), fade_s=0.0)
    assert synth.render(joined([PLAIN, other])) == synth.render(PLAIN) + synth.render(other)


def test_a_faster_song_is_shorter_and_has_the_same_notes() -> None:
    fast = sped(TUNE, 1.5)
    assert fast.seconds == pytest.approx(8.0)
    assert seconds(synth.render(fast)) == pytest.approx(8.0, abs=0.001)
    for name, played in notes(TUNE).items():
        pitches = [note.pitch for note in notes(fast)[name]]
        assert abs(len(pitches) - len(played)) <= 3
        shared = min(len(pitches), len(played)) - 3
        assert pitches[:shared] == [note.pitch for note in played][:shared]


def test_nobody_makes_a_song_slower_and_slower_for_ever() -> None:
    slow = sped(sped(song(1, "ambient slow", 1.0), 0.25), 0.5)
    assert midi.midi(slow)
    with pytest.raises(ValueError, match="eight times"):
        sped(slow, 0.5)


def test_a_cover_keeps_the_seed_and_sounds_different() -> None:
    other = covered(TUNE, "sad folk")
    assert other.sections[0].seed == 7
    assert synth.render(other) != synth.render(TUNE)


def test_the_end_grows_silent() -> None:
    end = values(synth.render(TUNE))[-200:]
    assert max(map(abs, end)) < 300


def test_styles_decide_the_tempo() -> None:
    tempo = {style: tune(song(1, style, 1.0).sections[0]).beats_per_minute for style in ("ambient", "punk")}
    assert 58 < tempo["ambient"] < 73
    assert 148 < tempo["punk"] < 174


def test_a_song_survives_a_turn_through_json() -> None:
    longer = extended(TUNE, 8.0, 99, "jazz", 6.0)
    assert from_numbers(json.loads(json.dumps(numbers(longer)))) == longer


@pytest.mark.parametrize("length", [0, -1, 901, float("nan"), float("inf")])
def test_a_length_out_of_bounds_is_refused(length: float) -> None:
    with pytest.raises(ValueError, match="lasts"):
        song(1, "pop", length)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**48), st.text(max_size=30), st.floats(0.01, 1.0), st.floats(0.0, 1.0), st.floats(0.25, 4.0))
def test_whatever_is_cut_and_sped_has_its_length_in_samples(
    seed: int, style: str, length: float, part: float, speed: float
) -> None:
    made = sped(extended(song(seed, style, length), length * part, seed + 1, style, 0.5), speed)
    assert len(synth.render(made, ["drums", "bass"])) == 2 * round(made.seconds * RATE)


def test_loudness_has_as_many_values_as_asked_between_nothing_and_full() -> None:
    found = synth.loudness(synth.render(TUNE), 100)
    assert len(found) == 100
    assert 0 <= min(found) < max(found) <= 1
    assert synth.loudness(b"", 3) == [0.0, 0.0, 0.0]


# -- files


def test_a_wave_file_says_its_title_and_prompt() -> None:
    data = sound.wav(b"\1\0" * 5, rate=RATE, title="T\u00fcr", comment="odd")
    assert struct.unpack("<I", data[4:8])[0] == len(data) - 8
    info = data[data.index(b"LIST") :]
    assert info[8:12] == b"INFO"
    assert b"INAM\x05\0\0\0" + "T\u00fcr\0".encode() + b"\0" in info
    assert b"ICMT\x04\0\0\0odd\0" in info


def test_a_song_file_is_what_its_type_says() -> None:
    data, kind = sound.song_file(synth.render(song(1, "pop", 1.0)), rate=RATE, title="Song", comment="a prompt")
    assert (kind, data[:4]) in (("audio/wav", b"RIFF"), ("audio/mpeg", b"ID3\3"))


@pytest.mark.parametrize(("channels", "block"), [(1, sound.BLOCK), (2, sound.BLOCK), (1, 16), (1, 5512), (2, 65_535)])
def test_the_sound_of_a_film_has_right_check_sums_and_the_same_samples(channels: int, block: int) -> None:
    pcm = synth.render(song(2, "pop", 4.0), channels=channels)
    track = sound.flac_track(pcm, rate=RATE, channels=channels, block=block)
    assert track.length == 4 * RATE
    sides: list[bytes] = [b""] * channels
    for number, frame in enumerate(track.samples):
        crc = 0
        for byte in frame[:-2]:
            crc ^= byte << 8
            for _ in range(8):
                crc = (crc << 1) ^ (0x18005 if crc & 0x8000 else 0)
        assert crc == int.from_bytes(frame[-2:])
        named = b"" if block == sound.BLOCK else (block - 1).to_bytes(2)
        said = chr(number).encode() + named
        head = 5 + len(said)
        assert (frame[2] >> 4, frame[4 : head - 1]) == (7 if named else 2, said)
        for side in range(channels):
            start = head + side * (1 + 2 * block)
            assert frame[start] == 2
            sides[side] += frame[start + 1 : start + 1 + 2 * block]
    for side, read in enumerate(sides):
        read_values = array("h", read)
        read_values.byteswap()
        assert read_values[: 4 * RATE] == values(pcm)[side::channels]


# -- notes


def parsed(data: bytes) -> tuple[int, int, list[list[tuple[int, bytes]]]]:
    """Format, ticks of a quarter, and the events of each track as (tick, bytes)."""
    form, count, quarter = struct.unpack(">HHH", data[8:14])
    tracks, at_byte = [], 14
    for _ in range(count):
        assert data[at_byte : at_byte + 4] == b"MTrk"
        end = at_byte + 8 + int.from_bytes(data[at_byte + 4 : at_byte + 8])
        at_byte += 8
        events, tick = [], 0
        while at_byte < end:
            step = 0
            while True:
                step = step << 7 | data[at_byte] & 0x7F
                at_byte += 1
                if data[at_byte - 1] < 0x80:
                    break
            tick += step
            size = {0xC: 2, 0x8: 3, 0x9: 3}.get(data[at_byte] >> 4) or 3 + data[at_byte + 2]
            events.append((tick, data[at_byte : at_byte + size]))
            at_byte += size
        assert events[-1][1] == b"\xff\x2f\0"
        tracks.append(events)
    assert at_byte == len(data)
    return form, quarter, tracks


def test_the_midi_file_has_the_notes_of_the_song_at_its_tempo() -> None:
    form, quarter, tracks = parsed(midi.midi(TUNE, "Dream"))
    assert (form, quarter, len(tracks)) == (1, 480, 13)
    assert (0, b"\xff\x03\x05Dream") in tracks[0]
    micros = next(int.from_bytes(event[3:]) for _, event in tracks[0] if event[1] == 0x51)
    assert 60e6 / micros == pytest.approx(tune(TUNE.sections[0]).beats_per_minute, rel=0.001)
    for track, (name, played) in zip(tracks[1:], notes(TUNE).items(), strict=True):
        assert track[0][1][3:].decode() == name
        begun = [(tick, event[1]) for tick, event in track if event[0] >> 4 == 9]
        ended = [event[1] for _, event in track if event[0] >> 4 == 8]
        assert sorted(pitch for _, pitch in begun) == sorted(ended) == sorted(note.pitch for note in played)
        for (tick, pitch), note in zip(begun, played, strict=True):
            assert (tick * micros / 480e6, pitch) == (pytest.approx(note.start, abs=0.01), note.pitch)


def test_every_note_of_the_midi_file_ends_before_it_begins_again() -> None:
    longer = extended(TUNE, 7.3, 99, "punk", 6.0)
    for track in parsed(midi.midi(longer))[2][1:]:
        sounding: dict[int, int] = defaultdict(int)
        for _, event in track:
            if event[0] >> 4 in (8, 9):
                sounding[event[1]] += 1 if event[0] >> 4 == 9 else -1
                assert sounding[event[1]] in (0, 1)
        assert not any(sounding.values())


def test_instruments_are_notes_within_the_song_in_order() -> None:
    found = midi.instruments(TUNE)
    assert [one["name"] for one in found][:3] == ["Vocals", "Backing Vocals", "Drums"]
    for one in found:
        for note in one["notes"]:
            assert 0 <= note["start"] < note["end"] <= TUNE.seconds + 1e-6
            assert 0 < note["pitch"] < 128
            assert 0 < note["velocity"] < 128
        assert all(first["start"] <= second["start"] for first, second in pairwise(one["notes"]))


def test_an_instrumental_song_has_no_voice_among_its_instruments() -> None:
    made: Song = song(1, "folk", 4.0, voices=False)
    assert not {"Vocals", "Backing Vocals"} & {one["name"] for one in midi.instruments(made)}
