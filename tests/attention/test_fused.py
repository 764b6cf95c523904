"""What makes attention ready for 8 bits in fused kernels, against the plain form, in Triton's interpreter.

Its 8-bit floats are cut off instead of rounded, and it does not multiply bfloat16.
"""

from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from infinitetalk.ops import attention_eight
from infinitetalk.ops.pack import LARGEST_FP8
from infinitetalk.ops.regions import Regions
from infinitetalk.ops.rope import Rotation
from tests.kernels.interpreted import interpret
from tests.nets.random_nets import noise


def compare(dtype: torch.dtype, length: int) -> None:
    """Queries, keys that are far from zero, values; whole tensors, and some heads of them."""
    from infinitetalk.ops import attention_triton

    q, k, v = (noise(2, length, 4, 32, seed=seed).to(dtype) for seed in range(3))
    k = k + 5 * noise(1, 1, 4, 32, seed=9).to(dtype)
    some: list[list[Tensor]] = [[q, k, v], [part[:, :, 1:3] for part in (q, k, v)], [q[:, :40], k, v]]
    plain = attention_triton.SIZES
    for number, given in enumerate(some):
        sizes = plain._replace(tile=32, tiles=3, heads_first=False, splits=1) if number == 1 else plain
        made = attention_triton.divided(given[0], given[1], given[2], sizes)
        for found, truth in zip(made, attention_eight.ready(*given), strict=True):
            assert found.data.shape == truth.data.shape
            torch.testing.assert_close(found.scale, truth.scale, rtol=1e-5 if dtype == torch.float32 else 0.005, atol=0)
            wide, whole = (one.data.float() * one.scale[:, None, :, None] for one in (found, truth))
            assert float((wide - whole).norm() / whole.norm()) < 0.12


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is for Linux")
@pytest.mark.parametrize(("dtype", "length"), [("float32", 600), ("float32", 2500), ("float16", 70)])
def test_fused_kernels_give_what_the_plain_form_does(dtype: str, length: int) -> None:
    interpret(f"from tests.attention.test_fused import *; compare(torch.{dtype}, {length})")


def compare_projections(dtype: torch.dtype, length: int) -> None:
    """In one pass what norm, turning and making ready give; keys are far from zero; nothing is cut off."""
    from infinitetalk.ops import projections_triton
    from infinitetalk.ops.projections_triton import Projection

    heads, width = 3, 16
    q, k, v = (noise(2, length, heads * width, seed=seed).to(dtype) for seed in range(3))
    k = k + 4 * noise(1, 1, heads * width, seed=9).to(dtype)
    gains = [(1 + 0.5 * noise(heads * width, seed=seed)).to(dtype) for seed in (4, 5)]
    angles = 0.001 * torch.arange(length)[:, None, None] * torch.linspace(0.1, 1, width // 2)
    rotation = Rotation(angles.cos(), angles.sin())
    values = v.unflatten(-1, (heads, width))
    asked = [Projection(x, gain, eps) for x, gain, eps in ((q, gains[0], 1e-6), (k, gains[1], 1e-5))]
    found = projections_triton.ready(asked[0], asked[1], values, rotation)
    turned = [Regions().turned(*one, rotation) for one in asked]
    truths = attention_eight.ready(turned[0], turned[1], values)
    assert turned[1].float().mean(dim=1).norm() > turned[1].float().std(dim=1).norm(), "there is a mean to be removed"
    for one, truth in zip(found, truths, strict=True):
        wide, whole = (ready.data.float() * ready.scale[:, None, :, None] for ready in (one, truth))
        assert float((wide - whole).norm() / whole.norm()) < 0.12
        assert float(one.data.float().abs().max()) < LARGEST_FP8
    torch.testing.assert_close(found[2].scale, truths[2].scale, rtol=1e-5, atol=0)


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is for Linux")
@pytest.mark.parametrize(("dtype", "length"), [("float32", 70), ("float16", 13)])
def test_projections_are_made_ready_in_one_pass(dtype: str, length: int) -> None:
    interpret(f"from tests.attention.test_fused import *; compare_projections(torch.{dtype}, {length})")
