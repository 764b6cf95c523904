"""Products of whole numbers of 8 bits in Triton: sums of 32 bits become values before they leave the kernel."""

# A kernel takes its pointers and sizes one by one, and they have no types that Python knows.
# ruff: noqa: PLR0917

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from infinitetalk.ops.eight import Rows
from infinitetalk.ops.stored import Scaled


class Sizes(NamedTuple):
    """How the kernel divides its work; the numbers that it makes are the same."""

    rows: int = 128
    columns: int = 256
    depth: int = 128
    """Of the numbers that are multiplied and summed together."""
    group: int = 16
    """Stretches of rows whose programs follow one another, so that they find the same matrix in the cache."""
    warps: int = 8
    stages: int = 4


SIZES = Sizes()
"""The quickest that were found."""
SMALLER = Sizes(columns=128, depth=64, stages=3)
"""For GPUs with less memory beside their units."""


@triton.jit
def _whole_kernel(
    x: "Any",
    matrix: "Any",
    x_scale: "Any",
    matrix_scale: "Any",
    bias: "Any",
    made: "Any",
    rows: "Any",
    width: "Any",
    depth: "Any",
    biased: tl.constexpr,
    even: tl.constexpr,
    some_rows: tl.constexpr,
    some_columns: tl.constexpr,
    step: tl.constexpr,
    group: tl.constexpr,
) -> None:
    program = tl.program_id(0)
    down, across = tl.cdiv(rows, some_rows), tl.cdiv(width, some_columns)
    first = program // (group * across) * group
    here = tl.minimum(down - first, group)
    row = (first + program % (group * across) % here) * some_rows + tl.arange(0, some_rows)
    column = program % (group * across) // here * some_columns + tl.arange(0, some_columns)
    k = tl.arange(0, step)
    # Beyond the last row and column are numbers of others, which go nowhere.
    xs = x + (row % rows).to(tl.int64)[:, None] * depth + k[None, :]
    ms = matrix + (column % width).to(tl.int64)[None, :] * depth + k[:, None]
    total = tl.zeros((some_rows, some_columns), tl.int32)
    for number in range(tl.cdiv(depth, step)):
        if even:
            a = tl.load(xs)
            b = tl.load(ms)
        else:
            left = depth - number * step
            a = tl.load(xs, mask=(k < left)[None, :], other=0)
            b = tl.load(ms, mask=(k < left)[:, None], other=0)
        total = tl.dot(a, b, total, out_dtype=tl.int32)
        xs += step
        ms += step
    inside = (row < rows)[:, None] & (column < width)[None, :]
    y = total.to(tl.float32) * tl.load(x_scale + row, mask=row < rows, other=0.0)[:, None]
    y = y * tl.load(matrix_scale + column, mask=column < width, other=0.0)[None, :]
    if biased:
        y = y + tl.load(bias + column, mask=column < width, other=0.0).to(tl.float32)[None, :]
    places = made + row.to(tl.int64)[:, None] * width + column[None, :]
    tl.store(places, y.to(made.dtype.element_ty), mask=inside)


def whole(x: Rows, matrix: Scaled, bias: Tensor | None) -> Tensor:
    """See `ops.eight.Multiply`."""
    limit = _memory(x.data.device.index) if x.data.is_cuda else None
    return divided(x, matrix, bias, SIZES if limit is None or limit >= _needed(SIZES) else SMALLER)


def divided(x: Rows, matrix: Scaled, bias: Tensor | None, sizes: Sizes) -> Tensor:
    """`whole` with its work divided in a given way."""
    assert matrix.scale is not None
    (rows, depth), width = x.data.shape, len(matrix.data)
    made = torch.empty(rows, width, dtype=x.dtype, device=x.data.device)
    programs = triton.cdiv(rows, sizes.rows) * triton.cdiv(width, sizes.columns)
    _whole_kernel[(programs,)](
        x.data.contiguous(), matrix.data.contiguous(), x.scale.contiguous(), matrix.scale,
        matrix.scale if bias is None else bias, made, rows, width, depth,
        biased=bias is not None, even=depth % sizes.depth == 0, some_rows=sizes.rows, some_columns=sizes.columns,
        step=sizes.depth, group=sizes.group, num_warps=sizes.warps, num_stages=sizes.stages,
    )  # fmt: skip
    return made


def _needed(sizes: Sizes) -> int:
    """Bytes beside the units that numbers on their way take."""
    return (sizes.rows + sizes.columns) * sizes.depth * sizes.stages


def _memory(device: int) -> int:
    """Bytes that a program may have there."""
    found: int = triton.runtime.driver.active.utils.get_device_properties(device)["max_shared_mem"]
    return found
