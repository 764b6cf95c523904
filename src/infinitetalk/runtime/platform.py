"""What differs between Linux, macOS and Windows, in one place: every other module is the same on all three."""

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infinitetalk.runtime.cgroups import allowance, from_table


def system_name() -> str:
    """Operating system, release and processor in words."""
    return f"{platform.system()} {platform.release()} ({platform.machine()})"


if sys.platform == "linux":

    def processors() -> int:
        """Processor cores that this process may use."""
        return len(os.sched_getaffinity(0))

else:

    def processors() -> int:
        """Processor cores that this process may use."""
        return os.cpu_count() or 1


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    class _MemoryStatus(ctypes.Structure):
        _fields_ = (
            ("length", wintypes.DWORD),
            ("load", wintypes.DWORD),
            *((name, ctypes.c_ulonglong) for name in ("total", "free", "total_page", "free_page")),
            *((name, ctypes.c_ulonglong) for name in ("total_virtual", "free_virtual", "free_extended")),
        )

    class _MemoryCounters(ctypes.Structure):
        _fields_ = (
            ("size", wintypes.DWORD),
            ("faults", wintypes.DWORD),
            ("peak_working_set", ctypes.c_size_t),
            *((f"more_{index}", ctypes.c_size_t) for index in range(7)),
        )

    def total_memory() -> int:
        """Bytes of main memory in this machine."""
        status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
        ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
        return int(status.total)

    def peak_memory() -> int:
        """Bytes of main memory that this process held at most so far."""
        counters = _MemoryCounters(size=ctypes.sizeof(_MemoryCounters))
        kernel = ctypes.windll.kernel32
        kernel.GetCurrentProcess.restype = wintypes.HANDLE
        kernel.K32GetProcessMemoryInfo.argtypes = (wintypes.HANDLE, ctypes.c_void_p, wintypes.DWORD)
        kernel.K32GetProcessMemoryInfo(kernel.GetCurrentProcess(), ctypes.byref(counters), counters.size)
        return int(counters.peak_working_set)

    def available_memory() -> int:
        """Bytes of main memory that are free now; file caches count as free."""
        status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
        ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
        return int(status.free)

else:
    import resource

    def total_memory() -> int:
        """Bytes of main memory in this machine, or that its container may use."""
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        allowed = allowance()
        return physical if allowed is None else min(physical, allowed.most)

    def available_memory() -> int:
        """Bytes of main memory that are free now, here and in this container; file caches count as free."""
        free = from_table(Path("/proc/meminfo"), "MemAvailable:") or os.sysconf("SC_PAGE_SIZE") * _free_pages()
        allowed = allowance()
        return free if allowed is None else min(free, allowed.free)

    def _free_pages() -> int:
        # macOS has no count of pages that could be freed; half of all is what it keeps for programs at the least.
        name = "SC_AVPHYS_PAGES"
        return os.sysconf(name) if name in os.sysconf_names else os.sysconf("SC_PHYS_PAGES") // 2

    def peak_memory() -> int:
        """Bytes of main memory that this process held at most so far."""
        # A program that a large process starts inherits that one's peak in what getrusage tells.
        if own := from_table(Path("/proc/self/status"), "VmHWM:"):
            return own
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # macOS counts in bytes, the others in KiB.
        return peak if sys.platform == "darwin" else peak * 1024


if sys.platform == "win32":
    import threading

    _READING = threading.Lock()

    def read_at(file: int, memory: memoryview, offset: int) -> int:
        """Reads from a place of an open file into memory; gives how many bytes there were."""
        with _READING:  # Windows has one place per open file
            os.lseek(file, offset, os.SEEK_SET)
            content = os.read(file, len(memory))
        memory[: len(content)] = content
        return len(content)

else:

    def read_at(file: int, memory: memoryview, offset: int) -> int:
        """Reads from a place of an open file into memory; gives how many bytes there were."""
        return os.preadv(file, [memory], offset)


if sys.platform == "win32":
    import msvcrt

    def _take(file: int) -> None:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _take(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Holds a file for this process while the block runs; the system lets go of it when the process dies.

    Raises:
        BlockingIOError, PermissionError: another process holds it.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        _take(file)
        yield
    finally:
        os.close(file)


if sys.platform == "linux":

    def forget_pages(file: int, offset: int, count: int) -> None:
        """Tells the system that this part of a file need not stay in its cache."""
        os.posix_fadvise(file, offset, count, os.POSIX_FADV_DONTNEED)

    def mapped_file(address: int) -> tuple[Path, int] | None:
        """The file, and the place in it, that this process has mapped at an address of its memory."""
        with Path("/proc/self/maps").open(encoding="utf-8", errors="surrogateescape") as maps:
            for line in maps:
                span, _, offset, _, node, *path = line.rstrip("\n").split(maxsplit=5)
                first, _, last = span.partition("-")
                if int(first, 16) <= address < int(last, 16):
                    known = node != "0" and path and not path[0].endswith(" (deleted)")
                    return (Path(path[0]), int(offset, 16) + address - int(first, 16)) if known else None
        return None

else:

    def forget_pages(file: int, offset: int, count: int) -> None:
        """Tells the system that this part of a file need not stay in its cache: not known here."""

    def mapped_file(address: int) -> tuple[Path, int] | None:  # noqa: ARG001 - not known here
        """The file, and the place in it, that this process has mapped at an address of its memory."""
        return None


def config_folder() -> Path:
    """Where the user's own files go: INFINITETALK_CONFIG, or the system's folder for such files."""
    windows, mac = ("APPDATA", "AppData/Roaming"), "Library/Application Support"
    return _folder("INFINITETALK_CONFIG", windows, mac, ("XDG_CONFIG_HOME", ".config"))


def cache_folder() -> Path:
    """Where files go that can be made again: INFINITETALK_CACHE, or the system's folder for such files."""
    windows, mac = ("LOCALAPPDATA", "AppData/Local"), "Library/Caches"
    return _folder("INFINITETALK_CACHE", windows, mac, ("XDG_CACHE_HOME", ".cache"))


def data_folder() -> Path:
    """Where what was made for the user stays: INFINITETALK_DATA, or the system's folder for such files."""
    windows, mac = ("LOCALAPPDATA", "AppData/Local"), "Library/Application Support"
    return _folder("INFINITETALK_DATA", windows, mac, ("XDG_DATA_HOME", ".local/share"))


def _folder(ours: str, windows: tuple[str, str], mac: str, others: tuple[str, str]) -> Path:
    """The folder that our variable names, or one within the system's: where its variable says, or at home."""
    if given := os.environ.get(ours):
        return Path(given).expanduser()
    if sys.platform == "darwin":
        return Path.home() / mac / "infinitetalk"
    variable, place = windows if sys.platform == "win32" else others
    return Path(os.environ.get(variable) or Path.home() / place) / "infinitetalk"
