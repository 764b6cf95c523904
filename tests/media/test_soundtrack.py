"""What AAC cannot hold is changed, and said."""

from dataclasses import replace
from pathlib import Path

import av
import pytest

from infinitetalk.media.sound import Sound
from infinitetalk.media.soundtrack import SoundTrack, for_aac

from .conftest import sine


def test_what_aac_holds_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    sound = sine(44100, 0.1, 0.25, 0.25, layout="stereo")
    kept = for_aac(sound)
    assert (kept.rate, kept.layout) == (44100, "stereo")
    assert kept is sound
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("rate", "layout", "channels", "told"),
    [
        (192000, "mono", 1, "the sound has 192000 Hz; the video gets 96000"),
        (48000, "10 channels", 10, "the sound has the speakers '10 channels'; the video gets mono"),
    ],
)
def test_what_aac_cannot_hold_is_told(
    rate: int, layout: str, channels: int, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    for_aac(sine(rate, 0.1, *(0.25,) * channels, layout=layout))
    assert told in caplog.text


def _encoded(path: Path, sound: Sound, *, pieces: int) -> tuple[list[bytes], int]:
    """The packets of two seconds of track, and the most samples it held; `pieces` of sound come as time goes on."""
    start, each = (
        (sound, 0) if pieces == 0 else (replace(sound, samples=sound.samples[:, :0]), 2 * sound.rate // pieces)
    )
    with av.open(str(path), "w") as container:
        track, packets, held = SoundTrack(container, start), list[bytes](), 0
        for number in range(20):
            for piece in range(number * pieces // 20, (number + 1) * pieces // 20):
                track.extend(sound.samples[:, piece * each : (piece + 1) * each])
            held = max(held, track._waiting.shape[1])
            packets += [bytes(packet) for packet in track.advance((number + 1) / 10)]
        return packets + [bytes(packet) for packet in track.finish()], held


@pytest.mark.parametrize("pieces", [20, 40])
def test_sound_that_comes_in_pieces_is_the_same_and_is_forgotten(tmp_path: Path, pieces: int) -> None:
    sound = sine(16_000, 2.0, 0.25)
    whole, _ = _encoded(tmp_path / "whole.mp4", sound, pieces=0)
    cut, held = _encoded(tmp_path / "cut.mp4", sound, pieces=pieces)
    assert cut == whole
    assert held == 1600, "a tenth of a second"
