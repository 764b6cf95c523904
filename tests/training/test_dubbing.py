"""The measure of dubbed footage: it tells a camera that moves alike from one that does not."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from infinitetalk.core.request import TalkRequest
from training.evaluate.dubbing import Footage, agreement


def pan(seed: int) -> np.ndarray:
    """Frames of a pattern over which a camera sways, and the same dark person in the middle of each."""
    rng = np.random.default_rng(seed)
    wall = cv2.GaussianBlur(rng.uniform(0, 255, (160, 160, 3)).astype(np.float32), (0, 0), 4)
    wall = np.clip(128 + 8 * (wall - wall.mean()), 0, 255).astype(np.uint8)
    path = (16 + 12 * np.sin(np.arange(12)[:, None] / 2 + rng.uniform(0, 6, 2))).astype(int)
    frames = np.stack([wall[y : y + 128, x : x + 128] for x, y in path])
    frames[:, 40:, 48:80] = 20
    return frames


def test_motion_of_the_background_is_compared() -> None:
    person = np.zeros((12, 128, 128), np.bool_)
    person[:, 40:, 48:80] = True
    source = Footage(pan(0), person, np.zeros(12 * 640, np.float32))
    assert agreement(source, source.frames) == pytest.approx((1, 1))
    brighter = np.clip(source.frames.astype(int) + 10, 0, 255).astype(np.uint8)
    assert min(agreement(source, brighter)) > 0.9
    assert max(agreement(source, pan(5))) < 0.6
    assert np.array_equal(source.frame_at(0.2), source.frames[5])
    asked = TalkRequest(video=Path("footage"), audio=(Path("voice"),))
    assert source.open(asked).source is source
