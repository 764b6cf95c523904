"""A machine that fails in the middle of work, told in one line."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from infinitetalk.core.errors import DeviceLostError, MachineError

_FULL = (
    "out of memory", "can't allocate memory", "ALLOC_FAILED", "not enough memory",
    # cuDNN's convolutions, where none of its ways finds room to work in.
    "unable to find an engine to execute this computation",
)  # fmt: skip
_LOST = ("CUDA error", "CUDA driver error", "CUBLAS_STATUS", "CUDNN_STATUS", "cuDNN error", "NCCL", "MPS backend")
"""What torch says of devices, where the class of its error does not tell."""


_SIZE = r"([\d.]+ [KMG]iB|\d+ bytes)"
_COUNTS = {
    "asked for": rf"Tried to allocate {_SIZE}",
    "in tensors": rf"Of the allocated memory {_SIZE} is allocated by PyTorch",
    "reserved beside them": rf"and {_SIZE} is reserved by PyTorch but unallocated",
}
"""What torch says of its own memory when it ran out."""


@contextmanager
def machine_errors(where: object, doing: str, stage: Callable[[], str | None] = lambda: None) -> Iterator[None]:
    """Turns torch's errors about the device into ours; all others stay what they are.

    Args:
        stage: asked, when something failed, in which stage of a job that was.

    Raises:
        MachineError: memory that ran out.
        DeviceLostError: a device that stopped working.
    """
    try:
        yield
    except MemoryError as error:
        raise MachineError(_too_small("this machine", doing, stage())) from error
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _FULL):
            raise MachineError(_too_small(where, doing, stage(), held(error))) from error
        if isinstance(error, torch.AcceleratorError) or any(words in str(error) for words in _LOST):
            told = str(error).strip().partition("\n")[0]
            raise DeviceLostError(
                f"{where} stopped working while {doing} ({told}); start the program again, and the machine if that "
                f"does not help"
            ) from error
        raise


def _too_small(where: object, doing: str, stage: str | None, details: str = "") -> str:
    told = (
        f"{where} has too little memory for {doing}: a smaller size, fewer window_frames, or --memory pinned or disk "
    )
    happened = "; ".join(part for part in (f"stage {stage}" if stage else "", details) if part)
    return f"{told}take less{f' ({happened})' if happened else ''}"


def finite(frames: Tensor, number: int) -> Tensor:
    """The frames themselves [3, F, H, W], for which this waits; `number` is the window's or chunk's, from 0.

    Raises:
        MachineError: they hold what is no number: nothing but black or grey would be seen, and so in all that follows.
    """
    if bool(frames.sum().isfinite()):  # a sum is not finite if one of its parts is not
        return frames
    raise MachineError(
        f"window {number + 1} holds no picture: numbers ran over in the networks; weaker LoRAs, lower scales, "
        "--linears exact or --vae-dtype float32 may help"
    )


def held(error: Exception) -> str:
    """What torch says that it asked for and had when memory ran out, as far as it says so."""
    found = {name: re.search(pattern, str(error)) for name, pattern in _COUNTS.items()}
    return ", ".join(f"{name} {match[1]}" for name, match in found.items() if match)
