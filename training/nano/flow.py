"""Flow matching as the engine samples: which latents a batch holds, what the network is told, and what it must answer.

Latents run from video (0) to noise (1): x = (1 - s)·video + s·noise at timestep 1000·s, and the answer is the velocity
noise - video, as `diffusion.sampler.euler` follows it. The first latents (the reference picture, or the frames that the
window before ended with) stay clean in the input and out of the loss.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from infinitetalk.diffusion.schedule import STEPS_OF_TRAINING
from training.nano.latents import ClipLatents, condition
from training.nano.voices import VoiceBank

TRAINING_SHIFT = 2.4
NOISY_MOTION = 0.1
"""Largest noise on the motion latents of continued windows, relative to their spread."""
WORN_SHARE = 0.85
"""Share of continued windows of worn clips that go on from the worn beginning."""
FIRST_SHARE = 0.4
"""Share of windows that begin a video."""
MOTION_LATENTS = (3, 3, 3, 3, 3, 1, 2, 4, 5, 7)
"""How many motion latents continued windows keep, drawn evenly: mostly those of nine frames."""
FACE, MOUTH, EYES = 1.0, 4.0, 2.5
"""Additional weight of the cells that show these."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one training step needs; B samples of P people and T latent frames."""

    noisy: Tensor
    """(B, 16, T, h, w) network input, motion latents clean"""
    timestep: Tensor
    """(B,) 0 to 1000"""
    condition: Tensor
    """(B, 20, T, h, w)"""
    audio: Tensor
    """(B, P, F, window, layers, channels)"""
    masks: Tensor | None
    """(B, P + 1, h, w), None for one person"""
    target: Tensor
    """(B, 16, T, h, w) velocity"""
    weight: Tensor
    """(B, 1, T, h, w), zero where latents are clean"""


@dataclass(frozen=True, slots=True)
class Kind:
    """The shape of a batch."""

    people: int
    latents: int
    batch: int
    chained: bool = False
    """Whether it goes on from what the network made, see `training.nano.chains`."""

    def times(self, factor: float) -> "Kind":
        """The same in batches so many times as large."""
        return replace(self, batch=max(1, round(self.batch * factor)))


