"""Weights in half precision, in files small enough to carry home one by one."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

LIMIT = 15_000_000
"""Bytes of a file, about."""


def save_parts(weights: Mapping[str, Tensor], folder: Path, name: str) -> list[Path]:
    """Writes `name-1.safetensors`, `name-2.safetensors`, … in float16, and removes older ones."""
    for old in folder.glob(f"{name}-*.safetensors"):
        old.unlink()
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for key, value in weights.items():
        half = value.detach().to("cpu", torch.float16).contiguous().clone()
        if parts[-1] and size + half.nbytes > LIMIT:
            parts.append({})
            size = 0
        parts[-1][key] = half
        size += half.nbytes
    paths = [folder / f"{name}-{number}.safetensors" for number in range(1, len(parts) + 1)]
    for path, part in zip(paths, parts, strict=True):
        save_file(part, path)
    return paths


def load_parts(folder: Path, name: str) -> dict[str, Tensor]:
    """The weights that `save_parts` wrote, in float32.

    Raises:
        FileNotFoundError: there are none.
    """
    paths = sorted(folder.glob(f"{name}-*.safetensors"))
    if not paths:
        raise FileNotFoundError(f"{folder} has no {name}-1.safetensors")
    return {key: value.float() for path in paths for key, value in load_file(path).items()}
