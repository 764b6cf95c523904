"""Weights stored in 8 bits: whole numbers from -127 to 127 and one scale per output row.

A packed tensor `name` [out, ...] of int8 stands beside `name.scale` [out] of float16 or float32; its values are their
product. `weights.kinds` reads it like every other kind.
"""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from infinitetalk.ops.pack import LARGEST_INT8, LEAST, int8_steps
from infinitetalk.ops.stored import Stored
from infinitetalk.weights.kinds import Logical

SUFFIX = ".scale"


def pack_tensor(tensor: Tensor, scale_dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Rounds [out, ...] to int8 of the same shape and scales [out]; the error is at most half a scale."""
    rows = tensor.detach().float().flatten(1)
    scale = (rows.abs().amax(dim=1) / LARGEST_INT8).to(scale_dtype)
    # A row of zeros has no largest value to divide by; a rounded scale must still reach the largest one.
    return int8_steps(rows, scale.float().clamp_min(LEAST)).reshape(tensor.shape), scale


def unpack_tensor(steps: Tensor, scale: Tensor) -> Tensor:
    """The float32 values behind int8 [out, ...] and scales [out]."""
    return steps.float() * scale.float().reshape(-1, *[1] * (steps.ndim - 1))


def pack(
    state: Mapping[str, Tensor],
    select: Callable[[str, Tensor], bool],
    scale_dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """A state whose selected tensors (two axes or more, floating) are packed; all others stay as they are."""
    packed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if tensor.ndim >= 2 and tensor.is_floating_point() and select(name, tensor):
            packed[name], packed[name + SUFFIX] = pack_tensor(tensor, scale_dtype)
        else:
            packed[name] = tensor
    return packed


class Unpacked(Mapping[str, Tensor]):
    """A view of stored tensors in which those of few bits have their values, float32, and companions are not seen."""

    def __init__(self, stored: Mapping[str, Tensor]) -> None:
        self._logical = Logical([("weights", stored)])

    def __len__(self) -> int:
        return len(self._logical)

    def __iter__(self) -> Iterator[str]:
        return iter(self._logical)

    def __getitem__(self, name: str) -> Tensor:
        """Reads one tensor.

        Raises:
            ModelError: numbers and scales that do not fit each other.
        """
        tensor = self._logical[name]
        return tensor.dequantise(torch.float32) if isinstance(tensor, Stored) else tensor
