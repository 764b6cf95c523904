"""Euler's method along the flow from noise to video."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from infinitetalk.diffusion.schedule import STEPS_OF_TRAINING

Velocity = Callable[[Tensor, float], Tensor]
"""(latent [C, T, h, w], timestep) → guided velocity of the same shape, from video to noise."""


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
