"""Matrix products of 8-bit numbers: each row of both factors has a scale of its own, found anew for activations.

On a GPU these are its own 8-bit products; on a CPU the same numbers are multiplied in float32, so that errors can be
measured without such a GPU.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from infinitetalk.ops.pack import LARGEST_FP8, LARGEST_INT8, LEAST, pack_fp8, pack_int8
from infinitetalk.ops.stored import Scaled, Stored

ROWS_AT_ONCE = 4096
"""Rows whose sums of whole numbers are kept in 32 bits before they are scaled."""

STEP = 16
"""Both sides of a matrix must be multiples of it."""


class Rows(NamedTuple):
    """Activations in 8 bits."""

    data: Tensor
    """[..., K] float8_e4m3fn or int8."""
    scale: Tensor
    """[..., 1] float32."""
    dtype: torch.dtype
    """What a product with them is given in."""
    multiply: "Multiply | None" = None
    """Computes products of whole numbers; None for plain operations."""

    def wide(self) -> Tensor:
        """The values in `dtype`."""
        return (self.data.float() * self.scale).to(self.dtype)


Operand = Tensor | Rows
"""What a product takes."""
Multiply = Callable[[Rows, Scaled, Tensor | None], Tensor]
"""Rows [M, K] of whole numbers, a matrix [N, K] of them with a scale for each row, a bias → [M, N]."""


@dataclass(frozen=True, slots=True)
class Eight:
    """One number format of 8 bits."""

    name: str
    dtype: torch.dtype
    largest: float

    def quantise(self, x: Tensor, dtype: torch.dtype | None = None) -> Rows:
        """Rows of x [..., K], each with the scale that brings its largest number to the format's largest."""
        wide = x.float()
        scale = (wide.abs().amax(dim=-1, keepdim=True) / self.largest).clamp_min(LEAST)
        steps = wide / scale
        if self.dtype == torch.int8:
            steps = steps.round_().clamp_(-self.largest, self.largest)
        return Rows(steps.to(self.dtype), scale, dtype or x.dtype)

    def pack(self, matrix: Tensor | Stored) -> Scaled:
        """A matrix [out, in] as products in this format take it: with a scale for each row."""
        if isinstance(matrix, Scaled) and matrix.data.dtype == self.dtype:
            return Scaled(matrix.data, _row_scales(matrix))
        dense = matrix.dequantise(torch.float32) if isinstance(matrix, Stored) else matrix
        return pack_int8(dense) if self.dtype == torch.int8 else pack_fp8(dense)


FP8 = Eight("fp8", torch.float8_e4m3fn, LARGEST_FP8)
INT8 = Eight("int8", torch.int8, float(LARGEST_INT8))


def _row_scales(matrix: Scaled) -> Tensor:
    """[out] float32."""
    rows = len(matrix.data)
    if matrix.scale is None:
        return torch.ones(rows, device=matrix.data.device)
    return matrix.scale.float().expand(rows).contiguous()


def product(x: Rows, matrix: Scaled, bias: Tensor | None) -> Tensor:
    """[..., K] by [N, K] of the same format with a scale for each row: [..., N] in x's `dtype`."""
    assert matrix.scale is not None
    data, scale = x.data.reshape(-1, x.data.shape[-1]), x.scale.reshape(-1, 1)
    if x.multiply is not None:
        made = x.multiply(Rows(data, scale, x.dtype), matrix, bias)
    elif not data.is_cuda:
        made = _emulated(data, scale, matrix, bias).to(x.dtype)
    elif data.dtype == torch.int8:
        made = _whole(Rows(data, scale, x.dtype), matrix, bias)
    else:
        made = torch._scaled_mm(
            data,
            matrix.data.t(),
            scale_a=scale,
            scale_b=matrix.scale.view(1, -1),
            bias=None if bias is None else bias.to(x.dtype),
            out_dtype=x.dtype,
            use_fast_accum=True,
        )
    return made.view(*x.data.shape[:-1], -1)


def _emulated(data: Tensor, scale: Tensor, matrix: Scaled, bias: Tensor | None) -> Tensor:
    assert matrix.scale is not None
    made = F.linear(data.float(), matrix.data.float()).mul_(scale).mul_(matrix.scale)
    return made if bias is None else made.add_(bias.float())


def _whole(x: Rows, matrix: Scaled, bias: Tensor | None) -> Tensor:
    """See `Multiply`; the sums in 32 bits are scaled some rows at a time."""
    assert matrix.scale is not None
    made = torch.empty(len(x.data), len(matrix.data), dtype=x.dtype, device=x.data.device)
    for start in range(0, len(x.data), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        some = x.data[rows]
        if len(some) <= STEP:  # fewer are refused
            some = F.pad(some, (0, 0, 0, STEP + 1 - len(some)))
        sums = torch._int_mm(some, matrix.data.t())[: len(made[rows])]
        scaled = sums * x.scale[rows] * matrix.scale
        made[rows] = scaled if bias is None else scaled.add_(bias.float())
    return made
