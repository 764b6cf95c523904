"""A first look at what the transformer makes, sampled with the product's own schedule and sampler."""

import json
from pathlib import Path

import torch
from torch import Tensor

from infinitetalk.core.configs import VAEConfig
from infinitetalk.diffusion.sampler import euler
from infinitetalk.diffusion.schedule import timesteps
from infinitetalk.models.dit import AudioDiT
from infinitetalk.models.vae import VideoVAE
from training.nano.latents import ClipLatents, condition
from training.nano.pixels import to_bytes, to_video
from training.nano.settings import MOTION, WINDOW
from training.nano.train_vae import half
from training.nano.voices import VoiceBank
from training.parts import load_parts
from training.sheets import save_rows

STEPS, SHIFT, AUDIO_SCALE = 10, 3.0, 2.0


def load_vae(folder: Path, device: torch.device) -> VideoVAE:
    """The VAE that `train_vae` wrote."""
    config = VAEConfig.read(json.loads((folder / "vae_config.json").read_text()))
    vae = VideoVAE(config).to(device)
    vae.load_state_dict(load_parts(folder, "vae"))
    return vae.requires_grad_(False)


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
    shape = told[:, 4:].shape
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(told.device)
    device = told.device

    def velocity(latents: Tensor, timestep: float) -> Tensor:
        time = torch.full((len(told),), timestep, device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            heard, silent = (dit(latents.view(shape), time, condition=told, audio=sound, masks=masks)
                             for sound in (audio, torch.zeros_like(audio)))  # fmt: skip
        guided: Tensor = silent + audio_scale * (heard - silent)
        return guided.flatten(0, 1)

    # The sampler knows one video of many channels: the samples lie side by side there.
    *_, last = euler(velocity, noise.flatten(0, 1), timesteps(steps, shift), motion.float().flatten(0, 1))
    return last.view(shape)


@torch.no_grad()
def decode(vae: VideoVAE, latents: Tensor) -> Tensor:
    """Latents (B, 16, T, h, w) → bytes (B, F, 128, 128, 3)."""
    made = []
    for part in latents.split(2):
        with half(latents.device):
            made.append(to_bytes(vae.decode(part.float())))
    return torch.cat(made)


@torch.no_grad()
def talk(dit: AudioDiT, vae: VideoVAE, clips: ClipLatents, voices: VoiceBank, windows: int = 2) -> Tensor:
    """Videos (n, F, 128, 128, 3) of so many windows, each going on from the one before as in the engine."""
    told = condition(clips.own.float())
    motion, video = clips.video[:, :, :1].float(), torch.empty(0)
    for window in range(windows):
        start = clips.start[:, :1] + window * (WINDOW - MOTION)
        audio = voices.windows(clips.utterance[:, :1], start, WINDOW)
        made = decode(vae, sample(dit, told, audio, motion, seed=window))
        video = made if not window else torch.cat([video, made[:, MOTION:]], dim=1)
        with half(made.device):
            motion = vae.encode(to_video(video[:, -MOTION:])).float()
    return video


def preview(dit: AudioDiT, vae: VideoVAE, clips: ClipLatents, voices: VoiceBank, path: Path) -> None:
    """Writes two windows of 16 held-out faces, every tenth frame, below the true video of the first window."""
    some = clips.part(clips.of_people(1)[:16])
    truth = decode(vae, some.video)
    dit.eval()
    made = talk(dit, vae, some, voices)
    shown = list(range(0, made.shape[1], 10))
    blank = torch.zeros_like(made[0])
    blank_rows = [torch.cat([clip, blank[WINDOW:]])[shown] for clip in truth]
    save_rows(path, [row for pair in zip(blank_rows, (clip[shown] for clip in made), strict=True) for row in pair], 80)
