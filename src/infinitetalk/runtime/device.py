"""Which device computes, and in which numbers."""

import platform
from dataclasses import dataclass
from typing import Self

import torch

from infinitetalk.core.devices import check_device
from infinitetalk.core.errors import MachineError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_BFLOAT16_SINCE = (8, 0)
"""CUDA capability from which bfloat16 is computed natively."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device that was found to work, and the number format its networks use."""

    torch_device: torch.device
    dtype: torch.dtype
    name: str
    capability: tuple[int, int] | None = None
    """CUDA's, for choosing kernels."""

    @property
    def memory(self) -> int | None:
        """Bytes of the device's own memory; None where it shares the machine's."""
        if self.torch_device.type != "cuda":
            return None
        return int(torch.cuda.get_device_properties(self.torch_device).total_memory)

    @classmethod
    def choose(cls, name: str = "auto", dtype: str = "auto") -> Self:
        """Finds a device.

        Args:
            name: `auto` (CUDA, else Apple's MPS, else the CPU), or a torch device: `cpu`, `cuda`, `cuda:1`, `mps`.
            dtype: a name in `DTYPES`, or `auto`: bfloat16 on CUDA (float16 where the hardware lacks it), else float32.

        Raises:
            RequestError: a name that no device has.
            MachineError: a device or number format that does not exist or cannot be used here.
        """
        if dtype != "auto" and dtype not in DTYPES:
            raise MachineError(f"dtype = {dtype}: must be auto, {', '.join(DTYPES)}")
        device = _automatic() if name == "auto" else _parse(name)
        _check(device, name)
        capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
        numbers = _best_dtype(capability) if dtype == "auto" else DTYPES[dtype]
        return cls(device, numbers, _describe(device), capability)


def _automatic() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _parse(name: str) -> torch.device:
    check_device(name)
    device = torch.device(name)
    return torch.device("cuda", 0) if device.type == "cuda" and device.index is None else device


def _check(device: torch.device, name: str) -> None:
    """Refuses a device that cannot compute, before it fails somewhere deep."""
    if device.type == "cuda":
        if not torch.cuda.is_available():
            reason = "this torch has no CUDA" if torch.version.cuda is None else "no working NVIDIA driver was found"
            raise MachineError(f"device = {name}: {reason}; device cpu would work")
        if (count := torch.cuda.device_count()) <= (device.index or 0):
            raise MachineError(f"device = {name}: there are {count} CUDA devices, counted from cuda:0")
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise MachineError(f"device = {name}: Apple's MPS is not available here; device cpu would work")


def _best_dtype(capability: tuple[int, int] | None) -> torch.dtype:
    if capability is None:
        return torch.float32
    return torch.bfloat16 if capability >= _BFLOAT16_SINCE else torch.float16


def _describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "Apple GPU" if device.type == "mps" else platform.processor() or platform.machine() or "CPU"
