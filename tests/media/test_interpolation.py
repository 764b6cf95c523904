"""Frames between frames: where they lie, and how near they come to the true ones."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from infinitetalk.core.errors import MachineError
from infinitetalk.media.interpolation import Between, interpolate, places, require_flow
from training.heads.dataset import ClipOptions, sample_clip
from training.heads.example import babble_tracks
from training.heads.motion import Motion
from training.heads.render import HeadRenderer

RATE, REACH = 50, 15.0


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


def turning_head(index: int, frames: int, size: int, speed: float) -> NDArray[np.uint8]:
    """A held-out head that speaks and turns to and fro by so many degrees a second, at 50 frames a second."""
    options = ClipOptions(frames=frames + 1, people=(1.0, 0.0, 0.0))
    spec = sample_clip(babble_tracks(4, 10.0, seed=1), index, seed=7, split="heldout", options=options).spec
    person, time = spec.people[0], np.arange(frames) / RATE

    def at_rate(values: NDArray[np.float32]) -> NDArray[np.float32]:
        known = np.arange(len(values) - 1) / 25
        return np.stack([np.interp(time, known, column[:-1]) for column in values.T], axis=1).astype(np.float32)

    pose = at_rate(person.motion.pose)
    quarter = np.pi / 2
    pose[:, 0] = np.radians(REACH) / quarter * np.arcsin(np.sin(time * speed / REACH * quarter))
    moving = Motion(at_rate(person.motion.weights), pose, at_rate(person.motion.sway))
    turned = replace(spec, people=(replace(person, motion=moving),))
    return HeadRenderer(size=size).render(turned).frames.numpy()


def gain(frames: NDArray[np.uint8]) -> float:
    """Decibels by which frames made between every second one are nearer to the true ones than mixed ones are."""
    flow = linear = 0.0
    for number in range(1, len(frames), 2):
        before, true, after = frames[number - 1 : number + 2].astype(np.float64)
        made = Between(frames[number - 1], frames[number + 1]).at(0.5)
        linear += float(np.mean(((before + after) / 2 - true) ** 2))
        flow += float(np.mean((made - true) ** 2))
    return float(10 * np.log10(linear / flow))


@pytest.mark.parametrize(("size", "speed", "lowest"), [(128, 30.0, 1.5), (192, 20.0, 1.5)])
def test_two_decibels_over_blending_on_turning_heads(size: int, speed: float, lowest: float) -> None:
    """The mean of several heads. Slow turns at 128 pixels move edges by less than the steps in which they are drawn."""
    gains = [gain(turning_head(index, 7, size, speed)) for index in range(6)]
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
