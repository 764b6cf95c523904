"""Puts made pictures back into the source, to where framing took them from."""

import math
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.sizes import Pixels
from infinitetalk.media.fit import Focus, place
from infinitetalk.media.inputs import Picture

Weights = NDArray[np.float32]
"""How much of the made picture is shown, 0 to 1: [height, width]."""

_FADE = 0.04
"""Of the shorter side of what was made: where framing cut, it fades into the source within so much."""


class Patch(NamedTuple):
    """Weights of a part of a picture; outside of it they are zero."""

    top: int
    left: int
    weights: Weights


class _Span(NamedTuple):
    """One direction of the place of a made picture."""

    begin: int
    """First line of the output that the made picture covers."""
    end: int
    """The line behind the last one."""
    part: slice
    """Lines of the made picture that show something of the source: bars do not."""
    start: float
    """Where the output's first line begins in that part, in pixels."""
    stop: float
    """Where its last line ends there."""


class Paste:
    """The way back from the model's picture to the source's.

    Args:
        source: size of the source.
        made: size of what the networks make.
        output: size of the finished video: the source's, or its upper left part.
        framing: as in the request.
        focus: what framing keeps.
    """

    def __init__(
        self, source: Pixels, made: Pixels, output: Pixels, framing: str = "crop", focus: Focus | None = None
    ) -> None:
        where = place(source, made, framing, focus)
        corners = (where.top, where.left)
        self._rows, self._columns = (
            _span(*sides) for sides in zip(source, where.size, corners, made, output, strict=True)
        )
        self._output = output
        width = max(1.0, _FADE * min(self.region[2] - self.region[0], self.region[3] - self.region[1]))
        rows, columns = (
            _faded(span, side, width) for span, side in zip((self._rows, self._columns), output, strict=True)
        )
        self.shown: Weights = rows[:, None] * columns[None, :]
        """How much of the made picture is seen where it lies, [height, width]: 1, but less where it was cut out."""

    @property
    def region(self) -> tuple[int, int, int, int]:
        """Where the made picture lies in the output: top, left, bottom, right (the last two exclusive)."""
        return self._rows.begin, self._columns.begin, self._rows.end, self._columns.end

    @property
    def scale(self) -> NDArray[np.float64]:
        """Pixels of the output for each of a made picture, right and down."""
        return np.array([(span.end - span.begin) / (span.stop - span.start) for span in (self._columns, self._rows)])

    @property
    def corner(self) -> NDArray[np.float64]:
        """Where a made picture's corner lies in the output, right and down, in pixels."""
        starts = np.array([span.part.start + span.start for span in (self._columns, self._rows)])
        return np.array([self._columns.begin, self._rows.begin]) - starts * self.scale

    def __call__(
        self,
        made: Picture,
        source: Picture,
        patch: Patch | None = None,
        move: NDArray[np.complex128] | None = None,
    ) -> Picture:
        """The source's frame [height, width, 3] with a made one in it, all of it or as much as a patch says.

        `move` brings the made picture elsewhere in the output first, as `media.registration` has it.

        Where nothing of the made one is shown, the source's pixels stay as they are, to the bit.
        """
        out = source[: self._output.height, : self._output.width].copy()
        top, left, bottom, right = self.region
        weights = self.shown
        if patch is not None:
            high, wide = patch.weights.shape
            top, bottom = max(top, patch.top), min(bottom, patch.top + high)
            left, right = max(left, patch.left), min(right, patch.left + wide)
            if top >= bottom or left >= right:
                return out
            weights = _part(self.shown, top - self._rows.begin, left - self._columns.begin, bottom - top, right - left)
            weights = weights * _part(patch.weights, top - patch.top, left - patch.left, bottom - top, right - left)
        below = out[top:bottom, left:right]
        above = self._scaled(made)
        if move is None:
            above = _part(above, top - self._rows.begin, left - self._columns.begin, *weights.shape)
        else:
            above = _sampled(above, move, (left, top), (self._columns.begin, self._rows.begin), weights.shape)
        mixed = below + weights[..., None] * (above.astype(np.float32) - below)
        out[top:bottom, left:right] = np.rint(np.clip(mixed, 0, 255)).astype(np.uint8)
        return out

    def _scaled(self, made: Picture) -> Picture:
        """The made picture at the size of its region."""
        from PIL import Image

        # Rounding may ask for a part of a pixel beyond the edge, which is the last one again.
        padded = np.pad(made[self._rows.part, self._columns.part], ((1, 1), (1, 1), (0, 0)), mode="edge")
        box = (self._columns.start + 1, self._rows.start + 1, self._columns.stop + 1, self._rows.stop + 1)
        size = self._columns.end - self._columns.begin, self._rows.end - self._rows.begin
        return np.asarray(Image.fromarray(padded).resize(size, Image.Resampling.BICUBIC, box=box))


def _sampled(
    picture: Picture,
    move: NDArray[np.complex128],
    place: tuple[int, int],
    corner: tuple[int, int],
    shape: tuple[int, ...],
) -> Picture:
    """Part of a moved picture: of a shape, from a place on; `corner` is where the picture lay before (right, down)."""
    import cv2

    turn, shift = 1 / move[0], -move[1] / move[0]
    half = complex(0.5, 0.5)  # pixels are places of their middles
    start = turn * (complex(*place) + half) + shift - complex(*corner) - half
    matrix = np.array([[turn.real, -turn.imag, start.real], [turn.imag, turn.real, start.imag]])
    how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    found = cv2.warpAffine(picture, matrix, (shape[1], shape[0]), flags=how, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.uint8)


Values = TypeVar("Values", Picture, Weights)


def _part(values: Values, top: int, left: int, height: int, width: int) -> Values:
    return values[top : top + height, left : left + width]


def _span(source: int, resized: int, corner: int, made: int, output: int) -> _Span:
    """One direction: a source is resized, and the made picture begins at a corner of that (negative: a bar)."""
    scale = resized / source
    first, last = max(0, corner) / scale, min(resized, corner + made) / scale
    # Less than a line of the source at its edge, which rounding cut off, is not worth a seam.
    begin = 0 if first < 1 else math.ceil(first - 1e-6)
    end = output if last > source - 1 else min(output, math.floor(last + 1e-6))
    part = slice(max(0, -corner), min(made, resized - corner))
    start, stop = (
        min(max(line * scale - corner - part.start, -1.0), part.stop - part.start + 1.0) for line in (begin, end)
    )
    return _Span(begin, end, part, start, stop)


def _faded(span: _Span, side: int, width: float) -> NDArray[np.float32]:
    """Weights along one direction: rising from the edges at which the source goes on."""
    lines = np.arange(span.end - span.begin) + 0.5
    rise = lines if span.begin > 0 else np.full_like(lines, np.inf)
    fall = lines[::-1] if span.end < side else np.full_like(lines, np.inf)
    share = np.clip(np.minimum(rise, fall) / width, 0, 1)
    return (share * share * (3 - 2 * share)).astype(np.float32)
