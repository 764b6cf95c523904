"""The fused regions against the plain ones, in Triton's interpreter.

Its bfloat16 and 8-bit floats are cut off instead of rounded, so float32 and whole numbers are what is compared closely.
"""

from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from infinitetalk.ops.attention import attention
from infinitetalk.ops.eight import FP8, INT8, Eight, Operand, Rows, product
from infinitetalk.ops.regions import Known, Norm, Regions, whole
from infinitetalk.ops.rope import Grid, video_rotation
from tests.kernels.interpreted import interpret
from tests.nets.random_nets import noise

BATCH, DIM, HEAD = 2, 96, 24
GRID = Grid(2, 2, 3)


def close(found: Operand, truth: Operand, bound: float) -> None:
    a, b = whole(found).float(), whole(truth).float()
    assert a.shape == b.shape
    assert float((a - b).norm() / b.norm()) <= bound


def norms(dtype: torch.dtype) -> list[Norm]:
    modulation = noise(BATCH, 1, DIM, seed=1), noise(BATCH, 1, DIM, seed=2)
    one = noise(1, 1, DIM, seed=1), noise(1, 1, DIM, seed=2)
    weights = noise(DIM, seed=3).to(dtype), noise(DIM, seed=4).to(dtype)
    return [Norm(*modulation, 1e-6, modulated=True), Norm(*one, 1e-6, modulated=True), Norm(*weights, 1e-6, False)]


def compare(kind: Eight | None, dtype: torch.dtype) -> None:
    """All regions of one kind."""
    from infinitetalk.ops.regions_triton import FusedRegions

    fused, plain = FusedRegions(kind), Regions(kind)
    # Whole numbers differ where sums in another order end at another side of a half.
    exact = dtype == torch.float32 and kind is not FP8
    bound = (1e-6 if kind is None else 1e-3) if exact else 0.08
    x, answer = noise(BATCH, GRID.tokens, DIM).to(dtype), noise(BATCH, GRID.tokens, DIM, seed=5).to(dtype)
    x[0, 0], answer[0, 0] = 0, 0
    gate = noise(BATCH, 1, DIM, seed=6)
    for norm in norms(dtype):
        close(fused.normed(x, norm, dtype), plain.normed(x, norm, dtype), bound)
        for by in (gate, None):
            found, truth = (one.joined_normed(x, answer, by, norm, dtype) for one in (fused, plain))
            close(found[0], truth[0], bound)
            close(found[1], truth[1], bound)
    close(fused.joined(x, answer, gate), plain.joined(x, answer, gate), bound)
    close(fused.joined(x, answer), plain.joined(x, answer), bound)
    for name in ("gelu", "operand"):
        close(getattr(fused, name)(answer), getattr(plain, name)(answer), bound)
    close(fused.summed(x, answer), plain.summed(x, answer), bound)
    weight, rotation = noise(DIM, seed=7).to(dtype), video_rotation(GRID, HEAD, torch.device("cpu"))
    close(fused.root(x, weight, 1e-6), plain.root(x, weight, 1e-6), bound)
    turned: list[Tensor] = [one.turned(answer, weight, 1e-6, rotation) for one in (fused, plain)]
    assert turned[0].shape == (BATCH, GRID.tokens, DIM // HEAD, HEAD)
    close(turned[0], turned[1], bound)


CASES = {"exact": None, "int8": INT8, "fp8": FP8}


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is for Linux")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", CASES)
def test_fused_regions_give_what_plain_ones_do(kind: str, dtype: str) -> None:
    interpret(f"from tests.kernels.test_fused import *; compare(CASES[{kind!r}], torch.{dtype})")


def compare_products() -> None:
    """Products of whole numbers, with scales and bias in one kernel; sides that tiles divide, and others."""
    from infinitetalk.ops import products_triton
    from infinitetalk.ops.regions_triton import FusedRegions

    sizes = products_triton.Sizes(rows=16, columns=32, depth=32, group=2)
    for count, depth, width in ((50, 64, 96), (7, 48, 80)):
        given, packed = INT8.quantise(noise(count, depth)), INT8.pack(noise(width, depth, seed=1))
        for bias in (noise(width, seed=2).to(torch.bfloat16), None):
            truth = product(given, packed, bias)
            for made in (
                products_triton.divided(given, packed, bias, sizes),
                product(given._replace(multiply=products_triton.whole), packed, bias),
            ):
                torch.testing.assert_close(made, truth, rtol=1e-5, atol=1e-5)
    for kind, multiply in ((INT8, products_triton.whole), (FP8, None)):
        rows = FusedRegions(kind).operand(noise(2, 32))
        assert isinstance(rows, Rows)
        assert rows.multiply is multiply


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is for Linux")
def test_products_of_whole_numbers_in_one_kernel() -> None:
    interpret("from tests.kernels.test_fused import *; compare_products()")


def compare_told(dtype: torch.dtype) -> None:
    """A text whose last key counts many times and a picture, or one of them; other sizes of tiles."""
    from infinitetalk.ops import told_triton

    for length, width, counts in ((70, 32, (20, 33)), (40, 16, (64, 1)), (9, 64, (130, 17))):
        q = noise(2, length, 3, width).to(dtype)
        parts = [[noise(2, count, 3, width, seed=seed).to(dtype) for seed in (count, count + 1)] for count in counts]
        text, picture = Known(parts[0][0], parts[0][1], last=435), Known(parts[1][0], parts[1][1])
        for known in ([text, picture], [text], [picture]):
            assert told_triton.serves(q, known)
            wide = [attention(q.float(), *(part.float() for part in one.whole())).flatten(-2) for one in known]
            truth = torch.stack(wide).sum(0)
            for sizes in (told_triton.SIZES, told_triton.Sizes(queries=16, keys=16)):
                close(told_triton.told(q, known, sizes), truth, 1e-5 if dtype == torch.float32 else 0.01)
    assert not told_triton.serves(noise(1, 4, 2, 24), [text])


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is for Linux")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_told_is_asked_in_one_kernel(dtype: str) -> None:
    interpret(f"from tests.kernels.test_fused import *; compare_told(torch.{dtype})")
