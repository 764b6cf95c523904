"""`ops.attention_eight.ready` in Triton: one kernel looks at some of the tokens, one brings all of them to 8 bits."""

# A kernel takes its pointers and sizes one by one, and they have no types that Python knows.
# ruff: noqa: PLR0917

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from infinitetalk.ops.attention_eight import ROOM, SEEN, Ready, hadamard, seen_step
from infinitetalk.ops.pack import LARGEST_FP8, LEAST

TILE = 64
"""Tokens that are brought to 8 bits together."""
LOOK = 128
"""Tokens that are looked at together."""
TILES = 8
"""Tiles of one head that one program goes through, with the matrix at hand."""


@triton.jit
def _look_kernel(
    x: "Any",
    middle: "Any",
    scale: "Any",
    batch_step: "Any",
    token_step: "Any",
    head_step: "Any",
    heads: "Any",
    count: "Any",
    stride: "Any",
    factor: "Any",
    least: "Any",
    centre: tl.constexpr,
    length: tl.constexpr,
    width: tl.constexpr,
    tile: tl.constexpr,
    looks: tl.constexpr,
) -> None:
    program = tl.program_id(0)
    start = x + (program // heads).to(tl.int64) * batch_step + (program % heads) * head_step
    columns = tl.arange(0, width)
    mean = tl.zeros((width,), tl.float32)
    if centre:
        for number in range(looks):
            rows = number * tile + tl.arange(0, tile)
            places = start + (rows * stride).to(tl.int64)[:, None] * token_step + columns[None, :]
            mean += tl.sum(tl.load(places, mask=(rows < count)[:, None], other=0.0).to(tl.float32), axis=0)
        mean = mean / count
        tl.store(middle + program * width + columns, mean)
    most = tl.zeros((tile,), tl.float32)
    for number in range(looks):
        rows = number * tile + tl.arange(0, tile)
        places = start + (rows * stride).to(tl.int64)[:, None] * token_step + columns[None, :]
        inside = (rows < count)[:, None]
        v = tl.load(places, mask=inside, other=0.0).to(tl.float32)
        if length:
            if centre:
                v = tl.where(inside, v - mean[None, :], 0.0)
            most = tl.maximum(most, tl.sum(v * v, axis=1))
        else:
            most = tl.maximum(most, tl.max(tl.abs(v), axis=1))
    largest = tl.max(most, axis=0)
    if length:
        largest = tl.sqrt(largest)
    tl.store(scale + program, tl.maximum(largest * factor, least))


@triton.jit
def _ready_kernel(
    x: "Any",
    middle: "Any",
    scale: "Any",
    turn: "Any",
    made: "Any",
    batch_step: "Any",
    token_step: "Any",
    head_step: "Any",
    heads: "Any",
    tokens: "Any",
    shrink: "Any",
    largest: "Any",
    centre: tl.constexpr,
    turned: tl.constexpr,
    width: tl.constexpr,
    tile: tl.constexpr,
    tiles: tl.constexpr,
) -> None:
    program = tl.program_id(1)
    batch, head = program // heads, program % heads
    columns = tl.arange(0, width)
    inverse = shrink / tl.load(scale + program)
    start = x + batch.to(tl.int64) * batch_step + head * head_step
    target = made + (batch.to(tl.int64) * tokens * heads + head) * width
    if centre:
        mean = tl.load(middle + program * width + columns)
    if turned:
        matrix = tl.load(turn + columns[:, None] * width + columns[None, :])
    for number in range(tiles):
        rows = ((tl.program_id(0) * tiles + number) * tile + tl.arange(0, tile)).to(tl.int64)
        inside = (rows < tokens)[:, None]
        v = tl.load(start + rows[:, None] * token_step + columns[None, :], mask=inside, other=0.0)
        if centre:
            v = (v.to(tl.float32) - mean[None, :]).to(x.dtype.element_ty)
        y = v.to(tl.float32)
        if turned:
            y = tl.dot(v, matrix, input_precision="ieee")
        y = tl.minimum(tl.maximum(y * inverse, -largest), largest)
        places = target + rows[:, None] * (heads * width) + columns[None, :]
        tl.store(places, y.to(made.dtype.element_ty), mask=inside)


class _Way(NamedTuple):
    """What is done beside scaling."""

    centre: bool
    """The mean is taken off."""
    turned: bool
    """A Hadamard matrix turns it."""


def ready(q: Tensor, k: Tensor, v: Tensor) -> tuple[Ready, Ready, Ready]:
    """See `ops.attention_eight.ready`; channels lie side by side in memory."""
    return _made(q, _Way(False, True)), _made(k, _Way(True, True)), _made(v, _Way(False, False))


def _made(x: Tensor, way: _Way) -> Ready:
    batch, tokens, heads, width = x.shape
    x = x if x.stride(-1) == 1 else x.contiguous()
    scale = torch.empty(batch, heads, dtype=torch.float32, device=x.device)
    middle = torch.empty(batch, heads, width, dtype=torch.float32, device=x.device) if way.centre else scale
    stride = seen_step(tokens)
    count = min(SEEN, -(-tokens // stride))
    _look_kernel[(batch * heads,)](
        x, middle, scale, *x.stride()[:3], heads, count, stride, ROOM / LARGEST_FP8, LEAST,
        centre=way.centre, length=way.turned, width=width, tile=LOOK, looks=triton.cdiv(count, LOOK), num_warps=8,
    )  # fmt: skip
    made = torch.empty(x.shape, dtype=torch.float8_e4m3fn, device=x.device)
    turn = hadamard(width, x.device, x.dtype) if way.turned else x
    _ready_kernel[(triton.cdiv(tokens, TILE * TILES), batch * heads)](
        x, middle, scale, turn, made, *x.stride()[:3], heads, tokens, width**-0.5 if way.turned else 1.0, LARGEST_FP8,
        centre=way.centre, turned=way.turned, width=width, tile=TILE, tiles=TILES,
    )  # fmt: skip
    return Ready(made, scale)
