"""Tokens that several processes bring to 8 bits: the numbers are those that one process makes of all of them.

A product may end a bit higher or lower, and a number be rounded to its other neighbour. Triton's interpreter cuts
8-bit floats off instead of rounding them.
"""

from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from infinitetalk.ops.attention_eight import SEEN, Ready, ready, seen
from infinitetalk.ops.parallel import even_span
from infinitetalk.ops.shared_eight import Coder, Part, PlainCoder, Tokens, coder
from tests.kernels.interpreted import interpret
from tests.nets.random_nets import noise

HEADS, WIDTH = 8, 16


def part_of(whole: tuple[Tensor, ...], span: slice) -> Tokens:
    q, k, v = (x[:, span] for x in whole)
    return Tokens(q, k, v, span.start, whole[0].shape[1])


def divided(code: Coder, whole: tuple[Tensor, ...], size: int, some: slice) -> tuple[Ready, ...]:
    """What a first process attends with: some of its heads, of the tokens of all."""
    spans = [even_span(whole[0].shape[1], size, rank) for rank in range(size)]
    all_of_them = [part_of(whole, span) for span in spans]
    sums = torch.stack([code.total(tokens) for tokens in all_of_them])
    middle = all_of_them[0].middle(sums.sum(dim=0, dtype=torch.int32))
    scales = torch.stack([code.scales(tokens, middle) for tokens in all_of_them]).amax(dim=0)
    parcels = [code.packed(tokens, middle, scales, Part(size, some))[0] for tokens in all_of_them]
    data = torch.cat(parcels).unbind(2)
    scale = scales.amax(dim=-1)[:, :, some]
    return tuple(Ready(x.transpose(0, 1), one) for x, one in zip(data, scale, strict=True))


def given(length: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = (noise(2, length, HEADS, WIDTH, seed=seed).to(dtype) for seed in range(3))
    return q, k + 3, v


def compare(code: Coder, length: int, size: int, dtype: torch.dtype, *, differ: float) -> None:
    """Some of the heads of the first of several processes beside those of one; a share of the numbers may differ."""
    whole = given(length, dtype)
    some = slice(0, 1) if size == 4 else slice(1, 3)
    for found, one in zip(divided(code, whole, size, some), ready(*whole), strict=True):
        torch.testing.assert_close(found.scale, one.scale[:, some], rtol=1e-6, atol=0)
        wide, true = found.data.float(), one.data[:, :, some].float()
        assert float((wide != true).float().mean()) <= differ
        assert float((wide - true).norm() / true.norm()) < 0.12 * differ**0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("length", "size"), [(50, 1), (50, 2), (51, 4), (2 * SEEN + 300, 2), (2 * SEEN - 1, 4)])
def test_they_are_those_of_one_process(length: int, size: int, dtype: torch.dtype) -> None:
    assert isinstance(coder("cpu"), PlainCoder)
    compare(coder("cpu"), length, size, dtype, differ=1e-3)


@pytest.mark.parametrize("length", [10, SEEN, 2 * SEEN - 1, 3 * SEEN + 7])
@pytest.mark.parametrize("size", [1, 2, 4, 7])
def test_all_see_together_what_one_sees(length: int, size: int) -> None:
    x = torch.arange(length, dtype=torch.float32).view(1, -1, 1, 1)
    spans = [even_span(length, size, rank) for rank in range(size)]
    parts = [part_of((x, x, x), span) for span in spans]
    assert torch.equal(torch.cat([part.seen()[1] for part in parts], dim=1), seen(x))
    assert parts[0].all_seen == seen(x).shape[1]


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is for Linux")
@pytest.mark.parametrize(("length", "size"), [(50, 2), pytest.param(2 * SEEN - 1, 4, marks=pytest.mark.full)])
def test_the_fused_form_gives_what_the_plain_one_does(length: int, size: int) -> None:
    interpret(f"""
from tests.attention.test_shared import *
from infinitetalk.ops.attention_triton import FusedCoder
compare(FusedCoder(), {length}, {size}, torch.float32, differ=1)
""")
