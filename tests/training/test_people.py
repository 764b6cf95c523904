"""Who moves in nano's videos: the speaker among three, and nobody where the voice has no strength."""

from pathlib import Path

import numpy as np
import pytest

from infinitetalk.core.sizes import FPS, SAMPLE_RATE
from infinitetalk.engine.engine import Engine
from infinitetalk.media.hearing import for_speech
from infinitetalk.media.sound import read_sound
from infinitetalk.weights.locate import ASSETS
from training.evaluate.people import WINDOW, energy, groups, strengths

VOICE = ASSETS / "demo" / "voice_1.flac"


def test_energy_is_that_of_what_moves_within_the_box() -> None:
    video = np.zeros((4, 20, 30, 3), np.uint8)
    video[1::2, 5:10, 10:20] = 10
    assert energy(video, (10, 5, 20, 10)) == pytest.approx(100)
    assert energy(video, (10, 0, 20, 10)) == pytest.approx(50)
    assert energy(video, (21, 0, 30, 20)) == 0


@pytest.mark.full
def test_one_of_three_speaks_and_without_strength_nobody(tmp_path: Path) -> None:
    """One scene of each kind; `python -m training.evaluate.people` makes more of them."""
    voice = for_speech(read_sound(VOICE))[: WINDOW * SAMPLE_RATE // FPS]
    engine = Engine.from_pretrained("nano", "cpu")
    speaks, silent = (measure(engine, voice, 1, tmp_path) for measure in (groups, strengths))
    assert speaks.passed, speaks.line()
    assert silent.passed, silent.line()
