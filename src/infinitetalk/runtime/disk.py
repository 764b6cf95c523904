"""How fast weights come from disk: a short measurement that does not read from memory by mistake.

Files that were read or written lately lie in the system's cache, and reading them tells nothing of the disk. So the
measurement reads past the cache where the system offers that (O_DIRECT), and otherwise asks it to forget the file
first. A file that had to be written for it may still lie in a cache of the disk, or of the machine that a virtual one
runs on: then the figure is a bound, and says so.
"""

import contextlib
import mmap
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from infinitetalk.runtime.platform import forget_pages

PIECE = 8 * 2**20
_SAMPLE, _WRITTEN = 128 * 2**20, 64 * 2**20
"""Bytes that are read at most; and those that are written first where no file is large enough."""
_SECONDS = 1.5
"""A slow disk is not read for longer."""
_SUFFIXES = (".safetensors", ".gguf", ".pth", ".bin", "")


@dataclass(frozen=True, slots=True)
class DiskSpeed:
    """What a folder's disk did."""

    folder: Path
    read: float
    """Bytes per second, read in one stream."""
    sure: bool
    """Whether the system's cache was passed by and the file was not just written; else the disk may be slower."""
    bytes: int
    """How much was read."""
    free: int
    """Bytes that are free there."""


def measure(folder: Path) -> DiskSpeed | None:
    """Reads a large file of a folder, or one that is written for it, for a second and a half at most.

    Returns:
        None where there is nothing to read and nothing can be written.
    """
    free = _free(folder)
    large = _large_file(folder)
    with contextlib.suppress(OSError):
        if large is not None:
            read, direct, count = _read(large)
            return DiskSpeed(folder, read, direct, count, free)
        with _written(folder, min(_WRITTEN, free // 4)) as path:
            read, _, count = _read(path)
            return DiskSpeed(folder, read, False, count, free)
    return None


def _free(folder: Path) -> int:
    import shutil

    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free
    return 0


def _large_file(folder: Path) -> Path | None:
    """A weight file of the folder that is as large as the sample."""
    with contextlib.suppress(OSError):
        for depth in ("*", "*/*", "*/*/*"):
            for path in folder.glob(depth):
                if path.suffix in _SUFFIXES and path.is_file() and path.stat().st_size >= _SAMPLE:
                    return path
    return None


@contextlib.contextmanager
def _written(folder: Path, count: int) -> Iterator[Path]:
    """A file of random bytes in the folder; gone afterwards."""
    if count < PIECE:
        raise OSError("no room")
    number, name = tempfile.mkstemp(prefix="infinitetalk-disk-", dir=folder)
    try:
        piece = os.urandom(PIECE)
        for _ in range(count // PIECE):
            os.write(number, piece)
        os.fsync(number)
        os.close(number)
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _read(path: Path) -> tuple[float, bool, int]:
    """Bytes per second, whether past the cache, and how many bytes were read."""
    number, direct = _open(path)
    try:
        # Anonymous memory begins at a page, as O_DIRECT wants it.
        with mmap.mmap(-1, PIECE) as memory, memoryview(memory) as view:
            done, started = 0, time.perf_counter()
            while done < _SAMPLE and time.perf_counter() - started < _SECONDS:
                count = os.readv(number, [view]) if hasattr(os, "readv") else len(os.read(number, PIECE))
                done += count
                if count < PIECE:
                    break
            seconds = time.perf_counter() - started
    finally:
        os.close(number)
    return done / max(seconds, 1e-9), direct, done


def _open(path: Path) -> tuple[int, bool]:
    """Opens a file for reading past the cache if the system can, else after asking it to forget the file."""
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0)
    if hasattr(os, "O_DIRECT"):
        with contextlib.suppress(OSError):
            return os.open(path, flags | os.O_DIRECT), True
    number = os.open(path, flags)
    forget_pages(number, 0, 0)
    return number, False
