"""Schedule, guidance and sampler, each against the formula written another way."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from infinitetalk.diffusion.guidance import AdaptiveGuidance, Branch, branches, combine
from infinitetalk.diffusion.sampler import SCHEDULERS, Scheduler, euler, renoise
from infinitetalk.diffusion.schedule import level_timesteps, timesteps


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


class Normal:
    """Videos whose numbers are all drawn from one normal distribution: the flow is known, and no line."""

    mean, spread = 0.7, 0.4

    def place(self, noise: Tensor, level: float) -> Tensor:
        """Where a noise has come at a level from 1 to 0."""
        return (1 - level) * self.mean + math.hypot((1 - level) * self.spread, level) * noise

    def velocity(self, latent: Tensor, timestep: float) -> Tensor:
        level = timestep / 1000
        variance = ((1 - level) * self.spread) ** 2 + level**2
        growth = (level - (1 - level) * self.spread**2) / variance
        return growth * (latent - (1 - level) * self.mean) - self.mean


def _error(scheduler: Scheduler, levels: list[float]) -> float:
    flow, noise = Normal(), torch.tensor([[[[-1.3, 0.8, 2.1]]]], dtype=torch.float64)
    motion = torch.zeros(1, 0, 1, 3, dtype=torch.float64)
    *_, last = scheduler(flow.velocity, noise, levels, motion)
    return float((last - flow.place(noise, 0.0)).abs().max())


def _even(steps: int) -> list[float]:
    return [1000 * (1 - step / steps) for step in range(steps + 1)]


def _alternating(steps: int) -> list[float]:
    """Every second step three times as long as the others."""
    lengths = np.tile([1.0, 3.0], steps // 2)
    return [float(level) for level in 1000 * (1 - np.append(0, lengths.cumsum()) / lengths.sum())]


@pytest.mark.parametrize(("name", "factor"), [("euler", 2.0), ("ab2", 4.0)])
@pytest.mark.parametrize("levels", [_even, _alternating], ids=["even", "alternating"])
def test_half_the_step_is_a_half_or_a_quarter_of_the_error(name: str, factor: float, levels: Any) -> None:
    errors = [_error(SCHEDULERS[name], levels(steps)) for steps in (128, 256, 512)]
    assert [one / two for one, two in pairwise(errors)] == pytest.approx([factor] * 2, rel=0.08)


@pytest.mark.parametrize("shift", [2.0, 3.0, 7.0])
def test_orders_hold_on_shifted_schedules(shift: float) -> None:
    def levels(steps: int) -> list[float]:
        return [shift * level / (1 + (shift - 1) * level / 1000) for level in _even(steps)]

    for name, factor in (("euler", 2.0), ("ab2", 4.0)):
        coarse, fine = (_error(SCHEDULERS[name], levels(steps)) for steps in (4096, 8192))
        assert coarse / fine == pytest.approx(factor, rel=0.08)


@pytest.mark.parametrize("shift", [1.0, 2.0, 3.0, 7.0, 11.0])
def test_the_second_order_is_better_from_the_start(shift: float) -> None:
    """On the product's own schedule, whose last step is from 1 to 0 however many there are."""
    for steps in (4, 8, 10, 20, 40):
        assert _error(SCHEDULERS["ab2"], timesteps(steps, shift)) < _error(euler, timesteps(steps, shift))
    assert _error(SCHEDULERS["ab2"], timesteps(40, shift)) < 0.3 * _error(euler, timesteps(40, shift))


@pytest.mark.parametrize("scheduler", SCHEDULERS.values(), ids=SCHEDULERS)
def test_a_straight_flow_is_followed_to_its_end(scheduler: Scheduler) -> None:
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

    *_, last = steps = list(scheduler(velocity, noise, timesteps(6, 7.0), motion))
    assert len(steps) == 6
    assert torch.allclose(last, video, atol=1e-5)
    for latent in (*seen, *steps):
        assert torch.equal(latent[:, :2], motion)


@pytest.mark.parametrize("scheduler", SCHEDULERS.values(), ids=SCHEDULERS)
def test_noise_is_left_alone(scheduler: Scheduler) -> None:
    noise = torch.ones(16, 3, 2, 2)
    list(scheduler(lambda latent, _: latent, noise, timesteps(2, 1.0), torch.zeros(16, 1, 2, 2)))
    assert torch.equal(noise, torch.ones(16, 3, 2, 2))


@pytest.mark.parametrize(
    ("steps", "shift", "levels"),
    [
        (4, 1.0, [1000, 750, 500, 250, 0]),
        (2, 1.0, [1000, 500, 0]),
        (4, 5.0, [1000, 937.5, 2500 / 3, 625, 0]),
        (1, 5.0, [1000, 0]),
    ],
)
def test_level_schedule_has_equal_steps_before_the_shift(steps: int, shift: float, levels: list[float]) -> None:
    assert level_timesteps(steps, shift) == pytest.approx(levels)


def test_renoise_finds_the_clean_video_and_noises_it_to_the_next_level() -> None:
    """With a network that knows the clean video, each step's input is that video at the step's level of fresh noise."""
    generator = torch.Generator().manual_seed(0)
    clean, motion = torch.randn(16, 3, 2, 2, generator=generator), torch.randn(16, 1, 2, 2, generator=generator)
    noise = torch.randn(4, 16, 3, 2, 2, generator=generator)
    seen: list[tuple[Tensor, float]] = []

    def velocity(latent: Tensor, now: float) -> Tensor:
        seen.append((latent, now))
        return (latent - clean) / (now / 1000)

    steps = list(renoise(velocity, noise, level_timesteps(4, 5.0), motion))
    assert torch.allclose(steps[-1][:, 1:], clean[:, 1:], atol=1e-5)
    assert len(steps) == len(seen) == 4
    for (latent, now), fresh in zip(seen, noise, strict=True):
        level = now / 1000
        assert torch.allclose(latent[:, 1:], ((1 - level) * clean + level * fresh)[:, 1:], atol=1e-5)
    assert all(torch.equal(latent[:, :1], motion) for latent in (*steps, *(latent for latent, _ in seen)))
