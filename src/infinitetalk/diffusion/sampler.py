"""Methods that follow the flow from noise to video: Euler's, and one of second order with as many passes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from infinitetalk.diffusion.schedule import STEPS_OF_TRAINING

Velocity = Callable[[Tensor, float], Tensor]
"""(latent [C, T, h, w], timestep) → guided velocity of the same shape, from video to noise."""

Scheduler = Callable[[Velocity, Tensor, Sequence[float], Tensor], Iterator[Tensor]]
"""A method: see `euler`."""


def hold(latent: Tensor, motion: Tensor) -> Tensor:
    """The latent with its first frames replaced by the known ones, [C, frames, h, w]."""
    return torch.cat([motion, latent[:, motion.shape[1] :]], dim=1)


def euler(velocity: Velocity, noise: Tensor, timesteps: Sequence[float], motion: Tensor) -> Iterator[Tensor]:
    """Yields the latent after each step, in float32; the last one is the result.

    `motion` are the clean latents of the first frames, [C, frames, h, w]: the reference picture, or what the window
    before ended with. They stay clean through all steps, which is how the network was trained.
    """
    latent = hold(noise, motion)
    for now, then in pairwise(timesteps):
        change = velocity(latent, now) * ((now - then) / STEPS_OF_TRAINING)
        latent = hold(latent - change, motion)
        yield latent


def adams_bashforth(velocity: Velocity, noise: Tensor, timesteps: Sequence[float], motion: Tensor) -> Iterator[Tensor]:
    """As `euler`, with the velocity of the step before: the line through both is followed, whatever the steps' lengths.

    The error falls with the square of the number of steps. So does that of DPM-Solver++ and UniPC, but over the
    logarithm of the signal-to-noise ratio, and there the first and the last step of this schedule have no end.
    """
    latent = hold(noise, motion)
    before: Tensor | None = None
    length_before = 0.0
    for now, then in pairwise(timesteps):
        length = (now - then) / STEPS_OF_TRAINING
        current = velocity(latent, now)
        change = current
        if before is not None:
            change = current + (current - before) * (length / (2 * length_before))
        before, length_before = current, length
        latent = hold(latent - change * length, motion)
        yield latent


def renoise(velocity: Velocity, noise: Tensor, timesteps: Sequence[float], motion: Tensor) -> Iterator[Tensor]:
    """As `euler`, but each step predicts the clean video and gives it fresh noise of the next step's level.

    For networks that were distilled to jump to the clean video from any level, as consistency models do.

    Args:
        noise: [steps, C, T, h, w]: what the first step starts from, then the fresh noise of each further one.
    """
    latent = hold(noise[0], motion)
    for step, (now, then) in enumerate(pairwise(timesteps), start=1):
        clean = latent - velocity(latent, now) * (now / STEPS_OF_TRAINING)
        level = then / STEPS_OF_TRAINING
        latent = hold((1 - level) * clean + level * noise[step] if level else clean, motion)
        yield latent


SCHEDULERS: Mapping[str, Scheduler] = {"euler": euler, "ab2": adams_bashforth}
"""All methods by the names that requests give them."""
