"""What a mouth does: how far its lips are apart, and how much they move while nobody speaks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.sizes import FPS
from infinitetalk.evaluate.series import Floats, filled, mean
from infinitetalk.media.landmarks import EYE_CORNERS, LOWER_LIP, UPPER_LIP

_LEAST = 10
"""Frames of silence from which something can be said of it."""


def openness(points: Floats) -> Floats:
    """How far lips are apart relative to the distance of the eyes' outer corners: points (..., 468, 2) → (...)."""
    apart = np.linalg.norm(points[..., UPPER_LIP, :] - points[..., LOWER_LIP, :], axis=-1)
    eyes = np.linalg.norm(points[..., EYE_CORNERS[0], :] - points[..., EYE_CORNERS[1], :], axis=-1)
    return np.asarray(apart / eyes, np.float32)


@dataclass(frozen=True, slots=True)
class Silence:
    """How much lips move, in distances of the eyes a second."""

    seconds: float
    """For which nobody speaks."""
    moving_silent: float | None
    """While nobody speaks; None if that is too short."""
    moving_speaking: float | None


def in_silence(shown: Floats, quiet: NDArray[np.bool_]) -> Silence:
    """Lips while nobody speaks and while somebody does.

    Args:
        shown: openness (F,), not a number where there is no face.
        quiet: whether nobody speaks, (F,).
    """
    speed = np.abs(np.diff(filled(shown), prepend=shown[:1])) * FPS
    still, spoken = (np.where(quiet, speed, np.nan), np.where(quiet, np.nan, speed))
    told = mean(still) if int(quiet.sum()) >= _LEAST else None
    return Silence(float(quiet.sum()) / FPS, told, mean(spoken))
