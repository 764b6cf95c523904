"""`Regions` in Triton: one kernel for what lies between two products, a row of tokens to a program.

Values are rounded where the plain form rounds them, so the two differ by the order of sums alone.
"""

# A kernel takes its pointers and sizes one by one, and they have no types that Python knows.
# ruff: noqa: PLR0917

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from infinitetalk.ops.eight import Operand, Rows
from infinitetalk.ops.pack import LEAST
from infinitetalk.ops.regions import Norm, Regions
from infinitetalk.ops.rope import Rotation

EXACT, FLOATS, WHOLE = 0, 1, 2
"""What a kernel gives: values, 8-bit floats or whole numbers of 8 bits."""


@triton.jit
def _give(
    y: "Any",
    made: "Any",
    scales: "Any",
    row: "Any",
    width: "Any",
    columns: "Any",
    inside: "Any",
    largest: "Any",
    least: "Any",
    eight: tl.constexpr,
) -> None:
    if eight == 0:
        tl.store(made + row * width + columns, y.to(made.dtype.element_ty), mask=inside)
    else:
        most = tl.max(tl.where(inside, tl.abs(y), 0.0), axis=0)
        scale = tl.maximum(most / largest, least)
        tl.store(scales + row, scale)
        steps = y * (1.0 / scale)
        if eight == 2:
            steps = tl.minimum(tl.maximum(tl.floor(steps + 0.5), -largest), largest)
        else:
            # A rounded reciprocal may lead past the largest number.
            steps = tl.minimum(tl.maximum(steps, -largest), largest)
        tl.store(made + row * width + columns, steps.to(made.dtype.element_ty), mask=inside)


