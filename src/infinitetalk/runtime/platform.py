"""What differs between Linux, macOS and Windows, in one place: every other module is the same on all three."""

import os
import platform
import sys
from pathlib import Path

from infinitetalk.runtime.cgroups import allowance, from_table

GIB = 2**30


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
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # macOS counts in bytes, the others in KiB.
        return peak if sys.platform == "darwin" else peak * 1024
