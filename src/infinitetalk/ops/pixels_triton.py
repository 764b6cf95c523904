"""`Pixels` in Triton: one kernel for what lies between two convolutions, some pixels to a program.

Values are rounded where the plain form rounds them, so the two differ by the order of sums alone.
"""

# A kernel takes its pointers and sizes one by one, and they have no types that Python knows.
# ruff: noqa: PLR0917

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from infinitetalk.ops.pixels import Pixels, least

NUMBERS = 4096
"""What one program works on together."""


@triton.jit
def _lively_kernel(
    x: "Any",
    bias: "Any",
    gamma: "Any",
    made: "Any",
    count: "Any",
    width: "Any",
    eps: "Any",
    biased: tl.constexpr,
    pixels: tl.constexpr,
    block: tl.constexpr,
) -> None:
    rows = tl.program_id(0).to(tl.int64) * pixels + tl.arange(0, pixels)
    columns = tl.arange(0, block)
    here = columns < width
    inside = (rows < count)[:, None] & here[None, :]
    places = rows[:, None] * width + columns[None, :]
    kind = made.dtype.element_ty
    v = tl.load(x + places, mask=inside, other=0.0).to(tl.float32)
    if biased:
        v = (v + tl.load(bias + columns, mask=here, other=0.0).to(tl.float32)[None, :]).to(kind).to(tl.float32)
    g = tl.load(gamma + columns, mask=here, other=0.0).to(tl.float32)
    y = v * (1.0 / tl.sqrt(tl.sum(v * v, axis=1) / width + eps))[:, None] * g[None, :]
    y = y.to(kind).to(tl.float32)
    y = y / (1.0 + tl.exp(-y))
    tl.store(made + places, y.to(kind), mask=inside)


@triton.jit
def _joined_kernel(
    x: "Any",
    answer: "Any",
    bias: "Any",
    made: "Any",
    count: "Any",
    width: "Any",
    pixels: tl.constexpr,
    block: tl.constexpr,
) -> None:
    rows = tl.program_id(0).to(tl.int64) * pixels + tl.arange(0, pixels)
    columns = tl.arange(0, block)
    here = columns < width
    inside = (rows < count)[:, None] & here[None, :]
    places = rows[:, None] * width + columns[None, :]
    kind = made.dtype.element_ty
    a = tl.load(answer + places, mask=inside, other=0.0).to(tl.float32)
    a = (a + tl.load(bias + columns, mask=here, other=0.0).to(tl.float32)[None, :]).to(kind).to(tl.float32)
    v = tl.load(x + places, mask=inside, other=0.0).to(tl.float32)
    tl.store(made + places, (v + a).to(kind), mask=inside)


class FusedPixels(Pixels):
    """One kernel each. Not differentiable."""

    biases = True

    def lively(self, x: Tensor, gamma: Tensor, bias: Tensor | None = None) -> Tensor:
        """See `Pixels`."""
        x, made = x.contiguous(), torch.empty(x.shape, dtype=x.dtype, device=x.device)
        width = x.shape[-1]
        weights = gamma.to(x.dtype).flatten()
        count, sizes = _sizes(x)
        _lively_kernel[(triton.cdiv(count, sizes["pixels"]),)](
            x, weights if bias is None else bias, weights, made, count, width, least(width),
            biased=bias is not None, **sizes,
        )  # fmt: skip
        return made

    def joined(self, x: Tensor, answer: Tensor, bias: Tensor | None = None) -> Tensor:
        """See `Pixels`."""
        if bias is None:
            return x + answer
        x, answer = x.contiguous(), answer.contiguous()
        made = torch.empty_like(x)
        count, sizes = _sizes(x)
        _joined_kernel[(triton.cdiv(count, sizes["pixels"]),)](x, answer, bias, made, count, x.shape[-1], **sizes)
        return made


def _sizes(x: Tensor) -> tuple[int, dict[str, int]]:
    """Pixels of x [..., C], and how a program divides them."""
    block = triton.next_power_of_2(x.shape[-1])
    return x.numel() // x.shape[-1], {"pixels": max(1, NUMBERS // block), "block": block}
