"""Weights and inputs of SyncNet that depend on a seed alone."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.conftest import golden_normal

FRAMES = 12


def state(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights by the names of the authors' file."""
    found: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        values = golden_normal(name, shape, 8) if shape else torch.tensor(0)
        if name.endswith("running_var"):
            values = values.abs() + 0.5
        elif name.endswith("weight") and len(shape) > 1:
            values = values * float(1.4 / np.sqrt(np.prod(shape[1:])))
        elif shape:
            values = 0.1 * values + (1.0 if name.endswith("weight") else 0.0)
        found[name] = values
    return found


def faces() -> Tensor:
    """Frames [12, 3, 224, 224] from 0 to 255."""
    coarse = torch.from_numpy(np.random.default_rng(5).uniform(0, 255, (FRAMES, 3, 14, 14)).astype(np.float32))
    return torch.nn.functional.interpolate(coarse, size=(224, 224), mode="nearest").round()


def sound() -> NDArray[np.int16]:
    """A sound under them, at 16 kHz."""
    time = np.arange(FRAMES * 640) / 16_000
    rng = np.random.default_rng(6)
    tones = sum(np.sin(2 * np.pi * (200 + 900 * k) * time * (1 + 0.1 * np.sin(9 * time))) / (k + 1) for k in range(5))
    return np.asarray(4000 * tones * (0.3 + np.abs(np.sin(13 * time))) + 40 * rng.normal(size=len(time)), np.int16)
