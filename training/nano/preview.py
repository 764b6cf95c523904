"""A first look at what the transformer makes, sampled with the product's own schedule and sampler."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from infinitetalk.diffusion.sampler import euler
from infinitetalk.diffusion.schedule import timesteps
from infinitetalk.models.dit import AudioDiT
from infinitetalk.models.vae import VideoVAE
from training.nano.latents import CELL, ClipLatents, condition
from training.nano.pixels import to_bytes, to_video
from training.nano.settings import EDITIONS, MOTION, WINDOW, Edition
from training.nano.store import SIZE
from training.nano.train_vae import half, written_config
from training.nano.voices import VoiceBank
from training.parts import load_parts
from training.sheets import save_rows

FIRST = EDITIONS["1"]
STEPS, SHIFT, AUDIO_SCALE = FIRST.steps, FIRST.shift, FIRST.audio_scale


def load_vae(folder: Path, device: torch.device) -> VideoVAE:
    """The VAE that `train_vae` wrote."""
    vae = VideoVAE(written_config(folder)).to(device)
    vae.load_state_dict(load_parts(folder, "vae"))
    return vae.requires_grad_(False)


@dataclass(frozen=True, slots=True)
class Told:
    """What the network is told beside noisy latents."""

    condition: Tensor
    """(B, 20, T, h, w)"""
    audio: Tensor
    """(B, P, F, window, layers, channels)"""
    masks: Tensor | None = None
    """(B, P + 1, h, w) for several people"""


def guided(dit: AudioDiT, latents: Tensor, time: Tensor, told: Told, scale: float) -> Tensor:
    """The velocity under guidance by the sound; a scale of 1 needs one pass and not two."""
    heard: Tensor = dit(latents, time, condition=told.condition, audio=told.audio, masks=told.masks)
    if scale == 1:
        return heard
    mute = torch.zeros_like(told.audio)
    silent: Tensor = dit(latents, time, condition=told.condition, audio=mute, masks=told.masks)
    return silent + scale * (heard - silent)


@torch.no_grad()
def sample(
    dit: AudioDiT, told: Tensor, audio: Tensor, motion: Tensor, *, masks: Tensor | None = None, steps: int = STEPS,
    shift: float = SHIFT, audio_scale: float = AUDIO_SCALE, seed: int = 0,
) -> Tensor:  # fmt: skip
    """Latents (B, 16, T, h, w) of one window, all samples at once, by the engine's own sampler.

    Args:
        told: (B, 20, T, h, w) condition.
        audio: (B, P, F, window, layers, channels).
        motion: (B, 16, t, h, w) clean latents of the first frames.
    """
    noise = torch.randn(told[:, 4:].shape, generator=torch.Generator().manual_seed(seed)).to(told.device)
    times = timesteps(steps, shift)
    return follow(dit, Told(told, audio, masks), noise, times, motion.float(), audio_scale=audio_scale)


@torch.no_grad()
def follow(
    dit: AudioDiT, told: Told, start: Tensor, times: Sequence[float], motion: Tensor, *, audio_scale: float = 1.0
) -> Tensor:
    """Where noisy latents (B, 16, T, h, w) get by the engine's own sampler through timesteps that fall.

    Args:
        motion: (B, 16, t, h, w) clean latents of the first frames.
    """
    shape, device = start.shape, start.device

    def velocity(latents: Tensor, timestep: float) -> Tensor:
        time = torch.full((len(start),), timestep, device=device)
        # Without the cache of cast weights: training changes them.
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda", cache_enabled=False):
            return guided(dit, latents.view(shape), time, told, audio_scale).flatten(0, 1)

    # The sampler knows one video of many channels: the samples lie side by side there.
    *_, last = euler(velocity, start.flatten(0, 1), times, motion.flatten(0, 1))
    return last.view(shape)


@torch.no_grad()
def decode(vae: VideoVAE, latents: Tensor) -> Tensor:
    """Latents (B, 16, T, h, w) → bytes (B, F, 8 h, 8 w, 3)."""
    made = []
    for part in latents.split(2 if latents.shape[-1] <= SIZE // CELL else 1):
        with half(latents.device):
            made.append(to_bytes(vae.decode(part.float())))
    return torch.cat(made)


@torch.no_grad()
def talk(
    dit: AudioDiT, vae: VideoVAE, clips: ClipLatents, voices: VoiceBank, windows: int = 2, *, manner: Edition = FIRST
) -> Tensor:
    """Videos (n, F, size, size, 3) of so many windows, each going on from the one before as in the engine."""
    told = condition(clips.own.float(), clips.strength)
    motion, video = clips.video[:, :, :1].float(), torch.empty(0)
    for window in range(windows):
        start = clips.start[:, :1] + window * (WINDOW - MOTION)
        audio = voices.windows(clips.utterance[:, :1], start, WINDOW)
        made = decode(
            vae, sample(dit, told, audio, motion, seed=window, steps=manner.steps,
                                  shift=manner.shift, audio_scale=manner.audio_scale))  # fmt: skip
        video = made if not window else torch.cat([video, made[:, MOTION:]], dim=1)
        with half(made.device):
            motion = vae.encode(to_video(video[:, -MOTION:])).float()
    return video


def preview(
    dit: AudioDiT, vae: VideoVAE, clips: ClipLatents, voices: VoiceBank, path: Path, *, manner: Edition = FIRST
) -> None:
    """Writes two windows of held-out faces, frame by frame with gaps, below the true video of the first window."""
    large = clips.video.shape[-1] > SIZE // CELL
    some = clips.part(clips.of_people(1)[: 8 if large else 16])
    truth = decode(vae, some.video)
    dit.eval()
    made = talk(dit, vae, some, voices, manner=manner)
    shown = list(range(0, made.shape[1], 20 if large else 10))
    blank = torch.zeros_like(made[0])
    blank_rows = [torch.cat([clip, blank[WINDOW:]])[shown] for clip in truth]
    save_rows(path, [row for pair in zip(blank_rows, (clip[shown] for clip in made), strict=True) for row in pair], 80)
