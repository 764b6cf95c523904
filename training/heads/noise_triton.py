"""The noise of `noise.py` on a GPU, by one kernel instead of some 130 small ones."""

# A kernel takes its pointers and sizes one by one, and they have no types that Python knows.
# ruff: noqa: PLR0917

from typing import Any, Final

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK: Final = 512


@triton.jit
def _hashed(x: "Any", y: "Any", z: "Any") -> "Any":
    mixed = x * 374761393 + y * 668265263 + z * 1274126177
    mixed = (mixed ^ (mixed >> 13)) * 1274126177
    mixed = (mixed ^ (mixed >> 16)) & 0xFFFF
    return mixed.to(tl.float32) * (2.0 / 65535.0) - 1.0


@triton.jit
def _plane(x: "Any", y: "Any", z: "Any", ex: "Any", ey: "Any", sx: "Any", sy: "Any") -> "Any":
    """Value and slopes along x and y between the four lattice points of one height."""
    a, b = _hashed(x, y, z), _hashed(x + 1, y, z)
    c, d = _hashed(x, y + 1, z), _hashed(x + 1, y + 1, z)
    low, high = a + (b - a) * ex, c + (d - c) * ex
    return low + (high - low) * ey, ((b - a) + ((d - c) - (b - a)) * ey) * sx, (high - low) * sy


@triton.jit(do_not_specialize=["count", "row", "column"])
def _noise(
    places: "Any", values: "Any", slopes: "Any", count: "Any", row: "Any", column: "Any",
    rising: tl.constexpr, block: tl.constexpr,
) -> None:  # fmt: skip
    index = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    there = index < count
    source = places + index * row
    x, y = tl.load(source, mask=there, other=0.0), tl.load(source + column, mask=there, other=0.0)
    z = tl.load(source + 2 * column, mask=there, other=0.0)
    fx, fy, fz = tl.floor(x), tl.floor(y), tl.floor(z)
    ix, iy, iz = fx.to(tl.int32), fy.to(tl.int32), fz.to(tl.int32)
    px, py, pz = x - fx, y - fy, z - fz
    ex, ey, ez = px * px * (3.0 - 2.0 * px), py * py * (3.0 - 2.0 * py), pz * pz * (3.0 - 2.0 * pz)
    sx, sy, sz = 6.0 * px * (1.0 - px), 6.0 * py * (1.0 - py), 6.0 * pz * (1.0 - pz)
    v0, dx0, dy0 = _plane(ix, iy, iz, ex, ey, sx, sy)
    v1, dx1, dy1 = _plane(ix, iy, iz + 1, ex, ey, sx, sy)
    tl.store(values + index, v0 + (v1 - v0) * ez, mask=there)
    if rising:
        tl.store(slopes + 3 * index, dx0 + (dx1 - dx0) * ez, mask=there)
        tl.store(slopes + 3 * index + 1, dy0 + (dy1 - dy0) * ez, mask=there)
        tl.store(slopes + 3 * index + 2, (v1 - v0) * sz, mask=there)


def noise_and_slope(place: Tensor, *, slopes: bool) -> tuple[Tensor, Tensor]:
    """Noise ``[...]`` at float32 places ``[..., 3]`` and how it rises ``[..., 3]``; without ``slopes``, no rows."""
    points = place.reshape(-1, 3)
    count = len(points)
    values = torch.empty(count, device=place.device)
    rises = torch.empty(count if slopes else 0, 3, device=place.device)
    if count:
        blocks = (triton.cdiv(count, _BLOCK),)
        _noise[blocks](points, values, rises, count, *points.stride(), rising=slopes, block=_BLOCK)
    return values.view(place.shape[:-1]), rises.view(place.shape) if slopes else rises
