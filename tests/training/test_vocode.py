"""Vocoded speech: what is done to envelope, pitch and breath before the vocoder speaks again."""

import random

import numpy as np

from training.speech import vocode


def test_coefficients_are_blurred_around_their_mean() -> None:
    codes = np.random.default_rng(0).normal(size=(400, 20)) + np.arange(20)
    made = [vocode.statistical(codes, random.Random(seed)) for seed in range(12)]
    assert all(item.shape == codes.shape for item in made)
    assert all(np.allclose(item.mean(0), codes.mean(0), atol=0.05) for item in made)
    steps = [np.abs(np.diff(item[:, 1:], axis=0)).mean() for item in made]
    assert min(steps) < 0.3 * max(steps), "some are blurred, some are not"


def test_melody_moves_voiced_frames_alone() -> None:
    pitch = np.where(np.arange(100) % 4 == 0, 0.0, 150.0 + 30 * np.sin(np.arange(100) / 9))
    for seed in range(8):
        moved = vocode.melody(pitch, random.Random(seed))
        assert ((moved == 0) == (pitch == 0)).all()
        assert moved.max() <= 500 and moved[moved > 0].min() >= 60
    assert np.array_equal(vocode.melody(np.zeros(5), random.Random(0)), np.zeros(5))


def test_without_pitch_everything_is_breath() -> None:
    noise = vocode.breath(np.array([0.0, 120.0]), random.Random(0))
    assert (noise[0] == 1).all()
    assert noise[1].max() <= 0.51 and (np.diff(noise[1]) >= 0).all()
