"""A process that shares a model's work: waits for tasks of the first one (`engine.crew`), and ends when that one does.

python -m infinitetalk.engine.worker, started by the first process; or any process but the first that torchrun starts.
"""

import os
import queue
import signal
import sys
from contextlib import ExitStack
from datetime import timedelta
from typing import Any, NoReturn

import torch

from infinitetalk.core.errors import InfiniteTalkError
from infinitetalk.core.ranks import Place
from infinitetalk.engine.crew import (
    PORT_KEY,
    TOKEN_KEY,
    Answer,
    Bye,
    Failure,
    Hello,
    Join,
    Load,
    Single,
    Together,
    torchrun_store,
    versions,
)
from infinitetalk.engine.failures import machine_errors
from infinitetalk.engine.tasks import Parcels, Station
from infinitetalk.ops.ranks import Ranks
from infinitetalk.runtime import group
from infinitetalk.runtime.device import Device
from infinitetalk.runtime.guard import at_work
from infinitetalk.runtime.links import Address, Link, call, instructions
from infinitetalk.runtime.platform import processors


class Worker:
    """One process that waits for tasks."""

    def __init__(self, address: Address, rank: int) -> None:
        self.rank = rank
        self._orders: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._dismissed = False
        # Without the first process nothing here is of use, and it may be gone in the middle of an exchange.
        self._link = Link(call(address), self._heard, lambda: os._exit(0 if self._dismissed else 1))
        self._link.listen()
        self._parcels = Parcels()
        self._station: Station | None = None
        self._device: Device | None = None

    def _heard(self, order: Any) -> None:
        self._dismissed = self._dismissed or isinstance(order, Bye)
        self._orders.put(order)

    def work(self) -> None:
        """Does what it is told until it is sent home."""
        self._link.send(Hello(self.rank, versions()))
        while True:
            order = self._orders.get()
            if isinstance(order, Bye):
                return
            try:
                with ExitStack() as closing:
                    if self._device is not None:
                        closing.enter_context(machine_errors(self._device.torch_device, "its share of the work"))
                        closing.enter_context(at_work(self._device))
                    self._do(order)
            except Exception as error:  # noqa: BLE001 - whatever it is, the first process tells it
                self._fail(error)

    def _fail(self, error: Exception) -> NoReturn:
        source = error.__cause__ if isinstance(error, InfiniteTalkError) and error.__cause__ else error
        told = isinstance(error, InfiniteTalkError)
        line = str(error) if told else f"{type(error).__name__}: {' '.join(str(error).split())}"
        code = error.exit_code if isinstance(error, InfiniteTalkError) else 1
        self._link.send(Failure(self.rank, line, code, cause=not group.from_exchange(source)))
        os._exit(1)

    @torch.inference_mode()
    def _do(self, order: Any) -> None:
        if isinstance(order, Join):
            self._join(order)
        elif isinstance(order, Load):
            self._load(order)
            self._link.send(Answer(-self.rank, None))
        elif isinstance(order, Together):
            assert self._station is not None
            assert self._station.all is not None
            assert self._device is not None
            tensors = []
            for shape in order.parcel.shapes:
                if shape is not None:
                    size, dtype = shape
                    tensor = torch.empty(size, dtype=dtype, device=self._device.torch_device)
                    tensors.append(self._station.all.share(tensor))
            self._parcels.unpack(order.parcel, tensors).run(self._station)
        elif isinstance(order, Single):
            assert self._station is not None
            self._link.send(Answer(order.number, order.task.run(self._station)))

    def _join(self, order: Join) -> None:
        self._device = Device.choose(order.device, order.dtype)
        torch.set_num_threads(max(1, processors() // order.size))
        group.join(group.find_store(order.port), self._device, self.rank, order.size)

    def _load(self, order: Load) -> None:
        assert self._device is not None
        self._station = Station(order.source.load(self._device), Ranks())
        self._station.share()


def serve(address: Address, rank: int) -> None:
    """Works until sent home; ends the process."""
    # Ctrl-C reaches all processes of a terminal; the first one decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Worker(address, rank).work()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # libraries of devices may wait for processes that are gone already


def serve_torchrun(place: Place) -> int:
    """The same for a process that torchrun started; gives the exit code if the first one has no use for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    store = torchrun_store()
    store.wait([PORT_KEY, TOKEN_KEY], timedelta(days=1))
    port = int(store.get(PORT_KEY))
    if port:
        serve(Address(port, store.get(TOKEN_KEY).decode()), place.rank)
    return 0


if __name__ == "__main__":
    serve(*instructions())
