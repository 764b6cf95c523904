"""Voices on one timeline, and the noise floor."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from infinitetalk.core.defaults import ModelFacts
from infinitetalk.core.errors import MediaError, RequestError
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import SAMPLE_RATE
from infinitetalk.media.files import FileMedia, check, output_sound
from infinitetalk.media.floor import levels, silence_below
from infinitetalk.media.inputs import Waveform
from infinitetalk.media.loudness import LOUDNESS
from infinitetalk.media.sound import collected
from infinitetalk.media.voices import open_voices

from .conftest import FIXTURES

PLACES = ((0, 0, 0.5, 1), (0.5, 0, 1, 1))


def tone(seconds: float, pitch: float) -> Waveform:
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.3 * np.sin(2 * np.pi * pitch * times)).astype(np.float32)


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    soundfile.write(tmp_path / "a.wav", tone(1.0, 200), SAMPLE_RATE)
    soundfile.write(tmp_path / "b.wav", tone(0.5, 300), SAMPLE_RATE)
    return tmp_path / "a.wav", tmp_path / "b.wav"


def request_of(audio: tuple[Path, ...], **more: object) -> TalkRequest:
    return TalkRequest(image=FIXTURES / "bitmap.bmp", audio=audio, boxes=PLACES, **more)  # type: ignore[arg-type]


def test_voices_at_once_or_one_after_the_other(two: tuple[Path, Path]) -> None:
    both, end = open_voices(request_of(two))
    assert ([len(voice) for voice in both], end) == ([16000, 8000], 1.0)
    (first, second), end = open_voices(request_of(two, voices="sequence"))
    assert ([len(first), len(second)], end) == ([16000, 24000], 1.5)
    assert not second[:16000].any()
    np.testing.assert_array_equal(second[16000:], both[1])
    spoken = collected(output_sound(request_of(two, voices="sequence")))
    assert spoken.seconds == 1.5
    np.testing.assert_allclose(spoken.samples[0, 16000:], tone(0.5, 300), atol=1e-4)


def test_a_start_cuts_the_common_timeline(two: tuple[Path, Path], facts: ModelFacts) -> None:
    later = request_of(two, voices="sequence", start=1.2)
    (first, second), _ = open_voices(later)
    assert not first[:].any()
    assert len(second) == 4800
    assert output_sound(later).seconds == pytest.approx(0.3)
    check(later, facts)
    with pytest.raises(RequestError, match=r"the sound is 1.50 s long; up to 1.4 would work"):
        check(request_of(two, voices="sequence", start=1.45), facts)


def test_each_voice_is_a_channel_of_its_file(tmp_path: Path, two: tuple[Path, Path], facts: ModelFacts) -> None:
    path = tmp_path / "both.wav"
    soundfile.write(path, np.stack([tone(1, 200), np.roll(tone(1, 300), 8)], 1), SAMPLE_RATE)
    request = request_of((path, path), voices="channels")
    (first, second), _ = open_voices(request)
    spectra = [int(np.abs(np.fft.rfft(voice[:])).argmax()) for voice in (first, second)]
    assert spectra == [200, 300]
    assert (output_sound(request).channels, output_sound(request).seconds) == (2, 1.0)
    with pytest.raises(MediaError, match=r"b.wav: has 1 channel, and voice 2 would be channel 2"):
        check(request_of((path, two[1]), voices="channels"), facts)


def test_breath_becomes_silence_and_speech_stays_to_the_last_bit() -> None:
    rng = np.random.default_rng(0)
    breath = (rng.standard_normal(3 * SAMPLE_RATE) * 10 ** ((LOUDNESS - 35) / 20)).astype(np.float32)
    wave = breath.copy()
    speech = slice(SAMPLE_RATE, 2 * SAMPLE_RATE)
    wave[speech] += tone(1, 200)
    wave[4000:4100] += 0.3  # a click
    quiet = silence_below(wave, 25)
    np.testing.assert_array_equal(quiet[speech], wave[speech])
    assert not quiet[: SAMPLE_RATE - 3200].any()
    assert not quiet[2 * SAMPLE_RATE + 4800 :].any()
    assert np.abs(np.diff(quiet)).max() <= np.abs(np.diff(wave)).max()
    np.testing.assert_array_equal(silence_below(wave, 60), wave)
    assert not silence_below(breath, 25).any()
    assert len(silence_below(wave[:0], 25)) == len(levels(wave[:0])) == 0


def test_the_floor_is_for_the_network_alone(two: tuple[Path, Path]) -> None:
    sound = np.concatenate([tone(0.5, 200), 0.003 * tone(1.0, 900)])
    soundfile.write(two[0], sound, SAMPLE_RATE)
    request = request_of(two, noise_floor=25)
    assert not FileMedia().open(request).voices[0][-8000:].any()
    assert FileMedia().open(request_of(two)).voices[0][-8000:].any()
    assert collected(output_sound(request)).samples[0, -8000:].any()
