"""Sounds that come in pieces are, to the last bit, what they are as a whole."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import soxr

from infinitetalk.core.sizes import Pixels
from infinitetalk.media.long_sound import AnySound, LongSound, Samples, at_rate, channel, cut, late, mix, mono
from infinitetalk.media.sound import Sound, collected, open_sound
from infinitetalk.media.soundtrack import SoundTrack
from infinitetalk.media.writer import VideoWriter


def noise(rate: int, seconds: float, channels: int, seed: int = 0) -> Sound:
    samples = np.random.default_rng(seed).standard_normal((channels, round(rate * seconds))).astype(np.float32) * 0.3
    return Sound(samples, rate, "mono" if channels == 1 else "stereo")


def in_pieces(sound: Sound, size: int) -> LongSound:
    def make() -> Iterator[Samples]:
        for begin in range(0, sound.length, size):
            yield sound.samples[:, begin : begin + size]

    return LongSound(make, sound.rate, sound.layout, sound.channels, sound.length)


@pytest.mark.parametrize("size", [997, 20_000, 1 << 20])
@pytest.mark.parametrize(
    ("change", "whole"),
    [
        (lambda sound: cut(sound, 0.5), lambda samples: samples[:, 22050:]),
        (lambda sound: cut(sound, 0.25, 0.5), lambda samples: samples[:, 11025:33075]),
        (lambda sound: cut(sound, 1.0, 9), lambda samples: samples[:, 44100:]),
        (lambda sound: late(sound, 40_000), lambda samples: np.pad(samples, ((0, 0), (40_000, 0)))),
        (lambda sound: channel(sound, 1), lambda samples: samples[1:]),
        (mono, lambda samples: samples.mean(axis=0, keepdims=True)),
        (lambda sound: at_rate(sound, 16_000), lambda samples: soxr.resample(samples.T, 44_100, 16_000).T),
        (lambda sound: at_rate(sound, 48_000), lambda samples: soxr.resample(samples.T, 44_100, 48_000).T),
    ],
)
def test_a_change_of_pieces_is_that_of_the_whole(
    size: int, change: Callable[[AnySound], AnySound], whole: Callable[[Samples], Samples]
) -> None:
    sound = noise(44_100, 1.5, 2)
    changed = change(in_pieces(sound, size))
    expected = whole(sound.samples)
    assert (changed.channels, changed.length) == expected.shape
    np.testing.assert_array_equal(collected(changed).samples, expected)
    np.testing.assert_array_equal(collected(changed).samples, expected, "asked a second time")


@pytest.mark.parametrize("sizes", [(997, 40_000), (1 << 14, 1 << 20)])
def test_a_mix_of_pieces_is_that_of_the_wholes(sizes: tuple[int, int]) -> None:
    first, second = noise(48_000, 1.0, 2), noise(16_000, 1.5, 1, seed=1)
    mixed = mix([in_pieces(first, sizes[0]), late(in_pieces(second, sizes[1]), 1600)])
    expected = np.zeros((2, round(48_000 * 1.6)), np.float32)
    expected[:, : first.length] = first.samples
    expected += soxr.resample(np.pad(second.samples[0], (1600, 0)), 16_000, 48_000)
    assert (mixed.rate, mixed.channels, mixed.length) == (48_000, *expected.shape)
    np.testing.assert_array_equal(collected(mixed).samples, expected)


def test_a_cut_asks_for_no_piece_behind_it() -> None:
    asked = []

    def make() -> Iterator[Samples]:
        for number in range(1000):
            asked.append(number)
            yield np.zeros((1, 100), np.float32)

    assert collected(cut(LongSound(make, 1000, "mono", 1, 100_000), 0.5, 1.0)).length == 1000
    assert len(asked) < 20


def encoded(path: Path, sound: AnySound) -> tuple[list[bytes], int]:
    """The packets of 2.2 seconds of track, and the most samples that waited."""
    with av.open(str(path), "w") as container:
        track, packets, waited = SoundTrack(container, sound), list[bytes](), 0
        for frame in range(55):
            packets += [bytes(packet) for packet in track.advance((frame + 1) / 25)]
            waited = max(waited, track._waiting.shape[1])
        return packets + [bytes(packet) for packet in track.finish()], waited


@pytest.mark.parametrize("size", [640, 1024, 48_000])
def test_the_track_of_pieces_is_that_of_the_whole(tmp_path: Path, size: int) -> None:
    sound = noise(48_000, 2.0, 2)
    whole, _ = encoded(tmp_path / "whole.mp4", sound)
    pieces, waited = encoded(tmp_path / "pieces.mp4", in_pieces(sound, size))
    assert pieces == whole
    assert len(pieces) > 90
    assert waited <= size


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel for open files")
def test_a_writer_closes_the_file_of_its_sound(tmp_path: Path) -> None:
    path = tmp_path / "voice.flac"
    soundfile.write(path, noise(16_000, 2.0, 1).samples.T, 16_000)

    def is_open() -> bool:
        return any(entry.resolve() == path for entry in Path("/proc/self/fd").iterdir())

    with VideoWriter(tmp_path / "video.mp4", Pixels(32, 32), sound=open_sound(path)) as writer:
        assert is_open()
        writer.write(np.zeros((5, 32, 32, 3), np.uint8))
    assert not is_open()
