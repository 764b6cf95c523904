"""Frames between frames: motion by dense optical flow (OpenCV's DIS), for videos of another rate than the networks'."""

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.errors import MachineError
from infinitetalk.core.sizes import FPS
from infinitetalk.media.inputs import Picture

if TYPE_CHECKING:
    from cv2 import DISOpticalFlow

Flow = NDArray[np.float32]
"""How far each pixel moves, [height, width, 2]: right, down."""

_ENLARGED = ((160, 3), (256, 2))
"""Flow of pictures whose shorter side is below so many pixels is found at so many times their size, since they move by
parts of a pixel."""

_PARTS = 32
"""Parts of a pixel to which OpenCV rounds places."""

_SPREAD = 1.5
"""Pixels around each one that decide whether its motion is trusted."""


def require_flow() -> None:
    """Looks whether frames can be interpolated here.

    Raises:
        MachineError: OpenCV is missing.
    """
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        need = "pip install opencv-python-headless, or leave fps at 25"
        raise MachineError(f"frame interpolation needs OpenCV; {need}") from error


def numbers(first: int, count: int, fps: Fraction | int, *, joined: bool, ends: bool) -> range:
    """The frames of a window by their numbers in the video at another rate; at low rates there may be none.

    Between windows none is lost or shown twice: a window brings the frames that lie between the last frame of the
    window before and its own last one; at the end of a shot, those too that hold its last frame. Arguments as for
    `places`.
    """
    ratio = Fraction(fps) / FPS
    begin = math.floor((first - 1) * ratio) + 1 if joined else math.ceil(first * ratio)
    end = math.ceil((first + count) * ratio) if ends else math.floor((first + count - 1) * ratio) + 1
    return range(begin, end)


def places(first: int, count: int, fps: Fraction | int, *, joined: bool, ends: bool) -> list[tuple[int, float]]:
    """Where the frames of a window lie at another rate, in the order of their `numbers`.

    Args:
        first: number of the window's first frame in the video, at 25 a second.
        count: its frames.
        fps: frames a second that are wanted.
        joined: whether the frame before belongs to the same shot.
        ends: whether a cut or the video's end follows.

    Returns:
        For each frame its left neighbour, from -1 (the frame before), and how far it lies towards the next, 0 to 1.
    """
    found = []
    for number in numbers(first, count, fps, joined=joined, ends=ends):
        left, rest = divmod(number * FPS / Fraction(fps), 1)
        last = left - first >= count - 1
        found.append((min(left - first, count - 1), 0.0 if last else float(rest)))
    return found


def interpolate(
    frames: NDArray[np.uint8], before: Picture | None, first: int, fps: Fraction | int, *, ends: bool
) -> Iterator[Picture]:
    """A window at another rate, see `places`.

    Args:
        frames: RGB [F, height, width, 3] at 25 frames a second.
        before: the frame before them, if it is of the same shot.

    Raises:
        MachineError: OpenCV is missing.
    """
    require_flow()
    pair: tuple[int, Between] | None = None
    for left, share in places(first, len(frames), fps, joined=before is not None, ends=ends):
        start = before if left < 0 and before is not None else frames[left]
        if not share:
            yield start
            continue
        if pair is None or pair[0] != left:
            pair = left, Between(start, frames[left + 1])
        yield pair[1].at(share)


class Between:
    """Two pictures [height, width, 3] and the motion from each to the other."""

    def __init__(self, one: Picture, two: Picture) -> None:
        self._one, self._two = one.astype(np.float32), two.astype(np.float32)
        finder = _finder()
        self._there, self._back = _flow(finder, one, two), _flow(finder, two, one)
        self._apart = _blurred(np.abs(self._one - self._two))

    def at(self, share: float) -> Picture:
        """The picture at a share of the way from the first to the second.

        Both are moved along the mean of the two motions and mixed. Where they then agree less than they do unmoved, as
        behind an edge that uncovers something, the unmoved ones are mixed.
        """
        motion = np.float32(0.5) * (_at_time(self._there, share) - _at_time(self._back, 1 - share))
        one, two = _moved(self._one, motion, -share), _moved(self._two, motion, 1 - share)
        error = _blurred(np.abs(one - two)) ** 2
        trust = self._apart**2 / (error + self._apart**2 + 1e-3)
        still = (1 - share) * self._one + share * self._two
        mixed = still + trust[..., None] * ((1 - share) * one + share * two - still)
        made: Picture = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
        return made


def _finder() -> "DISOpticalFlow":
    """The finest scale, close patches and little smoothing: mouths and eyes are small, and hair moves before a face."""
    import cv2

    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    finder.setFinestScale(0)
    finder.setPatchSize(8)
    finder.setPatchStride(4)
    finder.setVariationalRefinementAlpha(2.0)
    return finder


def _flow(finder: "DISOpticalFlow", one: Picture, two: Picture) -> Flow:
    """Motion from one picture to another."""
    import cv2

    height, width = one.shape[:2]
    scale = next((times for side, times in _ENLARGED if min(height, width) < side), 1)
    wide = width * scale, height * scale
    large = [cv2.resize(picture, wide, interpolation=cv2.INTER_CUBIC) for picture in (one, two)]
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in large]
    empty = np.zeros((*grey[0].shape, 2), np.float32)
    found = finder.calc(grey[0], grey[1], empty)
    return np.asarray(cv2.resize(found, (width, height), interpolation=cv2.INTER_AREA) / scale, dtype=np.float32)


def _grid(like: Flow) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rows, columns = np.mgrid[: like.shape[0], : like.shape[1]].astype(np.float32)
    return columns, rows


def _at_time(flow: Flow, share: float) -> Flow:
    """The motion of what is at each place at a share of the way, from the motion of what is there at the start."""
    import cv2

    columns, rows = _grid(flow)
    moving = flow
    for _ in range(3):  # a fixed point: what is here now started where its own motion says
        source = columns - share * moving[..., 0], rows - share * moving[..., 1]
        found = cv2.remap(flow, *source, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        moving = np.asarray(found, dtype=np.float32)
    return moving


def _moved(picture: NDArray[np.float32], flow: Flow, share: float) -> NDArray[np.float32]:
    """Each place shows what lies at a share of its motion from there.

    Cubic interpolation overshoots at hard edges, as those of hair and lips are. So it is held between the darkest and
    the brightest of the four pixels around.
    """
    import cv2

    columns, rows = _grid(flow)
    source = columns + share * flow[..., 0], rows + share * flow[..., 1]
    found = cv2.remap(picture, *source, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    left, top = (np.floor(np.rint(place * _PARTS) / _PARTS) for place in source)
    four = np.ones((2, 2), np.uint8)
    low, high = (
        cv2.remap(
            change(picture, four, anchor=(0, 0), borderType=cv2.BORDER_REPLICATE),
            left,
            top,
            cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for change in (cv2.erode, cv2.dilate)
    )
    return np.asarray(np.clip(found, low, high), dtype=np.float32)


def _blurred(difference: NDArray[np.float32]) -> NDArray[np.float32]:
    """Differences of colours [height, width, 3] summed, and averaged over their neighbours: [height, width]."""
    import cv2

    return np.asarray(cv2.GaussianBlur(difference.sum(axis=2), (0, 0), _SPREAD), dtype=np.float32)
