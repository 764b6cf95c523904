"""Seeded noise, and networks in which every weight matters."""

from typing import TypeVar

import torch
from torch import Tensor

from infinitetalk.models.dit import AudioDiT
from infinitetalk.models.vae import VideoVAE

N = TypeVar("N", AudioDiT, VideoVAE)


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def shaken(net: N, seed: int = 0) -> N:
    """The network with weights of which nothing is zero or one."""
    generator = torch.Generator().manual_seed(seed)
    net.init_weights(generator)
    with torch.no_grad():
        for value in net.parameters():
            value.add_(torch.randn(value.shape, generator=generator), alpha=0.1)
    return net.eval()
