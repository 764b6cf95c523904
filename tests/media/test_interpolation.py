"""Frames between frames: where they lie, and how near they come to the true ones."""

import sys

import numpy as np
import pytest

from infinitetalk.core.errors import MachineError
from infinitetalk.media.interpolation import Between, interpolate, places, require_flow
from training.evaluate.turning import any_speed, gain, turning_head


@pytest.mark.parametrize("fps", [50, 60])
def test_windows_join_without_gap_or_repeat(fps: int) -> None:
    """Three windows, a cut, two windows: each frame lies at its own time, and none between two shots."""
    windows = [(0, 21, False, False), (21, 16, True, False), (37, 5, True, True), (42, 21, False, False)]
    windows.append((63, 12, True, True))
    times = []
    for first, count, joined, ends in windows:
        for left, share in places(first, count, fps, joined=joined, ends=ends):
            assert -1 <= left < count
            assert left >= 0 or joined
            assert 0 <= share < 1
            times.append((first + left + share) / 25)
    wanted = np.arange(75 * fps // 25) / fps
    held = [number for number, time in enumerate(wanted) if 41 < time * 25 < 42 or time * 25 > 74]
    assert len(times) == len(wanted)
    for number, (time, true) in enumerate(zip(times, wanted, strict=True)):
        assert abs(time - true) < 1e-9 or number in held
        assert number not in held or time in (41 / 25, 74 / 25)


def test_frames_that_are_there_stay_and_cuts_are_not_crossed() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), dtype=np.uint8)
    made = list(interpolate(frames, None, 10, 50, ends=True))
    assert len(made) == 6
    for index in range(3):
        np.testing.assert_array_equal(made[2 * index], frames[index])
    np.testing.assert_array_equal(made[5], frames[2])
    joined = list(interpolate(frames[1:], frames[0], 11, 50, ends=True))
    for one, other in zip(made[1:], joined, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("size", "speed", "lowest"), [
    (128, None, 1.5),
    pytest.param(128, 30.0, 1.5, marks=pytest.mark.full),
    pytest.param(192, 20.0, 1.5, marks=pytest.mark.full),
])  # fmt: skip
def test_two_decibels_over_blending_on_turning_heads(size: int, speed: float | None, lowest: float) -> None:
    """The mean of several heads, each at its own speed from 20 degrees a second on, or all at one.

    Turns of 20 at 128 pixels move edges by less than the steps in which they are drawn: there it is less.
    """
    gains = [gain(turning_head(index, 7, size, speed or any_speed(index))) for index in range(6)]
    assert np.mean(gains) >= 2, gains
    assert min(gains) >= lowest, gains


def test_hard_edges_do_not_ring() -> None:
    """A step that moves by half a pixel is nowhere darker or brighter than it was."""
    before = np.full((32, 48, 3), 40, np.uint8)
    before[:, 20:] = 210
    after = np.roll(before, 1, axis=1)
    after[:, 0] = 40
    made = Between(before, after).at(0.5)
    assert made.min() >= 40
    assert made.max() <= 210
    assert 60 < made[16, 20, 0] < 190


def test_without_opencv_there_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MachineError, match="opencv-python-headless, or leave fps at 25"):
        require_flow()
