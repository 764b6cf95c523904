"""Which device computes, in which numbers, and what it can do.

`Device` is the only place that asks torch about GPUs: every other module asks a `Device`. So one card can be pretended
everywhere (see `runtime.pretend`), and no capability is guessed twice.
"""

import platform
import re
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Self

import torch
from torch.nn.attention import SDPBackend

from infinitetalk.core.cards import Card, recognise
from infinitetalk.core.devices import check_device
from infinitetalk.core.errors import MachineError
from infinitetalk.runtime.allocator import keep_few_gaps
from infinitetalk.runtime.platform import available_memory, total_memory
from infinitetalk.runtime.pretend import pretended_card

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

AMPERE, ADA = (8, 0), (8, 9)
"""CUDA capabilities since which there are bfloat16, FlashAttention, cuDNN attention and Triton; and 8-bit floats."""

CONTEXT = 512 * 2**20
"""Bytes of a GPU's memory that its driver keeps for a process, about."""

_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, slots=True)
class Device:
    """A device that was found to work, and the number format its networks use."""

    torch_device: torch.device
    """Where tensors live. Under a pretended card, whatever this machine has."""
    dtype: torch.dtype
    name: str
    capability: tuple[int, int] | None = None
    """CUDA's; None for a CPU or Apple's GPU."""
    pretended: Card | None = None
    """The card whose answers these are, if this machine only pretends to have it."""

    @property
    def bfloat16(self) -> bool:
        """Whether bfloat16 is computed natively; elsewhere it may be stored and converted."""
        return self.capability is None or self.capability >= AMPERE

    @property
    def fp8(self) -> bool:
        """Whether 8-bit floats are multiplied (`torch._scaled_mm`); elsewhere they may be stored and converted."""
        return self.capability is not None and self.capability >= ADA

    @property
    def attention(self) -> tuple[SDPBackend, ...]:
        """Back ends that attention may take."""
        fused = (SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)
        if self.capability is not None and self.capability < AMPERE:
            return fused
        return (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, *fused)

    @property
    def flash(self) -> bool:
        """Whether FlashAttention and cuDNN's attention run."""
        return SDPBackend.FLASH_ATTENTION in self.attention

    @property
    def triton(self) -> bool:
        """Whether Triton kernels, and so `torch.compile`, run: the library is there and targets this card."""
        return self.capability is not None and self.capability >= AMPERE and find_spec("triton") is not None

    @property
    def pinned(self) -> bool:
        """Whether main memory can be pinned for copies that do not wait; a matter of this machine, pretended or not."""
        return self.torch_device.type == "cuda"

    @property
    def memory(self) -> int | None:
        """Bytes of the device's own memory; None where it shares the machine's."""
        if self.pretended is not None:
            return self.pretended.vram
        if self.torch_device.type != "cuda":
            return None
        return int(torch.cuda.get_device_properties(self.torch_device).total_memory)

    @property
    def free_memory(self) -> int | None:
        """Bytes of the device's own memory that nobody uses now, this process neither; None where it shares."""
        free = None
        if self.torch_device.type == "cuda":
            free = int(torch.cuda.mem_get_info(self.torch_device)[0])
        if self.pretended is None:
            return free
        return self.pretended.vram if free is None else min(free, self.pretended.vram)

    @property
    def main_memory(self) -> int:
        """Bytes of main memory that work may count on: this machine's, and no more than a pretended one has."""
        return total_memory() if self.pretended is None else min(total_memory(), self.pretended.ram)

    @property
    def free_main_memory(self) -> int:
        """Bytes of main memory that are free now, file caches counted as free."""
        free = available_memory()
        return free if self.pretended is None else min(free, self.pretended.ram)

    @property
    def row(self) -> int | None:
        """How many devices of this kind there are from this one on; None for processors, which processes share."""
        if self.torch_device.type == "cuda":
            return torch.cuda.device_count() - (self.torch_device.index or 0)
        return None if self.torch_device.type == "cpu" else 1

    @property
    def card(self) -> Card | None:
        """This card in the table of known ones."""
        if self.pretended is not None:
            return self.pretended
        return recognise(self.name, self.memory) if self.memory is not None else None

    @property
    def driver(self) -> str | None:
        """Version of NVIDIA's driver on this machine, if there is one."""
        return None if torch.version.cuda is None and self.torch_device.type != "cuda" else _driver()

    @property
    def where(self) -> str:
        """The torch device in words, and that it stands for another where it does."""
        return f"pretended on {self.torch_device}" if self.pretended is not None else str(self.torch_device)

    @classmethod
    def choose(cls, name: str = "auto", dtype: str = "auto") -> Self:
        """Finds a device.

        Args:
            name: `auto` (CUDA, else Apple's MPS, else the CPU), or a torch device: `cpu`, `cuda`, `cuda:1`, `mps`.
                Under INFINITETALK_PRETEND, `auto` and `cuda` mean the pretended card, whatever this machine has.
            dtype: a name in `DTYPES`, or `auto`: bfloat16 on CUDA (float16 where the hardware lacks it), else float32.

        Raises:
            RequestError: a name that no device has, or a pretended card that is not in the table.
            MachineError: a device or number format that does not exist or cannot be used here.
        """
        if dtype != "auto" and dtype not in DTYPES:
            raise MachineError(f"dtype = {dtype}: must be auto, {', '.join(DTYPES)}")
        card = pretended_card()
        if card is not None and name in ("auto", "cuda", "cuda:0"):
            found = cls(_automatic(), _best_dtype(card.capability), card.name, card.capability, card)
            _hold(found.torch_device, card)
        else:
            device = _automatic() if name == "auto" else _parse(name)
            _check(device, name)
            capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
            found = cls(device, _best_dtype(capability), _describe(device), capability)
        keep_few_gaps(found.torch_device)
        return found if dtype == "auto" else found.with_dtype(dtype)

    def with_dtype(self, dtype: str) -> Self:
        """The same device computing in another number format.

        Raises:
            MachineError: one that it lacks.
        """
        if DTYPES[dtype] == torch.bfloat16 and not self.bfloat16:
            raise MachineError(f"dtype = {dtype}: {self.name} does not compute in it; float16 or float32 would work")
        return type(self)(self.torch_device, DTYPES[dtype], self.name, self.capability, self.pretended)


def _automatic() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _hold(device: torch.device, card: Card) -> None:
    """Lets this process take no more of a larger GPU than the pretended card has."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, (card.vram - CONTEXT) / total), device)


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
    return torch.bfloat16 if capability >= AMPERE else torch.float16


def _describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "Apple GPU" if device.type == "mps" else platform.processor() or platform.machine() or "CPU"


def _driver() -> str | None:
    """What the kernel module says of itself, else what NVIDIA's program says; torch knows CUDA's version only."""
    with suppress(OSError):
        found = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)", _DRIVER.read_text(encoding="utf-8"))
        if found is not None:
            return found.group(1)
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    with suppress(OSError, subprocess.SubprocessError):
        told = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.split()
        return told[0] if told else None
    return None
