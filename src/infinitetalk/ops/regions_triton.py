"""`Regions` in Triton: one kernel for what lies between two products, a row of tokens to a program.

Values are rounded where the plain form rounds them, so the two differ by the order of sums alone.
"""

# A kernel takes its pointers and sizes one by one, and they have no types that Python knows.
# ruff: noqa: PLR0917

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from infinitetalk.ops import products_triton, told_triton
from infinitetalk.ops.attention import Kernel
from infinitetalk.ops.eight import Operand, Rows
from infinitetalk.ops.pack import LEAST
from infinitetalk.ops.regions import Known, Norm, Regions
from infinitetalk.ops.rope import Rotation

EXACT, FLOATS, WHOLE = 0, 1, 2
"""What a kernel gives: values, 8-bit floats or whole numbers of 8 bits."""


@triton.jit
def _give(
    y: "Any",
    made: "Any",
    scale: "Any",
    row: "Any",
    width: "Any",
    columns: "Any",
    inside: "Any",
    largest: "Any",
    eight: tl.constexpr,
) -> None:
    if eight == 0:
        steps = y
    else:
        steps = y * (1.0 / scale)
        if eight == 2:
            steps = tl.floor(steps + 0.5)
        # A rounded reciprocal may lead past the largest number.
        steps = tl.minimum(tl.maximum(steps, -largest), largest)
    tl.store(made + row * width + columns, steps.to(made.dtype.element_ty), mask=inside)


@triton.jit
def _join(
    x: "Any",
    answer: "Any",
    gate: "Any",
    total: "Any",
    row: "Any",
    width: "Any",
    columns: "Any",
    inside: "Any",
    join: tl.constexpr,
    gated: tl.constexpr,
) -> "Any":
    v = tl.load(x + row * width + columns, mask=inside, other=0.0).to(tl.float32)
    if join:
        a = tl.load(answer + row * width + columns, mask=inside, other=0.0).to(tl.float32)
        if gated:
            a = a * tl.load(gate + columns, mask=inside, other=0.0)
        rounded = (v + a).to(total.dtype.element_ty)
        tl.store(total + row * width + columns, rounded, mask=inside)
        v = rounded.to(tl.float32)
    return v


@triton.jit
def _moved(calm: "Any", gain: "Any", offset: "Any", columns: "Any", inside: "Any", modulated: tl.constexpr) -> "Any":
    g = tl.load(gain + columns, mask=inside, other=0.0).to(tl.float32)
    if modulated:
        g = g + 1.0
    return calm * g + tl.load(offset + columns, mask=inside, other=0.0).to(tl.float32)


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
    rest: tl.constexpr,
) -> None:
    # In two pieces: a row of 5120 in one block of 8192 leaves more than a third of the threads idle.
    row = tl.program_id(0).to(tl.int64)
    batch = row // batch_rows
    gate += batch * gate_step
    gain += batch * gain_step
    offset += batch * gain_step
    first = tl.arange(0, block)
    second = block + tl.arange(0, rest)
    all_in = first < width
    inside = second < width
    v = _join(x, answer, gate, total, row, width, first, all_in, join, gated)
    w = _join(x, answer, gate, total, row, width, second, inside, join, gated)
    if norm:
        mean = (tl.sum(v, axis=0) + tl.sum(w, axis=0)) / width
        v = tl.where(all_in, v - mean, 0.0)
        w = tl.where(inside, w - mean, 0.0)
        variance = (tl.sum(v * v, axis=0) + tl.sum(w * w, axis=0)) / width
        length = 1.0 / tl.sqrt(variance + eps)
        y = _moved(v * length, gain, offset, first, all_in, modulated)
        z = _moved(w * length, gain, offset, second, inside, modulated)
        scale = least
        if eight != 0:
            most = tl.maximum(tl.max(tl.abs(y), axis=0), tl.max(tl.abs(z), axis=0))
            scale = tl.maximum(most / largest, least)
            tl.store(scales + row, scale)
        _give(y, made, scale, row, width, first, all_in, largest, eight)
        _give(z, made, scale, row, width, second, inside, largest, eight)


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
    scale = least
    if eight != 0:
        scale = tl.maximum(tl.max(tl.abs(y), axis=0) / largest, least)
        tl.store(scales + row, scale)
    _give(y, made, scale, row, width, columns, inside, largest, eight)


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

    def told(self, q: Tensor, known: Sequence[Known], kernel: Kernel) -> Operand:
        """See `Regions`."""
        if not told_triton.serves(q, known):
            return super().told(q, known, kernel)
        return self.operand(told_triton.told(q, known))

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
            **_pieces(x.shape[-1]),
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
        return _Room(made, scales, Rows(made, scales, dtype, products_triton.whole if self._kind == WHOLE else None))

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


def _pieces(width: int) -> dict[str, int]:
    """A row in two pieces, the first of which is full, and the threads that share them."""
    block = max(1, triton.next_power_of_2(width) // 2)
    return {"block": block, "rest": triton.next_power_of_2(max(1, width - block)), "num_warps": _warps(block // 1024)}


def _warps(count: int) -> int:
    return min(16, max(1, count))


def _launch(kernel: Any, x: Tensor, *more: Any, **constants: Any) -> None:
    """Runs a kernel with a program for each row of x [..., width], in one block unless told otherwise."""
    width = x.shape[-1]
    block = triton.next_power_of_2(width)
    kernel[(x.numel() // width,)](x, *more, **({"block": block, "num_warps": _warps(block // 1024)} | constants))
