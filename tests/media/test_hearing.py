"""What the speech encoder hears of a voice is the same whether it is in memory or on disk."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
import soundfile

from infinitetalk.core.errors import MachineError
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import SAMPLE_RATE
from infinitetalk.media import floor, hearing, spool
from infinitetalk.media.cutting import loudness_of
from infinitetalk.media.files import FileMedia
from infinitetalk.media.floor import Floor, silence_below
from infinitetalk.media.hearing import for_speech, listen
from infinitetalk.media.inputs import Waveform
from infinitetalk.media.loudness import LOUDNESS, loudness
from infinitetalk.media.sound import Sound
from infinitetalk.media.spool import Silence, Spool, Tail

from .conftest import FIXTURES


def speech(seconds: float, seed: int = 0) -> Waveform:
    """Noise that swells and pauses, as speech does."""
    rng, count = np.random.default_rng(seed), round(seconds * SAMPLE_RATE)
    swell = np.abs(np.sin(np.arange(count) / SAMPLE_RATE * 2.1)) ** 3 + 1e-3
    return (rng.standard_normal(count) * swell * 0.1).astype(np.float32)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Voices on disk from half a second on, and a tenth of a second at a time."""
    monkeypatch.setattr(spool, "PIECE", SAMPLE_RATE // 10)
    monkeypatch.setattr(hearing, "SHORT", SAMPLE_RATE // 2)
    yield


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("seconds", [0.05, 0.1, 0.3999, 0.4, 0.45, 1.0, 3.14159, 7.07])
def test_loudness_is_that_of_pyloudnorm(seconds: float) -> None:
    wave = speech(seconds) + np.float32(0.01)
    enough = np.resize(wave, max(len(wave), round(0.4 * SAMPLE_RATE))).astype(np.float64)
    expected = pyloudnorm.Meter(SAMPLE_RATE).integrated_loudness(enough)
    assert loudness(wave) == pytest.approx(expected, abs=1e-9)


@pytest.mark.usefixtures("small_pieces")
def test_loudness_looks_away_from_pauses() -> None:
    wave = np.concatenate([speech(2), np.zeros(3 * SAMPLE_RATE, np.float32), speech(2, 1), speech(4, 2) * 1e-3])
    expected = pyloudnorm.Meter(SAMPLE_RATE).integrated_loudness(wave.astype(np.float64))
    assert loudness(wave) == pytest.approx(expected, abs=1e-9)
    assert loudness(speech(2)) == pytest.approx(expected, abs=1.0)


@pytest.mark.parametrize("start", [0.0, 0.73, -0.31])
@pytest.mark.parametrize("below", [None, 20.0])
def test_a_voice_on_disk_is_the_one_in_memory(
    start: float, below: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = Sound(np.stack([speech(3.3), speech(3.3, 1)]), SAMPLE_RATE, "stereo")
    whole = listen(sound, start, floor=below)
    assert isinstance(whole, np.ndarray)
    monkeypatch.setattr(spool, "PIECE", SAMPLE_RATE // 10)
    monkeypatch.setattr(hearing, "SHORT", 0)
    stored = listen(sound, start, floor=below)
    assert isinstance(stored, Tail)
    assert len(stored) == len(whole) == round(3.3 * SAMPLE_RATE) - round(start * SAMPLE_RATE)
    np.testing.assert_array_equal(stored[:], whole)
    np.testing.assert_array_equal(stored[5000:5003], whole[5000:5003])
    assert len(stored[len(stored) - 2 : len(stored) + 9]) == 2
    assert len(stored[len(stored) + 1 : len(stored) + 9]) == 0
    assert loudness_of([stored]) == loudness_of([whole])
    mono = (sound.samples[0] + sound.samples[1]) / 2
    level = pyloudnorm.Meter(SAMPLE_RATE).integrated_loudness(mono.astype(np.float64))
    expected = mono * np.float32(10 ** ((LOUDNESS - level) / 20))
    if below is None:
        first = max(0, round(-start * SAMPLE_RATE))
        np.testing.assert_allclose(whole[first:], expected[max(0, round(start * SAMPLE_RATE)) :], rtol=1e-6)
        assert not whole[:first].any()


def test_a_floor_in_pieces_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    wave = speech(4.0123) + speech(4.0123, 9) * np.float32(0.01)
    whole = silence_below(wave, 15)
    assert (whole == 0).mean() > 0.05
    stored = Spool()
    stored.append(wave)
    monkeypatch.setattr(spool, "PIECE", floor.STEP * 7)
    stored.change(0, Floor(stored, 15).silence)
    np.testing.assert_array_equal(stored[:], whole)


@pytest.mark.usefixtures("small_pieces")
def test_long_voices_of_a_request_are_on_disk(portrait: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", speech(1.0), SAMPLE_RATE)
    places = ((0, 0, 0.5, 1), (0.5, 0, 1, 1))
    request = TalkRequest(image=portrait, audio=(tmp_path / "a.wav",), boxes=places)  # type: ignore[arg-type]
    talking, silent = FileMedia().open(request).voices
    assert isinstance(talking, Tail)
    assert isinstance(silent, Silence)
    assert len(talking) == len(silent) == SAMPLE_RATE
    assert talking[:].any()
    assert silent[100:300].shape == (200,)
    assert not silent[:].any()


def test_a_short_voice_is_an_array() -> None:
    assert for_speech(Sound(speech(0.2)[None], SAMPLE_RATE, "mono"), 0.3).shape == (0,)
    assert isinstance(listen(Sound(speech(0.2)[None], SAMPLE_RATE, "mono"), 0.3, least=1600), np.ndarray)


def test_no_folder_for_temporary_files_is_one_line(monkeypatch: pytest.MonkeyPatch, portrait: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(MachineError, match="TMPDIR"):
        FileMedia().open(TalkRequest(image=portrait, audio=(FIXTURES / "s16.wav",)))
