"""Lays made faces on those of the source: heads that the network moved on its own are moved, turned and scaled back."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from infinitetalk.media.inputs import Picture
from infinitetalk.media.paste import Paste
from infinitetalk.media.tracking import FaceTracker, Outlines, edge_of, middle_of, moved, same_place, steady_points

Maps = NDArray[np.complex128]
"""Similarity maps of the plane, [..., 2]: a place z = x + iy goes to map[0] * z + map[1]."""

STAYS: Final[Maps] = np.array([1, 0], np.complex128)

_SIZES: Final = (0.6, 1.6)
"""How much a made face may be enlarged."""
_TURN: Final = 0.6
"""Radians by which it may be turned."""
_FAR: Final = 0.75
"""Edges of the source's face by which it may be moved."""


class Registration:
    """Finds how made faces must move. It depends on the pictures and the source's outlines alone.

    Args:
        tracker: knows faces.
        paste: knows where made pictures lie in the source.
        around: frames before and after one over which maps are averaged.
    """

    def __init__(self, tracker: FaceTracker, paste: Paste, around: int) -> None:
        self._tracker, self._paste, self._around = tracker, paste, around

    def __call__(self, made: Sequence[Picture], outlines: Sequence[Outlines]) -> Maps:
        """Maps [frames, voices, 2] in pixels of the output; a face that is not found stays where it is.

        Args:
            made: pictures of the model's size.
            outlines: of the source's faces in the output, for each of them.
        """
        found = np.stack([self._maps(picture, known) for picture, known in zip(made, outlines, strict=True)])
        return _averaged(found, self._around)

    def _maps(self, picture: Picture, source: Outlines) -> Maps:
        """Maps [voices, 2] of one picture; not a number where a face is not found."""
        scale, corner = self._paste.scale, self._paste.corner
        expected = np.stack([moved(reach, 1 / scale, -corner / scale) for reach in source])
        seen = self._tracker.follow(picture, expected, everywhere=False)
        maps = np.full((len(source), 2), np.nan, np.complex128)
        for voice, (there, before, wanted) in enumerate(zip(seen, expected, source, strict=True)):
            if not same_place(there, before):  # what is not found stays as it was expected
                found = similarity(steady_points(moved(there, scale, corner)), steady_points(wanted))
                if _sane(found, wanted):
                    maps[voice] = found
        return maps


def similarity(points: NDArray[np.float64], others: NDArray[np.float64]) -> Maps:
    """The map [2] that brings points [n, 2] nearest to others, in the mean square."""
    start, end = (side @ np.array([1, 1j]) for side in (points, others))
    middle, goal = start.mean(), end.mean()
    turn = np.vdot(start - middle, end - goal) / max(1e-9, float(np.square(np.abs(start - middle)).sum()))
    return np.array([turn, goal - turn * middle])


def _sane(found: Maps, wanted: NDArray[np.float64]) -> bool:
    """Whether a map is one between a head and the same head a little later, and no mistake."""
    x, y = middle_of(wanted)
    far = abs(found[0] * complex(x, y) + found[1] - complex(x, y)) / edge_of(wanted)
    return bool(_SIZES[0] < abs(found[0]) < _SIZES[1] and abs(np.angle(found[0])) < _TURN and far < _FAR)


def _averaged(maps: Maps, around: int) -> Maps:
    """Means over neighbouring frames, nearer ones counting more; those that are not known count nothing."""
    result = np.empty_like(maps)
    known = np.isfinite(maps[..., 0])
    places = np.arange(len(maps))
    for index in places:
        weights = np.maximum(0, around + 1.0 - np.abs(places - index))[:, None] * known
        total = weights.sum(axis=0)
        mean = (weights[..., None] * np.where(known[..., None], maps, 0)).sum(axis=0) / np.maximum(total, 1e-9)[:, None]
        result[index] = np.where(total[:, None] > 0, mean, STAYS)
    return result
