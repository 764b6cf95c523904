"""How fast a device computes and moves: a measurement of a fifth of a second, for devices that no table knows."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from infinitetalk.runtime.device import Device

_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class DeviceRates:
    """What a device did with operations that it is best at."""

    products: float
    """Operations per second in products of large matrices, in the device's number format."""
    coding: float
    """Operations per second in convolutions of pictures, in float32."""
    memory: float
    """Bytes per second read and written in the device's own memory."""
    link: float
    """Bytes per second copied to the device from main memory, pinned if that is possible."""


@torch.inference_mode()
def measure(device: Device) -> DeviceRates:
    """Times a few operations."""
    where, large = device.torch_device, device.torch_device.type != "cpu"
    side = 4096 if large else 768
    matrix = torch.ones(side, side, device=where, dtype=device.dtype)
    picture = torch.ones(1, 96, 256, 256, device=where)[..., : 256 if large else 64].contiguous(
        memory_format=torch.channels_last
    )
    kernel = torch.ones(96, 96, 3, 3, device=where).contiguous(memory_format=torch.channels_last)
    block = torch.ones((256 if large else 32) * 2**20, dtype=torch.uint8, device=where)
    host = torch.ones(block.shape, dtype=torch.uint8, pin_memory=device.pinned)
    pixels = picture.shape[2] * picture.shape[3]
    return DeviceRates(
        products=2 * side**3 / seconds_of(lambda: matrix @ matrix, where),
        coding=2 * 9 * 96**2 * pixels / seconds_of(lambda: F.conv2d(picture, kernel, padding=1), where),
        memory=2 * block.nbytes / seconds_of(block.clone, where),
        link=block.nbytes / seconds_of(lambda: block.copy_(host, non_blocking=True), where),
    )


def seconds_of(call: Callable[[], object], where: torch.device) -> float:
    """Seconds of one call, after one that does not count."""
    call()
    _wait(where)
    count, started = 0, time.perf_counter()
    while count < 3 or time.perf_counter() - started < _SECONDS:
        call()
        _wait(where)
        count += 1
    return (time.perf_counter() - started) / count


def _wait(where: torch.device) -> None:
    if where.type == "cuda":
        torch.cuda.synchronize(where)
    elif where.type == "mps":
        torch.mps.synchronize()
