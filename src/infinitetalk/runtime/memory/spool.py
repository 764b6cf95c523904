"""Records in files: tensors that lie in weight files as they are needed are read from there, others are written out."""

import contextlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from infinitetalk.core.errors import MachineError
from infinitetalk.core.units import GIB
from infinitetalk.runtime.memory.record import Layout, aligned
from infinitetalk.runtime.platform import mapped_file

PAGE = 4096
CHECKED = 64
"""Bytes at each end of a tensor that are compared with what its file holds."""
BINARY = getattr(os, "O_BINARY", 0)


class WeightFile:
    """A file that stays open as long as this object lives."""

    def __init__(self, path: Path, number: int) -> None:
        self.path = path
        self.number = number
        """The system's, for reading."""
        weakref.finalize(self, os.close, number)

    @classmethod
    def open(cls, path: Path) -> "WeightFile":
        """Opens a file for reading."""
        return cls(path, os.open(path, os.O_RDONLY | BINARY))


@dataclass(frozen=True, slots=True)
class Extent:
    """A part of a record that lies in one piece of a file."""

    file: WeightFile
    offset: int
    """In the file."""
    start: int
    """In the record."""
    bytes: int


class Spool:
    """Finds or makes a place in files for records.

    Args:
        folder: where what must be written goes, in a file that is gone when this object and its extents are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[Path, WeightFile] = {}
        self._own: WeightFile | None = None
        self.written = 0
        """Bytes of the file of our own."""

    def store(self, layout: Layout, tensors: Mapping[str, Tensor]) -> tuple[Extent, ...]:
        """Gives the places of a record's tensors, which are on the CPU.

        Raises:
            MachineError: the folder is full or cannot be written.
        """
        extents = []
        for field in layout.fields:
            tensor = tensors[field.name]
            if field.bytes:
                file, offset = self._found(tensor) or self._write(tensor)
                extents.append(Extent(file, offset, field.offset, field.bytes))
        return tuple(joined(extents))

    def _found(self, tensor: Tensor) -> tuple[WeightFile, int] | None:
        """Where the very bytes of a tensor that is mapped from a file lie."""
        if not tensor.is_contiguous() or tensor.device.type != "cpu":
            return None
        mapped = mapped_file(tensor.data_ptr())
        if mapped is None:
            return None
        path, offset = mapped
        file = self._known.get(path)
        if file is None:
            try:
                file = self._known.setdefault(path, WeightFile.open(path))
            except OSError:
                return None
        content = _bytes(tensor)
        for start in (0, max(0, len(content) - CHECKED)):
            part = content[start : start + CHECKED]
            os.lseek(file.number, offset + start, os.SEEK_SET)
            if os.read(file.number, len(part)) != part.tobytes():
                return None
        return file, offset

    def _write(self, tensor: Tensor) -> tuple[WeightFile, int]:
        content = _bytes(tensor.contiguous())
        offset = self.written
        try:
            if self._own is None:
                self._own = _temporary(self._folder)
            os.lseek(self._own.number, offset, os.SEEK_SET)
            rest = content
            while len(rest):
                rest = rest[os.write(self._own.number, rest) :]
        except OSError as error:
            free = shutil.disk_usage(self._folder).free if self._folder.is_dir() else 0
            raise MachineError(
                f"{self._folder}: weights that are computed in another number format than they are stored in must be "
                f"written there, and after {offset / GIB:.1f} GiB it failed ({error.strerror}; {free / GIB:.1f} GiB "
                f"are free); a converted model folder needs no such copy"
            ) from error
        self.written = aligned(offset + len(content), PAGE)
        return self._own, offset


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().reshape(-1).view(torch.uint8).numpy().data


def _temporary(folder: Path) -> WeightFile:
    """A new file that nobody else sees, where the system allows, and that is gone when it is closed."""
    folder.mkdir(parents=True, exist_ok=True)
    number, name = tempfile.mkstemp(prefix="weights-", dir=folder)
    file = WeightFile(Path(name), number)
    try:
        os.unlink(name)  # noqa: PTH108 - beside os.open and its kin
    except PermissionError:
        # Windows keeps open files. Finalizers run newest first, so the file is tried after it is closed.
        weakref.finalize(file, _remove, name)
    return file


def _remove(name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name)  # noqa: PTH108 - as above


def in_file_order(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as they lie in their mapped file, so that neighbours there are neighbours in a record: one read."""
    return dict(sorted(tensors.items(), key=lambda item: item[1].data_ptr()))


def joined(extents: Sequence[Extent]) -> Iterator[Extent]:
    """Extents in the order of the record; those that follow each other in the file too become one."""
    last: Extent | None = None
    for extent in sorted(extents, key=lambda extent: extent.start):
        if last is not None and last.file is extent.file and extent.offset - last.offset == extent.start - last.start:
            last = Extent(last.file, last.offset, last.start, extent.start - last.start + extent.bytes)
            continue
        if last is not None:
            yield last
        last = extent
    if last is not None:
        yield last
