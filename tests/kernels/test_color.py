"""Matched colours in fused kernels, against the plain form, in Triton's interpreter."""

from importlib.util import find_spec

import pytest
import torch

from infinitetalk.media.color import match_colors, match_fused
from tests.kernels.interpreted import interpret
from tests.nets.random_nets import noise


def compare() -> None:
    """Frames of two tints, one that is one colour, black and white; all of the strength, and some of it."""
    reference = noise(3, 1, 20, 24, seed=1) * 0.3 + torch.tensor([0.3, 0.0, -0.2]).view(3, 1, 1, 1)
    video = noise(3, 4, 37, 50) * 0.4 - 0.1
    video[:, 1] = noise(3, 37, 50, seed=2) * 0.2 + torch.tensor([-0.5, 0.4, 0.1]).view(3, 1, 1)
    video[:, 2] = 0.25
    video[:, 3, :9], video[:, 3, 9:20] = -1, 1
    for strength in (1.0, 0.3):
        found, truth = match_fused(video, reference, strength), match_colors(video, reference, strength)
        assert found.shape == truth.shape
        torch.testing.assert_close(found, truth, atol=2e-4, rtol=0)
    turned = video.permute(2, 0, 1, 3).contiguous().permute(1, 2, 0, 3)
    torch.testing.assert_close(match_fused(turned, reference, 1.0), match_colors(video, reference), atol=2e-4, rtol=0)


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is for Linux")
def test_fused_colours_are_the_plain_ones() -> None:
    interpret("from tests.kernels.test_color import *; compare()")
