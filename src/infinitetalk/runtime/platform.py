"""What differs between Linux, macOS and Windows, in one place: every other module is the same on all three."""

import os
import platform
import sys

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

else:
    import resource

    def total_memory() -> int:
        """Bytes of main memory in this machine."""
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def peak_memory() -> int:
        """Bytes of main memory that this process held at most so far."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # macOS counts in bytes, the others in KiB.
        return peak if sys.platform == "darwin" else peak * 1024
