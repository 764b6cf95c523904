"""Weights stored in 8 bits: whole numbers from -127 to 127 and one scale per output row.

A packed tensor `name` [out, ...] of int8 stands beside `name.scale` [out] of float16 or float32; its values are their
product. A reader unpacks while loading, so a network never learns how its weights were stored.
"""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from infinitetalk.core.errors import ModelError

SUFFIX = ".scale"
STEPS = 127


def pack_tensor(tensor: Tensor, scale_dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Rounds [out, ...] to int8 of the same shape and scales [out]; the error is at most half a scale."""
    rows = tensor.detach().float().flatten(1)
    scale = (rows.abs().amax(dim=1) / STEPS).to(scale_dtype)
    # A row of zeros has no largest value to divide by; a rounded scale must still reach the largest one.
    steps = rows / scale.float().clamp_min(torch.finfo(torch.float32).tiny)[:, None]
    return steps.round().clamp(-STEPS, STEPS).to(torch.int8).reshape(tensor.shape), scale


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
    """A view of stored tensors in which the packed ones have their values and the scales are not seen."""

    def __init__(self, stored: Mapping[str, Tensor]) -> None:
        self._stored = stored
        self._packed = frozenset(name for name in stored if name + SUFFIX in stored)
        scales = {name + SUFFIX for name in self._packed}
        self._names = tuple(name for name in stored if name not in scales)

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __getitem__(self, name: str) -> Tensor:
        """Reads one tensor.

        Raises:
            ModelError: a packed tensor that is not int8 or whose scales do not fit it.
        """
        tensor = self._stored[name]
        if name not in self._packed:
            return tensor
        scale = self._stored[name + SUFFIX]
        if tensor.dtype != torch.int8 or tensor.ndim < 2 or scale.shape != tensor.shape[:1]:
            raise ModelError(
                f"the tensor {name} has a {SUFFIX} beside it, but int8 rows and one scale for each were expected: "
                f"{tensor.dtype} {list(tensor.shape)} with {list(scale.shape)}"
            )
        return unpack_tensor(tensor, scale)
