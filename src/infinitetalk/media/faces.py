"""Where faces are in a picture: MediaPipe's short-range detector, run without MediaPipe.

The detector sees 128x128 pixels, so it looks at the whole picture and then at overlapping parts of it: a face among
many is found as well as a portrait. What several looks found is merged.
"""

import lzma
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.errors import MachineError
from infinitetalk.core.sizes import Pixels
from infinitetalk.media.fit import resize
from infinitetalk.media.inputs import Picture

Floats = NDArray[np.float32]

FOLDER = Path(__file__).parent.parent / "assets" / "faces"
DETECTOR: Final = "face_detection_short_range.tflite.xz"

_SIZE: Final = 128
_GRIDS: Final = ((16, 2), (8, 6))
"""Cells along an edge, and anchors in each cell."""
_LEAST: Final = 0.5
"""Score from which something is a face, if the whole picture was looked at."""
_LEAST_IN_PART: Final = 0.7
"""The same for a part of the picture, whose edges cut through other things."""
_SAME: Final = 0.3
"""Overlap from which two boxes are one face."""
_PARTS: Final = (1.0, 0.6, 0.4)
"""Edges of the squares that are looked at, relative to the picture's longer side."""

RIGHT_EYE, LEFT_EYE, NOSE, MOUTH, RIGHT_EAR, LEFT_EAR = range(6)
"""Of a face's points; right and left are the person's own."""


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """A face in a picture, in pixels."""

    box: tuple[float, float, float, float]
    """x0, y0, x1, y1, from the brows to the chin."""
    points: Floats
    """(6, 2): eyes, nose, mouth and ears."""
    score: float

    @property
    def middle(self) -> tuple[float, float]:
        """x, y."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2

    def within(self, box: tuple[float, float, float, float]) -> bool:
        """Whether its middle lies in x0, y0, x1, y1."""
        x, y = self.middle
        return box[0] <= x < box[2] and box[1] <= y < box[3]

    @property
    def height(self) -> float:
        return self.box[3] - self.box[1]

    @property
    def turn(self) -> float:
        """How far the head looks sideways: 0 into the camera, 1 in profile (the nose as far out as an ear)."""
        right, left = (abs(self.points[NOSE, 0] - self.points[ear, 0]) for ear in (RIGHT_EAR, LEFT_EAR))
        return float(abs(right - left) / max(1e-6, right + left))


def find_faces(picture: Picture) -> list[Face]:
    """The faces of a picture [height, width, 3], from left to right.

    Raises:
        MachineError: `ai-edge-litert`, which runs the detector, is not there.
    """
    detector = _detector()
    whole, *parts = _squares(Pixels(*picture.shape[:2]))
    found = [*detector.look(picture, *whole, _LEAST)]
    found += [face for part in parts for face in detector.look(picture, *part, _LEAST_IN_PART)]
    return sorted(_distinct(found), key=lambda face: face.middle[0])


LOOKED_AT: Final = 2.2
"""Edge of the square that is looked at for a known face, in edges of that face."""


def find_near(picture: Picture, middle: tuple[float, float], edge: float) -> list[Face]:
    """The faces within a square of a picture [height, width, 3], in one look: where one is known to be about.

    Raises:
        MachineError: `ai-edge-litert`, which runs the detector, is not there.
    """
    side = max(2, round(edge))
    corner = round(middle[0] - side / 2), round(middle[1] - side / 2)
    return [*_detector().look(picture, corner, side, _LEAST)]


def can_find_faces() -> bool:
    """Whether `find_faces` runs on this machine."""
    try:
        import ai_edge_litert.interpreter  # noqa: F401
    except (ImportError, OSError):
        return False
    return True


class Network:
    """A TensorFlow Lite network, packed by xz, with one picture as its input and named outputs; for any thread."""

    def __init__(self, path: Path, outputs: tuple[str, ...]) -> None:
        """Reads the network.

        Raises:
            MachineError: `ai-edge-litert` is not there.
        """
        try:
            from ai_edge_litert.interpreter import Interpreter, OpResolverType
        except (ImportError, OSError) as error:
            reason = "faces cannot be found here, as the package ai-edge-litert is missing"
            raise MachineError(f"{reason}; install it, or give a box or a mask for each person") from error
        self._interpreter = Interpreter(
            model_content=lzma.decompress(path.read_bytes()),
            num_threads=1,
            # XNNPACK would announce itself on the terminal, and gains nothing here.
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        places = {item["name"]: item["index"] for item in self._interpreter.get_output_details()}
        self._outputs = [places[name] for name in outputs]
        self._alone = threading.Lock()  # an interpreter has one set of tensors

    def __call__(self, picture: Floats) -> list[Floats]:
        """Runs on a picture [height, width, 3] of the network's own size and range."""
        with self._alone:
            self._interpreter.set_tensor(self._input, np.ascontiguousarray(picture[None], dtype=np.float32))
            self._interpreter.invoke()
            return [np.array(self._interpreter.get_tensor(place)) for place in self._outputs]


