"""Times the two forms of the VAE's convolution at nano's sizes: stacked frames in two dimensions, or three dimensions.

python -m benchmarks.vae_convolution [--device cuda] [--batch 24] [--frames 17]

One line for each width and form: milliseconds forward, and forward with backward.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from infinitetalk.ops.conv import conv_video_direct, conv_video_stacked

LEVELS = ((24, 128), (48, 64), (96, 32), (96, 16))
"""Channels and side of the pictures at each level of a VAE of width 24 at 128x128 pixels."""

FORMS = {"stacked": conv_video_stacked, "direct": conv_video_direct}


def milliseconds(call: Callable[[], object], device: torch.device, repeats: int = 20) -> float:
    """Mean time of a call after three warm-ups."""
    start = 0.0
    for index in range(3 + repeats):
        if index == 3:
            _wait(device)
            start = time.perf_counter()
        call()
    _wait(device)
    return (time.perf_counter() - start) / repeats * 1e3


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _learn(convolve: Callable[[Tensor, Tensor, Tensor], Tensor], x: Tensor, weight: Tensor, bias: Tensor) -> None:
    torch.autograd.backward(convolve(x, weight, bias).sum())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--frames", type=int, default=17)
    given = parser.parse_args()
    dtype = torch.bfloat16 if given.device.type == "cuda" else torch.float32
    for channels, side in LEVELS:
        x = torch.randn(given.batch, given.frames + 2, side, side, channels, device=given.device, dtype=dtype)
        weight = torch.randn(channels, channels, 3, 3, 3, device=given.device, dtype=dtype)
        bias = torch.zeros(channels, device=given.device, dtype=dtype)
        for name, convolve in FORMS.items():
            with torch.no_grad():
                forward = milliseconds(partial(convolve, x, weight, bias), given.device)
            leaves = [value.requires_grad_() for value in (x.clone(), weight.clone(), bias.clone())]
            both = milliseconds(partial(_learn, convolve, *leaves), given.device)
            sys.stdout.write(f"{channels:4d} ch {side:4d} px  {name:8s} {forward:8.2f} ms  {both:8.2f} ms\n")


if __name__ == "__main__":
    main()
