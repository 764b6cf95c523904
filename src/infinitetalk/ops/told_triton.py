"""Attention to what the network is told, in Triton: a text and a picture have few keys, so one kernel asks both.

Queries are read once and the sum of both answers is written once. A key that counts several times is there once.
"""

# A kernel takes its pointers and sizes one by one, and they have no types that Python knows.
# ruff: noqa: PLR0917

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from infinitetalk.ops.regions import Known


class Sizes(NamedTuple):
    """How the kernel divides its work; the numbers that it makes are the same but for the order of sums."""

    queries: int = 64
    keys: int = 64
    """Keys that are asked together; what is left of them is asked by a stretch that is as long as need be."""
    warps: int = 4
    stages: int = 2


SIZES = Sizes()
"""The quickest that were found."""
LEAST = 16
"""The fewest keys that units of matrices take, and the fewest channels."""
LOG2E = math.log2(math.e)


@triton.jit
def _some(
    q: "Any",
    keys: "Any",
    values: "Any",
    k_token: "Any",
    v_token: "Any",
    first: "Any",
    count: "Any",
    extra: "Any",
    scale: "Any",
    answer: "Any",
    most: "Any",
    total: "Any",
    width: tl.constexpr,
    tile: tl.constexpr,
    check: tl.constexpr,
) -> "Any":
    # Logits are to base 2; `extra` is the logarithm of how many times the last key counts.
    columns = tl.arange(0, width)
    tokens = first + tl.arange(0, tile)
    if check:
        inside = (tokens < count)[:, None]
        k = tl.load(keys + tokens[:, None] * k_token + columns[None, :], mask=inside, other=0.0)
        v = tl.load(values + tokens[:, None] * v_token + columns[None, :], mask=inside, other=0.0)
    else:
        k = tl.load(keys + tokens[:, None] * k_token + columns[None, :])
        v = tl.load(values + tokens[:, None] * v_token + columns[None, :])
    logits = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
    if check:
        logits += tl.where(tokens == count - 1, extra, 0.0)[None, :]
        logits = tl.where((tokens < count)[None, :], logits, float("-inf"))
    new_most = tl.maximum(most, tl.max(logits, axis=1))
    weights = tl.exp2(logits - new_most[:, None])
    shrink = tl.exp2(most - new_most)
    total = total * shrink + tl.sum(weights, axis=1)
    answer = answer * shrink[:, None] + tl.dot(weights.to(v.dtype), v, input_precision="ieee")
    return answer, new_most, total


@triton.jit
def _source(
    q: "Any",
    keys: "Any",
    values: "Any",
    k_token: "Any",
    v_token: "Any",
    count: "Any",
    extra: "Any",
    scale: "Any",
    width: tl.constexpr,
    queries: tl.constexpr,
    tile: tl.constexpr,
    rest: tl.constexpr,
) -> "Any":
    answer = tl.zeros((queries, width), tl.float32)
    most = tl.full((queries,), float("-inf"), tl.float32)
    total = tl.zeros((queries,), tl.float32)
    # The last key is always among the rest.
    whole = (count - 1) // tile * tile
    for first in range(0, whole, tile):
        answer, most, total = _some(
            q, keys, values, k_token, v_token, first, count, extra, scale, answer, most, total, width, tile, False
        )
    answer, most, total = _some(
        q, keys, values, k_token, v_token, whole, count, extra, scale, answer, most, total, width, rest, True
    )
    return answer / total[:, None]


@triton.jit
def _told_kernel(
    q: "Any",
    made: "Any",
    keys: "Any",
    values: "Any",
    other_keys: "Any",
    other_values: "Any",
    heads: "Any",
    length: "Any",
    scale: "Any",
    k_batch: "Any",
    k_token: "Any",
    k_head: "Any",
    v_batch: "Any",
    v_token: "Any",
    v_head: "Any",
    count: "Any",
    extra: "Any",
    other_k_batch: "Any",
    other_k_token: "Any",
    other_k_head: "Any",
    other_v_batch: "Any",
    other_v_token: "Any",
    other_v_head: "Any",
    other_count: "Any",
    other_extra: "Any",
    both: tl.constexpr,
    width: tl.constexpr,
    queries: tl.constexpr,
    tile: tl.constexpr,
    rest: tl.constexpr,
    other_rest: tl.constexpr,
) -> None:
    # Neighbouring programs have the same queries of different heads, which lie side by side in memory.
    head = tl.program_id(0)
    batch = tl.program_id(2).to(tl.int64)
    rows = tl.program_id(1) * queries + tl.arange(0, queries)
    places = ((batch * length + rows)[:, None] * heads + head) * width + tl.arange(0, width)[None, :]
    inside = (rows < length)[:, None]
    asked = tl.load(q + places, mask=inside, other=0.0)
    keys += batch * k_batch + head * k_head
    values += batch * v_batch + head * v_head
    answer = _source(asked, keys, values, k_token, v_token, count, extra, scale, width, queries, tile, rest)
    if both:
        other_keys += batch * other_k_batch + head * other_k_head
        other_values += batch * other_v_batch + head * other_v_head
        answer += _source(
            asked, other_keys, other_values, other_k_token, other_v_token, other_count, other_extra, scale, width,
            queries, tile, other_rest,
        )  # fmt: skip
    tl.store(made + places, answer.to(made.dtype.element_ty), mask=inside)


def serves(q: Tensor, known: Sequence[Known]) -> bool:
    """Whether the kernel has the sizes for these."""
    width = q.shape[-1]
    return 1 <= len(known) <= 2 and LEAST <= width <= 256 and width == triton.next_power_of_2(width)


def told(q: Tensor, known: Sequence[Known], sizes: Sizes = SIZES) -> Tensor:
    """The sum of the answers that queries [B, L, heads, d] get from one or two sources: [B, L, heads * d]."""
    q = q.contiguous()
    batch, length, heads, width = q.shape
    made = torch.empty(batch, length, heads * width, dtype=q.dtype, device=q.device)
    first, last = (_of(one, q, sizes) for one in (known[0], known[-1]))
    _told_kernel[(heads, triton.cdiv(length, sizes.queries), batch)](
        q, made, *first.tensors, *last.tensors, heads, length, LOG2E / width**0.5, *first.numbers, *last.numbers,
        both=len(known) > 1, width=width, queries=sizes.queries, tile=sizes.keys, rest=first.rest,
        other_rest=last.rest, num_warps=sizes.warps, num_stages=sizes.stages,
    )  # fmt: skip
    return made


class _Given(NamedTuple):
    """A source as the kernel takes it."""

    tensors: tuple[Tensor, Tensor]
    numbers: tuple[float, ...]
    """Steps of keys and values, how many there are, and the logarithm of how many times the last one counts."""
    rest: int


def _of(known: Known, q: Tensor, sizes: Sizes) -> _Given:
    parts = [x.to(q.dtype) for x in (known.keys, known.values)]
    keys, values = (x if x.stride(-1) == 1 else x.contiguous() for x in parts)
    count = keys.shape[1]
    rest = (count - 1) % sizes.keys + 1
    steps = [*keys.stride()[:3], *values.stride()[:3]]
    return _Given((keys, values), (*steps, count, math.log2(known.last)), max(LEAST, triton.next_power_of_2(rest)))
