"""Between FFmpeg's frames and RGB pictures: colour matrices, ranges, transparency, orientation and pixel shape."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.sizes import Pixels
from infinitetalk.media.inputs import Picture

if TYPE_CHECKING:
    from av import VideoFrame

# swscale: bicubic, with full chroma on both sides, rounding instead of truncating, the same on every processor.
_SCALING = 0x4 | 0x2000 | 0x4000 | 0x40000 | 0x80000

# AVColorSpace as tagged in a stream → swscale's coefficients.
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
_BT709, _BT601 = 1, 5
_LIMITED, _FULL = 1, 2

# RGB has no matrix; naming one that no source has makes every PyAV version apply the source's.
_NO_MATRIX = 7

_HD_LINES = 720
"""Untagged videos of this height or more are taken for BT.709, others for BT.601, as players do."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """How stored frames become upright pictures with square pixels."""

    stored: Pixels
    """Size to scale stored frames to, before they are turned."""
    turned: bool = False
    """Rows become columns, before the two below."""
    mirrored: bool = False
    """Left and right change places."""
    flipped: bool = False
    """Top and bottom change places."""

    @classmethod
    def of(cls, frame: "VideoFrame", aspect: Fraction | None) -> Self:
        """Reads the display matrix of a frame; `aspect` is the width of a pixel over its height."""
        stored = _square(Pixels(frame.height, frame.width), aspect or Fraction(1))
        a, b, c, d = _display_matrix(frame)
        if abs(b) > abs(a):
            return cls(stored, turned=True, mirrored=c < 0, flipped=b < 0)
        return cls(stored, mirrored=a < 0, flipped=d < 0)

    @property
    def size(self) -> Pixels:
        """The size as seen."""
        return Pixels(self.stored.width, self.stored.height) if self.turned else self.stored

    def apply(self, stored: Picture) -> Picture:
        """Turns a stored picture upright."""
        seen = stored.transpose(1, 0, 2) if self.turned else stored
        seen = seen[:, ::-1] if self.mirrored else seen
        return np.ascontiguousarray(seen[::-1] if self.flipped else seen)


def _square(size: Pixels, aspect: Fraction) -> Pixels:
    if aspect >= 1:
        return Pixels(size.height, round(size.width * aspect))
    return Pixels(round(size.height / aspect), size.width)


def _display_matrix(frame: "VideoFrame") -> tuple[float, float, float, float]:
    """Where a player puts a stored pixel: x' = a x + c y, y' = b x + d y."""
    from av.buffer import Buffer

    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # the frame has data of a kind that this PyAV has no name for
        angle = math.radians(frame.rotation)
        return math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
    if not isinstance(data, Buffer):
        return 1.0, 0.0, 0.0, 1.0
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    return a, b, c, d


def to_rgb(frame: "VideoFrame", geometry: Geometry) -> Picture:
    """The frame as seen: upright RGB [height, width, 3], transparent parts over white."""
    rgb = frame.format.is_rgb or frame.format.has_palette
    clear = frame.format.has_palette or any(part.is_alpha for part in frame.format.components)
    guess = _BT709 if frame.height >= _HD_LINES else _BT601
    own_range = _FULL if frame.format.name.startswith("yuvj") else frame.color_range or _LIMITED
    plain = frame.reformat(
        width=geometry.stored.width,
        height=geometry.stored.height,
        format="rgba" if clear else "rgb24",
        interpolation=_SCALING,
        src_colorspace=None if rgb else _MATRICES.get(frame.colorspace, guess),
        src_color_range=None if rgb else own_range,
        dst_colorspace=None if rgb else _NO_MATRIX,
        dst_color_range=None if rgb else _FULL,
    )
    values = np.asarray(plain.to_ndarray(), dtype=np.uint8)
    return geometry.apply(_over_white(values) if clear else values)


def _over_white(values: NDArray[np.uint8]) -> Picture:
    alpha = values[:, :, 3:].astype(np.uint16)
    mixed = values[:, :, :3] * alpha + 255 * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


def to_yuv(picture: Picture) -> "VideoFrame":
    """An RGB picture of even size as a yuv420p frame in BT.709, limited range.

    Colour samples lie where H.264 expects them: on every other column, between two rows.
    """
    from av import VideoFrame

    full = VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24").reformat(
        format="yuv444p", interpolation=_SCALING, dst_colorspace=_BT709, dst_color_range=_LIMITED
    )
    luma, *colours = np.asarray(full.to_ndarray(), dtype=np.uint8)
    halved = [_halve(plane).reshape(-1, luma.shape[1]) for plane in colours]
    return VideoFrame.from_ndarray(np.concatenate([luma, *halved]), "yuv420p")


def _halve(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows = plane[0::2].astype(np.uint16) + plane[1::2]
    wide = np.pad(rows, ((0, 0), (1, 1)), mode="edge")
    return np.asarray((wide[:, :-2:2] + 2 * wide[:, 1:-1:2] + wide[:, 2::2] + 4) // 8, dtype=np.uint8)
