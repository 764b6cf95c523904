"""Tensors in ggml's blocks, the storage of GGUF files, dequantised by plain torch on any device.

A block holds 32 or 256 neighbouring weights of the last axis: whole numbers of a few bits and, for the block or for
each 16 or 32 of its weights, what to multiply them with and what to add. The layouts are llama.cpp's
(`ggml-common.h`). Products and sums are taken one after the other in float32, as the `gguf` package takes them, so
that the values are the same to the last bit.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from infinitetalk.core.errors import ModelError
from infinitetalk.core.ggml import SIZES
from infinitetalk.ops.stored import Stored

WEIGHTS_AT_ONCE = 1 << 24
"""How many weights are dequantised in one go: bounds the memory of what lies between blocks and values."""


def _half(x: Tensor) -> Tensor:
    """Pairs of bytes as float16, in float32: [n, 2 k] → [n, k]."""
    return x.view(torch.float16).float()


def _shifted(x: Tensor, step: int, bits: int) -> Tensor:
    """Every byte's groups of bits, the lowest first, on a new axis before the last: [..., k] → [..., 8 / step, k]."""
    shifts = torch.arange(0, 8, step, dtype=torch.uint8, device=x.device)
    return (x.unsqueeze(-2) >> shifts.unsqueeze(-1)) & ((1 << bits) - 1)


def _halves(x: Tensor, width: int) -> Tensor:
    """Numbers of 4 bits [n, 2 k]: of each `width` bytes first all low halves, then all high ones."""
    return _shifted(x.unflatten(1, (-1, width)), 4, 4).flatten(1)


def _fifth_bits(x: Tensor) -> Tensor:
    """The bits of 4 bytes, the lowest first, each as 16: [n, 4] → [n, 32]."""
    shifts = torch.arange(8, dtype=torch.uint8, device=x.device)
    bits: Tensor = (x.unsqueeze(-1) >> shifts) & 1
    return (bits << 4).flatten(1)


def _q4_0(blocks: Tensor) -> Tensor:
    scale, quarters = blocks.split((2, 16), dim=1)
    steps = _halves(quarters, 16).to(torch.int8) - 8
    return _half(scale).mul(steps)


def _q4_1(blocks: Tensor) -> Tensor:
    scale, least, quarters = blocks.split((2, 2, 16), dim=1)
    return _half(scale).mul(_halves(quarters, 16)).add_(_half(least))


def _q5_0(blocks: Tensor) -> Tensor:
    scale, high, low = blocks.split((2, 4, 16), dim=1)
    steps = (_halves(low, 16) | _fifth_bits(high)).to(torch.int8) - 16
    return _half(scale).mul(steps)


def _q5_1(blocks: Tensor) -> Tensor:
    scale, least, high, low = blocks.split((2, 2, 4, 16), dim=1)
    return _half(scale).mul(_halves(low, 16) | _fifth_bits(high)).add_(_half(least))


def _q8_0(blocks: Tensor) -> Tensor:
    scale, steps = blocks.split((2, 32), dim=1)
    return _half(scale).mul(steps.view(torch.int8))


def _q2_k(blocks: Tensor) -> Tensor:
    both, pairs, scale, least = blocks.split((16, 64, 2, 2), dim=1)
    steps = _shifted(pairs.unflatten(1, (2, 32)), 2, 2).flatten(1).unflatten(1, (16, 16))
    scaled = _half(scale).mul(both & 15).unsqueeze(-1).mul(steps)
    return scaled.sub_(_half(least).mul(both >> 4).unsqueeze(-1)).flatten(1)


def _q3_k(blocks: Tensor) -> Tensor:
    high, pairs, low_scales, high_scales, scale = blocks.split((32, 64, 8, 4, 2), dim=1)
    scales = _shifted(low_scales, 4, 4).flatten(1) | (_shifted(high_scales, 2, 2) << 4).flatten(1)
    lower = _shifted(pairs.unflatten(1, (2, 32)), 2, 2).flatten(1).to(torch.int8)
    # The third bit says that nothing is taken away.
    steps = lower - ((_shifted(high, 1, 1) ^ 1) << 2).flatten(1).to(torch.int8)
    factors = _half(scale).mul(scales.to(torch.int8) - 32)
    return factors.unsqueeze(-1).mul(steps.unflatten(1, (16, 16))).flatten(1)


