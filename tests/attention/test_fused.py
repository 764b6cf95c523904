"""What makes attention ready for 8 bits in fused kernels, against the plain form, in Triton's interpreter.

Its 8-bit floats are cut off instead of rounded, and it does not multiply bfloat16.
"""

from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from infinitetalk.ops import attention_eight
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
@pytest.mark.parametrize(
    ("dtype", "length"),
    [
        ("float32", 200),
        pytest.param("float32", 600, marks=pytest.mark.full),
        pytest.param("float32", 2500, marks=pytest.mark.full),
        ("float16", 70),
    ],
)
def test_fused_kernels_give_what_the_plain_form_does(dtype: str, length: int) -> None:
    interpret(f"from tests.attention.test_fused import *; compare(torch.{dtype}, {length})")
