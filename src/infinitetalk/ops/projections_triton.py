"""From projections to queries, keys and values in 8 bits in one pass, in Triton.

What `ops.regions.Regions.turned` and `ops.attention_eight.ready` make one after the other, without writing normed
queries and keys. Scales of queries and keys are not those of tokens that were seen, but what no token can exceed: a
normed row of `dim` numbers is no longer than sqrt(dim) times the largest gain, and so is a part of it. 8-bit floats are
as exact far below their largest number.
"""

# A kernel takes its pointers and sizes one by one, and they have no types that Python knows.
# ruff: noqa: PLR0917

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from infinitetalk.ops.attention_eight import ROOM, SEEN, Ready, hadamard, seen_step
from infinitetalk.ops.pack import LARGEST_FP8, LEAST
from infinitetalk.ops.rope import Rotation


class Projection(NamedTuple):
    """Queries or keys before their norm."""

    x: Tensor
    """[B, L, dim]."""
    gain: Tensor
    """[dim]."""
    eps: float


class Sizes(NamedTuple):
    """How the kernels divide their work; the numbers that they make are the same but for the order of sums."""

    tokens: int = 8
    """Tokens that one program goes through, one after the other."""
    warps: int = 4
    stages: int = 1
    splits: int = 128
    """Programs that look at tokens."""


SIZES = Sizes()


