"""Tensors from the device to main memory."""

import torch
from torch import Tensor


def fetch(x: Tensor) -> Tensor:
    """The same values in main memory, pinned if they come from a CUDA device.

    A copy into fresh pageable memory takes a multiple of the time, which the device would wait. Pinned memory that was
    let go of is taken again by the next copy of about the size.
    """
    if not x.is_cuda:
        return x.cpu()
    held = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
    return held.copy_(x)
