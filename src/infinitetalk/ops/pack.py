"""Dense matrices into fewer bits: numbers of 8 bits with a scale for each row, or ggml's blocks of 4 bits.

Rows are packed some at a time, so that what lies between values and bits stays small. The results are `ops.stored` and
`ops.ggml` values; what reads them back is there.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from infinitetalk.ops.ggml import LAYOUTS, Blocks
from infinitetalk.ops.stored import Scaled, Stored

LARGEST_FP8 = 448.0
"""The largest number of float8_e4m3fn."""
LARGEST_INT8 = 127
WEIGHTS_AT_ONCE = 1 << 21
LEAST = torch.finfo(torch.float32).tiny

GROUP = 32
"""Neighbouring weights that share a scale of 4-bit blocks."""
_Q4_0_ENDS = (-8.6, -8.0, -7.5, -7.0, -6.4)
"""Steps that the weight farthest from zero is tried at; the one that fits its block best is taken."""
_Q4_K_SPANS = (1.0, 0.95, 0.9, 0.84)
"""Shares of a group's range that its 16 steps are tried at."""
_MOST_SIX_BITS = 63


def four_bits(width: int) -> str | None:
    """ggml's kind for rows of so many weights; None where no 4-bit blocks fit."""
    return next((kind for kind in ("Q4_K", "Q4_0") if width % LAYOUTS[kind].weights == 0), None)


def pack_fp8(matrix: Tensor) -> Scaled:
    """[out, ...] as float8_e4m3fn with a float32 scale for each row."""
    scale = _row_scales(matrix, LARGEST_FP8)
    data = torch.empty(matrix.shape, dtype=torch.float8_e4m3fn, device=matrix.device)
    for rows in _pieces(matrix):
        data[rows] = (_flat(matrix[rows]) / scale[rows, None]).to(data.dtype).reshape(data[rows].shape)
    return Scaled(data, scale)


def pack_int8(matrix: Tensor) -> Scaled:
    """[out, ...] as whole numbers from -127 to 127 with a float32 scale for each row."""
    scale = _row_scales(matrix, LARGEST_INT8)
    data = torch.empty(matrix.shape, dtype=torch.int8, device=matrix.device)
    for rows in _pieces(matrix):
        data[rows] = int8_steps(_flat(matrix[rows]), scale[rows]).reshape(data[rows].shape)
    return Scaled(data, scale)


def int8_steps(rows: Tensor, scale: Tensor) -> Tensor:
    """Rows float32 [n, k] as whole numbers of a scale each, int8 [n, k]; scales [n] are not zero."""
    return (rows / scale[:, None]).round_().clamp_(-LARGEST_INT8, LARGEST_INT8).to(torch.int8)


