"""Sharpness of faces."""

import cv2
import numpy as np
from numpy.typing import NDArray

from infinitetalk.evaluate.faces import Look
from infinitetalk.media.inputs import Picture


def grey(picture: Picture) -> NDArray[np.uint8]:
    """Brightness [height, width]."""
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY), np.uint8)


def sharpness(picture: Picture) -> float:
    """How much a picture differs from its surroundings, pixel by pixel, relative to its contrast; 0 without any."""
    shades = grey(picture)
    edges = cv2.Laplacian(shades, cv2.CV_32F, ksize=3)
    contrast = float(shades.std())
    return float(edges.std()) / contrast if contrast > 0.5 else 0.0


def of_face(look: Look) -> float:
    """The sharpness within a face's box; of the whole picture where there is none."""
    if look.face is None:
        return sharpness(look.picture)
    height, width = look.picture.shape[:2]
    x0, y0, x1, y1 = (round(side) for side in look.face.box)
    part = look.picture[max(0, y0) : min(height, y1), max(0, x0) : min(width, x1)]
    return sharpness(part if min(part.shape[:2], default=0) >= 8 else look.picture)
