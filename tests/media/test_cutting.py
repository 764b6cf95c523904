"""Where windows may end: frames at which every voice is quiet."""

import numpy as np

from infinitetalk.media.cutting import AFTER, BEFORE, pauses_of
from infinitetalk.media.inputs import Waveform

FRAME = 640


def speech(*loud: range, frames: int = 100, level: float = 0.1) -> Waveform:
    """Noise in some frames, and 40 dB less between them."""
    wave = np.random.default_rng(0).standard_normal(frames * FRAME).astype(np.float32)
    gain = np.full(frames, level / 100, np.float32)
    for stretch in loud:
        gain[stretch.start : stretch.stop] = level
    quiet: Waveform = wave * np.repeat(gain, FRAME)
    return quiet


def inside(begin: int, end: int) -> set[int]:
    """Borders within a pause, away from its edges; the level is measured over 30 ms, so one frame more is loud."""
    return set(range(begin + BEFORE + 1, end - AFTER))


def test_quiet_stretches_are_pauses() -> None:
    found = set(pauses_of([speech(range(10, 40), range(60, 90))]))
    assert inside(40, 60) <= found
    assert not found & {*range(10 - AFTER + 1, 40 + BEFORE), *range(60 - AFTER + 1, 90 + BEFORE)}


def test_loudness_does_not_matter() -> None:
    quiet, loud = (pauses_of([speech(range(10, 40), range(60, 90), level=level)]) for level in (0.01, 0.5))
    assert quiet == loud


def test_all_voices_must_pause() -> None:
    first, second = speech(range(10, 40), range(60, 90)), speech(range(42, 58))
    assert not set(pauses_of([first, second])) & set(range(10, 90))
    assert set(pauses_of([first, np.zeros(100 * FRAME, np.float32)])) == set(pauses_of([first]))


def test_a_voice_that_has_ended_is_quiet() -> None:
    assert inside(40, 60) <= set(pauses_of([speech(range(10, 40), range(60, 90)), speech(range(5), frames=20)]))


def test_even_noise_and_silence() -> None:
    assert pauses_of([speech(range(100))]) == ()
    assert pauses_of([np.zeros(10 * FRAME, np.float32)]) == tuple(range(BEFORE, 10 - AFTER + 1))
    assert pauses_of([np.zeros(10, np.float32)]) == ()