def noise_levels(count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Noise shares in (0, 1): evenly spread draws, half of them drawn to the middle, shifted to strong noise."""
    even = torch.rand(count, generator=generator, device=device)
    middle = torch.randn(count, generator=generator, device=device).sigmoid()
    share = torch.where(torch.rand(count, generator=generator, device=device) < 0.5, even, middle)
    return TRAINING_SHIFT * share / (1 + (TRAINING_SHIFT - 1) * share)


Levels = Callable[[int, torch.Generator, torch.device], Tensor]
"""Draws so many shares of noise."""
Remake = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Makes worn beginnings (B, 16, t, h, w) anew as the network itself would have made them, given condition and audio."""


def draw(
    kind: Kind, clips: ClipLatents, voices: VoiceBank, generator: torch.Generator, *, dice: torch.Generator,
    dropout: float = 0.12, levels: Levels = noise_levels, remake: Remake | None = None,
) -> Batch:  # fmt: skip
    """A random training batch of one kind, as noisy as `levels` says. One person's worn beginnings go through `remake`.

    Several people fall silent all at once: the engine hears nobody as one.
    """
    chosen = clips.of_people(kind.people)
    device = clips.video.device
    index = chosen[torch.randint(len(chosen), (kind.batch,), generator=generator, device=device)]
    if kind.people == 1:
        return assemble(index, kind, clips, voices, generator, dropout=dropout, levels=levels, remake=remake)
    silent = float(torch.rand((), generator=dice)) < dropout
    kind = replace(kind, people=1) if silent else kind
    return assemble(index, kind, clips, voices, generator, dropout=float(silent), levels=levels)


def assemble(
    index: Tensor, kind: Kind, clips: ClipLatents, voices: VoiceBank, generator: torch.Generator, *, dropout: float,
    levels: Levels = noise_levels, remake: Remake | None = None,
) -> Batch:  # fmt: skip
    """The batch of these clips at random noise, with a random share of them continued windows."""
    device, count, length = clips.video.device, len(index), kind.latents
    video = clips.video[index, :, :length].float()
    first = torch.rand(count, generator=generator, device=device) < FIRST_SHARE
    kept = _kept(first, length, generator)
    level = levels(count, generator, device).view(-1, 1, 1, 1, 1)
    noise = torch.randn(video.shape, generator=generator, device=device)
    picture = torch.where(first.view(-1, 1, 1, 1, 1), clips.own[index, :, :length], clips.other[index, :, :length])
    told = condition(picture.float(), clips.strength[index])
    people = slice(kind.people)
    speaking = voices.windows(clips.utterance[index, people], clips.start[index, people], 4 * length - 3, generator)
    rough = clips.rough[index].float()
    if remake is not None and (short := rough.shape[2]) <= length:
        rough = remake(rough, told[:, :, :short], speaking[:, :, : 4 * short - 3])
    motion = _motion(video, rough, clips.worn[index] & ~first, generator)
    noisy = torch.where(kept, motion, (1 - level) * video + level * noise)
    heard = torch.rand(count, generator=generator, device=device) >= dropout
    weight = (~kept).float() * emphasis(clips, index)
    batch = Batch(
        noisy=noisy,
        timestep=level.flatten() * STEPS_OF_TRAINING,
        condition=told,
        audio=speaking * heard.view(-1, 1, 1, 1, 1, 1),
        masks=clips.masks(index, kind.people, generator) if kind.people > 1 else None,
        target=noise - video,
        weight=weight,
    )
    return _shuffle_people(batch, generator) if kind.people > 1 else batch


def emphasis(clips: ClipLatents, index: Tensor) -> Tensor:
    """How much each cell of these clips counts: (B, 1, 1, h, w)."""
    return clips.weights(index, FACE, MOUTH, EYES)[:, None, None]


def loss(velocity: Tensor, batch: Batch) -> Tensor:
    """Weighted mean squared error of the velocity."""
    error = (velocity.float() - batch.target).square().mean(dim=1, keepdim=True)
    return (error * batch.weight).sum() / batch.weight.sum()


def _kept(first: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """Which latents stay clean: (B, 1, T, 1, 1) booleans; at least one latent is left to make."""
    choices = torch.tensor(MOTION_LATENTS, device=first.device)
    drawn = choices[torch.randint(len(choices), first.shape, generator=generator, device=first.device)]
    count = torch.where(first, 1, drawn).clamp(max=length - 1)
    return (torch.arange(length, device=first.device) < count[:, None]).view(len(first), 1, length, 1, 1)


def _motion(video: Tensor, rough: Tensor, worn: Tensor, generator: torch.Generator) -> Tensor:
    """Latents that the clean places show: the truth, or for most of the worn clips (B,) something a little worse.

    The window before was made by the network, so its frames are not as good as pictures. Training on worn ones keeps
    errors from growing from window to window.
    """
    device, count = video.device, len(video)
    worse = video.clone()
    shared = min(rough.shape[2], video.shape[2])
    worse[:, :, :shared] = rough[:, :, :shared]
    spread = NOISY_MOTION * torch.rand(count, 1, 1, 1, 1, generator=generator, device=device)
    worse = worse + spread * torch.randn(video.shape, generator=generator, device=device)
    use = worn & (torch.rand(count, generator=generator, device=device) < WORN_SHARE)
    return torch.where(use.view(-1, 1, 1, 1, 1), worse, video)


def _shuffle_people(batch: Batch, generator: torch.Generator) -> Batch:
    """Lets any voice come first: the user's order of voices need not be left to right."""
    if batch.masks is None:
        return batch
    people = batch.audio.shape[1]
    order = torch.rand(len(batch.audio), people, generator=generator, device=batch.audio.device).argsort(dim=1)
    rows = torch.arange(len(order), device=order.device)[:, None]
    with_background = torch.cat([order, torch.full_like(order[:, :1], people)], dim=1)
    return Batch(
        batch.noisy, batch.timestep, batch.condition, batch.audio[rows, order], batch.masks[rows, with_background],
        batch.target, batch.weight,
    )  # fmt: skip
