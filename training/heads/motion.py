"""How a person moves beside the speech: head pose, blinks, gaze, brows and a constant mood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.heads.blendshapes import JAW_OPEN, SHAPE_INDEX, shape_indices
from training.heads.tracks import FRAME_RATE

Floats = NDArray[np.float32]

_BLINK: Final = shape_indices("eyeBlink")
_LOOKS: Final = shape_indices("eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeLookDown")
_SMILE: Final = shape_indices("mouthSmile")
_BLINK_CLOSING, _BLINK_OPENING = 0.055, 0.09  # seconds
_EYE_REACH: Final = 0.38  # radians that a full eyeLook weight turns the eye


@dataclass(frozen=True)
class Motion:
    """Movement of one person over F frames."""

    weights: Floats  # [F, 52] ARKit weights: speech and everything else
    pose: Floats  # [F, 3] yaw, pitch, roll in radians
    sway: Floats  # [F, 2] shift of the head in decimetres: right, up


def random_motion(speech: Floats, rng: np.random.Generator, calm: float = 1.0) -> Motion:
    """Add head movement, blinks, gaze and brows to a speech track ``[F, 52]``.

    ``calm`` scales all head movement (1: about 1.5 degrees around a constant pose; 0: none).
    """
    frames = len(speech)
    time = np.arange(frames) / FRAME_RATE
    stress = _moving_mean(speech[:, JAW_OPEN], 15)
    pose = np.stack(
        [
            rng.normal() * 0.10 + calm * _wander(rng, time, 0.025, 0.08, 0.4),
            rng.normal() * 0.03 + calm * (_wander(rng, time, 0.013, 0.1, 0.5) + 0.03 * rng.normal() * stress),
            rng.normal() * 0.02 + calm * _wander(rng, time, 0.010, 0.08, 0.35),
        ],
        1,
    )
    sway = calm * np.stack([_wander(rng, time, 0.010, 0.08, 0.3), _wander(rng, time, 0.008, 0.08, 0.3)], 1)
    weights = speech.astype(np.float32).copy()
    weights[:, _BLINK] = np.maximum(weights[:, _BLINK], _blinks(rng, time)[:, None])
    _look(weights, pose[:, :2], rng)
    mood = max(0.0, float(rng.normal()) * 0.1)
    weights[:, _SMILE] = np.clip(weights[:, _SMILE] + mood, 0.0, 1.0)
    brows = 0.05 + _wander(rng, time, 0.06, 0.1, 0.4) + 0.35 * rng.random() * stress
    weights[:, SHAPE_INDEX["browInnerUp"]] = np.clip(brows, 0.0, 0.5)
    weights[:, shape_indices("browOuterUp")] = np.clip(0.7 * brows, 0.0, 0.4)[:, None]
    return Motion(weights, pose.astype(np.float32), sway.astype(np.float32))


def varied_motion(motion: Motion, strength: float, turn: float, rng: np.random.Generator, calm: float = 1.0) -> Motion:
    """Head movement, blinks and glances as strong as told, around a pose turned by ``turn`` radians.

    Args:
        strength: 0 keeps the pose of the first frame and never blinks, 1 is usual, 2 is lively. Lids close all the way
            from 0.5 on. Speech stays as it is.
        calm: scale of head movement, at any strength; nothing but the mouth moves at 0.
    """
    if not calm:
        strength = 0.0
    frames = len(motion.weights)
    time = np.arange(frames) / FRAME_RATE
    pose, sway, weights = motion.pose.copy(), motion.sway.copy(), motion.weights.copy()
    nods = np.stack([_nods(rng, time, size) for size in (0.03, 0.05, 0.025)], 1)
    middle = pose[:1]
    pose = middle + strength * calm * (1.4 * (pose - middle) + nods).astype(np.float32)
    pose[:, 0] += np.float32(turn - 0.5 * middle[0, 0])
    pose[:, 1] += np.float32(rng.normal() * 0.05)
    pose[:, 2] += np.float32(rng.normal() * 0.05)
    weights[:, _BLINK] *= min(1.0, 2 * strength)
    # Eyes look back at the camera only as far as they can.
    looks = weights[:, _LOOKS]
    weights[:, _LOOKS] = looks[:1] + min(1.0, strength) * (looks - looks[:1])
    sway = sway[:1] + strength * calm * 1.3 * (sway - sway[:1])
    return Motion(weights, pose.astype(np.float32), sway.astype(np.float32))


def _nods(rng: np.random.Generator, time: NDArray[np.floating], size: float) -> NDArray[np.floating]:
    """A few turns that start and come to rest smoothly, from zero."""
    path = np.zeros(len(time))
    moment = rng.uniform(0.2, 2.0)
    while moment < time[-1]:
        share = np.clip((time - moment) / rng.uniform(0.3, 0.8), 0.0, 1.0)
        path = path + (rng.normal() * size - 0.6 * path[-1]) * share * share * (3 - 2 * share)
        moment += rng.uniform(0.5, 2.5)
    return path


def _wander(
    rng: np.random.Generator, time: NDArray[np.floating], size: float, slowest: float, fastest: float
) -> NDArray[np.floating]:
    """A smooth random movement of about ``size``: three sines between two frequencies in Hz."""
    strength, frequency, phase = rng.normal(size=3), rng.uniform(slowest, fastest, 3), rng.uniform(0, 2 * np.pi, 3)
    waves = np.sin(2 * np.pi * frequency * time[:, None] + phase)
    swing: NDArray[np.floating] = size * (waves @ strength) / np.sqrt(3)
    return swing


def _moving_mean(values: Floats, window: int) -> NDArray[np.floating]:
    kernel = np.hanning(window + 2)[1:-1]
    padded = np.pad(values, window // 2, mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), "valid")[: len(values)]


def _blinks(rng: np.random.Generator, time: NDArray[np.floating]) -> NDArray[np.floating]:
    """Lids closed 0..1: quick closing, slower opening, every two to six seconds."""
    closed = np.zeros(len(time))
    moment = rng.uniform(0.3, 4.0)
    while moment < time[-1] - 0.2:
        away = time - moment
        width = np.where(away < 0, _BLINK_CLOSING, _BLINK_OPENING)
        closed = np.maximum(closed, np.exp(-((away / width) ** 2)))
        moment += rng.uniform(2.0, 6.0)
    return np.where(closed < 0.03, 0.0, closed)


def _look(weights: Floats, head: NDArray[np.floating], rng: np.random.Generator) -> None:
    """Turn the eyes to the camera against the head's pose, with a rare small glance aside."""
    frames = len(weights)
    aside = np.zeros((frames, 2))
    start = int(rng.integers(10, 60))
    while start < frames:
        stop = start + int(rng.integers(8, 22))
        aside[start:stop] = rng.normal(size=2) * (0.07, 0.025)
        start = stop + int(rng.integers(30, 90))
    aside = np.stack([_moving_mean(axis.astype(np.float32), 3) for axis in aside.T], 1)
    right = (aside[:, 0] - head[:, 0]) / _EYE_REACH
    up = (aside[:, 1] + head[:, 1]) / _EYE_REACH
    pairs = {"eyeLookOutLeft": right, "eyeLookInRight": right, "eyeLookInLeft": -right, "eyeLookOutRight": -right}
    pairs |= {"eyeLookUpLeft": up, "eyeLookUpRight": up, "eyeLookDownLeft": -up, "eyeLookDownRight": -up}
    for name, amount in pairs.items():
        weights[:, SHAPE_INDEX[name]] = np.clip(amount, 0.0, 0.8)