class _Detector:
    def __init__(self) -> None:
        self._network = Network(FOLDER / DETECTOR, ("regressors", "classificators"))
        self._anchors = _anchors()

    def look(self, picture: Picture, corner: tuple[int, int], edge: int, least: float) -> Iterator[Face]:
        """Faces within a square of the picture: its top left corner x, y, and its edge."""
        raw, logits = self._network(_square(picture, corner, edge).astype(np.float32) / 127.5 - 1)
        scores = (1 / (1 + np.exp(-np.clip(logits[0, :, 0], -80, 80)))).astype(np.float32)
        sure = np.flatnonzero(scores >= least)
        values = raw[0, sure].reshape(-1, 8, 2) / _SIZE
        values[:, [0, *range(2, 8)]] += self._anchors[sure, None]
        scores = scores[sure]
        while len(scores):
            merged, same = _merge(values, scores)
            middle, size = merged[0] * edge + corner, merged[1] * edge
            (x0, y0), (x1, y1) = (middle - size / 2).tolist(), (middle + size / 2).tolist()
            yield Face((x0, y0, x1, y1), (merged[2:] * edge + corner).astype(np.float32), float(scores.max()))
            values, scores = values[~same], scores[~same]


_KEPT: list[_Detector] = []


def _detector() -> _Detector:
    """The detector, read once."""
    if not _KEPT:
        _KEPT.append(_Detector())
    return _KEPT[0]


def _squares(size: Pixels) -> Iterator[tuple[tuple[int, int], int]]:
    """Corners x, y and edges of squares that cover a picture, coarse and fine, each overlapping the next by half."""
    longest = max(size)
    yield (-(longest - size.width) // 2, -(longest - size.height) // 2), longest
    for part in _PARTS[1:]:
        edge = round(longest * part)
        if edge >= _SIZE // 4:
            yield from (((x, y), edge) for y in _steps(size.height, edge) for x in _steps(size.width, edge))


def _steps(side: int, edge: int) -> list[int]:
    """Where squares of an edge begin along a side, so that neighbours share half of themselves or more."""
    if edge >= side:
        return [(side - edge) // 2]
    count = int(np.ceil((side - edge) / (edge / 2))) + 1
    return [round(place) for place in np.linspace(0, side - edge, count)]


def _square(picture: Picture, corner: tuple[int, int], edge: int) -> Picture:
    """A square of the picture at the network's size; black where the picture does not reach."""
    height, width = picture.shape[:2]
    x, y = corner
    out = np.zeros((edge, edge, 3), np.uint8)
    top, left, bottom, right = max(0, y), max(0, x), min(height, y + edge), min(width, x + edge)
    out[top - y : bottom - y, left - x : right - x] = picture[top:bottom, left:right]
    return resize(out, Pixels(_SIZE, _SIZE))


def _anchors() -> Floats:
    """Middles (896, 2) of the detector's anchors, 0..1."""
    rows = []
    for cells, each in _GRIDS:
        place = (np.arange(cells, dtype=np.float32) + 0.5) / cells
        y, x = np.meshgrid(place, place, indexing="ij")
        rows.append(np.stack([x, y], -1).reshape(-1, 2).repeat(each, 0))
    return np.concatenate(rows)


def _merge(values: Floats, scores: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """The mean, weighted by score, of the surest face (8, 2) and all that overlap it, and which those are."""
    best = int(scores.argmax())
    low, high = values[:, 0] - values[:, 1] / 2, values[:, 0] + values[:, 1] / 2
    shared = np.prod(np.clip(np.minimum(high, high[best]) - np.maximum(low, low[best]), 0, None), 1)
    area = np.prod(values[:, 1], 1)
    same: NDArray[np.bool_] = shared / (area + area[best] - shared) >= _SAME
    same[best] = True  # an empty box overlaps nothing, not even itself
    weight = scores * same
    merged: Floats = ((values * weight[:, None, None]).sum(0) / weight.sum()).astype(np.float32)
    return merged, same


def _distinct(faces: list[Face]) -> list[Face]:
    """The surest of the faces that lie over each other."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if not any(_covered(face, other) for other in kept):
            kept.append(face)
    return kept


def _covered(face: Face, other: Face) -> bool:
    """Whether two boxes share much of the smaller one."""
    low, high = np.maximum(face.box[:2], other.box[:2]), np.minimum(face.box[2:], other.box[2:])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (face.box, other.box)]
    return float(np.prod(np.clip(high - low, 0, None))) > _SAME * min(areas)
