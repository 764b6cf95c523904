"""Colour matching, with scikit-image as the oracle of the conversions."""

import numpy as np
import pytest
import torch
from skimage import color as oracle

from infinitetalk.media.color import STEADY, lab_to_rgb, light_stays, match_colors, rgb_to_lab


def _frames(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_lab_equals_scikit_image() -> None:
    rgb = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(1))
    rgb[:, :2] *= 0.01  # the linear part of both curves
    expected = oracle.rgb2lab(rgb.permute(1, 2, 0).double().numpy())
    lab = rgb_to_lab(rgb)
    assert np.abs(lab.permute(1, 2, 0).numpy() - expected).max() < 1e-3
    assert (lab_to_rgb(lab) - rgb).abs().max() < 1e-5


def test_colours_outside_the_gamut_are_clamped_as_in_scikit_image() -> None:
    lab = torch.tensor([50.0, 90.0, -100.0]).view(3, 1, 1) * torch.linspace(0.5, 2, 6).view(1, 1, 6)
    expected = oracle.lab2rgb(lab.permute(1, 2, 0).double().numpy())
    assert np.abs(lab_to_rgb(lab).permute(1, 2, 0).numpy() - expected).max() < 1e-5


def test_matched_frames_have_the_reference_statistics() -> None:
    video = _frames(3, 4, 16, 24) * 0.1 - 0.4
    reference = _frames(3, 1, 20, 30, seed=3) * 0.1
    matched = rgb_to_lab((match_colors(video, reference) + 1) / 2)
    wanted = rgb_to_lab((reference + 1) / 2)
    assert torch.allclose(matched.mean((-1, -2)), wanted.mean((-1, -2)).expand(3, 4), atol=0.05)
    assert torch.allclose(matched.std((-1, -2)), wanted.std((-1, -2)).expand(3, 4), rtol=0.01)


@pytest.mark.parametrize("frames", [1, 8, 19])
def test_each_frame_is_matched_by_itself(frames: int) -> None:
    video, reference = _frames(3, frames, 8, 8), _frames(3, 1, 8, 8, seed=5)
    together = match_colors(video, reference, 0.7)
    for index in range(frames):
        assert torch.allclose(together[:, [index]], match_colors(video[:, [index]], reference, 0.7), atol=1e-6)


def test_strength_blends_and_zero_leaves_alone() -> None:
    video, reference = _frames(3, 2, 8, 8), _frames(3, 1, 8, 8, seed=7)
    assert match_colors(video, reference, 0.0) is video
    half = match_colors(video, reference, 0.5)
    assert torch.allclose(half, (video + match_colors(video, reference, 1.0)) / 2, atol=1e-6)


def test_flat_grey_frames_take_the_reference_mean_without_noise() -> None:
    reference = _frames(3, 1, 8, 8, seed=9) * 0.3
    matched = match_colors(torch.zeros(3, 2, 8, 8), reference)
    assert matched.std((-1, -2)).max() < 1e-5
    assert torch.isfinite(matched).all()


@pytest.mark.parametrize(("shades", "stays"), [(0.8, True), (1.25, False)])
def test_light_stays_up_to_a_bound(shades: float, stays: bool) -> None:
    """Greys around half the range: a shade of 255 is 0.39 of L*."""
    video = torch.zeros(3, 5, 16, 16)
    video[:, 3] += shades * STEADY / 0.39 * 2 / 255
    assert light_stays(video) is stays
    assert light_stays(video[:, :3])
    assert light_stays(video[:, 3:4])


def test_noise_and_what_moves_are_no_change_of_light() -> None:
    wall = _frames(3, 1, 64, 64, seed=2) * 0.4
    video = torch.cat([wall.roll(step, -1) + 0.05 * _frames(3, 1, 64, 64, seed=step) for step in range(6)], dim=1)
    assert light_stays(video)