def _six_bits(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Eight scales and eight offsets of 6 bits each, packed in 12 bytes: [n, 12] → [n, 8] twice.

    Bytes 0 to 3 and 4 to 7 hold the first four of each, and in their two upper bits those of the last four, whose
    lower bits share bytes 8 to 11.
    """
    scale, least, low = packed.split(4, dim=1)
    scales = torch.cat([scale & 63, (low & 15) | ((scale >> 2) & 48)], dim=1)
    offsets = torch.cat([least & 63, (low >> 4) | ((least >> 2) & 48)], dim=1)
    return scales, offsets


def _k_blocks(scale: Tensor, least: Tensor, packed: Tensor, steps: Tensor) -> Tensor:
    """256 weights in eight groups: steps [n, 256] times the group's scale, less the group's offset."""
    scales, offsets = _six_bits(packed)
    grouped = _half(scale).mul(scales).unsqueeze(-1).mul(steps.unflatten(1, (8, 32)))
    return grouped.sub_(_half(least).mul(offsets).unsqueeze(-1)).flatten(1)


def _q4_k(blocks: Tensor) -> Tensor:
    scale, least, packed, quarters = blocks.split((2, 2, 12, 128), dim=1)
    return _k_blocks(scale, least, packed, _halves(quarters, 32))


def _q5_k(blocks: Tensor) -> Tensor:
    scale, least, packed, high, low = blocks.split((2, 2, 12, 32, 128), dim=1)
    return _k_blocks(scale, least, packed, _halves(low, 32) | (_shifted(high, 1, 1) << 4).flatten(1))


def _q6_k(blocks: Tensor) -> Tensor:
    low, high, scales, scale = blocks.split((128, 64, 16, 2), dim=1)
    upper = _shifted(high.unflatten(1, (2, 32)), 2, 2) << 4
    steps = ((_halves(low, 64) | upper.flatten(1)).to(torch.int8) - 32).unflatten(1, (16, 16))
    return _half(scale).mul(scales.view(torch.int8)).unsqueeze(-1).mul(steps).flatten(1)


@dataclass(frozen=True, slots=True)
class Layout:
    """One kind of block: how many weights in how many bytes, and their values.

    `values` takes blocks uint8 [n, bytes] and gives float32 [n, weights].
    """

    weights: int
    bytes: int
    values: Callable[[Tensor], Tensor]


LAYOUTS: Mapping[str, Layout] = {
    kind: Layout(*SIZES[kind], values)
    for kind, values in {
        "Q4_0": _q4_0,
        "Q4_1": _q4_1,
        "Q5_0": _q5_0,
        "Q5_1": _q5_1,
        "Q8_0": _q8_0,
        "Q2_K": _q2_k,
        "Q3_K": _q3_k,
        "Q4_K": _q4_k,
        "Q5_K": _q5_k,
        "Q6_K": _q6_k,
    }.items()
}
"""Kinds of blocks by ggml's names. What has no blocks (F32, F16, BF16) is a plain tensor."""


@dataclass(frozen=True, slots=True, eq=False)
class Blocks(Stored):
    """A tensor in ggml's blocks: `data` is uint8 [blocks, bytes], `ggml` one of `LAYOUTS`.

    `size` is the shape of the tensor; its elements lie in the blocks one after the other.
    """

    data: Tensor
    ggml: str
    size: torch.Size

    @classmethod
    def of(cls, name: str, data: Tensor, ggml: str, shape: tuple[int, ...]) -> Self:
        """Checks what a file holds under `name`; `data` is uint8 of any shape.

        Raises:
            ModelError: a kind that has no layout here, or bytes that are too few or too many for the shape.
        """
        layout = LAYOUTS.get(ggml)
        if layout is None:
            raise ModelError(f"the tensor {name} is stored as {ggml}; this version reads {', '.join(LAYOUTS)}")
        whole, rest = divmod(math.prod(shape), layout.weights)
        if rest or data.dtype != torch.uint8 or data.numel() != whole * layout.bytes:
            raise ModelError(f"the tensor {name} has {data.nbytes} bytes of {ggml}, which {list(shape)} never takes")
        return cls(data.reshape(whole, layout.bytes), ggml, torch.Size(shape))

    @property
    def kind(self) -> str:
        return self.ggml.lower()

    @property
    def shape(self) -> torch.Size:
        return self.size

    def parts(self) -> Mapping[str, Tensor]:
        return {"data": self.data}

    def with_parts(self, parts: Mapping[str, Tensor]) -> Self:
        return type(self)(parts["data"], self.ggml, self.size)

    def dequantise(self, dtype: torch.dtype) -> Tensor:
        layout = LAYOUTS[self.ggml]
        values = torch.empty(len(self.data), layout.weights, dtype=dtype, device=self.data.device)
        step = WEIGHTS_AT_ONCE // layout.weights
        for start in range(0, len(self.data), step):
            values[start : start + step] = layout.values(self.data[start : start + step])
        return values.reshape(self.size)

    def rows(self, start: int, stop: int) -> Self:
        row, rest = divmod(math.prod(self.size[1:]), LAYOUTS[self.ggml].weights)
        if rest:
            raise ModelError(f"rows of {list(self.size)} in {self.ggml} share blocks and cannot be taken apart")
        return type(self)(self.data[start * row : stop * row], self.ggml, torch.Size((stop - start, *self.size[1:])))
