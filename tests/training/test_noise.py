"""The noise of a GPU, in Triton's interpreter."""

from importlib.util import find_spec

import pytest
import torch

from tests.kernels.interpreted import interpret
from training.heads.noise import noise_and_slope


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is for Linux")
def test_noise_in_one_kernel_is_the_same_noise() -> None:
    interpret("from tests.training.test_noise import compare_noises\ncompare_noises()")


def compare_noises() -> None:
    from training.heads import noise_triton

    draws = torch.Generator().manual_seed(0)
    rows, columns = torch.rand(700, 3, generator=draws) * 200 - 100, torch.rand(3, 700, generator=draws) * 20 - 10
    for place in (rows, columns.T, torch.rand(5, 6, 3, generator=draws) * 9):
        value, slope = noise_and_slope(place)
        made, rise = noise_triton.noise_and_slope(place, slopes=True)
        torch.testing.assert_close(made, value, atol=2e-5, rtol=0)
        torch.testing.assert_close(rise, slope, atol=2e-4, rtol=0)
        torch.testing.assert_close(noise_triton.noise_and_slope(place, slopes=False)[0], value, atol=2e-5, rtol=0)
    assert noise_triton.noise_and_slope(torch.zeros(0, 3), slopes=True)[0].shape == (0,)
