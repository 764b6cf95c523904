"""The first of several processes that share a model's work, as it sees the others.

It alone reads what a request names, writes files and tells of progress; the others (`engine.worker`) wait for tasks. So
a video made by many processes takes the same path as one made by one. Whatever happens to any of them ends the work of
all, with one line.
"""

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple, Protocol

import torch

from infinitetalk.core.errors import InfiniteTalkError, MachineError, ModelError
from infinitetalk.core.ranks import Place
from infinitetalk.core.version import own_version
from infinitetalk.engine.model import Model
from infinitetalk.engine.tasks import Parcel, Parcels, Task
from infinitetalk.ops.ranks import Ranks
from infinitetalk.runtime import group
from infinitetalk.runtime.device import Device
from infinitetalk.runtime.links import Address, Harbour, Helper, Link

WORKER = "infinitetalk.engine.worker"
START_SECONDS = 180.0
"""How long a process may take until it calls: importing torch from a slow disk takes a minute."""
GRACE = 0.7
"""Seconds that a failure waits for another one that caused it."""
LAST_RESORT = 20.0
"""Seconds after which a process that hangs in an exchange without end is ended."""
PORT_KEY, TOKEN_KEY = "infinitetalk/port", "infinitetalk/token"


class Hello(NamedTuple):
    """What a process says of itself first."""

    rank: int
    versions: tuple[tuple[str, str], ...]


class Join(NamedTuple):
    """How a process joins the group."""

    port: int
    size: int
    device: str
    dtype: str


class Source(Protocol):
    """Where a process gets its networks from."""

    def load(self, device: Device) -> Model:
        """Reads them, or makes them."""


class Load(NamedTuple):
    """Whose networks a process loads."""

    source: Source


class Together(NamedTuple):
    """A task of everybody."""

    parcel: Parcel


class Single(NamedTuple):
    """A task of one process, whose answer is sent back."""

    number: int
    task: Task


class Answer(NamedTuple):
    """What a process made alone; `number` -1: it is ready."""

    number: int
    value: Any


class Failure(NamedTuple):
    """Why a process ended."""

    rank: int
    line: str
    code: int = 1
    cause: bool = True
    """False for one that may have failed because another one did."""


class Bye(NamedTuple):
    """The end of the work."""


