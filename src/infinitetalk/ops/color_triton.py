"""CIE Lab in Triton: what `media.color` does to frames, in one kernel that measures them and one that changes them.

Powers go by logarithms of base 2, so values differ from the plain form's by rounding alone.
"""

# A kernel takes its pointers and sizes one by one, and they have no types that Python knows.
# ruff: noqa: PLR0917

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

PIXELS = 1024
"""What one program works on together."""
TILES = 16
"""How often one program that measures does so."""


@triton.jit
def _power(x: "Any", exponent: tl.constexpr) -> "Any":
    """Of what is above zero."""
    return tl.exp2(tl.log2(x) * exponent)


@triton.jit
def _straight(v: "Any") -> "Any":
    """[-1, 1] → light in [0, 1]."""
    x = tl.minimum(tl.maximum((v + 1.0) * 0.5, 0.0), 1.0)
    return tl.where(x > 0.04045, _power((x + 0.055) / 1.055, 2.4), x / 12.92)


@triton.jit
def _root(x: "Any") -> "Any":
    return tl.where(x > 0.008856, _power(tl.maximum(x, 0.008856), 1 / 3), 7.787 * x + 16 / 116)


@triton.jit
def _lab(first: "Any", step: "Any", places: "Any", inside: "Any", matrix: "Any") -> "Any":
    """CIE Lab of pixels, by the matrix [3, 3] that leads to XYZ over the white point."""
    r = _straight(tl.load(first + places, mask=inside, other=0.0).to(tl.float32))
    g = _straight(tl.load(first + step + places, mask=inside, other=0.0).to(tl.float32))
    b = _straight(tl.load(first + 2 * step + places, mask=inside, other=0.0).to(tl.float32))
    x = _root(tl.load(matrix) * r + tl.load(matrix + 1) * g + tl.load(matrix + 2) * b)
    y = _root(tl.load(matrix + 3) * r + tl.load(matrix + 4) * g + tl.load(matrix + 5) * b)
    z = _root(tl.load(matrix + 6) * r + tl.load(matrix + 7) * g + tl.load(matrix + 8) * b)
    return 116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)


@triton.jit
def _measure_kernel(
    video: "Any",
    found: "Any",
    matrix: "Any",
    count: "Any",
    step: "Any",
    pixels: tl.constexpr,
    tiles: tl.constexpr,
) -> None:
    # Sums of Lab's channels and of their squares, each less what is near its middle: so squares lose nothing.
    frame, part = tl.program_id(0), tl.program_id(1)
    first = video + frame.to(tl.int64) * count
    zero = tl.zeros((pixels,), tl.float32)
    light, red, blue, light2, red2, blue2 = zero, zero, zero, zero, zero, zero
    for number in range(tiles):
        places = (part * tiles + number) * pixels + tl.arange(0, pixels)
        inside = places < count
        x, a, b = _lab(first, step, places, inside, matrix)
        x, a, b = tl.where(inside, x - 50.0, 0.0), tl.where(inside, a, 0.0), tl.where(inside, b, 0.0)
        light, red, blue = light + x, red + a, blue + b
        light2, red2, blue2 = light2 + x * x, red2 + a * a, blue2 + b * b
    place = found + (frame * tl.num_programs(1) + part) * 6
    tl.store(place, tl.sum(light, axis=0))
    tl.store(place + 1, tl.sum(red, axis=0))
    tl.store(place + 2, tl.sum(blue, axis=0))
    tl.store(place + 3, tl.sum(light2, axis=0))
    tl.store(place + 4, tl.sum(red2, axis=0))
    tl.store(place + 5, tl.sum(blue2, axis=0))


@triton.jit
def _square(x: "Any") -> "Any":
    return tl.where(x > 0.2068966, x * x * x, (x - 16 / 116) / 7.787)


@triton.jit
def _shown(x: "Any") -> "Any":
    """Light → sRGB in [0, 1]."""
    curved = 1.055 * _power(tl.maximum(x, 0.0031308), 1 / 2.4) - 0.055
    return tl.minimum(tl.maximum(tl.where(x > 0.0031308, curved, 12.92 * x), 0.0), 1.0)


@triton.jit
def _store(
    video: "Any", made: "Any", places: "Any", inside: "Any", light: "Any", strength: "Any",
) -> None:  # fmt: skip
    before = tl.load(video + places, mask=inside, other=0.0).to(tl.float32)
    before = tl.minimum(tl.maximum((before + 1.0) * 0.5, 0.0), 1.0)
    y = (1.0 - strength) * before + strength * _shown(light)
    tl.store(made + places, (2.0 * y - 1.0).to(made.dtype.element_ty), mask=inside)


@triton.jit
def _match_kernel(
    video: "Any",
    made: "Any",
    moves: "Any",
    matrix: "Any",
    back: "Any",
    count: "Any",
    step: "Any",
    strength: "Any",
    pixels: tl.constexpr,
) -> None:
    frame = tl.program_id(0).to(tl.int64)
    places = tl.program_id(1) * pixels + tl.arange(0, pixels)
    inside = places < count
    first, moves = video + frame * count, moves + frame * 6
    y, a, b = _lab(first, step, places, inside, matrix)
    y = y * tl.load(moves) + tl.load(moves + 3)
    a = a * tl.load(moves + 1) + tl.load(moves + 4)
    b = b * tl.load(moves + 2) + tl.load(moves + 5)
    y = (y + 16.0) / 116.0
    x, z = _square(a / 500.0 + y), _square(tl.maximum(y - b / 200.0, 0.0))
    y = _square(y)
    target = made + frame * count
    for channel in tl.static_range(3):
        row = back + 3 * channel
        light = tl.load(row) * x + tl.load(row + 1) * y + tl.load(row + 2) * z
        _store(first + channel * step, target + channel * step, places, inside, light, strength)


def measured(video: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of Lab's channels of frames [3, F, H, W] in [-1, 1]: [F, 3] each.

    Args:
        matrix: [3, 3] float32, from light in sRGB's primaries to XYZ over the white point.
    """
    video = video.contiguous()
    frames, count = video.shape[1], video.shape[2] * video.shape[3]
    parts = triton.cdiv(count, PIXELS * TILES)
    found = torch.empty(frames, parts, 2, 3, dtype=torch.float32, device=video.device)
    _measure_kernel[(frames, parts)](video, found, matrix, count, frames * count, pixels=PIXELS, tiles=TILES)
    mean, square = (found.double().sum(dim=1) / count).unbind(dim=1)
    spread = (square - mean.square()).clamp_(min=0).sqrt()
    mean[:, 0] += 50
    return mean.float(), spread.float()


def moved(video: Tensor, gain: Tensor, offset: Tensor, matrices: Sequence[Tensor], strength: float) -> Tensor:
    """Frames [3, F, H, W] in [-1, 1] with Lab's channels times gain plus offset, [F, 3] float32 each.

    Args:
        matrices: as `measured` takes it, and its inverse.
    """
    video = video.contiguous()
    made = torch.empty_like(video)
    frames, count = video.shape[1], video.shape[2] * video.shape[3]
    _match_kernel[(frames, triton.cdiv(count, PIXELS))](
        video, made, torch.stack([gain, offset], dim=1), *matrices, count, frames * count, strength, pixels=PIXELS
    )
    return made
