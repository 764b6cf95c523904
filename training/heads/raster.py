"""Which triangle is visible at each pixel: a plain-torch reference and a CUDA kernel that gives the same answer.

Every covered pixel keeps the smallest key of ``quantised depth << 32 | code``; the code names the person (``slot``) and
the triangle. Equal depths go to the smaller code, so the order of execution never shows.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from infinitetalk.core.errors import MachineError

Rasteriser = Literal["torch", "cuda"]

EMPTY: Final = 1 << 62
DEPTH_STEPS: Final = 65536.0
DEPTH_LIMIT: Final = 1 << 30
MIN_AREA: Final = 1e-6
_BOX_SIDES: Final = (3, 6, 12, 24, 48, 96, 192, 384, 768, 1536)
_PIXELS_AT_ONCE: Final = 2_000_000


def rasterise(
    screen: Tensor, depth: Tensor, triangles: Tensor, two_sided: Tensor, *, size: int, method: Rasteriser
) -> tuple[Tensor, Tensor]:
    """Visible triangle per pixel of frames that hold several people.

    Args:
        screen: ``[B, P, V, 2]`` float32, pixel positions (y down) of the vertices of P people in B frames.
        depth: ``[B, P, V]`` float32, distance from the camera, positive and below 16000.
        triangles: ``[T, 3]`` int64, shared by all people.
        two_sided: ``[T]`` bool; other triangles are seen from outside only.
        size: side of the square picture in pixels.

    Returns:
        ``code`` int64 ``[B, size, size]``: ``person * T + triangle``, or -1 where nothing is;
        ``distance`` float32 of the same shape, 0 where nothing is.
    """
    draw = _rasterise_cuda if method == "cuda" else _rasterise_torch
    keys = draw(screen.contiguous(), depth.contiguous(), triangles, two_sided, size)
    empty = keys == EMPTY
    code = torch.where(empty, -1, keys & 0xFFFFFFFF)
    distance = (keys >> 32).float() / DEPTH_STEPS
    return code, distance.masked_fill(empty, 0.0)


def _signed_area(corners: Tensor) -> Tensor:
    a, b, c = corners.unbind(-2)
    return (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])


def _rasterise_torch(screen: Tensor, depth: Tensor, triangles: Tensor, two_sided: Tensor, size: int) -> Tensor:
    batch = len(screen)
    corners = screen[:, :, triangles]  # [B, P, T, 3, 2]
    low, high, area = corners.amin(-2), corners.amax(-2), _signed_area(corners)
    visible = (high > 0).all(-1) & (low < size).all(-1) & (area.abs() >= MIN_AREA) & (two_sided | (area < 0))
    side = (high.ceil() - low.floor()).amax(-1)
    keys = torch.full((batch * size * size,), EMPTY, dtype=torch.int64, device=screen.device)
    smaller = 0
    for box in _BOX_SIDES:
        frame, person, triangle = (visible & (side > smaller) & (side <= box)).nonzero(as_tuple=True)
        smaller = box
        step = max(1, _PIXELS_AT_ONCE // (box * box))
        for i in range(0, len(frame), step):
            f, p, t = frame[i : i + step], person[i : i + step], triangle[i : i + step]
            z = depth[f[:, None], p[:, None], triangles[t]]
            _draw_boxes(
                keys.view(batch, size, size), _Boxes(corners[f, p, t], area[f, p, t], z, f, p * len(triangles) + t, box)
            )
    return keys.view(batch, size, size)


class _Boxes(NamedTuple):
    """n triangles that fit into squares of ``side`` pixels."""

    corners: Tensor  # [n, 3, 2]
    area: Tensor  # [n]
    depth: Tensor  # [n, 3]
    frame: Tensor  # [n]
    code: Tensor  # [n]
    side: int


def _draw_boxes(keys: Tensor, boxes: _Boxes) -> None:
    """Test every pixel of the square around each triangle and keep the nearest in ``keys [B, size, size]``."""
    size, box = keys.shape[-1], boxes.side
    corners, area, depth = boxes.corners, boxes.area, boxes.depth
    offset = torch.arange(box, device=keys.device)
    origin = corners.amin(1).floor()
    column = (origin[:, 0, None, None] + offset[None, None, :]).expand(-1, box, -1)
    row = (origin[:, 1, None, None] + offset[None, :, None]).expand(-1, -1, box)
    x, y = column + 0.5, row + 0.5
    (ax, ay), (bx, by), (cx, cy) = ([corners[:, k, axis, None, None] for axis in range(2)] for k in range(3))
    w0 = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area[:, None, None]
    w1 = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area[:, None, None]
    w2 = 1.0 - w0 - w1
    z = w0 * depth[:, 0, None, None] + w1 * depth[:, 1, None, None] + w2 * depth[:, 2, None, None]
    inside = (w0 >= 0) & (w1 >= 0) & (w2 >= 0) & (column >= 0) & (row >= 0) & (column < size) & (row < size)
    hit = inside.nonzero(as_tuple=True)
    pixel = boxes.frame[hit[0]] * (size * size) + (row[hit] * size + column[hit]).long()
    steps = (z[hit] * DEPTH_STEPS).long().clamp(0, DEPTH_LIMIT)
    keys.view(-1).scatter_reduce_(0, pixel, steps << 32 | boxes.code[hit[0]], "amin")


# One thread per triangle and person. Compiled without fused multiply-add, so that sums round as torch's do.
KERNEL_SOURCE: Final = r"""
extern "C" __global__ void rasterise(
    const float* __restrict__ screen, const float* __restrict__ depth, const int* __restrict__ triangles,
    const bool* __restrict__ two_sided, unsigned long long* __restrict__ keys,
    const long long instances, const long long people, const long long vertices, const long long count,
    const int size)
{
    const long long job = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (job >= instances * count) return;
    const long long instance = job / count, triangle = job % count;
    const long long base = instance * vertices;
    const long long i = base + triangles[3 * triangle];
    const long long j = base + triangles[3 * triangle + 1];
    const long long k = base + triangles[3 * triangle + 2];
    const float ax = screen[2 * i], ay = screen[2 * i + 1];
    const float bx = screen[2 * j], by = screen[2 * j + 1];
    const float cx = screen[2 * k], cy = screen[2 * k + 1];
    const float left = fminf(ax, fminf(bx, cx)), right = fmaxf(ax, fmaxf(bx, cx));
    const float top = fminf(ay, fminf(by, cy)), bottom = fmaxf(ay, fmaxf(by, cy));
    if (!(right > 0.f && bottom > 0.f && left < (float)size && top < (float)size)) return;
    const float area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax);
    if (!(fabsf(area) >= 1e-6f) || !(two_sided[triangle] || area < 0.f)) return;
    const int first_column = max(0, (int)floorf(left)), last_column = min(size - 1, (int)ceilf(right));
    const int first_row = max(0, (int)floorf(top)), last_row = min(size - 1, (int)ceilf(bottom));
    const float za = depth[i], zb = depth[j], zc = depth[k];
    const unsigned long long code = (unsigned long long)((instance % people) * count + triangle);
    unsigned long long* frame = keys + (instance / people) * (long long)size * size;
    for (int row = first_row; row <= last_row; ++row) {
        for (int column = first_column; column <= last_column; ++column) {
            const float x = column + 0.5f, y = row + 0.5f;
            const float w0 = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area;
            const float w1 = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area;
            const float w2 = 1.f - w0 - w1;
            if (!(w0 >= 0.f && w1 >= 0.f && w2 >= 0.f)) continue;
            const float z = w0 * za + w1 * zb + w2 * zc;
            long long steps = (long long)(z * 65536.f);
            steps = steps < 0 ? 0 : (steps > (1LL << 30) ? (1LL << 30) : steps);
            atomicMin(&frame[row * size + column], ((unsigned long long)steps << 32) | code);
        }
    }
}
"""
KERNEL_OPTIONS: Final = ("--fmad=false",)
_THREADS: Final = 128


def _cupy() -> Any:
    try:
        import cupy
    except ModuleNotFoundError as error:
        need = "pip install cupy-cuda12x (or the one for your CUDA), or draw by method torch"
        raise MachineError(f"drawing on a GPU needs CuPy: {need}") from error
    return cupy


@cache
def _kernel() -> Any:
    return _cupy().RawKernel(KERNEL_SOURCE, "rasterise", options=KERNEL_OPTIONS)


def _rasterise_cuda(screen: Tensor, depth: Tensor, triangles: Tensor, two_sided: Tensor, size: int) -> Tensor:
    cupy = _cupy()
    batch, people, vertices, _ = screen.shape
    count = len(triangles)
    corners = triangles.to(torch.int32).contiguous()
    keys = torch.full((batch, size, size), EMPTY, dtype=torch.int64, device=screen.device)
    jobs = batch * people * count
    with cupy.cuda.Device(screen.device.index or 0), _torch_stream(screen.device):
        arrays = [cupy.asarray(tensor) for tensor in (screen, depth, corners, two_sided.contiguous(), keys)]
        numbers = [np.int64(number) for number in (batch * people, people, vertices, count)]
        _kernel()(((jobs + _THREADS - 1) // _THREADS,), (_THREADS,), (*arrays, *numbers, np.int32(size)))
    return keys


def _torch_stream(device: torch.device) -> AbstractContextManager[Any]:
    """Launch on torch's current stream, in order with the operations around it; 0 is the default stream of both."""
    cupy = _cupy()
    stream = torch.cuda.current_stream(device).cuda_stream
    return cupy.cuda.ExternalStream(stream) if stream else nullcontext()
