"""What computes between matrix products on a device, and in how many bits those products are."""

import torch

from infinitetalk.core.errors import RequestError
from infinitetalk.core.memory import AUTO, EXACT, OFF, ON, MemorySettings
from infinitetalk.ops.eight import FP8, INT8, Eight
from infinitetalk.ops.pixels import Pixels
from infinitetalk.ops.regions import Regions
from infinitetalk.runtime.device import DTYPES, Device

FORMATS = {"fp8": FP8, "int8": INT8}


def check_regions(device: Device, settings: MemorySettings) -> None:
    """Refuses fused kernels or 8-bit products that a device cannot run.

    Raises:
        RequestError: why it cannot, and what would work.
    """
    if settings.fused == ON and not runs_fused(device):
        raise RequestError("fused", ON, f"{_lack(device)}; {AUTO} or {OFF} would work here")
    if settings.linears == "fp8" and not device.fp8:
        would = f"int8 or {EXACT}" if device.capability is not None else EXACT
        have = "it" if device.capability is None else f"{device.name} ({device.capability[0]}.{device.capability[1]})"
        why = f"products of 8-bit floats need an NVIDIA GPU of compute capability 8.9 or later, and {have} is none"
        raise RequestError("linears", "fp8", f"{why}; {would} would work here")
    if settings.linears == "fp8" and device.dtype != torch.bfloat16:
        dtype = str(device.dtype).removeprefix("torch.")
        raise RequestError(
            "linears",
            "fp8",
            f"its products are in bfloat16, and this run is in {dtype}; int8 or {EXACT} would work here",
        )
    if settings.linears == "int8" and device.capability is None:
        raise RequestError("linears", "int8", f"it needs an NVIDIA GPU, and this is {device.name}; {EXACT} would work")


def runs_fused(device: Device) -> bool:
    """Whether the fused kernels run: Triton is there and targets this GPU, which is not only pretended."""
    return device.triton and device.torch_device.type == "cuda"


def choose_eight(settings: MemorySettings) -> Eight | None:
    """The format of 8-bit products; None for exact ones."""
    return FORMATS.get(settings.linears)


def choose_regions(device: Device, settings: MemorySettings) -> Regions:
    """What lies between products, for a network on this device.

    Raises:
        RequestError: as `check_regions`.
    """
    check_regions(device, settings)
    eight = choose_eight(settings)
    if settings.fused == OFF or not runs_fused(device):
        return Regions(eight)
    from infinitetalk.ops.regions_triton import FusedRegions

    return FusedRegions(eight)


def choose_pixels(device: Device, settings: MemorySettings) -> Pixels:
    """What lies between the convolutions of the VAE on this device."""
    if settings.fused == OFF or not runs_fused(device):
        return Pixels()
    from infinitetalk.ops.pixels_triton import FusedPixels

    return FusedPixels()


def coding_dtype(device: Device, settings: MemorySettings) -> torch.dtype:
    """What the VAE computes in.

    Raises:
        RequestError: bfloat16 where it is not computed natively.
    """
    if settings.vae_dtype == AUTO:
        return torch.bfloat16 if device.dtype == torch.bfloat16 else torch.float32
    if settings.vae_dtype == "bfloat16" and not device.bfloat16:
        raise RequestError("vae_dtype", "bfloat16", f"{device.name} does not compute in it; float32 would work")
    return DTYPES[settings.vae_dtype]


def _lack(device: Device) -> str:
    if device.capability is None or device.torch_device.type != "cuda":
        return f"Triton's kernels need an NVIDIA GPU, and this is {device.name}"
    if device.capability < (8, 0):
        have = f"{device.capability[0]}.{device.capability[1]}"
        return f"Triton needs compute capability 8.0 or later, and {device.name} has {have}"
    return "Triton is not installed: pip install triton"
