"""Parts of `benchmarks.speed` that ask the VAE."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.speed_network import Bench, _filled, kernels_of
from infinitetalk.core.configs import VAEConfig
from infinitetalk.core.memory import MemorySettings
from infinitetalk.engine import codec
from infinitetalk.models.vae import VideoVAE
from infinitetalk.ops.conv import conv_laid, conv_video_direct, conv_video_stacked
from infinitetalk.ops.pixels import Pixels
from infinitetalk.runtime.regions import choose_pixels

LEVELS = ((384, 384, 80, 21), (384, 384, 160, 42), (192, 192, 320, 84), (96, 96, 640, 84), (128, 128, 640, 84))
"""Channels before and behind, side of the pictures, frames: the convolutions of a window at each level."""

CONVOLUTIONS: dict[str, Callable[..., Tensor]] = {
    "direct": conv_video_direct,
    "stacked": conv_video_stacked,
    "laid": conv_laid,
}

TINY = VAEConfig(dim=8, num_res_blocks=1)


def make(bench: Bench, dtype: torch.dtype) -> VideoVAE:
    """The VAE with random weights, the same in every number format."""
    if "vae" not in bench.kept:
        with torch.device("meta"):
            hollow = VideoVAE(TINY if bench.tiny else VAEConfig())
        made = _filled(hollow, bench, 3).float()
        for module in made.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                module.weight.mul_(1.4)
        bench.kept["vae"] = made
    vae = bench.kept["vae"]
    assert isinstance(vae, VideoVAE)
    vae.compute_by(choose_pixels(bench.device, MemorySettings()) if dtype == bench.device.dtype else Pixels())
    return vae.to(dtype)


def _relative(found: Tensor, truth: Tensor) -> float:
    return float((found.float() - truth.float()).norm() / truth.float().norm())


def vae(bench: Bench) -> dict[str, Any]:
    """Decoding a window, encoding what a window is told, in the format the networks compute in; and the error."""
    dtype = bench.device.dtype
    generator = torch.Generator(bench.where).manual_seed(5)
    latent = torch.randn(1, 16, *bench.size, device=bench.where, generator=generator)
    side = (bench.pixels.height, bench.pixels.width)
    motion = torch.randn(1, 3, 9, *side, device=bench.where, generator=generator).clamp(-1, 1)
    key = torch.zeros(1, 3, bench.frames, *side, device=bench.where)
    key[:, :, :1] = motion[:, :, :1]
    net = make(bench, torch.float32)
    bench.peak()
    torch.backends.cudnn.allow_tf32 = False
    truth, encoded = codec.decode(net, latent), codec.encode(net, motion)
    torch.backends.cudnn.allow_tf32 = True
    found: dict[str, Any] = {"decode, tf32": bench.seconds(lambda: codec.decode(net, latent), 1) | bench.peak()}
    net = make(bench, dtype)
    row = bench.seconds(lambda: codec.decode(net, latent)) | bench.peak()
    found["decode"] = row | {"error": _relative(codec.decode(net, latent), truth)}
    row = bench.seconds(lambda: codec.encode(net, motion)) | bench.peak()
    found["encode motion frames"] = row | {"error": _relative(codec.encode(net, motion), encoded)}
    found["encode a key frame"] = bench.seconds(lambda: codec.encode(net, key), 2) | bench.peak()
    found["profile_decode"] = kernels_of(lambda: codec.decode(net, latent), bench, 20)
    return found


def sizes(bench: Bench) -> dict[str, Any]:
    """Decoding a window, some latent frames at a time."""
    net, generator = make(bench, bench.device.dtype), torch.Generator(bench.where).manual_seed(5)
    latent = torch.randn(1, 16, *bench.size, device=bench.where, generator=generator)
    found: dict[str, Any] = {}
    for step in (1, 2, 4, 21):
        try:
            row = bench.seconds(partial(_decode, net, latent, step), 2) | bench.peak()
        except RuntimeError as error:  # too little memory, too
            row = {"failed": str(error).partition("\n")[0]}
        found[f"{step} at a time"] = row
    return found


def _decode(net: VideoVAE, latent: Tensor, step: int) -> list[Tensor]:
    return list(net.decode_stream([latent], step))


def convolutions(bench: Bench) -> dict[str, Any]:
    """The forms of a convolution over time and space at each level, some frames at a time.

    Stacked with the copies that stacking takes, and laid, where the frames already lie side by side.
    """
    found: dict[str, Any] = {}
    for inner, outer, side, frames in ((8, 8, 16, 8),) if bench.tiny else LEVELS:
        for parts in (21, 10, 5, 2, 1):
            count = max(1, frames // parts)
            x = torch.randn(1, count + 2, side, side, inner, device=bench.where, dtype=bench.device.dtype)
            weight = torch.randn(outer, inner, 3, 3, 3, device=bench.where, dtype=bench.device.dtype)
            work = 2.0 * 27 * inner * outer * side * side * count
            for benchmark in (False, True):
                torch.backends.cudnn.benchmark = benchmark
                for form, convolve in CONVOLUTIONS.items():
                    name = f"{inner}x{side}x{side}, {count} frames, {form}, {'tuned' if benchmark else 'plain'}"
                    try:
                        given = x[:, :count].repeat(1, 1, 1, 1, 3) if form == "laid" else x
                        spent = bench.seconds(partial(convolve, given, weight, None), 5)["seconds"]
                    except RuntimeError as error:
                        found[name] = {"failed": str(error).partition("\n")[0]}
                        continue
                    found[name] = {"ms": spent * 1e3, "tflops": work / spent / 1e12}
            torch.backends.cudnn.benchmark = False
    return found
