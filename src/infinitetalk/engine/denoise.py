"""From conditions to a finished latent: the network's passes, their guidance and the sampler, for one window."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from infinitetalk.core.defaults import Settings
from infinitetalk.core.request import TalkRequest
from infinitetalk.diffusion.guidance import AdaptiveGuidance, Branch, branches, combine
from infinitetalk.diffusion.sampler import euler
from infinitetalk.diffusion.schedule import timesteps
from infinitetalk.models.dit import AudioDiT


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the network is told of one window."""

    condition: Tensor
    """Mask and latents of the reference picture, [20, T, h, w]."""
    motion: Tensor
    """Clean latents of the first frames, [16, t, h, w]."""
    audio: Tensor
    """Features around every frame, [people, frames, width, layers, channels]."""
    places: Tensor | None
    """Where the people are, [people + 1, h, w], if there are several."""
    prompt: Tensor | None
    """[tokens, text_dim], if the network reads."""
    negative: Tensor | None
    clip: Tensor | None
    """[1, tokens, clip_dim], if the network looks."""


def passes(request: TalkRequest, settings: Settings) -> tuple[Branch, ...]:
    """The passes of the network that each step of a job needs."""
    return branches(settings.text_scale, settings.audio_scale, reference=request.reference)


def denoise(
    dit: AudioDiT, noise: Tensor, told: Conditions, request: TalkRequest, settings: Settings
) -> Iterator[Tensor]:
    """Yields the latent [16, T, h, w] float32 after each step."""
    guide = AdaptiveGuidance(settings.text_scale, settings.audio_scale, request.apg_momentum, request.apg_threshold)
    wanted = passes(request, settings)

    def velocity(latent: Tensor, timestep: float) -> Tensor:
        answers = {branch: ask(dit, latent, timestep, told, branch) for branch in wanted}
        if request.apg:
            return guide(answers)
        return combine(answers, settings.text_scale, settings.audio_scale)

    yield from euler(velocity, noise, timesteps(settings.steps, settings.shift), told.motion)


def ask(dit: AudioDiT, latent: Tensor, timestep: float, told: Conditions, branch: Branch) -> Tensor:
    """One pass of the network: velocity [16, T, h, w] float32."""
    text = told.prompt if branch.reads else told.negative
    velocity: Tensor = dit(
        latent[None],
        torch.tensor(timestep, device=latent.device),
        condition=told.condition[None],
        audio=told.audio if branch.hears else silence(told.audio),
        masks=told.places,
        text=None if text is None else text[None],
        clip=told.clip,
    )
    return velocity[0]


def silence(audio: Tensor) -> Tensor:
    """The sound of a pass without sound: one voice of zeros, however many people talk, as the network was trained."""
    return torch.zeros_like(audio[-1:])
