"""Random weights and inputs that are the same in every process of a machine, whoever's network takes them.

Each tensor has a random sequence of its own, named by its checkpoint's name: so two implementations that never met in
one process can be compared, on weights that no disk has to hold.
"""

import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from infinitetalk.bench.task import WORDS, Task, network_of

M = TypeVar("M", bound=nn.Module)

GAIN = 0.8
"""What a matrix makes of the size of its inputs."""


def draw(name: str, shape: Iterable[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Normal numbers of a name's own: for one kind of device always the same."""
    generator = torch.Generator(device).manual_seed(zlib.crc32(name.encode()))
    return torch.empty(tuple(shape), dtype=dtype, device=device).normal_(generator=generator)


def weight(name: str, shape: Iterable[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A network's weight: gains near 1, small biases, matrices that keep the size of a signal."""
    values = draw(name, shape, dtype, device)
    if values.ndim == 1 or name.endswith("gamma"):
        return values.mul_(0.05) if name.endswith("bias") else values.mul_(0.1).add_(1.0)
    return values.mul_(GAIN * (values.numel() / values.shape[0]) ** -0.5)


def hollow(make: Callable[[], M]) -> M:
    """A network without memory: its shapes alone."""
    with torch.device("meta"):
        return make()


def fill(net: M, dtype: torch.dtype, device: torch.device, prefix: str = "") -> M:
    """Gives a hollow network weights by the names of its parameters, behind the name of what it is a part of."""
    for name, parameter in list(net.named_parameters()):
        owner, _, own = name.rpartition(".")
        made = nn.Parameter(weight(prefix + name, parameter.shape, dtype, device), requires_grad=False)
        net.get_submodule(owner).register_parameter(own, made)
    return net.eval()


def inputs(task: Task, dtype: torch.dtype, device: torch.device) -> Mapping[str, Tensor]:
    """What a network is asked about one window, under our names, batch 1; drawn on the CPU, so the same everywhere.

    Returns:
        latent and condition float32 [1, 16 or 20, T, h, w]; audio [1, F, window, blocks, channels],
        text [1, words, text_dim] and clip [1, tokens, clip_dim] in `dtype`.
    """
    config, size = network_of(task), task.latents

    def normal(name: str, *shape: int) -> Tensor:
        return draw(name, shape, torch.float32, torch.device("cpu")).to(device)

    return {
        "latent": normal("latent", 1, config.out_dim, *size),
        "condition": normal("condition", 1, config.in_dim - config.out_dim, *size),
        "audio": normal("audio", 1, task.frames, config.audio_window, config.audio_blocks, config.audio_channels).to(
            dtype
        ),
        "text": normal("text", 1, WORDS, config.text_dim).to(dtype),
        "clip": normal("clip", 1, config.clip_tokens, config.clip_dim).to(dtype),
    }
