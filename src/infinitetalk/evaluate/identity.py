"""Who is seen: distances of faces by dlib's recognition network, whose weights a package brings (CC0).

Two pictures of one person usually lie less than 0.6 apart, the distance that the network was trained for; rendered
faces lie closer to each other than photographed ones. Baselines tell what a distance means for this very reference.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.errors import MachineError
from infinitetalk.evaluate.faces import Look, look_at
from infinitetalk.evaluate.series import Floats
from infinitetalk.media.inputs import Picture

EVERY: Final = 10
"""Frames between two that are looked at."""
NEED: Final = "identity needs dlib-bin and face_recognition_models: pip install 'infinitetalk[evaluate]'"
_PACKAGE: Final = "face_recognition_models"
_NETWORK, _POINTS = "dlib_face_recognition_resnet_model_v1.dat", "shape_predictor_5_face_landmarks.dat"
_SIDE: Final = 200
"""Pixels of a face's height in what dlib sees."""
_MARGIN: Final = 0.6
"""Of a face's height, around it."""

Numbers = NDArray[np.float64]
"""128 numbers of a face."""


def models_folder() -> Path | None:
    """Where the weights are; None if the package is not installed. It is not imported."""
    spec = find_spec(_PACKAGE)
    places = [Path(place) / "models" for place in (spec.submodule_search_locations or [])] if spec else []
    return next((place for place in places if (place / _NETWORK).is_file()), None)


def can_recognise() -> bool:
    """Whether `Recogniser` runs on this machine."""
    return models_folder() is not None and find_spec("dlib") is not None


class Recogniser:
    """Describes faces."""

    def __init__(self, folder: Path | None = None) -> None:
        """Reads the networks, from a folder or from the package.

        Raises:
            MachineError: dlib or the weights are not there.
        """
        folder = folder or models_folder()
        try:
            import dlib
        except ImportError as error:
            raise MachineError(NEED) from error
        if folder is None or not all((folder / name).is_file() for name in (_NETWORK, _POINTS)):
            raise MachineError(NEED)
        self._rectangle: Any = dlib.rectangle
        self._find: Any = dlib.get_frontal_face_detector()
        self._align: Any = dlib.shape_predictor(str(folder / _POINTS))
        self._describe: Any = dlib.face_recognition_model_v1(str(folder / _NETWORK))

    def describe(self, look: Look) -> Numbers | None:
        """128 numbers of a frame's face; None without one."""
        if look.face is None:
            return None
        x0, y0, x1, y1 = look.face.box
        margin = _MARGIN * look.face.height
        corners = np.array([x0 - margin, y0 - margin, x1 + margin, y1 + margin])
        share = _SIDE / look.face.height
        size = tuple(int(side) for side in np.round((corners[2:] - corners[:2]) * share))
        move = np.array([[share, 0, -corners[0] * share], [0, share, -corners[1] * share]])
        kind = cv2.INTER_AREA if share < 1 else cv2.INTER_CUBIC
        part = cv2.warpAffine(look.picture, move, size, flags=kind, borderMode=cv2.BORDER_REPLICATE)
        pixels = np.ascontiguousarray(part)
        found = self._find(pixels, 0)
        inner = round(margin * share)
        own = self._rectangle(inner, inner, size[0] - inner, size[1] - inner)
        box = max(found, key=lambda face: face.area()) if found else own
        return np.array(self._describe.compute_face_descriptor(pixels, self._align(pixels, box)))


@dataclass(frozen=True, slots=True)
class Identity:
    """Distances (L2) of a video's faces to the reference's."""

    mean: float
    largest: float
    first_window: float | None
    last_window: float | None
    same: float | None
    """Baseline: of the reference's own face, mirrored and in another light, to itself."""
    other: float | None
    """Baseline: of the nearest of the other people to the reference."""
    nearer_to_other: float | None
    """Share of the faces looked at that are nearer to one of the other people."""


def changed(picture: Picture) -> Iterable[Picture]:
    """The same person seen otherwise: mirrored, darker, brighter, turned a little."""
    height, width = picture.shape[:2]
    yield np.ascontiguousarray(picture[:, ::-1])
    for gain in (0.75, 1.25):
        yield np.clip(picture.astype(np.float32) * gain, 0, 255).astype(np.uint8)
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 8, 1)
    yield np.asarray(cv2.warpAffine(picture, turn, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8)


def same_person(recogniser: Recogniser, picture: Picture, own: Numbers) -> float | None:
    """The mean distance of a person's changed pictures to the person's own numbers."""
    found = [recogniser.describe(look_at(other)) for other in changed(picture)]
    away = [float(np.linalg.norm(numbers - own)) for numbers in found if numbers is not None]
    return float(np.mean(away)) if away else None


def identity(
    own: Sequence[Numbers],
    others: Sequence[Numbers],
    seen: Sequence[tuple[int, Numbers]],
    stretches: Sequence[slice],
    same: float | None,
) -> Identity | None:
    """What the faces that were looked at say; None if there are none.

    Args:
        own: numbers of the reference, of one picture or of several frames.
        others: numbers of other people.
        seen: frame and numbers of the video's faces.
        stretches: frames of its windows.
        same: the baseline of the same person.
    """
    if not own or not seen:
        return None
    away = distances(own, seen)
    rival = [min((float(np.linalg.norm(numbers - other)) for other in others), default=np.inf) for _, numbers in seen]
    at = np.array([index for index, _ in seen])

    def within(part: slice) -> float | None:
        inside = away[(at >= part.start) & (at < part.stop)]
        return float(inside.mean()) if inside.size else None

    return Identity(
        mean=float(away.mean()),
        largest=float(away.max()),
        first_window=within(stretches[0]),
        last_window=within(stretches[-1]),
        same=same,
        other=min((float(distances(own, [(0, other)])[0]) for other in others), default=None),
        nearer_to_other=float(np.mean(np.array(rival) < away)) if others else None,
    )


def distances(own: Sequence[Numbers], seen: Sequence[tuple[int, Numbers]]) -> Floats:
    """The distance of each face to the mean of the reference's numbers, (n,)."""
    middle = np.mean(own, axis=0)
    return np.array([np.linalg.norm(numbers - middle) for _, numbers in seen], np.float32)
