"""What a transformer's head names, and the velocity that the sampler follows."""

from collections.abc import Sequence

from torch import Tensor

from infinitetalk.core.configs import DiTConfig
from infinitetalk.core.errors import ModelError

VELOCITY = "velocity"
PREDICTIONS = (VELOCITY, "video")
NOISE_ALONE = 1000
"""The timestep at which nothing of the video is left."""
LEAST_NOISE = 0.1
"""Share of noise below which a network that names the clean video is not asked for more: velocities would explode."""


def check(config: DiTConfig) -> None:
    """Refuses a configuration that names nothing known.

    Raises:
        ModelError: a prediction other than `PREDICTIONS`.
    """
    if config.prediction not in PREDICTIONS:
        raise ModelError(f"prediction {config.prediction!r} must be one of {', '.join(PREDICTIONS)}")


def velocities(config: DiTConfig, named: Sequence[Tensor], latent: Tensor, timestep: Tensor) -> list[Tensor]:
    """What the head named [B, C, T, h, w], as velocities at noisy latents [B, C, T, h, w] and timesteps [B] or [].

    Where it named the clean video, they are those that lead there in what is left of the way.
    """
    if config.prediction == VELOCITY:
        return [*named]
    level = (timestep.to(latent.device).float() / NOISE_ALONE).clamp(min=LEAST_NOISE)
    level = level.view(-1, *(1,) * (latent.ndim - 1))
    return [(latent.float() - clean) / level for clean in named]
