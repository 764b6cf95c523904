"""Where 468 points of a face are, by MediaPipe's detector and face mesh, run without MediaPipe.

The detector (128x128, single shot) gives a box and six points. A square around the box, turned upright by the eyes, is
what the mesh network sees (192x192); a second look at the square around the points that it found makes them steady.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from training.evaluate.fetch import DETECTOR, JUDGES, MESH

Floats = NDArray[np.float32]

DETECTOR_SIZE, MESH_SIZE, POINTS = 128, 192, 468
_GRIDS: Final = ((16, 2), (8, 6))
"""Cells along an edge, and anchors in each cell."""
_LEAST: Final = 0.3
"""Detection score from which something is a face."""
_SAME: Final = 0.3
"""Overlap from which two boxes are one face."""
_AROUND: Final = 1.5
"""Edge of the mesh's square relative to the longer edge of the face's box."""

# Numbers of the mesh's points.
UPPER_LIP, LOWER_LIP = 13, 14
EYE_CORNERS = (33, 263)
RIGHT_EYE, LEFT_EYE = 0, 1
"""Of the detector's six points."""


@dataclass(frozen=True, slots=True)
class Square:
    """A turned square in a picture: its middle and edge in pixels, its angle in radians."""

    x: float
    y: float
    edge: float
    angle: float

    def corners(self) -> Tensor:
        """The affine map [2, 3] from the square's own (-1..1) coordinates to pixels."""
        c, s, half = np.cos(self.angle), np.sin(self.angle), self.edge / 2
        return torch.tensor([[c * half, -s * half, self.x], [s * half, c * half, self.y]], dtype=torch.float32)


class FaceMesh:
    """Finds the largest face of a picture. Needs `ai-edge-litert` and the files of `training.evaluate.fetch`."""

    def __init__(self, folder: Path = JUDGES) -> None:
        self._detector = _Network(folder / DETECTOR, ("regressors", "classificators"))
        self._mesh = _Network(folder / MESH, ("conv2d_21",))
        self._anchors = _anchors()

    def points(self, picture: NDArray[np.uint8]) -> Floats | None:
        """Points (468, 2) in pixels of a picture [height, width, 3]; None if there is no face."""
        image = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float() / 255
        square = self._detect(image)
        if square is None:
            return None
        points = self._look(image, square)
        return self._look(image, _around(points, points[EYE_CORNERS[0]], points[EYE_CORNERS[1]]))

    def track(self, video: NDArray[np.uint8]) -> Floats:
        """Points (F, 468, 2) of a video [F, height, width, 3]; not a number where no face was found."""
        found = (self.points(frame) for frame in video)
        return np.stack([np.full((POINTS, 2), np.nan, np.float32) if item is None else item for item in found])

    def _detect(self, image: Tensor) -> Square | None:
        """A square around the surest face, turned by its eyes."""
        height, width = image.shape[1:]
        whole = Square(width / 2, height / 2, float(max(height, width)), 0.0)
        raw, logits = self._detector(_cut(image, whole, DETECTOR_SIZE) * 2 - 1)
        scores = (1 / (1 + np.exp(-np.clip(logits[0, :, 0], -80, 80)))).astype(np.float32)
        sure = np.flatnonzero(scores >= _LEAST)
        if not len(sure):
            return None
        values = raw[0, sure].reshape(-1, 8, 2) / DETECTOR_SIZE
        values[:, [0, *range(2, 8)]] += self._anchors[sure, None]
        face = _merge(values, scores[sure])
        pixels = (face - 0.5) * whole.edge + (whole.x, whole.y)
        middle, size, points = pixels[0], face[1] * whole.edge, pixels[2:]
        box = np.stack([middle - size / 2, middle + size / 2]).astype(np.float32)
        return _around(box, points[RIGHT_EYE], points[LEFT_EYE])

    def _look(self, image: Tensor, square: Square) -> Floats:
        (found,) = self._mesh(_cut(image, square, MESH_SIZE))
        inside = found.reshape(POINTS, 3)[:, :2] / MESH_SIZE * 2 - 1
        matrix = square.corners().numpy()
        points: Floats = (inside @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
        return points


class _Network:
    """A TensorFlow Lite network with one input and named outputs."""

    def __init__(self, path: Path, outputs: tuple[str, ...]) -> None:
        from ai_edge_litert.interpreter import Interpreter

        if not path.is_file():
            raise FileNotFoundError(f"{path} is not there; get it with python -m training.evaluate.fetch")
        self._interpreter = Interpreter(model_path=str(path), num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        places = {item["name"]: item["index"] for item in self._interpreter.get_output_details()}
        self._outputs = [places[name] for name in outputs]

    def __call__(self, image: Tensor) -> list[Floats]:
        """Runs on a picture [3, height, width] of the network's own size."""
        self._interpreter.set_tensor(self._input, image.permute(1, 2, 0)[None].numpy())
        self._interpreter.invoke()
        return [np.array(self._interpreter.get_tensor(place)) for place in self._outputs]


def _anchors() -> Floats:
    """Middles (896, 2) of the detector's anchors, 0..1."""
    rows = []
    for cells, each in _GRIDS:
        place = (np.arange(cells, dtype=np.float32) + 0.5) / cells
        y, x = np.meshgrid(place, place, indexing="ij")
        rows.append(np.stack([x, y], -1).reshape(-1, 2).repeat(each, 0))
    return np.concatenate(rows)


def _merge(values: Floats, scores: Floats) -> Floats:
    """The mean, weighted by score, of the surest face (8, 2) and all that overlap it: middle, size, six points."""
    best = int(scores.argmax())
    low, high = values[:, 0] - values[:, 1] / 2, values[:, 0] + values[:, 1] / 2
    shared = np.prod(np.clip(np.minimum(high, high[best]) - np.maximum(low, low[best]), 0, None), 1)
    area = np.prod(values[:, 1], 1)
    weight = scores * (shared / (area + area[best] - shared) >= _SAME)
    merged: Floats = (values * weight[:, None, None]).sum(0) / weight.sum()
    return merged


def _around(points: Floats, right_eye: Floats, left_eye: Floats) -> Square:
    """The mesh's square around points (n, 2), turned so that the eyes are level."""
    low, high = points.min(0), points.max(0)
    across, down = left_eye - right_eye
    middle = (low + high) / 2
    return Square(
        float(middle[0]), float(middle[1]), float((high - low).max()) * _AROUND, float(np.arctan2(down, across))
    )


def _cut(image: Tensor, square: Square, size: int) -> Tensor:
    """The square's content [3, size, size]; black outside the picture."""
    height, width = image.shape[1:]
    grid = F.affine_grid(torch.eye(2, 3)[None], [1, 3, size, size], align_corners=False)
    matrix = square.corners()
    pixels = grid @ matrix[:, :2].T + matrix[:, 2]
    scaled = pixels / torch.tensor([width, height]) * 2 - 1
    return F.grid_sample(image[None], scaled, mode="bilinear", padding_mode="zeros", align_corners=False)[0]


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
