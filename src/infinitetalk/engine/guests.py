"""Networks that are on the device only while they work."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from infinitetalk.runtime.memory.lanes import release
from infinitetalk.runtime.memory.record import put, tensors_of


class Guest:
    """A network whose weights lie in main memory, or are mapped from their files, until its turn.

    Args:
        network: on the CPU.
        device: where it works.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.network = network
        self._device = device
        self._home = tensors_of(network)
        self._inside = 0

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The network is on the device as long as this lasts; turns may nest."""
        if not self._inside:
            release(self._device)  # what others left lies in pieces of other sizes
            for name, tensor in self._home.items():
                put(self.network, name, tensor.to(self._device))
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                for name, tensor in self._home.items():
                    put(self.network, name, tensor)
                release(self._device)
