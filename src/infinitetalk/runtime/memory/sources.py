"""Where records come from on their way to the device: pinned main memory, or files read ahead by threads."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from infinitetalk.core.errors import MachineError
from infinitetalk.runtime.memory.host import HostMemory
from infinitetalk.runtime.memory.lanes import Event, Lanes
from infinitetalk.runtime.memory.spool import Extent
from infinitetalk.runtime.platform import forget_pages, read_at

PIECE = 16 * 2**20
"""Bytes that are read at a time; what lies behind them is forgotten by the system's file cache."""

READERS, STAGES = 2, 3
"""Threads that read, and buffers that they read into."""


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """A record at its source."""

    bytes: int
    memory: HostMemory | None = None
    """Its bytes in main memory, or None where they are in files."""
    extents: tuple[Extent, ...] = ()


class Source(Protocol):
    """Gives records in an order that it is told beforehand."""

    def follow(self, order: Sequence[Record], first: int, *, again: bool) -> None:
        """The next records are those of `order` from number `first`; then, with `again`, all of it over and over."""
        ...

    def take(self, record: Record, *, wait: bool) -> Tensor | None:
        """The bytes of the next record, uint8; None, without `wait`, if they are not there yet or others are next."""
        ...

    def taken(self) -> None:
        """The copy of the record taken last is queued: behind it, its memory may be used for others."""
        ...

    def close(self) -> None:
        """Ends all reading."""
        ...


class MemorySource:
    """All records are in main memory."""

    def follow(self, order: Sequence[Record], first: int, *, again: bool) -> None:
        """See `Source`."""

    def take(self, record: Record, *, wait: bool) -> Tensor | None:  # noqa: ARG002 - always there
        """See `Source`."""
        assert record.memory is not None
        return record.memory.memory

    def taken(self) -> None:
        """See `Source`."""

    def close(self) -> None:
        """See `Source`."""


@dataclass(slots=True)
class _Stage:
    """A buffer between file and device."""

    host: HostMemory
    copied: Event
    """Recorded behind the last copy out of the buffer."""


@dataclass(slots=True)
class _Reading:
    """A record on its way into a stage."""

    record: Record
    stage: _Stage
    future: "Future[None]"


class DiskSource:
    """Records in files: threads read ahead into a few buffers, as many records as there are buffers.

    Buffers go round in the order of the records, and a thread waits until the copy out of its buffer is over; nobody
    else waits. What was read is not kept in the system's file cache, so that main memory stays free.

    Args:
        largest: bytes of the largest record.
        pinned: whether the buffers are pinned.
    """

    def __init__(self, lanes: Lanes, largest: int, *, pinned: bool) -> None:
        self._lanes = lanes
        self._stages = [_Stage(HostMemory(largest, pinned=pinned), lanes.event()) for _ in range(STAGES)]
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="weights")
        self._order: Sequence[Record] = ()
        self._again = False
        self._next = 0
        """Number of the next record to be read."""
        self._turn = 0
        """Records whose reading was begun so far."""
        self._readings: deque[_Reading] = deque()

    def follow(self, order: Sequence[Record], first: int, *, again: bool) -> None:
        """See `Source`. Goes on with what is read already if it is what will be asked for."""
        awaited = order[first]
        if not (self._order is order and self._readings and self._readings[0].record is awaited):
            self._drop()
            self._order, self._next = order, first
        self._again = again
        self._read_ahead()

    def _read_ahead(self) -> None:
        while len(self._readings) < STAGES:
            if self._next == len(self._order):
                if not self._again:
                    return
                self._next = 0
            record = self._order[self._next]
            stage = self._stages[self._turn % STAGES]
            self._readings.append(_Reading(record, stage, self._threads.submit(self._read, record, stage)))
            self._next += 1
            self._turn += 1

    def _read(self, record: Record, stage: _Stage) -> None:
        self._lanes.host_waits(stage.copied)
        whole = stage.host.memory.numpy().data
        for extent in record.extents:
            for done in range(0, extent.bytes, PIECE):
                count = min(PIECE, extent.bytes - done)
                piece = whole[extent.start + done : extent.start + done + count]
                _read_piece(extent, piece, extent.offset + done)
                forget_pages(extent.file.number, extent.offset + done, count)

    def take(self, record: Record, *, wait: bool) -> Tensor | None:
        """See `Source`.

        Raises:
            MachineError: a file that cannot be read any more.
        """
        if not self._readings or self._readings[0].record is not record:
            if wait:
                raise RuntimeError("records must be taken in the order that was followed")
            return None
        reading = self._readings[0]
        if not wait and not reading.future.done():
            return None
        reading.future.result()
        return reading.stage.host.memory[: record.bytes]

    def taken(self) -> None:
        """See `Source`."""
        self._lanes.copied(self._readings.popleft().stage.copied)
        self._read_ahead()

    def _drop(self) -> None:
        """Forgets what was read ahead."""
        for reading in self._readings:
            reading.future.cancel()
        for reading in self._readings:
            if not reading.future.cancelled():
                reading.future.exception()
        self._readings.clear()

    def close(self) -> None:
        """See `Source`."""
        self._drop()
        self._threads.shutdown()


def _read_piece(extent: Extent, piece: memoryview, offset: int) -> None:
    while len(piece):
        try:
            count = read_at(extent.file.number, piece, offset)
        except OSError as error:
            raise MachineError(f"{extent.file.path}: weights cannot be read any more ({error.strerror})") from error
        if not count:
            raise MachineError(f"{extent.file.path}: the file became shorter while its weights were in use")
        piece, offset = piece[count:], offset + count
