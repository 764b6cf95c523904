"""A matrix that is held in one floating number format and computed with in another."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from infinitetalk.ops.stored import Stored


@dataclass(frozen=True, slots=True, eq=False)
class Plain(Stored):
    """Floating numbers as they are: bfloat16 weights on a card that computes in float32, say."""

    data: Tensor

    @property
    def kind(self) -> str:
        return str(self.data.dtype).removeprefix("torch.")

    @property
    def shape(self) -> torch.Size:
        return self.data.shape

    def parts(self) -> Mapping[str, Tensor]:
        return {"data": self.data}

    def with_parts(self, parts: Mapping[str, Tensor]) -> Self:
        return type(self)(**parts)

    def dequantise(self, dtype: torch.dtype) -> Tensor:
        return self.data.to(dtype)

    def rows(self, start: int, stop: int) -> Self:
        return type(self)(self.data[start:stop])
