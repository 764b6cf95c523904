"""Two lanes of a device: one computes, the other copies beside it, and events keep them in order.

The processor waits for neither, so it can queue work far ahead. Where a device has no lanes, copies are done at once
and the same calls mean nothing.
"""

from typing import Any, Protocol

import torch
from torch import Tensor

Event = Any
"""A mark in a lane; what it is depends on the lanes."""


class Lanes(Protocol):
    """What a streamed module needs of a device. An event that was never recorded keeps nobody waiting."""

    def event(self, *, timed: bool = False) -> Event:
        """A new event."""
        ...

    def computed(self, event: Event) -> None:
        """Records an event behind everything that was queued for computing so far."""
        ...

    def copied(self, event: Event) -> None:
        """Records an event behind everything that was queued for copying so far."""
        ...

    def compute_waits(self, event: Event) -> None:
        """What is computed from now on waits for the last recording of an event."""
        ...

    def copy_waits(self, event: Event) -> None:
        """What is copied from now on waits for the last recording of an event."""
        ...

    def host_waits(self, event: Event) -> None:
        """This thread waits for the last recording of an event."""
        ...

    def copy(self, target: Tensor, source: Tensor) -> None:
        """Queues a copy of main memory into the device's."""
        ...

    def finish(self) -> None:
        """This thread waits for everything."""
        ...


class CudaLanes:
    """PyTorch's current stream, and one of our own for copies."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copies = torch.cuda.Stream(device)

    def event(self, *, timed: bool = False) -> torch.cuda.Event:
        """See `Lanes`."""
        return torch.cuda.Event(enable_timing=timed)

    def computed(self, event: torch.cuda.Event) -> None:
        """See `Lanes`."""
        event.record(torch.cuda.current_stream(self._device))

    def copied(self, event: torch.cuda.Event) -> None:
        """See `Lanes`."""
        event.record(self._copies)

    def compute_waits(self, event: torch.cuda.Event) -> None:
        """See `Lanes`."""
        torch.cuda.current_stream(self._device).wait_event(event)

    def copy_waits(self, event: torch.cuda.Event) -> None:
        """See `Lanes`."""
        self._copies.wait_event(event)

    def host_waits(self, event: torch.cuda.Event) -> None:
        """See `Lanes`."""
        event.synchronize()

    def copy(self, target: Tensor, source: Tensor) -> None:
        """See `Lanes`. The target outlives the lanes' work, so the allocator need not be told of this stream."""
        with torch.cuda.stream(self._copies):
            target.copy_(source, non_blocking=True)

    def finish(self) -> None:
        """See `Lanes`."""
        self._copies.synchronize()
        torch.cuda.current_stream(self._device).synchronize()


class PlainLanes:
    """A device that copies at once: the processor itself, and Apple's GPU."""

    def event(self, *, timed: bool = False) -> None:
        """See `Lanes`."""

    def computed(self, event: None) -> None:
        """See `Lanes`."""

    def copied(self, event: None) -> None:
        """See `Lanes`."""

    def compute_waits(self, event: None) -> None:
        """See `Lanes`."""

    def copy_waits(self, event: None) -> None:
        """See `Lanes`."""

    def host_waits(self, event: None) -> None:
        """See `Lanes`."""

    def copy(self, target: Tensor, source: Tensor) -> None:
        """See `Lanes`."""
        target.copy_(source)

    def finish(self) -> None:
        """See `Lanes`."""


def lanes_of(device: torch.device) -> Lanes:
    """The lanes that a device has."""
    return CudaLanes(device) if device.type == "cuda" else PlainLanes()


def release(device: torch.device) -> None:
    """Gives memory that a network has left back to the device, so that pieces of any size can be taken from it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
