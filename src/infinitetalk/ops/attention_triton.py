"""`ops.attention_eight.ready` in Triton: one kernel looks at some of the tokens, one brings all of them to 8 bits.

Each kernel takes queries, keys and values together, so that they share the launches and the GPU is full. `FusedCoder`
is `ops.shared_eight` in the same way.
"""

# A kernel takes its pointers and sizes one by one, and they have no types that Python knows.
# ruff: noqa: PLR0917

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from infinitetalk.ops.attention_eight import ROOM, SEEN, Ready, hadamard, mean_share, seen_step
from infinitetalk.ops.pack import LARGEST_FP8, LEAST
from infinitetalk.ops.shared_eight import Part, Tokens


class Sizes(NamedTuple):
    """How the kernels divide their work; the numbers that they make are the same."""

    tile: int = 64
    """Tokens that are brought to 8 bits together."""
    tiles: int = 16
    """Tiles of one head that one program goes through, with the matrix at hand."""
    warps: int = 4
    stages: int = 1
    heads_first: bool = True
    """Neighbouring programs have the same tokens of different heads, which lie side by side in memory."""
    splits: int = 8
    """Programs that look at the tokens of one head; each sums all keys for their mean."""


SIZES = Sizes()
"""The quickest that were found."""
LOOK = 64
"""Tokens that are looked at together."""


@triton.jit
def _steps_of(keys: "Any") -> "Any":
    # FAR and FINE of `attention_eight`.
    return (tl.minimum(tl.maximum(keys.to(tl.float32), -512.0), 512.0) * 2048.0).to(tl.int32)


@triton.jit
def _look(
    start: "Any",
    middle: "Any",
    found: "Any",
    token_step: "Any",
    count: "Any",
    stride: "Any",
    share: "Any",
    factor: "Any",
    least: "Any",
    centre: tl.constexpr,
    length: tl.constexpr,
    width: tl.constexpr,
    tile: tl.constexpr,
    each: tl.constexpr,
    splits: tl.constexpr,
) -> None:
    split = tl.program_id(2)
    columns = tl.arange(0, width)
    mean = tl.zeros((width,), tl.float32)
    if centre:
        total = tl.zeros((tile, width), tl.int32)
        for number in range(each * splits):
            rows = number * tile + tl.arange(0, tile)
            places = start + (rows * stride).to(tl.int64)[:, None] * token_step + columns[None, :]
            total += _steps_of(tl.load(places, mask=(rows < count)[:, None], other=0.0))
        mean = tl.sum(total, axis=0).to(tl.float32) * share
        tl.store(middle + columns, mean, mask=(columns < width) & (split == 0))
    largest = _largest(start, mean, token_step, count, stride, split, centre, length, width, tile, each, splits)
    tl.store(found + split, tl.maximum(largest * factor, least))


@triton.jit
def _largest(
    start: "Any",
    mean: "Any",
    token_step: "Any",
    count: "Any",
    stride: "Any",
    split: "Any",
    centre: tl.constexpr,
    length: tl.constexpr,
    width: tl.constexpr,
    tile: tl.constexpr,
    each: tl.constexpr,
    splits: tl.constexpr,
) -> "Any":
    columns = tl.arange(0, width)
    best = tl.zeros((tile,), tl.float32)
    for number in range(each):
        rows = (number * splits + split) * tile + tl.arange(0, tile)
        places = start + (rows * stride).to(tl.int64)[:, None] * token_step + columns[None, :]
        inside = (rows < count)[:, None]
        v = tl.load(places, mask=inside, other=0.0).to(tl.float32)
        if length:
            if centre:
                v = tl.where(inside, v - mean[None, :], 0.0)
            best = tl.maximum(best, tl.sum(v * v, axis=1))
        else:
            best = tl.maximum(best, tl.max(tl.abs(v), axis=1))
    largest = tl.max(best, axis=0)
    if length:
        largest = tl.sqrt(largest)
    return largest


