"""Pixels to latents and back, in pieces of time so that memory stays small whatever the picture's size."""

import torch
from torch import Tensor

from infinitetalk.core.sizes import SPATIAL_STRIDE, TEMPORAL_STRIDE
from infinitetalk.models.vae import VideoVAE

_PIXELS_AT_A_TIME = 4 * 128 * 128
"""Pixels of a frame times latent frames that the VAE works on at once: more takes memory and is not faster."""


def latent_count(frames: int) -> int:
    """Whole latent frames in so many video frames, the first of which stands alone."""
    return 1 + (frames - 1) // TEMPORAL_STRIDE


def encode(vae: VideoVAE, video: Tensor) -> Tensor:
    """Video [1, 3, F, H, W] in [-1, 1] → latents [1, 16, T, h, w] float32; frames behind the last 4n+1 are not seen."""
    whole = (latent_count(video.shape[2]) - 1) * TEMPORAL_STRIDE + 1
    step = _step(video.shape[3] * video.shape[4])
    return torch.cat(list(vae.encode_stream([video[:, :, :whole]], step)), dim=2)


def decode(vae: VideoVAE, latent: Tensor) -> Tensor:
    """Latents [1, 16, T, h, w] → video [1, 3, 4 (T - 1) + 1, H, W] float32, clamped to [-1, 1]."""
    step = _step(latent.shape[3] * latent.shape[4] * SPATIAL_STRIDE**2)
    return torch.cat([video.clamp(-1, 1) for video in vae.decode_stream([latent], step)], dim=2)


def _step(pixels: int) -> int:
    """Latent frames at a time for frames of so many pixels."""
    return max(1, _PIXELS_AT_A_TIME // pixels)