@triton.jit
def _turned(
    x: "Any",
    gain: "Any",
    cos: "Any",
    sin: "Any",
    token: "Any",
    dim: "Any",
    eps: "Any",
    inside: "Any",
    width: tl.constexpr,
    block: tl.constexpr,
) -> "Any":
    # One token: heads in rows. Rounded where `Regions.turned` rounds.
    kind = x.dtype.element_ty
    places = tl.arange(0, block)[:, None] * width + tl.arange(0, width)[None, :]
    v = tl.load(x + places, mask=inside, other=0.0).to(tl.float32)
    total = tl.sum(tl.sum(v * v, axis=1), axis=0)
    y = (v * (1.0 / tl.sqrt(total / dim + eps))).to(kind).to(tl.float32)
    y = (y * tl.load(gain + places, mask=inside, other=0.0).to(tl.float32)).to(kind).to(tl.float32)
    pairs = token * (width // 2) + tl.arange(0, width // 2)
    c = tl.load(cos + pairs)[None, :]
    s = tl.load(sin + pairs)[None, :]
    even, odd = tl.split(tl.reshape(y, (block, width // 2, 2)))
    return tl.reshape(tl.join(even * c - odd * s, odd * c + even * s), (block, width)).to(kind)


@triton.jit
def _look_kernel(
    k: "Any",
    v: "Any",
    gain: "Any",
    cos: "Any",
    sin: "Any",
    sums: "Any",
    most: "Any",
    v_batch: "Any",
    v_token: "Any",
    v_head: "Any",
    tokens: "Any",
    heads: "Any",
    dim: "Any",
    eps: "Any",
    count: "Any",
    stride: "Any",
    width: tl.constexpr,
    block: tl.constexpr,
    each: tl.constexpr,
    splits: tl.constexpr,
) -> None:
    # Sums of keys and largest values of some of the tokens that are seen.
    split, batch = tl.program_id(0), tl.program_id(1).to(tl.int64)
    rows, columns = tl.arange(0, block), tl.arange(0, width)
    inside = (rows < heads)[:, None] & (columns < width)[None, :]
    total = tl.zeros((block, width), tl.float32)
    largest = tl.zeros((block, width), tl.float32)
    for number in range(each):
        seen = number * splits + split
        token = tl.minimum(seen, count - 1) * stride
        there = inside & (seen < count)
        start = k + (batch * tokens + token) * dim
        total += _turned(start, gain, cos, sin, token, dim, eps, there, width, block).to(tl.float32)
        start = v + batch * v_batch + token.to(tl.int64) * v_token
        values = tl.load(start + rows[:, None] * v_head + columns[None, :], mask=there, other=0.0)
        largest = tl.maximum(largest, tl.abs(values.to(tl.float32)))
    place = (batch * splits + split) * heads
    tl.store(sums + (place + rows)[:, None] * width + columns[None, :], total, mask=inside)
    tl.store(most + place + rows, tl.max(largest, axis=1), mask=rows < heads)


@triton.jit
def _settle_kernel(
    sums: "Any",
    most: "Any",
    q_gain: "Any",
    k_gain: "Any",
    middle: "Any",
    scale: "Any",
    heads: "Any",
    pairs: "Any",
    count: "Any",
    longest: "Any",
    factor: "Any",
    least: "Any",
    width: tl.constexpr,
    splits: tl.constexpr,
) -> None:
    # A head's mean of keys, and the scales of its queries, keys and values.
    program = tl.program_id(0)
    batch, head = program // heads, program % heads
    columns, numbers = tl.arange(0, width), tl.arange(0, splits)
    places = (batch * splits + numbers) * heads + head
    total = tl.sum(tl.load(sums + places[:, None] * width + columns[None, :]), axis=0)
    tl.store(middle + program * width + columns, total / count)
    q = tl.max(tl.abs(tl.load(q_gain + head * width + columns).to(tl.float32)), axis=0) * longest
    # A key and the mean of keys may lie on opposite sides.
    k = tl.max(tl.abs(tl.load(k_gain + head * width + columns).to(tl.float32)), axis=0) * longest * 2.0
    v = tl.max(tl.load(most + places), axis=0) * factor
    tl.store(scale + program, tl.maximum(q, least))
    tl.store(scale + pairs + program, tl.maximum(k, least))
    tl.store(scale + 2 * pairs + program, tl.maximum(v, least))


@triton.jit
def _bring(
    x: "Any",
    gain: "Any",
    cos: "Any",
    sin: "Any",
    matrix: "Any",
    middle: "Any",
    inverse: "Any",
    made: "Any",
    batch: "Any",
    first: "Any",
    tokens: "Any",
    heads: "Any",
    dim: "Any",
    eps: "Any",
    largest: "Any",
    centre: tl.constexpr,
    width: tl.constexpr,
    block: tl.constexpr,
    each: tl.constexpr,
) -> None:
    rows = tl.arange(0, block)
    places = rows[:, None] * width + tl.arange(0, width)[None, :]
    inside = (rows < heads)[:, None] & (tl.arange(0, width) < width)[None, :]
    for number in range(each):
        token = first + number
        there = inside & (token < tokens)
        start = (batch * tokens + token) * dim
        y = _turned(x + start, gain, cos, sin, tl.minimum(token, tokens - 1), dim, eps, there, width, block)
        if centre:
            mean = tl.load(middle + batch * dim + places, mask=inside, other=0.0)
            y = (y.to(tl.float32) - mean).to(y.dtype)
        z = tl.dot(y, matrix, input_precision="ieee") * inverse[:, None]
        z = tl.minimum(tl.maximum(z, -largest), largest)
        tl.store(made + start + places, z.to(made.dtype.element_ty), mask=there)


@triton.jit
def _ready_kernel(
    q: "Any",
    k: "Any",
    v: "Any",
    q_gain: "Any",
    k_gain: "Any",
    cos: "Any",
    sin: "Any",
    turn: "Any",
    middle: "Any",
    scale: "Any",
    q_made: "Any",
    k_made: "Any",
    v_made: "Any",
    v_batch: "Any",
    v_token: "Any",
    v_head: "Any",
    tokens: "Any",
    heads: "Any",
    dim: "Any",
    pairs: "Any",
    q_eps: "Any",
    k_eps: "Any",
    shrink: "Any",
    largest: "Any",
    width: tl.constexpr,
    block: tl.constexpr,
    each: tl.constexpr,
) -> None:
    which, batch = tl.program_id(1), tl.program_id(2).to(tl.int64)
    first = tl.program_id(0) * each
    rows, columns = tl.arange(0, block), tl.arange(0, width)
    scales = tl.load(scale + which * pairs + batch * heads + rows, mask=rows < heads, other=1.0)
    inverse = tl.where(which == 2, 1.0, shrink) / scales
    if which == 0:
        matrix = tl.load(turn + columns[:, None] * width + columns[None, :])
        _bring(
            q, q_gain, cos, sin, matrix, middle, inverse, q_made, batch, first, tokens, heads, dim, q_eps, largest,
            False, width, block, each,
        )  # fmt: skip
    elif which == 1:
        matrix = tl.load(turn + columns[:, None] * width + columns[None, :])
        _bring(
            k, k_gain, cos, sin, matrix, middle, inverse, k_made, batch, first, tokens, heads, dim, k_eps, largest,
            True, width, block, each,
        )  # fmt: skip
    else:
        inside = (rows < heads)[:, None] & (columns < width)[None, :]
        for number in range(each):
            token = first + number
            there = inside & (token < tokens)
            start = v + batch * v_batch + token.to(tl.int64) * v_token
            y = tl.load(start + rows[:, None] * v_head + columns[None, :], mask=there, other=0.0).to(tl.float32)
            y = tl.minimum(tl.maximum(y * inverse[:, None], -largest), largest)
            start = v_made + (batch * tokens + token) * dim
            tl.store(start + rows[:, None] * width + columns[None, :], y.to(v_made.dtype.element_ty), mask=there)


def ready(
    q: Projection, k: Projection, v: Tensor, rotation: Rotation, sizes: Sizes = SIZES
) -> tuple[Ready, Ready, Ready]:
    """`ops.attention_eight.ready` of projections that are normed and turned first.

    Args:
        v: values [B, L, heads, d] of the same tokens, of the same dtype; d is a power of two.
        rotation: [L, 1, d / 2].
    """
    v = v if v.stride(-1) == 1 else v.contiguous()
    batch, tokens, heads, width = v.shape
    dim, pairs, device = heads * width, batch * heads, v.device
    block = max(16, triton.next_power_of_2(heads))
    xs = q.x.contiguous(), k.x.contiguous()
    turns = rotation.cos.contiguous(), rotation.sin.contiguous()
    stride = seen_step(tokens)
    count = min(SEEN, -(-tokens // stride))
    sums = torch.empty(batch, sizes.splits, heads, width, dtype=torch.float32, device=device)
    most = torch.empty(batch, sizes.splits, heads, dtype=torch.float32, device=device)
    _look_kernel[(sizes.splits, batch)](
        xs[1], v, k.gain, *turns, sums, most, *v.stride()[:3], tokens, heads, dim, k.eps, count, stride,
        width=width, block=block, each=triton.cdiv(count, sizes.splits), splits=sizes.splits, num_warps=8,
    )  # fmt: skip
    middle = torch.empty(batch, heads, width, dtype=torch.float32, device=device)
    scale = torch.empty(3, batch, heads, dtype=torch.float32, device=device)
    _settle_kernel[(pairs,)](
        sums, most, q.gain, k.gain, middle, scale, heads, pairs, count, dim**0.5 / LARGEST_FP8, ROOM / LARGEST_FP8,
        LEAST, width=width, splits=sizes.splits,
    )  # fmt: skip
    made = [torch.empty(v.shape, dtype=torch.float8_e4m3fn, device=device) for _ in range(3)]
    _ready_kernel[(triton.cdiv(tokens, sizes.tokens), 3, batch)](
        *xs, v, q.gain, k.gain, *turns, hadamard(width, device, v.dtype), middle, scale, *made, *v.stride()[:3],
        tokens, heads, dim, pairs, q.eps, k.eps, width**-0.5, LARGEST_FP8,
        width=width, block=block, each=sizes.tokens, num_warps=sizes.warps, num_stages=sizes.stages,
    )  # fmt: skip
    ours = [Ready(data, one) for data, one in zip(made, scale, strict=True)]
    return ours[0], ours[1], ours[2]
