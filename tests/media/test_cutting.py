"""How loud voices are where windows may end."""

import numpy as np
import pytest

from infinitetalk.media.cutting import SILENT, loudness_of
from infinitetalk.media.inputs import Waveform

FRAME = 640


def speech(*loud: range, frames: int = 100, level: float = 0.1) -> Waveform:
    """Noise in some frames, and 30 dB less between them."""
    wave = np.random.default_rng(0).standard_normal(frames * FRAME).astype(np.float32)
    gain = np.full(frames, level / 10**1.5, np.float32)
    for stretch in loud:
        gain[stretch.start : stretch.stop] = level
    quiet: Waveform = wave * np.repeat(gain, FRAME)
    return quiet


def test_pauses_are_quiet() -> None:
    found = loudness_of([speech(range(10, 40), range(60, 90))])
    assert len(found) == 100
    assert found[12:38] == pytest.approx([-1] * 26, abs=2)
    assert found[43:58] == pytest.approx([-31] * 15, abs=2)
    assert -28 < found[40] < -4, "half of what is heard around this border is speech"
    assert -28 < found[60] < -4


def test_loudness_is_relative_to_the_voice() -> None:
    quiet, loud = (loudness_of([speech(range(10, 40), range(60, 90), level=level)]) for level in (0.01, 0.5))
    assert quiet == pytest.approx(loud, abs=0.01)


def test_the_loudest_voice_counts() -> None:
    first, second = loudness_of([speech(range(10, 40))]), loudness_of([speech(range(35, 60), level=0.5)])
    both = loudness_of([speech(range(10, 40)), speech(range(35, 60), level=0.5)])
    assert both == [max(pair) for pair in zip(first, second, strict=True)]


def test_who_is_silent_or_has_ended_does_not_count() -> None:
    alone = loudness_of([speech(range(10, 40))])
    assert loudness_of([speech(range(10, 40)), np.zeros(200 * FRAME, np.float32)]) == [*alone, *[SILENT] * 100]
    assert loudness_of([np.zeros(10, np.float32)]) == [SILENT]
    assert loudness_of([np.zeros(0, np.float32)]) == []