@triton.jit
def _look_kernel(
    q: "Any",
    k: "Any",
    v: "Any",
    middle: "Any",
    found: "Any",
    q_batch: "Any",
    q_token: "Any",
    q_head: "Any",
    k_batch: "Any",
    k_token: "Any",
    k_head: "Any",
    v_batch: "Any",
    v_token: "Any",
    v_head: "Any",
    heads: "Any",
    q_count: "Any",
    k_count: "Any",
    q_stride: "Any",
    k_stride: "Any",
    share: "Any",
    factor: "Any",
    least: "Any",
    width: tl.constexpr,
    tile: tl.constexpr,
    each: tl.constexpr,
    splits: tl.constexpr,
) -> None:
    # Programs: heads, then queries, keys and values, then splits.
    program, which = tl.program_id(0), tl.program_id(1)
    batch, head = (program // heads).to(tl.int64), program % heads
    middle += program * width
    found += (which * tl.num_programs(0) + program) * splits
    if which == 0:
        _look(
            q + batch * q_batch + head * q_head, middle, found, q_token, q_count, q_stride, share, factor, least,
            False, True, width, tile, each, splits,
        )  # fmt: skip
    elif which == 1:
        _look(
            k + batch * k_batch + head * k_head, middle, found, k_token, k_count, k_stride, share, factor, least,
            True, True, width, tile, each, splits,
        )  # fmt: skip
    else:
        _look(
            v + batch * v_batch + head * v_head, middle, found, v_token, k_count, k_stride, share, factor, least,
            False, False, width, tile, each, splits,
        )  # fmt: skip


@triton.jit
def _bring(
    start: "Any",
    target: "Any",
    middle: "Any",
    turn: "Any",
    inverse: "Any",
    first: "Any",
    token_step: "Any",
    made_step: "Any",
    tokens: "Any",
    largest: "Any",
    centre: tl.constexpr,
    turned: tl.constexpr,
    width: tl.constexpr,
    tile: tl.constexpr,
    tiles: tl.constexpr,
) -> None:
    columns = tl.arange(0, width)
    if centre:
        mean = tl.load(middle + columns)
    if turned:
        matrix = tl.load(turn + columns[:, None] * width + columns[None, :])
    for number in range(tiles):
        rows = ((first * tiles + number) * tile + tl.arange(0, tile)).to(tl.int64)
        inside = (rows < tokens)[:, None]
        v = tl.load(start + rows[:, None] * token_step + columns[None, :], mask=inside, other=0.0)
        if centre:
            v = (v.to(tl.float32) - mean[None, :]).to(turn.dtype.element_ty)
        y = v.to(tl.float32)
        if turned:
            y = tl.dot(v, matrix, input_precision="ieee")
        y = tl.minimum(tl.maximum(y * inverse, -largest), largest)
        tl.store(target + rows[:, None] * made_step + columns[None, :], y.to(target.dtype.element_ty), mask=inside)


@triton.jit
def _ready_kernel(
    q: "Any",
    k: "Any",
    v: "Any",
    q_made: "Any",
    k_made: "Any",
    v_made: "Any",
    middle: "Any",
    found: "Any",
    scale: "Any",
    turn: "Any",
    q_batch: "Any",
    q_token: "Any",
    q_head: "Any",
    k_batch: "Any",
    k_token: "Any",
    k_head: "Any",
    v_batch: "Any",
    v_token: "Any",
    v_head: "Any",
    heads: "Any",
    pairs: "Any",
    queries: "Any",
    keys: "Any",
    shrink: "Any",
    largest: "Any",
    width: tl.constexpr,
    tile: tl.constexpr,
    tiles: tl.constexpr,
    splits: tl.constexpr,
    heads_first: tl.constexpr,
) -> None:
    program, first, which = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    if not heads_first:
        program, first = first, program
    batch, head = (program // heads).to(tl.int64), program % heads
    place = which * pairs + program
    middle += program * width
    one = tl.max(tl.load(found + place * splits + tl.arange(0, splits)), axis=0)
    tl.store(scale + place, one, mask=first == 0)
    inverse = tl.where(which == 2, 1.0, shrink) / one
    step = heads * width
    if which == 0:
        _bring(
            q + batch * q_batch + head * q_head, q_made + batch * queries * step + head * width,
            middle, turn, inverse, first, q_token, step, queries, largest,
            False, True, width, tile, tiles,
        )  # fmt: skip
    elif which == 1:
        _bring(
            k + batch * k_batch + head * k_head, k_made + batch * keys * step + head * width,
            middle, turn, inverse, first, k_token, step, keys, largest,
            True, True, width, tile, tiles,
        )  # fmt: skip
    else:
        _bring(
            v + batch * v_batch + head * v_head, v_made + batch * keys * step + head * width,
            middle, turn, inverse, first, v_token, step, keys, largest,
            False, False, width, tile, tiles,
        )  # fmt: skip


def ready(q: Tensor, k: Tensor, v: Tensor) -> tuple[Ready, Ready, Ready]:
    """See `ops.attention_eight.ready`; channels lie side by side in memory."""
    return divided(q, k, v, SIZES)


def divided(q: Tensor, k: Tensor, v: Tensor, sizes: Sizes) -> tuple[Ready, Ready, Ready]:
    """`ready` with its work divided in a given way."""
    parts = [x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v)]
    batch, queries, heads, width = q.shape
    keys, pairs = k.shape[1], batch * heads
    steps = _steps(parts)
    found = torch.empty(3, pairs, sizes.splits, dtype=torch.float32, device=q.device)
    middle = torch.empty(pairs, width, dtype=torch.float32, device=q.device)
    strides = [seen_step(tokens) for tokens in (queries, keys)]
    counts = [min(SEEN, -(-tokens // stride)) for tokens, stride in zip((queries, keys), strides, strict=True)]
    _look_kernel[(pairs, 3, sizes.splits)](
        *parts, middle, found, *steps, heads, *counts, *strides, mean_share(counts[1]), ROOM / LARGEST_FP8,
        LEAST,
        width=width, tile=LOOK, each=triton.cdiv(max(counts), LOOK * sizes.splits), splits=sizes.splits,
    )  # fmt: skip
    made = [torch.empty(x.shape, dtype=torch.float8_e4m3fn, device=x.device) for x in parts]
    scale = torch.empty(3, batch, heads, dtype=torch.float32, device=q.device)
    stretches = triton.cdiv(max(queries, keys), sizes.tile * sizes.tiles)
    grid = (pairs, stretches, 3) if sizes.heads_first else (stretches, pairs, 3)
    _ready_kernel[grid](
        *parts, *made, middle, found, scale, hadamard(width, q.device, q.dtype), *steps, heads, pairs, queries, keys,
        width**-0.5, LARGEST_FP8, width=width, tile=sizes.tile, tiles=sizes.tiles,
        splits=sizes.splits, heads_first=sizes.heads_first, num_warps=sizes.warps, num_stages=sizes.stages,
    )  # fmt: skip
    ours = [Ready(data, one) for data, one in zip(made, scale, strict=True)]
    return ours[0], ours[1], ours[2]


@triton.jit
def _total_kernel(
    k: "Any",
    total: "Any",
    k_batch: "Any",
    k_token: "Any",
    k_head: "Any",
    heads: "Any",
    count: "Any",
    width: tl.constexpr,
    tile: tl.constexpr,
    each: tl.constexpr,
) -> None:
    program = tl.program_id(0)
    start = k + (program // heads).to(tl.int64) * k_batch + program % heads * k_head
    columns = tl.arange(0, width)
    found = tl.zeros((tile, width), tl.int32)
    for number in range(each):
        rows = number * tile + tl.arange(0, tile)
        places = start + rows.to(tl.int64)[:, None] * k_token + columns[None, :]
        found += _steps_of(tl.load(places, mask=(rows < count)[:, None], other=0.0))
    tl.store(total + program * width + columns, tl.sum(found, axis=0))


@triton.jit
def _scales_kernel(
    q: "Any",
    k: "Any",
    v: "Any",
    middle: "Any",
    found: "Any",
    q_batch: "Any",
    q_token: "Any",
    q_head: "Any",
    k_batch: "Any",
    k_token: "Any",
    k_head: "Any",
    v_batch: "Any",
    v_token: "Any",
    v_head: "Any",
    heads: "Any",
    count: "Any",
    factor: "Any",
    least: "Any",
    width: tl.constexpr,
    tile: tl.constexpr,
    each: tl.constexpr,
    splits: tl.constexpr,
) -> None:
    # Programs: heads, then queries, keys and values, then splits.
    program, which, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    batch, head = (program // heads).to(tl.int64), program % heads
    mean = tl.load(middle + program * width + tl.arange(0, width))
    if which == 0:
        start = q + batch * q_batch + head * q_head
        largest = _largest(start, mean, q_token, count, 1, split, False, True, width, tile, each, splits)
    elif which == 1:
        start = k + batch * k_batch + head * k_head
        largest = _largest(start, mean, k_token, count, 1, split, True, True, width, tile, each, splits)
    else:
        start = v + batch * v_batch + head * v_head
        largest = _largest(start, mean, v_token, count, 1, split, False, False, width, tile, each, splits)
    place = found + (which * tl.num_programs(0) + program) * splits + split
    tl.store(place, tl.maximum(largest * factor, least))


@triton.jit
def _pack_kernel(
    q: "Any",
    k: "Any",
    v: "Any",
    made: "Any",
    middle: "Any",
    found: "Any",
    turn: "Any",
    q_batch: "Any",
    q_token: "Any",
    q_head: "Any",
    k_batch: "Any",
    k_token: "Any",
    k_head: "Any",
    v_batch: "Any",
    v_token: "Any",
    v_head: "Any",
    batches: "Any",
    heads: "Any",
    own: "Any",
    begin: "Any",
    some: "Any",
    tokens: "Any",
    shrink: "Any",
    largest: "Any",
    width: tl.constexpr,
    tile: tl.constexpr,
    tiles: tl.constexpr,
    splits: tl.constexpr,
) -> None:
    # Programs: for each batch and process some of its heads; then stretches of tokens, then queries, keys and values.
    program, first, which = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    number, rest = program % some, program // some
    process, batch = (rest % (heads // own)).to(tl.int64), (rest // (heads // own)).to(tl.int64)
    head = process * own + begin + number
    pair = batch * heads + head
    middle += pair * width
    one = tl.max(tl.load(found + (which * batches * heads + pair) * splits + tl.arange(0, splits)), axis=0)
    inverse = tl.where(which == 2, 1.0, shrink) / one
    step = batches * 3 * some * width
    target = made + process * tokens * step + ((batch * 3 + which) * some + number) * width
    if which == 0:
        start = q + batch * q_batch + head * q_head
        _bring(start, target, middle, turn, inverse, first, q_token, step, tokens, largest,
               False, True, width, tile, tiles)  # fmt: skip
    elif which == 1:
        start = k + batch * k_batch + head * k_head
        _bring(start, target, middle, turn, inverse, first, k_token, step, tokens, largest,
               True, True, width, tile, tiles)  # fmt: skip
    else:
        start = v + batch * v_batch + head * v_head
        _bring(start, target, middle, turn, inverse, first, v_token, step, tokens, largest,
               False, False, width, tile, tiles)  # fmt: skip


PROGRAMS = 1024
"""As many at least keep a GPU busy."""


class FusedCoder:
    """`ops.shared_eight.Coder`, one kernel each; channels lie side by side in memory."""

    def total(self, tokens: Tokens) -> Tensor:
        """See `Coder`."""
        k = tokens.seen()[1]
        batch, count, heads, width = k.shape
        total = torch.empty(batch, heads, width, dtype=torch.int32, device=k.device)
        _total_kernel[(batch * heads,)](
            k, total, *k.stride()[:3], heads, count, width=width, tile=LOOK, each=triton.cdiv(count, LOOK)
        )
        return total

    def scales(self, tokens: Tokens, middle: Tensor) -> Tensor:
        """See `Coder`."""
        seen, splits = tokens.seen(), SIZES.splits
        batch, count, heads, width = seen[0].shape
        found = torch.empty(3, batch, heads, splits, dtype=torch.float32, device=middle.device)
        _scales_kernel[(batch * heads, 3, splits)](
            *seen, middle, found, *_steps(seen), heads, count, ROOM / LARGEST_FP8, LEAST,
            width=width, tile=LOOK, each=triton.cdiv(count, LOOK * splits), splits=splits,
        )  # fmt: skip
        return found

    def packed(self, tokens: Tokens, middle: Tensor, scales: Tensor, part: Part) -> Tensor:
        """See `Coder`."""
        q = tokens.q
        batch, count, heads, width = q.shape
        own, some = heads // part.processes, part.heads.stop - part.heads.start
        shape = part.processes, count, batch, 3, some, width
        made = torch.empty(shape, dtype=torch.float8_e4m3fn, device=q.device)
        wholes = 3 * batch * part.processes * some
        tiles = max(1, min(SIZES.tiles, count * wholes // (SIZES.tile * PROGRAMS)))
        _pack_kernel[(wholes // 3, triton.cdiv(count, SIZES.tile * tiles), 3)](
            *tokens[:3], made, middle, scales, hadamard(width, q.device, q.dtype), *_steps(tokens[:3]), batch, heads,
            own, part.heads.start, some, count, width**-0.5, LARGEST_FP8,
            width=width, tile=SIZES.tile, tiles=tiles, splits=scales.shape[-1],
            num_warps=SIZES.warps, num_stages=SIZES.stages,
        )  # fmt: skip
        return made


def _steps(parts: Sequence[Tensor]) -> list[int]:
    """From one batch, token and head to the next in each."""
    return [step for part in parts for step in part.stride()[:3]]
