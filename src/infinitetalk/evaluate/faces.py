"""The talking face of a video: found once, then followed from frame to frame."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from infinitetalk.core.errors import RequestError
from infinitetalk.evaluate.series import Floats
from infinitetalk.media.faces import LOOKED_AT, Face, find_faces, find_near
from infinitetalk.media.inputs import Picture
from infinitetalk.media.landmarks import EYE_CORNERS, FaceMesh

_SEARCH: Final = 10
"""Frames between two searches of the whole picture for a face that is lost."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """A frame, and the face in it."""

    index: int
    picture: Picture
    face: Face | None
    """None where it is not found."""
    points: Floats | None
    """Its landmarks (468, 2) in pixels."""

    @property
    def scale(self) -> float:
        """Pixels between the outer corners of the eyes; not a number without a face."""
        if self.points is None:
            return float("nan")
        return float(np.linalg.norm(self.points[EYE_CORNERS[0]] - self.points[EYE_CORNERS[1]]))


def follow(pictures: Iterable[Picture], which: int | None = None) -> Iterator[Look]:
    """Looks at frames in order.

    Args:
        pictures: of one shot or more.
        which: the face's number from left to right in the first frame with a face, from 1 on; None: the largest.

    Raises:
        MachineError: `ai-edge-litert`, which runs the detector, is not there.
        RequestError: there are fewer faces.
    """
    mesh = FaceMesh()
    last: Face | None = None
    for index, picture in enumerate(pictures):
        face = None if last is None else _near(picture, last)
        if face is None and (last is None or index % _SEARCH == 0):
            found = find_faces(picture)
            face = _first(found, which) if last is None else _nearest(found, last)
        last = face or last
        yield Look(index, picture, face, None if face is None else mesh.points_near(picture, face))


def look_at(picture: Picture) -> Look:
    """One picture, and its largest face."""
    return next(follow([picture]))


def _first(found: list[Face], which: int | None) -> Face | None:
    if not found or which is None:
        return max(found, key=lambda face: face.height, default=None)
    if which > len(found):
        seen = f"{len(found)} face{'s' if len(found) > 1 else ''}"
        raise RequestError("face", which, f"there is no such face: {seen} in the first frame, from left to right")
    return found[which - 1]


def _near(picture: Picture, last: Face) -> Face | None:
    edge = max(last.box[2] - last.box[0], last.height)
    return _nearest(find_near(picture, last.middle, LOOKED_AT * edge), last)


def _nearest(found: list[Face], last: Face) -> Face | None:
    """The face that is about where the last one was."""

    def far(face: Face) -> float:
        return float(np.hypot(face.middle[0] - last.middle[0], face.middle[1] - last.middle[1])) / last.height

    return min((face for face in found if far(face) < 1), key=far, default=None)