class Crew:
    """The other processes; see `start`."""

    def __init__(self, size: int, device: Device, helpers: list[Helper]) -> None:
        self.size = size
        self._device = device
        self._helpers = helpers
        self._links: dict[int, Link] = {}
        self._hellos: dict[int, Hello] = {}
        self._changed = threading.Condition()
        self._failures: list[Failure] = []
        self._answers: dict[int, Future[Any]] = {}
        self._asked = 0
        self._over = False
        self._ending = False
        self._busy = False
        self._inside = 0
        self._parcels = Parcels()
        self._ranks: Ranks | None = None

    @classmethod
    def start(cls, size: int, device: Device, place: Place | None = None) -> "Crew":
        """Starts the others, or waits for those that torchrun started, and forms a group with them.

        Args:
            size: how many processes, this one among them.
            device: this one's; the others take those behind it.
            place: torchrun's, if it started this one.

        Raises:
            MachineError: a process that does not start, or has other versions.
        """
        group.check_free()
        harbour = Harbour()
        helpers = []
        try:
            if place is None:
                helpers = [Helper(WORKER, harbour.address, rank) for rank in range(1, size)]
            else:
                _publish(harbour.address)
            crew = cls(size, device, helpers)
            try:
                crew._gather(harbour)
            except BaseException:
                crew.abandon()
                raise
            atexit.register(crew._part)
            return crew
        finally:
            harbour.close()

    @property
    def alive(self) -> bool:
        """See `Company`."""
        return not self._over

    @property
    def all(self) -> Ranks:
        """The group of everybody."""
        assert self._ranks is not None
        return self._ranks

    def _gather(self, harbour: Harbour) -> None:
        end = time.monotonic() + START_SECONDS
        while len(self._hellos) < self.size - 1:
            line = harbour.accept(0.2)
            if line is not None:
                self._welcome(line)
            self._check_started(end)
        self._check_versions()
        store = group.begin_store()
        dtype = str(self._device.dtype).removeprefix("torch.")
        for rank, link in self._links.items():
            link.send(Join(store.port, self.size, device_of(self._device, rank), dtype))
        with self.watching():
            group.join(store, self._device, 0, self.size)
        self._store = store  # as long as the group lives
        self._ranks = Ranks()

    def _welcome(self, line: Any) -> None:
        """A process that calls; who it is, it says in its first message."""
        known: list[int] = []

        def heard(message: Any) -> None:
            if isinstance(message, Hello):
                known.append(message.rank)
                with self._changed:
                    self._hellos[message.rank], self._links[message.rank] = message, link
                    self._changed.notify_all()
            elif isinstance(message, Answer):
                self._answers[message.number].set_result(message.value)
            elif isinstance(message, Failure):
                self._fail(message)

        def lost() -> None:
            for rank in known:
                self._lose(rank)

        link = Link(line, heard, lost)
        link.listen()
        with self._changed:
            self._changed.wait_for(lambda: bool(known), 10)

    def _check_started(self, end: float) -> None:
        for helper in self._helpers:
            if helper.rank not in self._hellos and helper.process.poll() is not None:
                raise MachineError(f"rank {helper.rank} of {self.size} did not start: {helper.fate()}")
        if time.monotonic() > end:
            missing = sorted(set(range(1, self.size)) - set(self._hellos))
            raise MachineError(f"rank {missing[0]} of {self.size} did not start within {START_SECONDS:.0f} s")

    def _check_versions(self) -> None:
        own = dict(versions())
        for rank, hello in sorted(self._hellos.items()):
            for name, found in hello.versions:
                if own[name] != found:
                    raise MachineError(
                        f"rank {rank} has {name} {found}, and rank 0 has {name} {own[name]}: all need the same"
                    )

    def _lose(self, rank: int) -> None:
        """A process is gone."""
        if self._over or self._ending:
            return
        helper = next((helper for helper in self._helpers if helper.rank == rank), None)
        known = any(failure.rank == rank for failure in self._failures)
        if not known:
            self._fail(Failure(rank, helper.fate() if helper else "its connection was lost"))

    def _fail(self, failure: Failure) -> None:
        with self._changed:
            first = not self._failures
            self._failures.append(failure)
            self._changed.notify_all()
        if first:
            threading.Thread(target=self._end_all, daemon=True).start()

    def _end_all(self) -> None:
        """Ends the work of all after a failure, whatever this process waits for."""
        with self._changed:
            self._changed.wait_for(lambda: any(failure.cause for failure in self._failures), GRACE)
        self._ending = True
        for link in list(self._links.values()):
            link.close()
        for future in list(self._answers.values()):
            if not future.done():
                future.set_exception(MachineError("another process failed"))
        group.wake()
        end = time.monotonic() + LAST_RESORT
        while self._inside and not self._over:
            time.sleep(0.1)
            if time.monotonic() > end:
                error = self._error()
                sys.stderr.write(f"error: {error}\n")
                sys.stderr.flush()
                os._exit(error.exit_code)

    def _error(self) -> InfiniteTalkError:
        """The failure that caused the others."""
        failure = next((failure for failure in self._failures if failure.cause), self._failures[0])
        line = f"rank {failure.rank} of {self.size}: {failure.line}"
        return ModelError(line) if failure.code == ModelError.exit_code else MachineError(line)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """See `Company`."""
        self._check_there()
        self._inside += 1
        try:
            yield
            if self._failures:
                self._await_cause()
                raise self._error()
        except BaseException as error:
            told = isinstance(error, Exception) and self._others_fault(error)
            if self._busy or self._failures:
                self.abandon()
            if told and not isinstance(error, InfiniteTalkError):
                raise self._error() from error
            raise
        finally:
            self._inside -= 1

    def _check_there(self) -> None:
        if self._over:
            raise MachineError("the processes that shared this model's work have ended; load the model again")
        if self._failures:  # while this process did something else
            self._await_cause()
            self.abandon()
            raise self._error()

    def _others_fault(self, error: Exception) -> bool:
        """Whether an error here is another process' failure."""
        if self._failures:
            self._await_cause()
            return True
        if not group.from_exchange(error):
            return False
        with self._changed:
            self._changed.wait_for(lambda: bool(self._failures), 5)
        if self._failures:
            self._await_cause()
        return bool(self._failures)

    def _await_cause(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: any(failure.cause for failure in self._failures), GRACE)

    @contextmanager
    def together(self, task: Task) -> Iterator[None]:
        """See `Company`."""
        with self.watching():
            self._busy = True
            parcel, tensors = self._parcels.pack(task)
            for link in self._links.values():
                link.send(Together(parcel))
            for tensor in tensors:
                self.all.share(tensor.to(self._device.torch_device).contiguous())
            yield
            self._busy = False

    def ask(self, rank: int, task: Task) -> Callable[[], Any]:
        """Lets one process do a task alone; gives what waits for its answer."""
        self._check_there()
        future: Future[Any] = Future()
        self._answers[self._asked] = future
        self._links[rank].send(Single(self._asked, task))
        self._asked += 1

        def answer() -> Any:
            with self.watching():
                return future.result()

        return answer

    def load(self, source: Callable[[int], Source]) -> Callable[[], None]:
        """Lets all others load their networks; gives what waits for them."""
        waiting = []
        for rank, link in self._links.items():
            number = -rank
            self._answers[number] = Future()
            link.send(Load(source(rank)))
            waiting.append(self._answers[number])

        def loaded() -> None:
            with self.watching():
                for future in waiting:
                    future.result()

        return loaded

    def _part(self) -> None:
        """The end of this process."""
        self._leave(in_vain=self._busy or bool(self._failures))

    def close(self) -> None:
        """See `Company`."""
        self._leave(in_vain=False)

    def abandon(self) -> None:
        """Ends all others at once, whatever they do; this process' own exchanges end, too."""
        self._leave(in_vain=True)

    def _leave(self, *, in_vain: bool) -> None:
        if self._over:
            return
        self._over = True
        atexit.unregister(self._part)
        for link in list(self._links.values()):
            if not in_vain:
                link.send(Bye())
        if in_vain:
            for link in list(self._links.values()):
                link.close()
        group.leave()
        for helper in self._helpers:
            helper.end(0.5 if in_vain and helper.rank not in self._hellos else 5)
        for link in list(self._links.values()):
            link.close()


def versions() -> tuple[tuple[str, str], ...]:
    """What must be the same in all processes."""
    return ("torch", torch.__version__), ("infinitetalk", own_version())


def device_of(first: Device, rank: int) -> str:
    """The name of the device of a process, of which the first one has the first."""
    where = first.torch_device
    return where.type if where.type != "cuda" else f"cuda:{(where.index or 0) + rank}"


def _publish(address: Address) -> None:
    """Tells the processes that torchrun started where to call."""
    store = torchrun_store()
    store.set(TOKEN_KEY, address.token)
    store.set(PORT_KEY, str(address.port))


def release_torchrun() -> None:
    """Sends those home whom the first process never had work for."""
    store = torchrun_store()
    if not store.check([PORT_KEY]):
        store.set(TOKEN_KEY, "")
        store.set(PORT_KEY, "0")


@cache
def torchrun_store() -> Any:
    """Where torchrun's processes leave notes for each other."""
    from torch.distributed.rendezvous import rendezvous

    store, _, _ = next(rendezvous("env://"))
    return store
