"""Where the talking faces are in a source, frame after frame, and the soft mask around them.

A face is its outline: how far its landmarks reach in each of some directions, measured from the picture's corner, how
far those around mouth and chin do, where some points are that speech does not move, and how much of it is there: a face
that is lost stays where it was and fades. The mean of outlines is the outline of a mean face at its mean place, so
outlines are smoothed over time by averaging them.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.defaults import Settings
from infinitetalk.core.errors import MachineError, RequestError
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import FPS, Pixels
from infinitetalk.media.faces import LOOKED_AT, Face, Floats, can_find_faces, find_faces, find_near
from infinitetalk.media.fit import Focus
from infinitetalk.media.inputs import FrameSource, MaskSource, Picture
from infinitetalk.media.landmarks import FaceMesh
from infinitetalk.media.paste import Paste, Patch
from infinitetalk.media.places import pixels_of

Outlines = NDArray[np.float64]
"""Of each talking face: how far it reaches in each direction, how far mouth and chin do, x and y of the steady points,
in pixels, and at last how much of it is there, 0 to 1: [voices, 2 * DIRECTIONS + 2 * len(STEADY) + 1]."""

DIRECTIONS: Final = 32
_TURNS = np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)
STEADY: Final = (10, 33, 133, 362, 263, 168, 6, 195, 4, 127, 356)
"""Landmarks that speech does not move: forehead, corners of the eyes, nose, temples."""
_NORMALS = np.stack([np.cos(_TURNS), np.sin(_TURNS)], axis=1)
MOUTH: Final = (164, 92, 322, 57, 287, 210, 430, 169, 394, 176, 400, 152)
"""Landmarks around mouth and chin: below the nose, beside the corners of the mouth, the jaw's edge beneath them."""

_WHOLE: Final = 1.0
"""Sizes of an outline within which all is the made picture."""


class _Softness(NamedTuple):
    """How a mask ends around an outline."""

    nothing: float
    """Sizes of the outline from which on all is the source."""
    below: float
    """How much farther all this reaches straight below: an open mouth lowers the chin."""


_SOFT: Final = {
    # As far as ears and hair, where a made head that looks another way has none.
    "face": _Softness(1.25, 0.12),
    # As far as the nose's tip, and the same way down from the chin as for the face.
    "mouth": _Softness(1.35, 0.35),
}

_GOING, _COMING = 0.8, 0.2
"""Seconds in which a face that is lost fades, and comes back when it is found."""

_NEAR: Final = 1.5
"""Edges of a face within which one that was lost is found again."""
_SIZES: Final = (0.5, 2.0)
"""How much a face may shrink or grow and be the same."""


def outline(points: Floats) -> NDArray[np.float64]:
    """The outline of a face's landmarks (468, 2), all there."""
    far = points.astype(np.float64) @ _NORMALS.T
    return np.concatenate(
        [far.max(axis=0), far[list(MOUTH)].max(axis=0), points[list(STEADY)].astype(np.float64).ravel(), [1.0]]
    )


def _part(reach: NDArray[np.float64], blend: str) -> NDArray[np.float64]:
    """How far the whole face or the mouth reaches, as `blend` says, and how much of it is there: [DIRECTIONS + 1]."""
    begin = DIRECTIONS if blend == "mouth" else 0
    return np.append(reach[begin : begin + DIRECTIONS], reach[-1])


def steady_points(reach: NDArray[np.float64]) -> NDArray[np.float64]:
    """The points (n, 2) of an outline that speech does not move."""
    return reach[2 * DIRECTIONS : -1].reshape(-1, 2)


