"""Downloads a planned model file by file, with room on the disk made sure of before the first byte."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import disk_usage
from typing import Protocol

from infinitetalk.core.errors import MachineError, ModelError
from infinitetalk.core.presets import Role
from infinitetalk.weights.hub.client import Hub, cached, present
from infinitetalk.weights.hub.fetch import fetch, verify
from infinitetalk.weights.hub.store import Held, Record, write

RESERVE = 2**28
"""Bytes that a download leaves free: logs, locks, and whatever else the machine is doing."""


class Watcher(Protocol):
    """Is told how a download goes."""

    def begin(self, held: Held, here: int, /) -> None: ...
    def move(self, held: Held, here: int, /) -> None: ...
    def end(self, held: Held, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes to come and bytes free on the cache's disk."""

    lacking: int
    free: int
    folder: Path


def room(hub: Hub, files: Sequence[Held]) -> Room:
    """How much is to be downloaded, and how much the disk has left."""
    folder = next(path for path in (hub.cache, *hub.cache.absolute().parents) if path.is_dir())
    lacking = sum(held.entry.size - present(hub, held.entry) for held in files)
    return Room(lacking, disk_usage(folder).free, hub.cache)


def wanted(record: Record, roles: Sequence[Role] | None) -> tuple[Held, ...]:
    """The files of a record that are to be here: all, or those of some roles."""
    kept = (held for held in record.files if not held.replaced_by)
    return tuple(held for held in kept if roles is None or held.entry.role in roles)


def check_possible(hub: Hub, files: Sequence[Held], found: Room) -> None:
    """Refuses a download that would not fit, or that may not be made.

    Raises:
        MachineError: not enough room on the disk.
        ModelError: files are lacking, and HF_HUB_OFFLINE is set.
    """
    lost = [held.entry.short for held in files if present(hub, held.entry) < held.entry.size]
    if hub.offline and lost:
        names = ", ".join(lost)
        raise ModelError(f"not in the cache {hub.cache}: {names}; HF_HUB_OFFLINE forbids to download them")
    need = found.lacking + RESERVE
    if found.lacking and need > found.free:
        raise MachineError(
            f"{found.lacking / 1e9:.1f} GB are to be downloaded to {found.folder}, but its disk has "
            f"{found.free / 1e9:.1f} GB left: make {(need - found.free) / 1e9:.1f} GB free, or set HF_HOME to a folder "
            "on another disk"
        )


def download(hub: Hub, record: Record, files: Sequence[Held], watcher: Watcher) -> None:
    """Brings the files here. The record is written first, so that what has begun can be seen, continued and removed.

    Raises:
        ModelError, MachineError: what `fetch` raises; whole files and the part of the last one stay for another try.
    """
    write(hub, record)
    for held in files:
        watcher.begin(held, present(hub, held.entry))
        fetch(hub, held.entry, partial(watcher.move, held))
        watcher.end(held)


def check(hub: Hub, files: Sequence[Held], watcher: Watcher) -> tuple[Held, ...]:
    """Reads the files that are here again; gives those whose content is not what the hub told."""
    wrong = []
    for held in files:
        path = cached(hub, held.entry)
        if path is None or not held.entry.blob:
            continue
        watcher.begin(held, 0)
        if not verify(path, held.entry, partial(watcher.move, held)):
            wrong.append(held)
        watcher.end(held)
    return tuple(wrong)
