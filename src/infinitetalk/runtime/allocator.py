"""How torch keeps a GPU's memory: in pieces that grow, so that few gaps are left between tensors."""

import os
import sys

import torch

VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""Where users tell torch's allocator what to do; what they say stays."""
GROWING = "expandable_segments:True"


def keep_few_gaps(device: torch.device) -> bool:
    """Lets torch's allocator for CUDA map more memory behind what it has, instead of reserving pieces of fixed sizes.

    A window's tensors have many sizes; with fixed pieces, a sixth of the memory lies in gaps that fit none of them.
    Pieces that are there already stay as they are, so this belongs before the first tensor.

    Returns:
        Whether it was set: on Linux, for CUDA, where the environment says nothing else.
    """
    if device.type != "cuda" or sys.platform != "linux" or any(os.environ.get(name) for name in VARIABLES):
        return False
    torch._C._accelerator_setAllocatorSettings(GROWING)
    return True
