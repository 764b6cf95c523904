"""Tensors that lie in memory in fewer bits than they are computed with, and how their values come back.

A `Stored` is a description and the tensors that hold the values. Its values are computed where those tensors are, by
plain torch and without waiting for the device, so that the same code serves a CPU, a T4 and an H100.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from infinitetalk.core.errors import ModelError

SCALED_KINDS: Mapping[torch.dtype, str] = {
    torch.float8_e4m3fn: "fp8_e4m3fn",
    torch.float8_e5m2: "fp8_e5m2",
    torch.int8: "int8",
}
"""Number formats of 8 bits that `Scaled` knows, and what people call them."""


class Stored(ABC):
    """A tensor of `shape` held in fewer bits."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """How it is stored, for people and reports: fp8_e4m3fn, int8, q4_k."""

    @property
    @abstractmethod
    def shape(self) -> torch.Size:
        """The shape of the tensor that this stands for."""

    @abstractmethod
    def parts(self) -> Mapping[str, Tensor]:
        """The tensors that hold the values, under short names; the first axis of each of them may be the rows'."""

    @abstractmethod
    def with_parts(self, parts: Mapping[str, Tensor]) -> Self:
        """The same description over other tensors: moved ones, pinned ones, views into a buffer."""

    @abstractmethod
    def dequantise(self, dtype: torch.dtype) -> Tensor:
        """The values, on the device of the parts, computed in float32 and rounded once to `dtype`."""

    @abstractmethod
    def rows(self, start: int, stop: int) -> Self:
        """The part of it that holds the indices from `start` to before `stop` of the first axis; nothing is copied."""

    @property
    def bytes(self) -> int:
        """What its parts take."""
        return sum(part.nbytes for part in self.parts().values())

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """The same values on another device."""
        return self.with_parts(
            {name: part.to(device, non_blocking=non_blocking) for name, part in self.parts().items()}
        )


@runtime_checkable
class Holder(Protocol):
    """A layer that can compute with a stored matrix in place of a dense one."""

    def hold(self, stored: Stored) -> None:
        """Takes the matrix and gives up the dense one."""

    def add_branch(self, down: Tensor, up: Tensor) -> None:
        """Adds up @ down to whatever matrix the layer computes with, beside it."""


@dataclass(frozen=True, slots=True, eq=False)
class Scaled(Stored):
    """Numbers of 8 bits, each times the scale of its row or of the whole tensor; fp8 may have no scale at all.

    `data` [out, ...] is float8_e4m3fn, float8_e5m2 or int8. `scale` is floating, [1] or [out]. This covers what
    optimum-quanto, ComfyUI, Kijai's and LightX2V's converters and this project's `packed` write.
    """

    data: Tensor
    scale: Tensor | None = None

    @classmethod
    def of(cls, name: str, data: Tensor, scale: Tensor | None) -> Self:
        """Checks what a file holds under `name`: a scale may come as [], [1], [out] or [out, 1, …].

        Raises:
            ModelError: another number format, or a scale that does not fit.
        """
        if data.dtype not in SCALED_KINDS:
            raise ModelError(f"the tensor {name} has a scale, but it is {_short(data.dtype)}, not fp8 or int8")
        if scale is None:
            if data.dtype == torch.int8:
                raise ModelError(f"the tensor {name} is int8 and has no scale, so that its values are unknown")
            return cls(data)
        per_row = data.ndim > 1 and scale.shape[:1] == data.shape[:1] and scale.numel() == data.shape[0]
        if not scale.dtype.is_floating_point or scale.dtype in SCALED_KINDS or not (per_row or scale.numel() == 1):
            raise ModelError(
                f"the scale of the tensor {name} is {_short(scale.dtype)} {list(scale.shape)}: "
                f"for {list(data.shape)} it must be one floating number, or one for each row"
            )
        if not scale.isfinite().all():
            raise ModelError(f"the scale of the tensor {name} is not finite; the file is damaged, get it again")
        return cls(data, scale.reshape(-1))

    @property
    def kind(self) -> str:
        return SCALED_KINDS[self.data.dtype]

    @property
    def shape(self) -> torch.Size:
        return self.data.shape

    def parts(self) -> Mapping[str, Tensor]:
        return {"data": self.data} if self.scale is None else {"data": self.data, "scale": self.scale}

    def with_parts(self, parts: Mapping[str, Tensor]) -> Self:
        return type(self)(**parts)

    def dequantise(self, dtype: torch.dtype) -> Tensor:
        # Every number of 8 bits is exact in every wider format, and a scale with an axis makes torch multiply in
        # float32 whatever `dtype` is: so nothing is rounded but the product, and only one wide tensor is made.
        values = self.data.to(dtype)
        if self.scale is None:
            return values
        return values.mul_(self.scale.float().reshape(-1, *[1] * (values.ndim - 1)))

    def rows(self, start: int, stop: int) -> Self:
        scale = self.scale
        return type(self)(self.data[start:stop], scale if scale is None or len(scale) == 1 else scale[start:stop])


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
