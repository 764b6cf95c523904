"""Plants kernels that a small card lacks on the GPU that pretends it, to see that the guard refuses every one."""

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

from infinitetalk.runtime.device import Device
from infinitetalk.runtime.guard import ForbiddenKernelError, guard

Probe = Callable[[], object]


def _triton(ones: torch.Tensor) -> Probe:
    """A kernel that would add one to the first number."""
    triton: Any = import_module("triton")
    tl: Any = import_module("triton.language")

    def add_one(place: Any) -> None:
        tl.store(place, tl.load(place) + 1)

    kernel = triton.jit(add_one)
    return lambda: kernel[(1,)](ones)


def probes(device: torch.device) -> Mapping[str, Probe]:
    """What a Tesla T4 cannot run, by name."""
    ones = torch.ones(32, 32, device=device)
    half = ones.half().expand(1, 2, 32, 32).contiguous()
    few = ones.to(torch.float8_e4m3fn)
    one, fused, aten = torch.ones((), device=device), torch.compile(torch.sin), torch.ops.aten
    cudnn = aten._scaled_dot_product_cudnn_attention
    found: dict[str, Probe] = {
        "bfloat16 product": lambda: ones.bfloat16() @ ones.bfloat16(),
        "8-bit product": lambda: torch._scaled_mm(few, few.t(), scale_a=one, scale_b=one),
        "FlashAttention": lambda: aten._scaled_dot_product_flash_attention(half, half, half),
        "cuDNN attention": lambda: cudnn(half, half, half, None, False),
        "torch.compile": lambda: fused(ones),
    }
    if find_spec("triton") is not None and device.type == "cuda":
        found["Triton kernel"] = _triton(ones)
    return found


def refused(device: Device) -> dict[str, bool]:
    """Which kernels the guard of a pretended card refuses, by name."""
    found = {}
    for name, probe in probes(device.torch_device).items():
        try:
            with guard(device):
                probe()
            found[name] = False
        except ForbiddenKernelError:
            found[name] = True
    return found
