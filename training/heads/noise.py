"""Random fields that depend on a place alone: the same at the same point of a face in every frame."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

_PRIMES: Final = (374761393, 668265263, 1274126177)


def _hashed(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """A number in -1..1 for each lattice point of int32 coordinates."""
    mixed = x * _PRIMES[0] + y * _PRIMES[1] + z * _PRIMES[2]  # wraps around, as a hash should
    mixed = (mixed ^ (mixed >> 13)) * _PRIMES[2]
    mixed = (mixed ^ (mixed >> 16)) & 0xFFFF
    return mixed.float() * (2.0 / 65535.0) - 1.0


def noise_and_slope(place: Tensor) -> tuple[Tensor, Tensor]:
    """Smooth noise in -1..1 whose grains are one unit wide, and how it rises along each axis.

    Args:
        place: ``[..., 3]``.

    Returns:
        noise ``[...]`` and its gradient ``[..., 3]``.
    """
    if place.is_cuda:
        from training.heads import noise_triton

        return noise_triton.noise_and_slope(place, slopes=True)
    cell = place.floor()
    x, y, z = cell.to(torch.int32).unbind(-1)
    part = place - cell
    ease, steep = part * part * (3.0 - 2.0 * part), 6.0 * part * (1.0 - part)
    (ex, ey, ez), (sx, sy, sz) = ease.unbind(-1), steep.unbind(-1)
    near, far = (_layer(x, y, z + k) for k in range(2))
    planes = [_plane(corners, ex, ey, sx, sy) for corners in (near, far)]
    (v0, dx0, dy0), (v1, dx1, dy1) = planes
    value = v0 + (v1 - v0) * ez
    slope = torch.stack([dx0 + (dx1 - dx0) * ez, dy0 + (dy1 - dy0) * ez, (v1 - v0) * sz], -1)
    return value, slope


def _layer(x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _hashed(x, y, z), _hashed(x + 1, y, z), _hashed(x, y + 1, z), _hashed(x + 1, y + 1, z)


def _plane(
    corners: tuple[Tensor, Tensor, Tensor, Tensor], ex: Tensor, ey: Tensor, sx: Tensor, sy: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Value and slopes along x and y between four corners."""
    a, b, c, d = corners
    low, high = a + (b - a) * ex, c + (d - c) * ex
    return low + (high - low) * ey, ((b - a) + ((d - c) - (b - a)) * ey) * sx, (high - low) * sy


def noise(place: Tensor) -> Tensor:
    """The noise of ``noise_and_slope`` alone, ``[...]``."""
    if place.is_cuda:
        from training.heads import noise_triton

        return noise_triton.noise_and_slope(place, slopes=False)[0]
    return noise_and_slope(place)[0]


def layered(place: Tensor, layers: int) -> Tensor:
    """Noise with ever finer and weaker grains, about -1..1: ``[..., 3]`` to ``[...]``."""
    total = noise(place)
    for layer in range(1, layers):
        total = total + noise(place * 2.0**layer + 17.0 * layer) * 0.5**layer
    return total / (2.0 - 0.5 ** (layers - 1))
