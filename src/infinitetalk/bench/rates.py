"""How fast this machine multiplies matrices and attends: what all shares of the roofline are of."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from infinitetalk.bench.clock import Stopwatch
from infinitetalk.bench.task import Task
from infinitetalk.core.memory import MemorySettings
from infinitetalk.ops.attention import Kernel
from infinitetalk.runtime.attention import choose_attention
from infinitetalk.runtime.device import Device

SIDE = {"cuda": 8192, "mps": 4096}
"""Rows and columns of the product by kind of device; elsewhere 1024."""
LENGTH, HEADS, WIDTH = {"cuda": 32768, "mps": 8192}, 8, 128
"""Tokens of the attention by kind of device, elsewhere 2048; its heads and their channels."""
SECONDS = 1.0
"""How long each is repeated: a card that was idle runs faster at first than it can for long."""


@torch.inference_mode()
def measure(task: Task) -> Mapping[str, Any]:
    """Operations per second of a large product and of attention, on random numbers, in the device's format."""
    device = Device.choose(task.device)
    where, kind = device.torch_device, device.torch_device.type
    side, length = SIDE.get(kind, 1024), LENGTH.get(kind, 2048)
    left, right = (torch.randn(side, side, device=where, dtype=device.dtype) for _ in range(2))
    heads = [torch.randn(1, length, HEADS, WIDTH, device=where, dtype=device.dtype) for _ in range(3)]
    kernel = choose_attention(device, MemorySettings(**task.memory).attention, WIDTH)
    watch = Stopwatch(where, 3)
    product = _sustained(watch, "product", left, right)
    attending = _attending(watch, kernel, heads)
    return watch.figures | {
        "device": device.name,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "dtype": str(device.dtype).removeprefix("torch."),
        "product_rate": 2 * side**3 / product,
        "attention_rate": 4 * length**2 * HEADS * WIDTH / attending,
    }


def _sustained(watch: Stopwatch, name: str, left: Tensor, right: Tensor) -> float:
    once = watch.median(name, lambda: left @ right)
    return watch.median(name, lambda: left @ right, max(3, round(SECONDS / once)))


def _attending(watch: Stopwatch, kernel: Kernel, heads: list[Tensor]) -> float:
    q, k, v = heads
    once = watch.median("attention", lambda: kernel(q, k, v))
    return watch.median("attention", lambda: kernel(q, k, v), max(3, round(SECONDS / once)))
