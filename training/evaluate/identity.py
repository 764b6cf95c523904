"""How alike two faces are, by dlib's face recognition network: distances of its 128 numbers.

Two pictures of one person lie about 0.2 to 0.4 apart on rendered faces, two people about 0.5 or more.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from infinitetalk.evaluate.identity import models_folder
from training.evaluate.fetch import JUDGES, POINTS, RECOGNISER

ENLARGED = 2
"""The detector looks for faces of 80 pixels and more; ours are about that large."""


def judges() -> Path:
    """Where the weights are: what `training.evaluate.fetch` got, else the package's own."""
    fetched = (JUDGES / RECOGNISER).is_file()
    return JUDGES if fetched else models_folder() or JUDGES


class Recogniser:
    """Describes the face of a picture. Needs `dlib-bin` and the files of `training.evaluate.fetch`."""

    def __init__(self, folder: Path) -> None:
        import dlib

        for name in (RECOGNISER, POINTS):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{folder / name} is not there; get it with python -m training.evaluate.fetch")
        self._find: Any = dlib.get_frontal_face_detector()
        self._align: Any = dlib.shape_predictor(str(folder / POINTS))
        self._describe: Any = dlib.face_recognition_model_v1(str(folder / RECOGNISER))

    def describe(self, picture: NDArray[np.uint8]) -> NDArray[np.float64] | None:
        """128 numbers of the largest face of a picture [height, width, 3]; None if there is no face."""
        height, width = picture.shape[:2]
        large = Image.fromarray(picture).resize((ENLARGED * width, ENLARGED * height), Image.Resampling.BICUBIC)
        pixels = np.ascontiguousarray(large)
        faces = self._find(pixels, 0)
        if not faces:
            return None
        face = max(faces, key=lambda box: box.area())
        return np.array(self._describe.compute_face_descriptor(pixels, self._align(pixels, face)))

    def distance(self, picture: NDArray[np.uint8], frames: NDArray[np.uint8]) -> float:
        """Mean distance of the frames' faces to the picture's; not a number if no face was found."""
        own = self.describe(picture)
        others = [face for frame in frames if (face := self.describe(frame)) is not None]
        if own is None or not others:
            return float("nan")
        return float(np.mean([np.linalg.norm(own - face) for face in others]))
