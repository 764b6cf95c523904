"""Steadiness: flicker, frames that are shown twice, and what shows where windows meet."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from infinitetalk.evaluate.detail import grey
from infinitetalk.evaluate.series import Floats, median
from infinitetalk.media.inputs import Picture

GRID: Final = 8
"""Parts of a picture's side whose brightness is followed."""
_SAME: Final = 0.05
"""Of the video's lively changes: two frames that differ by less are one frame shown twice."""
_SIDE: Final = 256
"""Pixels of a side beyond which pictures are looked at smaller."""


@dataclass(frozen=True, slots=True, eq=False)
class Shades:
    """A frame as far as steadiness goes."""

    small: Floats
    """Brightness [height, width], 0 to 255."""
    parts: Floats
    """Its mean in each part, [GRID, GRID]."""


def shades(picture: Picture) -> Shades:
    """Brightness of a picture [height, width, 3]."""
    own = grey(picture)
    step = max(1, round(min(own.shape) / _SIDE))
    size = (max(GRID, own.shape[1] // step), max(GRID, own.shape[0] // step))
    small = np.asarray(cv2.resize(own.astype(np.float32), size, interpolation=cv2.INTER_AREA), np.float32)
    return Shades(small, np.asarray(cv2.resize(small, (GRID, GRID), interpolation=cv2.INTER_AREA), np.float32))


def change(before: Shades, after: Shades) -> float:
    """Mean difference of two frames, of 255 shades."""
    return float(np.abs(after.small - before.small).mean())


def flicker(before: Shades, now: Shades, after: Shades) -> float:
    """How far brightness jumps away and back: the mean of the parts' second differences, of 255 shades."""
    return float(np.abs(before.parts - 2 * now.parts + after.parts).mean())


@dataclass(frozen=True, slots=True)
class Steadiness:
    """What a whole video shows."""

    change: float | None
    """Usual change from frame to frame, of 255 shades: the median away from borders."""
    flicker: float | None
    """Mean flicker away from borders, of 255 shades."""
    repeated: float
    """Share of frames that are like the one before."""
    seams: tuple[float, ...]
    """Change at each border of windows relative to the usual one; 1 cannot be seen."""
    seam_flicker: tuple[float, ...]
    """Flicker around each border relative to the mean."""


def steadiness(changes: Floats, flickers: Floats, starts: Sequence[int]) -> Steadiness:
    """What the frames' numbers say.

    Args:
        changes: of each frame from the one before, (F,); not a number for the first.
        flickers: of each frame, (F,); not a number for the first and last.
        starts: first frames of windows.
    """
    borders = np.array([start for start in starts if start > 0], int)
    inside, calm = changes.copy(), flickers.copy()
    inside[borders] = np.nan
    near = np.concatenate([borders - 1, borders])
    calm[near] = np.nan
    usual, trembling = median(inside), calm[np.isfinite(calm)]
    mean = float(trembling.mean()) if trembling.size else None
    lively = float(np.nanpercentile(changes, 90)) if np.isfinite(changes).any() else 0.0
    moving = changes[np.isfinite(changes)]
    same = float((moving <= max(1e-6, _SAME * lively)).mean()) if moving.size else 0.0
    return Steadiness(
        change=usual,
        flicker=mean,
        repeated=same,
        seams=tuple(float(changes[at] / usual) for at in borders) if usual else (),
        seam_flicker=tuple(float(np.nanmax(flickers[[at - 1, at]]) / mean) for at in borders
                           if np.isfinite(flickers[[at - 1, at]]).any()) if mean else (),
    )  # fmt: skip
