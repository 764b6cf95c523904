"""Schedule, guidance and sampler, each against the formula written another way."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from infinitetalk.diffusion.guidance import AdaptiveGuidance, Branch, branches, combine
from infinitetalk.diffusion.sampler import euler
from infinitetalk.diffusion.schedule import timesteps


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8, 40, 100])
@pytest.mark.parametrize("shift", [0.5, 1.0, 2.0, 7.0, 11.0])
def test_schedule_is_the_shifted_line(steps: int, shift: float) -> None:
    levels = timesteps(steps, shift)
    even = np.append(np.linspace(1000, 1, steps) / 1000, 0)
    expected = 1000 * shift * even / (1 + (shift - 1) * even)
    assert np.allclose(levels, expected, rtol=1e-6)
    assert len(levels) == steps + 1
    assert (levels[0], levels[-1]) == (1000, 0)
    assert all(first > second for first, second in pairwise(levels))
    assert levels == np.array(levels, dtype=np.float32).tolist()


@pytest.mark.parametrize(
    ("scales", "ours", "reference"),
    [
        ((5, 4), (Branch.FULL, Branch.NO_TEXT, Branch.NEITHER), (Branch.FULL, Branch.NO_TEXT, Branch.NEITHER)),
        ((1, 2), (Branch.FULL, Branch.NO_AUDIO), (Branch.FULL, Branch.NO_AUDIO)),
        ((5, 1), (Branch.FULL, Branch.NO_TEXT), (Branch.FULL, Branch.NO_TEXT, Branch.NEITHER)),
        ((1, 1), (Branch.FULL,), (Branch.FULL, Branch.NO_AUDIO)),
        ((1 + 1e-12, 1), (Branch.FULL,), (Branch.FULL, Branch.NO_AUDIO)),
    ],
)
def test_branches(scales: tuple[float, float], ours: tuple[Branch, ...], reference: tuple[Branch, ...]) -> None:
    assert branches(*scales) == ours
    assert branches(*scales, reference=True) == reference


def _answers() -> dict[Branch, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {branch: torch.randn(16, 3, 4, 4, generator=generator) for branch in Branch}


@pytest.mark.parametrize(("text", "audio"), [(5.0, 4.0), (1.0, 2.0), (3.0, 1.0), (1.0, 1.0), (0.0, 3.0)])
def test_all_passes_follow_one_formula(text: float, audio: float) -> None:
    """With the pass without sound standing for the sound's effect where text is not guided."""
    answers = _answers()
    asked = {branch: answers[branch] for branch in branches(text, audio)}
    full, no_text, no_audio, neither = (answers[branch] for branch in Branch)
    expected = neither + text * (full - no_text) + audio * (no_text - neither)
    if text == 1:
        expected = no_audio + audio * (full - no_audio)
    assert torch.allclose(combine(asked, text, audio), expected, atol=1e-5)


def test_adaptive_steps_are_orthogonal_limited_and_remembered() -> None:
    answers = _answers()
    del answers[Branch.NO_AUDIO]
    full = answers[Branch.FULL]
    guide = AdaptiveGuidance(2.0, 1.0, momentum=-0.5, threshold=1.0)
    first = guide(answers) - full
    assert abs(float((first * full).sum())) < 1e-3 * float(full.norm())
    assert float(first.norm()) <= 1.0 + 1e-5
    second = guide(answers) - full
    assert torch.allclose(second, first, atol=1e-6)  # half the difference, limited again
    free = AdaptiveGuidance(2.0, 1.0, momentum=-0.5, threshold=0.0)
    one, two = free(answers) - full, free(answers) - full
    assert torch.allclose(two, one * 0.5, atol=1e-4)


def test_adaptive_guidance_without_scales_is_the_full_answer() -> None:
    answers = _answers()
    assert torch.equal(AdaptiveGuidance(1.0, 1.0)({Branch.FULL: answers[Branch.FULL]}), answers[Branch.FULL])


def test_a_straight_flow_is_followed_to_its_end() -> None:
    """If the velocity always points from the video to the noise, any number of steps arrives exactly."""
    generator = torch.Generator().manual_seed(0)
    video, noise = torch.randn(2, 16, 5, 4, 4, generator=generator)
    motion = video[:, :2]
    seen: list[Tensor] = []

    def velocity(latent: Tensor, timestep: float) -> Tensor:
        seen.append(latent)
        assert 0 < timestep <= 1000
        straight: Tensor = noise - video
        return straight

    *_, last = steps = list(euler(velocity, noise, timesteps(6, 7.0), motion))
    assert len(steps) == 6
    assert torch.allclose(last, video, atol=1e-5)
    for latent in (*seen, *steps):
        assert torch.equal(latent[:, :2], motion)


def test_noise_is_left_alone() -> None:
    noise = torch.ones(16, 3, 2, 2)
    list(euler(lambda latent, _: latent, noise, timesteps(2, 1.0), torch.zeros(16, 1, 2, 2)))
    assert torch.equal(noise, torch.ones(16, 3, 2, 2))
