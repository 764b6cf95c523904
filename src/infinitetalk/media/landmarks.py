"""Where 468 points of a face are: MediaPipe's face mesh, run without MediaPipe.

A square around the face, turned upright by the eyes, is what the network sees (192x192); a second look at the square
around the points that it found makes them steady.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from infinitetalk.media.faces import FOLDER, LEFT_EYE, RIGHT_EYE, Face, Floats, Network
from infinitetalk.media.inputs import Picture

MESH: Final = "face_landmark.tflite.xz"
POINTS: Final = 468

# Numbers of the mesh's points.
UPPER_LIP, LOWER_LIP = 13, 14
MOUTH_CORNERS = (61, 291)
EYE_CORNERS = (33, 263)

_SIZE: Final = 192
_AROUND: Final = 1.5
"""Edge of the network's square relative to the longer edge of the face's box."""


@dataclass(frozen=True, slots=True)
class _Square:
    """A turned square in a picture: its middle and edge in pixels, its angle in radians."""

    x: float
    y: float
    edge: float
    angle: float

    def matrix(self) -> Tensor:
        """The affine map [2, 3] from the square's own (-1..1) coordinates to pixels."""
        c, s, half = np.cos(self.angle), np.sin(self.angle), self.edge / 2
        return torch.tensor([[c * half, -s * half, self.x], [s * half, c * half, self.y]], dtype=torch.float32)


class FaceMesh:
    """Finds the points of faces whose boxes are known."""

    def __init__(self) -> None:
        """Reads the network.

        Raises:
            MachineError: `ai-edge-litert`, which runs it, is not there.
        """
        self._network = Network(FOLDER / MESH, ("conv2d_21",))

    def points(self, picture: Picture, face: Face) -> Floats:
        """Points (468, 2) of a face, in pixels of the picture [height, width, 3]."""
        image = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float() / 255
        box = np.array(face.box, np.float32).reshape(2, 2)
        points = self._look(image, _around(box, face.points[RIGHT_EYE], face.points[LEFT_EYE]))
        return self._look(image, _around(points, points[EYE_CORNERS[0]], points[EYE_CORNERS[1]]))

    def points_near(self, picture: Picture, face: Face) -> Floats:
        """The same; only the part of the picture around the face is worked on, as large pictures take long."""
        x, y = face.middle
        reach = 2 * max(face.box[2] - face.box[0], face.height)
        left, top = max(0, round(x - reach)), max(0, round(y - reach))
        corner = np.array([left, top], np.float32)
        box = face.box[0] - left, face.box[1] - top, face.box[2] - left, face.box[3] - top
        part = picture[top : round(y + reach), left : round(x + reach)]
        return self.points(part, Face(box, face.points - corner, face.score)) + corner

    def _look(self, image: Tensor, square: _Square) -> Floats:
        (found,) = self._network(_cut(image, square).permute(1, 2, 0).numpy())
        inside = found.reshape(POINTS, 3)[:, :2] / _SIZE * 2 - 1
        matrix = square.matrix().numpy()
        points: Floats = (inside @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
        return points


def mouth_box(points: Floats) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 around the lips of a face's points (468, 2), with room to open."""
    right, left = points[MOUTH_CORNERS[0]], points[MOUTH_CORNERS[1]]
    x, y = (points[UPPER_LIP] + points[LOWER_LIP]) / 2
    half = float(np.linalg.norm(left - right)) * 0.65
    return float(x) - half, float(y) - half * 0.8, float(x) + half, float(y) + half


def _around(points: Floats, right_eye: Floats, left_eye: Floats) -> _Square:
    """The network's square around points (n, 2), turned so that the eyes are level."""
    low, high = points.min(0), points.max(0)
    across, down = left_eye - right_eye
    x, y = (low + high) / 2
    return _Square(float(x), float(y), float((high - low).max()) * _AROUND, float(np.arctan2(down, across)))


def _cut(image: Tensor, square: _Square) -> Tensor:
    """The square's content [3, 192, 192]; black outside the picture. A large face is made smaller first."""
    share = min(1.0, 2 * _SIZE / square.edge)
    if share < 1:
        image = F.interpolate(image[None], scale_factor=share, mode="bilinear", antialias=True)[0]
    height, width = image.shape[1:]
    grid = F.affine_grid(torch.eye(2, 3)[None], [1, 3, _SIZE, _SIZE], align_corners=False)
    matrix = square.matrix() * share
    pixels = grid @ matrix[:, :2].T + matrix[:, 2]
    scaled = pixels / torch.tensor([width, height]) * 2 - 1
    return F.grid_sample(image[None], scaled, mode="bilinear", padding_mode="zeros", align_corners=False)[0]
