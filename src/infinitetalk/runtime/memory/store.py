"""A sequence of modules whose weights come to the device just before each of them works.

Every module's weights lie in records (see `record`), one per use. Some records stay on the device. The others come from
main memory or from disk into a few slots there, each into its own: while one module computes in its slot, the next
record is copied into another. A copy waits, on the device, until its slot is free; computing waits until its slot is
filled. The processor waits for neither, and nothing is allocated on the way.
"""

from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from infinitetalk.core.memory import Tier
from infinitetalk.runtime.memory.host import HostMemory
from infinitetalk.runtime.memory.lanes import Event, Lanes, lanes_of, release
from infinitetalk.runtime.memory.record import Layout, put, sort_by_use, tensors_of
from infinitetalk.runtime.memory.sources import DiskSource, MemorySource, Record, Source
from infinitetalk.runtime.memory.spool import Spool, in_file_order

SLOTS = 2


@dataclass(slots=True, eq=False)
class _Entry:
    """The weights of one module for one use."""

    module: nn.Module
    layout: Layout
    record: Record | None
    """Where they come from; None for weights that stay on the device."""


@dataclass(slots=True, eq=False)
class _Slot:
    """A piece of the device's memory that records take turns in."""

    memory: Tensor
    filled: Event
    free: Event
    holds: _Entry | None = None


@dataclass(slots=True)
class _Group:
    """All modules' weights for one use, in order."""

    entries: list[_Entry] = field(default_factory=list)
    moving: list[_Entry] = field(default_factory=list)
    """Those that come and go."""
    order: list[Record] = field(default_factory=list)
    """Their records."""


