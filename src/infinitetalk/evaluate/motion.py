"""Motion of heads and bodies."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.sizes import FPS
from infinitetalk.evaluate.detail import grey
from infinitetalk.evaluate.faces import Look
from infinitetalk.evaluate.series import Floats, filled, mean, smoothed
from infinitetalk.media.landmarks import EYE_CORNERS
from infinitetalk.media.tracking import STEADY

AXES: Final = ("right", "down", "roll", "yaw", "pitch")
_NOSE: Final = 4
_SMOOTH: Final = 5
"""Frames over which landmarks' trembling is taken out."""
_WIDE: Final = 120
"""Pixels of the part of a picture in which a body is followed."""
_LEAST: Final = 8
"""Pixels of a body's height from which it can be."""
_HIGH: Final = 48
"""Pixels of height and width that the flow needs: smaller pictures are enlarged."""


def pose(look: Look) -> dict[str, float]:
    """Where a head is and how it is turned; nothing without a face.

    `right` and `down` of its steady points in pixels; `roll` in radians; `yaw` and `pitch` are the tip of the nose
    between the eyes, in distances of the eyes, which for small turns goes with the angle. `eyes` is their distance.
    """
    if look.points is None:
        return {}
    middle = look.points[list(STEADY)].mean(0)
    right, left = look.points[EYE_CORNERS[0]], look.points[EYE_CORNERS[1]]
    across = (left - right) / max(1e-6, look.scale)
    down = np.array([-across[1], across[0]])
    nose = (look.points[_NOSE] - (right + left) / 2) / max(1e-6, look.scale)
    return {
        "right": float(middle[0]),
        "down": float(middle[1]),
        "roll": float(np.arctan2(across[1], across[0])),
        "yaw": float(nose @ across),
        "pitch": float(nose @ down),
        "eyes": look.scale,
    }


def head_speed(poses: dict[str, Floats]) -> Floats:
    """How fast a head moves and turns, (F,), in distances of the eyes a second: a turn by one radian counts as one.
    Not a number if there is no face at all.

    Args:
        poses: what `pose` says of each frame, (F,) by name.
    """
    if not np.isfinite(poses["eyes"]).any():
        return np.full_like(poses["eyes"], np.nan)
    eyes = filled(poses["eyes"])
    usual = float(np.median(eyes)) or 1.0
    total = np.zeros(len(eyes), np.float64)
    for axis in AXES:
        values = smoothed(filled(poses[axis]), _SMOOTH)
        unit = usual if axis in ("right", "down") else 1.0
        total += np.square(np.diff(values, prepend=values[:1]) / unit)
    return np.asarray(np.sqrt(total) * FPS, np.float32)


def head_motion(poses: dict[str, Floats]) -> float | None:
    """The mean of `head_speed`; None without a face."""
    return mean(head_speed(poses))


class Body:
    """Follows what is below a face from frame to frame, by optical flow."""

    def __init__(self) -> None:
        self._finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._before: NDArray[np.uint8] | None = None
        self._place: tuple[int, int, int] | None = None
        self._scale = 1.0

    def speed(self, look: Look) -> float | None:
        """How fast it moves since the frame before, in distances of the eyes a second; None where nothing is seen.

        Of the shoulders' pixels the fastest fourth counts: plain clothes show no motion.
        """
        if self._place is None:
            self._place = _below(look)
            self._scale = look.scale
        if self._place is None:
            return None
        top, left, right = self._place
        part = grey(look.picture[top:, left:right])
        share = max(min(1.0, _WIDE / part.shape[1]), _HIGH / min(part.shape))
        kind = cv2.INTER_AREA if share < 1 else cv2.INTER_CUBIC
        small = np.asarray(cv2.resize(part, None, fx=share, fy=share, interpolation=kind), np.uint8)
        before, self._before = self._before, small
        if before is None or before.shape != small.shape:
            return None
        flow = self._finder.calc(before, small, np.zeros((*small.shape, 2), np.float32))
        length = np.linalg.norm(flow, axis=-1) / share
        return float(np.percentile(length, 75)) / self._scale * FPS


def _below(look: Look) -> tuple[int, int, int] | None:
    """Top, left and right of what is below a face."""
    if look.face is None or look.points is None:
        return None
    height, width = look.picture.shape[:2]
    chin, reach = float(look.points[:, 1].max()), 1.2 * look.face.height
    top = round(chin + 0.08 * look.face.height)
    left, right = max(0, round(look.face.middle[0] - reach)), min(width, round(look.face.middle[0] + reach))
    return (top, left, right) if height - top >= _LEAST and right - left >= _LEAST else None
