"""Random numbers for a batch of sounds, all from one generator on the sounds' device."""

from __future__ import annotations

import torch
from torch import Tensor

RATE = 16_000


class Dice:
    """Random numbers for one batch, shaped [B, 1] unless said otherwise."""

    def __init__(self, batch: int, generator: torch.Generator) -> None:
        self.batch = batch
        self.generator = generator
        self.device = generator.device

    def uniform(self, low: float, high: float, columns: int = 1) -> Tensor:
        """[B, columns] between ``low`` and ``high``."""
        return low + (high - low) * torch.rand(self.batch, columns, device=self.device, generator=self.generator)

    def normal(self, columns: int) -> Tensor:
        """[B, columns] standard normal."""
        return torch.randn(self.batch, columns, device=self.device, generator=self.generator)

    def normal_like(self, other: Tensor) -> Tensor:
        """Standard normal in the shape of ``other``."""
        return torch.randn(other.shape, device=self.device, generator=self.generator)

    def chance(self, probability: float) -> Tensor:
        """[B, 1] true with this probability."""
        return self.uniform(0, 1) < probability
