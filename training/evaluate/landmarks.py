"""Where 468 points of a face are in each frame of a video, and how far its lips are apart."""

import numpy as np
from numpy.typing import NDArray

from infinitetalk.media.faces import find_faces
from infinitetalk.media.landmarks import EYE_CORNERS, LOWER_LIP, POINTS, UPPER_LIP
from infinitetalk.media.landmarks import FaceMesh as Mesh

Floats = NDArray[np.float32]


class FaceMesh:
    """Finds the surest face of a picture."""

    def __init__(self) -> None:
        self._mesh = Mesh()

    def points(self, picture: NDArray[np.uint8]) -> Floats | None:
        """Points (468, 2) in pixels of a picture [height, width, 3]; None if there is no face."""
        faces = find_faces(picture)
        return self._mesh.points(picture, max(faces, key=lambda face: face.score)) if faces else None

    def track(self, video: NDArray[np.uint8]) -> Floats:
        """Points (F, 468, 2) of a video [F, height, width, 3]; not a number where no face was found."""
        found = (self.points(frame) for frame in video)
        return np.stack([np.full((POINTS, 2), np.nan, np.float32) if item is None else item for item in found])


def openness(points: Floats) -> Floats:
    """How far lips are apart relative to the distance of the eyes, (F,); gaps are filled from their neighbours."""
    apart = np.linalg.norm(points[:, UPPER_LIP] - points[:, LOWER_LIP], axis=-1)
    eyes = np.linalg.norm(points[:, EYE_CORNERS[0]] - points[:, EYE_CORNERS[1]], axis=-1)
    return filled(apart / eyes)


def filled(values: Floats) -> Floats:
    """Values (F,) with gaps (not a number) bridged by straight lines; all zero if there is nothing but gaps."""
    there = np.isfinite(values)
    if not there.any():
        return np.zeros_like(values)
    place = np.arange(len(values))
    return np.interp(place, place[there], values[there]).astype(np.float32)
