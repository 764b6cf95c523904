"""Seconds and peaks of memory."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from infinitetalk.core.units import GIB
from infinitetalk.runtime.platform import peak_memory


def settle(device: torch.device) -> None:
    """Waits until a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class Spent(NamedTuple):
    """What a call took."""

    seconds: float
    processor: float
    """Seconds of all this process's threads together: on a CPU that others use too, these are its own."""


@dataclass(slots=True)
class Stopwatch:
    """Times calls on a device, from one settled moment to the next."""

    device: torch.device
    repeats: int
    figures: dict[str, Any] = field(default_factory=dict)
    """Median seconds by name, and all of them."""

    def median(self, name: str, call: Callable[[], object], repeats: int | None = None) -> float:
        """Median seconds of a call, after a first one that does not count; notes them as `<name>_seconds`."""
        call()
        return self.note(name, [self.once(call) for _ in range(repeats or self.repeats)])

    def note(self, name: str, spent: list["Spent"]) -> float:
        """Keeps what calls took."""
        seconds = [one.seconds for one in spent]
        self.figures[f"{name}_seconds"] = statistics.median(seconds)
        self.figures[f"{name}_all_seconds"] = seconds
        if self.device.type == "cpu":
            self.figures[f"{name}_processor_seconds"] = statistics.median(one.processor for one in spent)
        return float(statistics.median(seconds))

    def once(self, call: Callable[[], object]) -> "Spent":
        """One call, until the device is done."""
        settle(self.device)
        started, worked = time.perf_counter(), time.process_time()
        call()
        settle(self.device)
        return Spent(time.perf_counter() - started, time.process_time() - worked)

    @contextmanager
    def peak(self, name: str) -> Iterator[None]:
        """Notes as `<name>_gib` the most memory that was in use meanwhile.

        On a GPU as torch counts its tensors; elsewhere all that this process has had in main memory up to now.
        """
        if self.device.type != "cuda":
            yield
            self.figures[f"{name}_gib"] = peak_memory() / GIB
            return
        settle(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        yield
        settle(self.device)
        self.figures[f"{name}_gib"] = torch.cuda.max_memory_allocated(self.device) / GIB
