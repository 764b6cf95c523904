"""Brings pictures and masks of any size to the size of the video: cut to fill it, or with bars to show all of it."""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from infinitetalk.core.sizes import Pixels

_BITS = 22
"""Fixed-point bits of a resampling weight: 8-bit values times weights of sum one stay inside 32 bits."""


class Placement(NamedTuple):
    """Where a resized source lies: its own size, and the corner of the target in it (negative: a bar)."""

    size: Pixels
    top: int
    left: int


class Focus(NamedTuple):
    """What cutting must keep: x0, y0, x1, y1 as fractions of the source."""

    x0: float
    y0: float
    x1: float
    y1: float


def place(source: Pixels, target: Pixels, framing: str, focus: Focus | None = None) -> Placement:
    """How a source fills a target: `letterbox` fits inside and leaves bars, all others cover it and cut.

    What is cut lies around the middle, moved no farther than the focus asks for.
    """
    scales = (target.height / source.height, target.width / source.width)
    if framing == "letterbox":
        # Rounding must not exceed the target.
        height, width = (max(1, min(side, round(min(scales) * old))) for side, old in zip(target, source, strict=True))
    else:
        height, width = (math.ceil(max(scales) * side) for side in source)
    size = Pixels(height, width)
    top, left = round((height - target.height) / 2), round((width - target.width) / 2)
    if focus is not None and framing != "letterbox":
        top = _keeping(height, target.height, focus.y0, focus.y1)
        left = _keeping(width, target.width, focus.x0, focus.x1)
    return Placement(size, top, left)


def _keeping(side: int, target: int, start: float, end: float) -> int:
    """Where a cut of a side begins: in the middle if that keeps start to end (fractions), else as near as can be.

    Where they are farther apart than the target is long, both lose the same.
    """
    least, most = end * side - target, start * side
    middle = (side - target) / 2
    wanted = (least + most) / 2 if least > most else min(max(middle, least), most)
    return round(min(max(wanted, 0), side - target))


def fit_picture(
    picture: NDArray[np.uint8], target: Pixels, framing: str = "crop", focus: Focus | None = None
) -> Tensor:
    """RGB picture [height, width, 3] → network input [1, 3, 1, target height, target width] in [-1, 1]; bars are black.

    Resizes as the bilinear filter of Pillow up to version 12 does, to the last bit.
    """
    where = place(Pixels(*picture.shape[:2]), target, framing, focus)
    resized = torch.from_numpy(resize(picture, where.size)).permute(2, 0, 1)
    return ((_shift(resized, where, target) / 255 - 0.5) * 2)[None, :, None]


def fit_masks(masks: Tensor, target: Pixels, framing: str = "crop", focus: Focus | None = None) -> Tensor:
    """Masks [people, height, width] of the source → [people, target height, target width], by nearest neighbour."""
    where = place(Pixels(*masks.shape[1:]), target, framing, focus)
    return _shift(F.interpolate(masks[None].float(), size=tuple(where.size), mode="nearest")[0], where, target)


def _shift(resized: Tensor, where: Placement, target: Pixels) -> Tensor:
    """Cuts the target out of a resized source [C, h, w]; zeros where the source does not reach."""
    _, height, width = resized.shape
    out = resized.new_zeros(resized.shape[0], *target)
    top, left = max(0, where.top), max(0, where.left)
    part = resized[:, top : min(height, where.top + target.height), left : min(width, where.left + target.width)]
    row, column = max(0, -where.top), max(0, -where.left)
    out[:, row : row + part.shape[1], column : column + part.shape[2]] = part
    return out


def resize(picture: NDArray[np.uint8], size: Pixels) -> NDArray[np.uint8]:
    """Resizes [height, width, channels] with a triangle filter that widens when it shrinks, first across, then down."""
    across = _resample(picture, size.width, axis=1)
    return _resample(across, size.height, axis=0)


def _resample(picture: NDArray[np.uint8], size: int, axis: int) -> NDArray[np.uint8]:
    """One direction of `resize`, in fixed point, one filter tap at a time so that memory stays small."""
    if picture.shape[axis] == size:
        return picture
    positions, weights = _taps(picture.shape[axis], size)
    shape = [1, 1, 1]
    shape[axis] = size
    total = np.full(1, 1 << (_BITS - 1), dtype=np.int32)
    for position, weight in zip(positions.T, weights.T, strict=True):
        total = total + picture.take(position, axis=axis) * weight.reshape(shape)
    resized: NDArray[np.uint8] = np.clip(total >> _BITS, 0, 255).astype(np.uint8)
    return resized


def _taps(old: int, new: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """For each new position, the old positions it sees and their fixed-point weights: [new, taps] each."""
    scale = old / new
    support = max(scale, 1.0)
    centre = (np.arange(new) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + support + 0.5).astype(np.int64), old)
    positions = first[:, None] + np.arange(math.ceil(support) * 2 + 1)
    weights = np.maximum(1 - np.abs((positions - centre[:, None] + 0.5) * (1 / support)), 0)
    weights = np.where(positions < last[:, None], weights, 0)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.minimum(positions, old - 1), (weights * (1 << _BITS) + 0.5).astype(np.int32)
