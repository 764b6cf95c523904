"""A transformer's first weights from a smaller one's: the same width, more blocks, larger patches."""

from collections.abc import Mapping

import torch
from torch import Tensor

from infinitetalk.core.configs import DiTConfig

ANSWERS = ("self_attn.o", "audio_cross_attn.proj", "ffn.2")
"""The last layers of a block's parts: zeros there make a block that adds nothing yet."""


def sources(old: int, new: int) -> list[tuple[int, bool]]:
    """For each of `new` blocks the block it begins as, of `old`, and whether it is an additional one.

    Raises:
        ValueError: fewer blocks than before.
    """
    if new < old:
        raise ValueError(f"{new} blocks cannot begin as {old}")
    taken = [index * old // new for index in range(new)]
    return [(block, index > 0 and taken[index - 1] == block) for index, block in enumerate(taken)]


def grown(
    weights: Mapping[str, Tensor], fresh: Mapping[str, Tensor], old: DiTConfig, new: DiTConfig
) -> dict[str, Tensor]:
    """Weights for `new` from those of `old`; what has no counterpart stays `fresh`.

    The head is kept only where both name the same thing.

    Raises:
        ValueError: another width, or fewer blocks.
    """
    if old.dim != new.dim:
        raise ValueError(f"a transformer of width {new.dim} cannot begin as one of width {old.dim}")
    made = dict(fresh)
    for name, value in weights.items():
        if name in fresh and fresh[name].shape == value.shape and not name.startswith(("blocks.", "head.")):
            made[name] = value
    made["patch_embedding.weight"] = _spread(weights["patch_embedding.weight"], new.patch_size)
    if old.prediction == new.prediction and old.patch_size == new.patch_size:
        made.update({name: value for name, value in weights.items() if name.startswith("head.")})
    for index, (source, added) in enumerate(sources(old.num_layers, new.num_layers)):
        for name, value in weights.items():
            start = f"blocks.{source}."
            if name.startswith(start):
                part = name.removeprefix(start)
                silent = added and part.startswith(ANSWERS)
                made[f"blocks.{index}.{part}"] = torch.zeros_like(value) if silent else value.clone()
    return made


def _spread(weight: Tensor, patch: tuple[int, int, int]) -> Tensor:
    """Patch embedding [dim, C, t, h, w] for larger patches: what each cell said, its neighbours say together."""
    times = [new // old for new, old in zip(patch, weight.shape[2:], strict=True)]
    for axis, repeats in enumerate(times):
        # Between 1/n, which keeps what smooth latents say, and 1/sqrt(n), which keeps the spread of noise.
        weight = weight.repeat_interleave(repeats, 2 + axis) * repeats**-0.75
    return weight