class Store:
    """Modules of one network, numbered from 0 in the order in which they work.

    Add them one by one, seal the store, then `walk`.

    Args:
        device: where they work.
        tier: where their weights are in the meantime: `pinned` (in main memory) or `disk`.
        uses: what the weights of some of a module's submodules are for; all others are for `steady`.
        steady: the use that is walked over and over.
        resident: which modules' weights for the steady use stay on the device.
        folder: where files are written for weights that no file holds as they are needed; for the tier `disk`.
        lanes: the device's, unless a test has its own.
    """

    def __init__(
        self,
        device: torch.device,
        tier: Tier,
        *,
        steady: Hashable,
        uses: Mapping[str, Hashable] | None = None,
        resident: Callable[[int], bool] = lambda _number: False,
        folder: Path | None = None,
        lanes: Lanes | None = None,
    ) -> None:
        self._device = device
        self._lanes = lanes or lanes_of(device)
        self._uses, self._steady = dict(uses or {}), steady
        self._resident = resident
        self._pinned = device.type == "cuda"
        if tier is Tier.DISK and folder is None:
            raise ValueError("the tier disk needs a folder")
        self._spool = Spool(folder) if tier is Tier.DISK and folder is not None else None
        self._groups: dict[Hashable, _Group] = {}
        self._slots: list[_Slot] = []
        self._source: Source = MemorySource()
        self._count = 0
        self.stalls: list[tuple[Event, Event]] | None = None
        """A list here collects timed events before and behind every wait of computing for a copy."""

    def __len__(self) -> int:
        return self._count

    @property
    def modules(self) -> list[nn.Module]:
        """All modules in order; they have shapes, and weights only while it is their turn."""
        return [entry.module for entry in self._groups[self._steady].entries] if self._groups else []

    @property
    def slot_bytes(self) -> int:
        """Bytes of the device's memory that the slots take."""
        return sum(slot.memory.nbytes for slot in self._slots)

    def moving_bytes(self, use: Hashable) -> int:
        """Bytes that one walk brings to the device."""
        return sum(entry.layout.bytes for entry in self._groups[use].moving)

    def add(self, module: nn.Module) -> None:
        """Takes over the weights of the next module, which are on the CPU; it may be used only in walks from now on.

        Raises:
            MachineError: main memory that cannot be pinned, or a disk that is full.
        """
        tensors = tensors_of(module)
        for use, names in sort_by_use(list(tensors), self._uses, self._steady):
            part = {name: tensors[name] for name in names}
            if self._spool is not None:
                part = in_file_order(part)
            layout = Layout.of(part)
            group = self._groups.setdefault(use, _Group())
            if use == self._steady and self._resident(self._count):
                memory = self._empty(layout.bytes)
                layout.fill(memory, part)
                layout.lay(module, memory)
                group.entries.append(_Entry(module, layout, None))
                continue
            entry = _Entry(module, layout, self._keep(layout, part))
            group.entries.append(entry)
            group.moving.append(entry)
            _leave(module, layout)
        self._count += 1

    def _keep(self, layout: Layout, part: Mapping[str, Tensor]) -> Record:
        if self._spool is not None:
            return Record(layout.bytes, extents=self._spool.store(layout, part))
        host = HostMemory(layout.bytes, pinned=self._pinned)
        layout.fill(host.memory, part)
        return Record(layout.bytes, host)

    def seal(self) -> None:
        """Closes the list of modules. The device's memory for the slots is taken when a walk begins."""
        moving = [entry for group in self._groups.values() for entry in group.moving]
        if not moving:
            return
        largest = max(entry.layout.bytes for entry in moving)
        for group in self._groups.values():
            group.order = [entry.record for entry in group.moving if entry.record is not None]
        if self._spool is not None:
            self._source = DiskSource(self._lanes, largest, pinned=self._pinned)

    def _empty(self, count: int) -> Tensor:
        with torch.inference_mode(mode=False):  # it may be filled outside of the mode
            return torch.empty(count, dtype=torch.uint8, device=self._device)

    def _take_slots(self) -> None:
        if self._slots:
            return
        largest = max((record.bytes for group in self._groups.values() for record in group.order), default=0)
        for _ in range(min(SLOTS, max(len(group.moving) for group in self._groups.values()))):
            memory = self._empty(largest)
            slot = _Slot(memory, self._lanes.event(), self._lanes.event())
            # Whoever had this memory before may still be computing with it.
            self._lanes.computed(slot.free)
            self._slots.append(slot)
        for group in self._groups.values():
            for number, entry in enumerate(group.moving):
                entry.layout.lay(entry.module, self._slot(number).memory)

    def vacate(self) -> None:
        """Gives the slots' memory back to the device until the next walk."""
        if not self._slots:
            return
        self._lanes.finish()
        self._slots = []
        for group in self._groups.values():
            for entry in group.moving:
                _leave(entry.module, entry.layout)
        release(self._device)

    def _slot(self, number: int) -> _Slot:
        """The slot of a moving entry, always the same one, so that views into it are made only once."""
        return self._slots[number % len(self._slots)]

    def walk(self, use: Hashable) -> Iterator[nn.Module]:
        """Yields the modules in order; each has its weights for this use until the next one is asked for."""
        group = self._groups.get(use)
        return iter(()) if group is None else self._walk(group, again=use == self._steady)

    def _walk(self, group: _Group, *, again: bool) -> Generator[nn.Module, None, None]:
        self._begin(group, again=again)
        number = 0
        for entry in group.entries:
            if entry.record is None:
                yield entry.module
                continue
            self._ready(group, number, again=again)
            try:
                yield entry.module
            finally:
                self._lanes.computed(self._slot(number).free)
            if (following := self._following(group, number, again=again)) is not None:
                self._bring(group, following, wait=False)
            number += 1

    def _begin(self, group: _Group, *, again: bool) -> None:
        """Tells the source what comes, from the first entry that is not in its slot yet."""
        if group.moving:
            self._take_slots()
        missing = (number for number, entry in enumerate(group.moving) if self._slot(number).holds is not entry)
        first = next(missing, None)
        if first is not None:
            early = group.moving[:first]
            for slot in self._slots:  # what is asked for must come in one order without gaps
                slot.holds = slot.holds if slot.holds in early else None
            self._source.follow(group.order, first, again=again)

    def _ready(self, group: _Group, number: int, *, again: bool) -> None:
        """Lets computing wait for an entry, and brings those behind it as far as slots allow."""
        before = self._mark()
        self._bring(group, number, wait=True)
        for ahead in range(1, len(self._slots)):
            if number + ahead < len(group.moving) or again:
                later = (number + ahead) % len(group.moving)
                if self._slot(later) is not self._slot(number):
                    self._bring(group, later, wait=False)
        self._lanes.compute_waits(self._slot(number).filled)
        if before is not None and self.stalls is not None:
            behind = self._mark()
            self.stalls.append((before, behind))

    def _mark(self) -> Event | None:
        if self.stalls is None:
            return None
        event = self._lanes.event(timed=True)
        self._lanes.computed(event)
        return event

    def _following(self, group: _Group, number: int, *, again: bool) -> int | None:
        """The next entry of a slot that has just become free."""
        later = number + len(self._slots)
        if later < len(group.moving):
            return later
        return number % len(self._slots) if again else None

    def _bring(self, group: _Group, number: int, *, wait: bool) -> None:
        """Queues the copy of an entry into its slot; without `wait` only if its bytes are there."""
        entry, slot = group.moving[number], self._slot(number)
        if slot.holds is entry or entry.record is None:
            return
        content = self._source.take(entry.record, wait=wait)
        if content is None:
            return
        self._lanes.copy_waits(slot.free)
        slot.holds = entry
        self._lanes.copy(slot.memory[: entry.layout.bytes], content)
        self._lanes.copied(slot.filled)
        self._source.taken()

    def close(self) -> None:
        """Gives back all memory; the modules are of no use any more."""
        self._source.close()
        self._lanes.finish()
        for group in self._groups.values():
            for entry in group.entries:
                _leave(entry.module, entry.layout)
        self._groups, self._slots, self._source = {}, [], MemorySource()

    def __del__(self) -> None:
        # A copy under way must not reach memory that others have by then. On a device that failed, none is.
        if getattr(self, "_slots", None):
            with suppress(RuntimeError):
                self.close()


def _leave(module: nn.Module, layout: Layout) -> None:
    """Takes a module's tensors away; shapes and types stay."""
    for one in layout.fields:
        put(module, one.name, torch.empty(one.shape, dtype=one.dtype, device="meta"))


def spread(count: int, resident: int) -> frozenset[int]:
    """Which of `count` modules stay on the device if `resident` of them may: evenly spread over the others.

    The number of those that move is made even, so that they alternate between two slots over and over.
    """
    resident = max(0, min(resident, count))
    if resident < count and (count - resident) % SLOTS and resident:
        resident -= 1
    return frozenset((2 * index + 1) * count // (2 * resident) for index in range(resident))


def seconds_stalled(pairs: Iterable[tuple[torch.cuda.Event, torch.cuda.Event]]) -> list[float]:
    """What the `stalls` of a store say, after the device has finished: seconds of each wait."""
    return [before.elapsed_time(behind) / 1000 for before, behind in pairs]