def same_place(reach: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether two outlines are at one place to the bit, as of a face that was not found."""
    return np.array_equal(reach[:-1], other[:-1])


def moved(reach: NDArray[np.float64], scale: NDArray[np.float64], corner: NDArray[np.float64]) -> NDArray[np.float64]:
    """The outline of a face whose points are scaled by (2,), right and down, and then moved by (2,)."""
    # Reaching in a direction means little when scales differ; they do by parts of a pixel only.
    parts = reach[: 2 * DIRECTIONS].reshape(2, DIRECTIONS)
    far = parts * (_NORMALS**2 @ scale) + _NORMALS @ corner
    return np.concatenate([far.ravel(), (steady_points(reach) * scale + corner).ravel(), reach[-1:]])


def _box(reach: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 around an outline."""
    right, bottom, left, top = reach[: DIRECTIONS : DIRECTIONS // 4].tolist()
    return -left, -top, right, bottom


def middle_of(reach: NDArray[np.float64]) -> tuple[float, float]:
    """The middle of the box around an outline."""
    x0, y0, x1, y1 = _box(reach)
    return (x0 + x1) / 2, (y0 + y1) / 2


def edge_of(reach: NDArray[np.float64]) -> float:
    """The longer edge of the box around an outline."""
    x0, y0, x1, y1 = _box(reach)
    return max(1.0, x1 - x0, y1 - y0)


def mask(outlines: Outlines, size: Pixels, blend: str = "face") -> Patch:
    """The weights of the made picture: 1 on the faces, falling to 0 around them; less on faces that are lost.

    Args:
        outlines: of the faces.
        size: of the picture.
        blend: `face`, or `mouth` for mouth and chin alone.
    """
    soft, parts = _SOFT[blend], [_part(reach, blend) for reach in outlines]
    sides = [_reaching(reach, size, soft) for reach in parts]
    top, left = (min(side[number] for side in sides) for number in (0, 1))
    bottom, right = (max(side[number] for side in sides) for number in (2, 3))
    weights = np.zeros((max(0, bottom - top), max(0, right - left)), np.float32)
    for reach, (y0, x0, y1, x1) in zip(parts, sides, strict=True):
        if y0 < y1 and x0 < x1:
            part = weights[y0 - top : y1 - top, x0 - left : x1 - left]
            np.maximum(part, np.float32(reach[-1]) * _weights(reach, (y0, x0, y1, x1), soft), out=part)
    return Patch(top, left, weights)


def _reaching(reach: NDArray[np.float64], size: Pixels, soft: _Softness) -> tuple[int, int, int, int]:
    """Top, left, bottom, right of the part of a picture that a face's mask touches."""
    x, y = middle_of(reach)
    x0, y0, x1, y1 = _box(reach)
    across, down = ((side / 2) * soft.nothing * (1 + soft.below) for side in (x1 - x0, y1 - y0))
    rows = np.clip([np.floor(y - down), np.ceil(y + down)], 0, size.height).astype(int)
    columns = np.clip([np.floor(x - across), np.ceil(x + across)], 0, size.width).astype(int)
    return int(rows[0]), int(columns[0]), int(rows[1]), int(columns[1])


def _weights(reach: NDArray[np.float64], part: tuple[int, int, int, int], soft: _Softness) -> NDArray[np.float32]:
    """A face's weights in a part of the picture: by how many times its outline must grow to reach a pixel."""
    y0, x0, y1, x1 = part
    x, y = middle_of(reach)
    radius = np.maximum(reach[:DIRECTIONS] - _NORMALS @ np.array([x, y]), 1.0)
    radius *= 1 + soft.below * np.maximum(0, _NORMALS[:, 1])
    across = np.arange(x0, x1, dtype=np.float32) + np.float32(0.5 - x)
    down = np.arange(y0, y1, dtype=np.float32) + np.float32(0.5 - y)
    times = np.zeros((y1 - y0, x1 - x0), np.float32)
    for (right, below), far in zip(_NORMALS.tolist(), radius.tolist(), strict=True):
        reached = across[None, :] * np.float32(right / far) + down[:, None] * np.float32(below / far)
        np.maximum(times, reached, out=times)
    share = np.clip((soft.nothing - times) / (soft.nothing - _WHOLE), 0, 1)
    smooth: NDArray[np.float32] = (share * share * (3 - 2 * share)).astype(np.float32)
    return smooth


class FaceTracker:
    """Follows the faces that have a voice. What it finds depends on the picture and the last outlines alone.

    A person with a box or a mask is the largest face in it. Several voices without places are the faces from left to
    right. One voice is the largest face.
    """

    def __init__(self, request: TalkRequest, masks: Sequence[MaskSource] = (), rate: Fraction | int = FPS) -> None:
        """Reads the networks.

        Args:
            request: names the voices.
            masks: the request's.
            rate: pictures a second.

        Raises:
            MachineError: `ai-edge-litert`, which runs them, is not there.
        """
        if not can_find_faces():
            need = "pip install ai-edge-litert, or leave blend at frame"
            raise MachineError(f"faces cannot be followed without the package ai-edge-litert; {need}")
        self._request, self._masks = request, masks
        self._mesh = FaceMesh()
        self._going, self._coming = (1 / (seconds * float(rate)) for seconds in (_GOING, _COMING))

    def begin(self, picture: Picture, seconds: float, last: Outlines | None = None) -> Outlines:
        """The faces in the first frame of a shot.

        Args:
            picture: [height, width, 3].
            seconds: its time in the source.
            last: where they were before, for those who are not found and so not there; None: everybody must be.

        Raises:
            RequestError: a voice has no face.
        """
        found = find_faces(picture)
        chosen = self._chosen(found, Pixels(*picture.shape[:2]), seconds)
        outlines = []
        for voice, face in enumerate(chosen):
            if face is not None:
                outlines.append(outline(self._mesh.points_near(picture, face)))
            elif last is not None:
                outlines.append(np.append(last[voice, :-1], 0.0))
            else:
                raise _faceless(self._request, voice, len(found))
        return np.stack(outlines)

    def follow(self, picture: Picture, last: Outlines, *, everywhere: bool) -> Outlines:
        """The faces in the next frame; one that is not found stays where it was and fades.

        Args:
            picture: [height, width, 3].
            last: the frame before's.
            everywhere: whether to look at the whole picture for faces that are lost.
        """
        outlines = last.copy()
        missing, taken = [], list[Face]()
        for voice, reach in enumerate(last):
            face = _nearest(find_near(picture, middle_of(reach), LOOKED_AT * edge_of(reach)), reach, taken)
            if face is None:
                missing.append(voice)
            else:
                taken.append(face)
                outlines[voice] = self._again(picture, face, reach)
        found = find_faces(picture) if missing and everywhere else []
        for voice in missing:
            if (face := _nearest(found, last[voice], taken)) is not None:
                taken.append(face)
                outlines[voice] = self._again(picture, face, last[voice])
            else:
                outlines[voice, -1] = max(0.0, last[voice, -1] - self._going)
        return outlines

    def _again(self, picture: Picture, face: Face, last: NDArray[np.float64]) -> NDArray[np.float64]:
        """The outline of a face that is found, and comes back if it was lost."""
        found = outline(self._mesh.points_near(picture, face))
        found[-1] = min(1.0, last[-1] + self._coming)
        return found

    def _chosen(self, faces: list[Face], size: Pixels, seconds: float) -> list[Face | None]:
        """Each voice's face among those of a picture, from left to right."""
        voices = self._request.voice_count
        if self._request.boxes:
            boxes = [pixels_of(box, size) for box in self._request.boxes[:voices]]
            return [_largest([face for face in faces if face.within(box)]) for box in boxes]
        if self._masks:
            shapes = [source.mask_at(seconds) for source in self._masks[:voices]]
            within = [[face for face in faces if _on(face, shape)] for shape in shapes]
            return [_largest(some) for some in within]
        if voices == 1:
            return [_largest(faces)]
        return [*faces] if len(faces) == voices else [None] * voices


def _largest(faces: Sequence[Face]) -> Face | None:
    return max(faces, key=lambda face: face.height, default=None)


def _on(face: Face, shape: NDArray[np.bool_]) -> bool:
    """Whether a face's middle lies on a mask."""
    x, y = (int(side) for side in face.middle)
    return 0 <= y < shape.shape[0] and 0 <= x < shape.shape[1] and bool(shape[y, x])


def _nearest(faces: Sequence[Face], reach: NDArray[np.float64], taken: Sequence[Face]) -> Face | None:
    """The face that is where another one was, of about its size; none that lies on one that is taken."""
    x, y = middle_of(reach)
    edge = edge_of(reach)

    def far(face: Face) -> float:
        return float(np.hypot(face.middle[0] - x, face.middle[1] - y)) / edge

    same = [
        face for face in faces
        if far(face) < _NEAR
        and _SIZES[0] < max(face.height, face.box[2] - face.box[0]) / edge < _SIZES[1]
        and not any(face.within(other.box) for other in taken)
    ]  # fmt: skip
    return min(same, key=far, default=None)


def _faceless(request: TalkRequest, voice: int, found: int) -> RequestError:
    seen = "no face was" if not found else "1 face was" if found == 1 else f"{found} faces were"
    whose = "" if request.voice_count == 1 else f", none of them for voice {voice + 1}" if found else ""
    need = f"{seen} found in the source's first frame{whose}; begin with a clear face, or leave blend at frame"
    return RequestError("blend", request.blend, need)


def check_faces(
    request: TalkRequest,
    settings: Settings,
    source: FrameSource,
    masks: Sequence[MaskSource],
    focus: Focus | None,
) -> None:
    """Looks whether the talking faces are in the source's first frame, and in the part of it that the model sees.

    Raises:
        RequestError: one is not.
        MachineError: `ai-edge-litert` is not there.
    """
    outlines = FaceTracker(request, masks).begin(source.frame_at(0.0), 0.0)
    paste = Paste(source.size, settings.size, settings.output_size, request.framing, focus)
    top, left, bottom, right = paste.region
    for reach in outlines:
        x, y = middle_of(reach)
        if not (left <= x < right and top <= y < bottom):
            need = "cuts away a talking face; face or letterbox would keep it"
            raise RequestError("framing", request.framing, need)
