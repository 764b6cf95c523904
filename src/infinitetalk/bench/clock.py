"""Seconds and peaks of memory."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from infinitetalk.core.units import GIB
from infinitetalk.runtime.platform import peak_memory


def settle(device: torch.device) -> None:
    """Waits until a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


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
        spent = [self._once(call) for _ in range(repeats or self.repeats)]
        return self.note(name, spent)

    def note(self, name: str, spent: list[float]) -> float:
        """Keeps seconds that were taken otherwise."""
        self.figures[f"{name}_seconds"] = statistics.median(spent)
        self.figures[f"{name}_all_seconds"] = spent
        return float(statistics.median(spent))

    def _once(self, call: Callable[[], object]) -> float:
        settle(self.device)
        started = time.perf_counter()
        call()
        settle(self.device)
        return time.perf_counter() - started

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
