"""Main memory that a GPU can read beside computing: pinned, in exactly the size that was asked for."""

import weakref

import torch
from torch import Tensor

from infinitetalk.core.errors import MachineError
from infinitetalk.core.units import GIB

PAGE = 4096


class HostMemory:
    """Bytes of main memory, `memory` uint8 [count], that start at a page.

    torch's own pinned allocator rounds sizes up to powers of two, which for blocks of 351 MB wastes a third. So memory
    is taken from the system, and its pages stay registered with CUDA as long as this object lives.

    Raises:
        MachineError: the system does not let so much memory be pinned.
    """

    def __init__(self, count: int, *, pinned: bool) -> None:
        with torch.inference_mode(mode=False):  # it may be filled outside of the mode
            raw = torch.empty(count + PAGE, dtype=torch.uint8)
        start = -raw.data_ptr() % PAGE
        self.memory = raw[start : start + count]
        if pinned and count:
            address = self.memory.data_ptr()
            if int(torch.cuda.cudart().cudaHostRegister(address, count, 0)):
                self.memory = _pinned_by_torch(count)
            else:
                # Runs before the memory is given back.
                weakref.finalize(self, _release, address)


def _pinned_by_torch(count: int) -> Tensor:
    """As pinned as the other, only rounded up, for systems that let CUDA take memory but not register it."""
    try:
        return torch.empty(count, dtype=torch.uint8, pin_memory=True)
    except RuntimeError as error:
        raise MachineError(
            f"{count / GIB:.2f} GiB more of main memory could not be pinned; --memory disk needs far less of it"
        ) from error


def _release(address: int) -> None:
    torch.cuda.cudart().cudaHostUnregister(address)