def pack_q4(matrix: Tensor) -> Blocks:
    """[out, in] in 4-bit blocks: Q4_K where rows are made of whole blocks of 256, else Q4_0.

    Raises:
        ValueError: rows that no 4-bit blocks fit.
    """
    kind = four_bits(matrix.shape[-1])
    if kind is None:
        raise ValueError(f"rows of {matrix.shape[-1]} weights have no whole 4-bit blocks")
    layout, packer = LAYOUTS[kind], _PACKERS[kind]
    data = torch.empty(matrix.numel() // layout.weights, layout.bytes, dtype=torch.uint8, device=matrix.device)
    for rows in _pieces(matrix):
        blocks = _flat(matrix[rows]).reshape(-1, layout.weights)
        start = rows.start * (matrix.shape[-1] // layout.weights)
        data[start : start + len(blocks)] = packer(blocks)
    return Blocks(data, kind, matrix.shape)


PACKERS: Mapping[str, Callable[[Tensor], Stored]] = {"fp8": pack_fp8, "int8": pack_int8, "q4": pack_q4}
"""Kinds of fewer bits by their short names."""


def _flat(rows: Tensor) -> Tensor:
    return rows.float().flatten(1)


def _pieces(matrix: Tensor) -> Iterator[slice]:
    """Some rows after the other."""
    step = max(1, WEIGHTS_AT_ONCE // max(1, math.prod(matrix.shape[1:])))
    for start in range(0, len(matrix), step):
        yield slice(start, min(start + step, len(matrix)))


def _row_scales(matrix: Tensor, largest: float) -> Tensor:
    """What brings each row's largest weight to the largest number; a row of zeros has the least scale there is."""
    sizes = [_flat(matrix[rows]).abs().amax(dim=1) for rows in _pieces(matrix)]
    return (torch.cat(sizes) / largest).clamp_min(LEAST)


def _two_bytes(numbers: Tensor) -> Tensor:
    """float16 numbers [n] as bytes [n, 2]."""
    return numbers.half().unsqueeze(-1).view(torch.uint8)


def _nibbles(steps: Tensor, width: int) -> Tensor:
    """Numbers from 0 to 15 [n, 2 k] in bytes [n, k]: of each 2 `width` the first half low, the second half high."""
    low, high = steps.to(torch.uint8).unflatten(1, (-1, 2, width)).unbind(2)
    joined: Tensor = low | (high << 4)
    return joined.flatten(1)


def _best(found: Sequence[tuple[Tensor, ...]], errors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Of several answers, for each row the one with the least error."""
    best = torch.stack(list(errors)).argmin(dim=0, keepdim=True)
    return tuple(torch.stack(one).gather(0, best)[0] for one in zip(*found, strict=True))


def _q4_0(x: Tensor) -> Tensor:
    """Blocks of 32 weights, float32 [n, 32] → [n, 18]: steps from -8 to 7 times one scale."""
    farthest = x.gather(1, x.abs().argmax(dim=1, keepdim=True))[:, 0]
    scales, errors = [], []
    for end in _Q4_0_ENDS:
        steps = _divided(x, farthest / end).round_().clamp_(-8, 7)
        squares = steps.square().sum(dim=1)
        # For these steps this scale has the least squared error.
        scale = _divided((x * steps).sum(dim=1, keepdim=True), squares)[:, 0].half().float()
        scales.append((scale,))
        errors.append((x - scale[:, None] * steps).square_().sum(dim=1))
    (scale,) = _best(scales, errors)
    steps = _divided(x, scale).round_().clamp_(-8, 7).add_(8)
    return torch.cat([_two_bytes(scale), _nibbles(steps, 16)], dim=1)


def _q4_k(x: Tensor) -> Tensor:
    """Blocks of 256 weights, float32 [n, 256] → [n, 144]: steps from 0 to 15 times a group's scale, less its offset."""
    groups = x.reshape(-1, GROUP)
    found, errors = [], []
    for span in _Q4_K_SPANS:
        scale, offset, error = _fitted(groups, span)
        found.append((scale, offset))
        errors.append(error)
    scale, offset = (one.reshape(len(x), -1) for one in _best(found, errors))
    step, least = (one.amax(dim=1, keepdim=True).div(_MOST_SIX_BITS).half().float() for one in (scale, offset))
    scales, offsets = (
        _divided(one, unit[:, 0]).round_().clamp_(0, _MOST_SIX_BITS) for one, unit in ((scale, step), (offset, least))
    )
    lifted = x.unflatten(1, (-1, GROUP)) + (least * offsets)[..., None]
    factors = step * scales
    steps = torch.where(factors[..., None] > 0, lifted / factors.clamp_min(LEAST)[..., None], 0)
    steps = steps.round_().clamp_(0, 15).flatten(1)
    heads = (_two_bytes(step[:, 0]), _two_bytes(least[:, 0]), _six_bits(scales, offsets))
    return torch.cat([*heads, _nibbles(steps, GROUP)], dim=1)


def _fitted(groups: Tensor, span: float) -> tuple[Tensor, Tensor, Tensor]:
    """Scale, offset and squared error of groups [n, 32] whose 16 steps cover a share of their range."""
    low = groups.amin(dim=1).clamp_max(0)
    high = groups.amax(dim=1).clamp_min(0)
    middle, width = (low + high) / 2, (high - low) * span
    start = (middle - width / 2).clamp_max(0)
    steps = _divided(groups - start[:, None], width / 15).round_().clamp_(0, 15)
    # A straight line through weights by steps; offsets cannot raise.
    mean, average = steps.mean(dim=1, keepdim=True), groups.mean(dim=1, keepdim=True)
    inner = ((steps - mean) * (groups - average)).sum(dim=1)
    scale = _divided(inner[:, None], (steps - mean).square().sum(dim=1))[:, 0]
    offset = (scale * mean[:, 0] - average[:, 0]).clamp_min(0)
    scale = _divided(((groups + offset[:, None]) * steps).sum(dim=1, keepdim=True), steps.square().sum(dim=1))[:, 0]
    scale = scale.clamp_min(0)
    error = (groups + offset[:, None] - scale[:, None] * steps).square_().sum(dim=1)
    return scale, offset, error


def _divided(rows: Tensor, by: Tensor) -> Tensor:
    """Rows [n, k] by a number each; zeros where that number is zero."""
    return torch.where(by[:, None] == 0, 0, rows / torch.where(by == 0, 1, by)[:, None])


def _six_bits(scales: Tensor, offsets: Tensor) -> Tensor:
    """Eight scales and eight offsets from 0 to 63, [n, 8] each, in 12 bytes; see `ggml._six_bits`."""
    scale, offset = scales.to(torch.uint8), offsets.to(torch.uint8)
    first, last = scale.split(4, dim=1)
    least, most = offset.split(4, dim=1)
    return torch.cat([first | (last >> 4 << 6), least | (most >> 4 << 6), (last & 15) | ((most & 15) << 4)], dim=1)


_PACKERS: Mapping[str, Callable[[Tensor], Tensor]] = {"Q4_0": _q4_0, "Q4_K": _q4_k}
