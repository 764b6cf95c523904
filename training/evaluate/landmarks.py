"""Where 468 points of a face are in each frame of a video, and how far its lips are apart."""

import numpy as np
from numpy.typing import NDArray

from infinitetalk.evaluate.lips import openness as apart
from infinitetalk.evaluate.series import filled
from infinitetalk.media.faces import find_faces
from infinitetalk.media.landmarks import POINTS
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
    return filled(apart(points))