@triton.jit
def _calm_kernel(
    x: "Any",
    answer: "Any",
    gate: "Any",
    gain: "Any",
    offset: "Any",
    total: "Any",
    made: "Any",
    scales: "Any",
    width: "Any",
    batch_rows: "Any",
    gate_step: "Any",
    gain_step: "Any",
    eps: "Any",
    largest: "Any",
    least: "Any",
    join: tl.constexpr,
    gated: tl.constexpr,
    norm: tl.constexpr,
    modulated: tl.constexpr,
    eight: tl.constexpr,
    block: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    batch = row // batch_rows
    columns = tl.arange(0, block)
    inside = columns < width
    v = tl.load(x + row * width + columns, mask=inside, other=0.0).to(tl.float32)
    if join:
        a = tl.load(answer + row * width + columns, mask=inside, other=0.0).to(tl.float32)
        if gated:
            a = a * tl.load(gate + batch * gate_step + columns, mask=inside, other=0.0)
        rounded = (v + a).to(total.dtype.element_ty)
        tl.store(total + row * width + columns, rounded, mask=inside)
        v = rounded.to(tl.float32)
    if norm:
        centred = tl.where(inside, v - tl.sum(v, axis=0) / width, 0.0)
        variance = tl.sum(centred * centred, axis=0) / width
        g = tl.load(gain + batch * gain_step + columns, mask=inside, other=0.0).to(tl.float32)
        o = tl.load(offset + batch * gain_step + columns, mask=inside, other=0.0).to(tl.float32)
        if modulated:
            g = g + 1.0
        y = centred * (1.0 / tl.sqrt(variance + eps)) * g + o
        _give(y, made, scales, row, width, columns, inside, largest, least, eight)


@triton.jit
def _root_kernel(
    x: "Any",
    weight: "Any",
    cos: "Any",
    sin: "Any",
    made: "Any",
    width: "Any",
    length: "Any",
    eps: "Any",
    half: tl.constexpr,
    turn: tl.constexpr,
    block: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, block)
    inside = columns < width
    v = tl.load(x + row * width + columns, mask=inside, other=0.0).to(tl.float32)
    w = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    kind = made.dtype.element_ty
    y = (v * (1.0 / tl.sqrt(tl.sum(v * v, axis=0) / width + eps))).to(kind).to(tl.float32)
    y = (y * w).to(kind)
    if turn:
        pairs = tl.arange(0, block // 2)
        places = (row % length) * half + pairs % half
        c = tl.load(cos + places)
        s = tl.load(sin + places)
        even, odd = tl.split(tl.reshape(y.to(tl.float32), (block // 2, 2)))
        y = tl.reshape(tl.join(even * c - odd * s, odd * c + even * s), (block,)).to(kind)
    tl.store(made + row * width + columns, y, mask=inside)


@triton.jit
def _operand_kernel(
    x: "Any",
    other: "Any",
    made: "Any",
    scales: "Any",
    width: "Any",
    largest: "Any",
    least: "Any",
    add: tl.constexpr,
    gelu: tl.constexpr,
    eight: tl.constexpr,
    block: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, block)
    inside = columns < width
    y = tl.load(x + row * width + columns, mask=inside, other=0.0).to(tl.float32)
    if add:
        y = y + tl.load(other + row * width + columns, mask=inside, other=0.0).to(tl.float32)
    if gelu:
        # x * (1 + tanh(u)) / 2 = x / (1 + exp(-2 u))
        y = y / (1.0 + tl.exp(-1.5957691216057308 * (y + 0.044715 * y * y * y)))
    _give(y, made, scales, row, width, columns, inside, largest, least, eight)


class _Join(NamedTuple):
    """What is added to tokens, and memory for the sum."""

    answer: Tensor
    gate: Tensor | None
    total: Tensor


class _Room(NamedTuple):
    """Memory for what a kernel gives: its values, their scales, and the two as what a product takes."""

    made: Tensor
    scales: Tensor
    given: Operand


class FusedRegions(Regions):
    """One kernel for each region. Not differentiable."""

    def operand(self, x: Tensor) -> Operand:
        """See `Regions`."""
        return x if self.eight is None else self._operand(x, None, gelu=False)

    def summed(self, first: Tensor, second: Tensor) -> Operand:
        """See `Regions`."""
        return first + second if self.eight is None else self._operand(first, second, gelu=False)

    def gelu(self, x: Tensor) -> Operand:
        """See `Regions`."""
        return super().gelu(x) if self.eight is None else self._operand(x, None, gelu=True)

    def normed(self, x: Tensor, norm: Norm, dtype: torch.dtype) -> Operand:
        """See `Regions`."""
        x = x.contiguous()
        room = self._room(x, dtype)
        self._calm(x, None, norm, room)
        return room.given

    def joined(self, x: Tensor, answer: Tensor, gate: Tensor | None = None) -> Tensor:
        """See `Regions`."""
        if gate is None:
            return x + answer
        x = x.contiguous()
        join = _Join(answer.contiguous(), gate.contiguous(), torch.empty_like(x))
        self._calm(x, join, None, None)
        return join.total

    def joined_normed(
        self, x: Tensor, answer: Tensor, gate: Tensor | None, norm: Norm, dtype: torch.dtype
    ) -> tuple[Tensor, Operand]:
        """See `Regions`."""
        x = x.contiguous()
        join = _Join(answer.contiguous(), None if gate is None else gate.contiguous(), torch.empty_like(x))
        room = self._room(x, dtype)
        self._calm(x, join, norm, room)
        return join.total, room.given

    def root(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """See `Regions`."""
        x = x.contiguous()
        made = torch.empty_like(x)
        _launch(_root_kernel, x, weight, x, x, made, x.shape[-1], 1, eps, half=1, turn=False)
        return made

    def turned(self, x: Tensor, weight: Tensor, eps: float, rotation: Rotation) -> Tensor:
        """See `Regions`."""
        x = x.contiguous()
        half = rotation.cos.shape[-1]
        made = torch.empty_like(x)
        turns = rotation.cos.contiguous(), rotation.sin.contiguous()
        _launch(_root_kernel, x, weight, *turns, made, x.shape[-1], x.shape[-2], eps, half=half, turn=True)
        heads: Tensor = made.unflatten(-1, (-1, 2 * half))
        return heads

    def _calm(self, x: Tensor, join: "_Join | None", norm: Norm | None, room: "_Room | None") -> None:
        gain, offset = (x, x) if norm is None else (norm.gain.contiguous(), norm.offset.contiguous())
        answer, gate, total = (x, None, x) if join is None else join
        made, scales = (x, x) if room is None else room[:2]
        _launch(
            _calm_kernel, x, answer, x if gate is None else gate, gain, offset, total, made, scales, x.shape[-1],
            x.shape[-2], _step(gate), _step(gain), 0.0 if norm is None else norm.eps, self._largest, LEAST,
            join=join is not None, gated=gate is not None, norm=norm is not None,
            modulated=norm is not None and norm.modulated, eight=EXACT if norm is None else self._kind,
        )  # fmt: skip

    def _operand(self, x: Tensor, other: Tensor | None, *, gelu: bool) -> Operand:
        x = x.contiguous()
        room = self._room(x, x.dtype)
        added = x if other is None else other.contiguous()
        _launch(
            _operand_kernel, x, added, *room[:2], x.shape[-1], self._largest, LEAST,
            add=other is not None, gelu=gelu, eight=self._kind,
        )  # fmt: skip
        return room.given

    def _room(self, x: Tensor, dtype: torch.dtype) -> "_Room":
        if self.eight is None:
            made = torch.empty(x.shape, dtype=dtype, device=x.device)
            return _Room(made, made, made)
        made = torch.empty(x.shape, dtype=self.eight.dtype, device=x.device)
        scales = torch.empty(*x.shape[:-1], 1, dtype=torch.float32, device=x.device)
        return _Room(made, scales, Rows(made, scales, dtype))

    @property
    def _kind(self) -> int:
        if self.eight is None:
            return EXACT
        return WHOLE if self.eight.dtype == torch.int8 else FLOATS

    @property
    def _largest(self) -> float:
        return 1.0 if self.eight is None else self.eight.largest


def _step(tensor: Tensor | None) -> int:
    """From one batch's values to the next's; 0 where all have the same."""
    return 0 if tensor is None or tensor.ndim == 1 or len(tensor) == 1 else tensor.shape[-1]


def _launch(kernel: Any, x: Tensor, *more: Any, **constants: Any) -> None:
    """Runs a kernel with a program for each row of x [..., width]."""
    width = x.shape[-1]
    block = triton.next_power_of_2(width)
    kernel[(x.numel() // width,)](x, *more, **constants, block=block, num_warps=min(16, max(1, block // 1024)))
