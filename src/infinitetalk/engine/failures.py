"""A machine that fails in the middle of work, told in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from infinitetalk.core.errors import MachineError

_FULL = ("out of memory", "can't allocate memory", "ALLOC_FAILED", "not enough memory")
_LOST = ("CUDA error", "CUDA driver error", "CUBLAS_STATUS", "CUDNN_STATUS", "cuDNN error", "NCCL", "MPS backend")
"""What torch says of devices, where the class of its error does not tell."""


@contextmanager
def machine_errors(where: object, doing: str) -> Iterator[None]:
    """Turns torch's errors about the device into ours; all others stay what they are.

    Raises:
        MachineError: memory that ran out, or a device that stopped working.
    """
    try:
        yield
    except MemoryError as error:
        raise MachineError(_too_small("this machine", doing)) from error
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _FULL):
            raise MachineError(_too_small(where, doing)) from error
        if isinstance(error, torch.AcceleratorError) or any(words in str(error) for words in _LOST):
            told = str(error).strip().partition("\n")[0]
            raise MachineError(
                f"{where} stopped working while {doing} ({told}); start the program again, and the machine if that "
                f"does not help"
            ) from error
        raise


def _too_small(where: object, doing: str) -> str:
    return (
        f"{where} has too little memory for {doing}: a smaller size, fewer window_frames, or --memory pinned or disk "
        f"take less"
    )
