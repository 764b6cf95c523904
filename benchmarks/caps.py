"""Holds another process to so much memory, and tells what it takes: of a GPU by NVML, of main memory by the kernel."""

import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infinitetalk.core.units import GIB
from infinitetalk.runtime.cgroups import from_table, number

CGROUPS = Path("/sys/fs/cgroup")
SAMPLED_EVERY = 0.02
"""Seconds."""
MOST_PROCESSES = 64


class _Process(ctypes.Structure):
    """NVML's nvmlProcessInfo_t."""

    _fields_ = (
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


class _Memory(ctypes.Structure):
    """NVML's nvmlMemory_t."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class Nvml:
    """NVIDIA's library of a driver's counts, for the first GPU. It makes no CUDA context, so it takes no memory there.

    Raises:
        OSError: no such library, or no GPU.
    """

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libnvidia-ml.so.1")
        self._device = ctypes.c_void_p()
        if self._library.nvmlInit_v2() or self._library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(self._device)):
            raise OSError("NVML finds no GPU")

    def used(self) -> int:
        """Bytes in use on the GPU, whoever has them."""
        memory = _Memory()
        if code := self._library.nvmlDeviceGetMemoryInfo(self._device, ctypes.byref(memory)):
            raise OSError(f"nvmlDeviceGetMemoryInfo failed with {code}")
        return int(memory.used)

    def processes(self) -> Mapping[int, int]:
        """Bytes of each process that computes; empty where a container does not see them."""
        count, found = ctypes.c_uint(MOST_PROCESSES), (_Process * MOST_PROCESSES)()
        if self._library.nvmlDeviceGetComputeRunningProcesses_v3(self._device, ctypes.byref(count), found):
            return {}
        # All bits set: the driver does not know.
        return {one.pid: one.used for one in found[: count.value] if one.used < 1 << 60}


class Cage:
    """A control group with a limit of main memory, where the kernel lets us make one.

    Args:
        limit: bytes; None for no limit.
        root: where control groups are mounted.
    """

    def __init__(self, limit: int | None, root: Path = CGROUPS) -> None:
        self.why = "no limit was asked for" if limit is None else ""
        self.folder: Path | None = None
        second = (root / "cgroup.controllers").is_file()
        names = ("memory.max", "memory.peak", "memory.current")
        older = ("memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.usage_in_bytes")
        self._limit, self._peak, self._current = names if second else older
        if limit is None:
            return
        folder = (root if second else root / "memory") / f"infinitetalk-{os.getpid()}"
        try:
            if second:
                with suppress(OSError):
                    (root / "cgroup.subtree_control").write_text("+memory", encoding="ascii")
            folder.mkdir()
            self.folder = folder
            (folder / self._limit).write_text(str(limit), encoding="ascii")
            with suppress(OSError):
                (folder / "memory.swap.max").write_text("0", encoding="ascii")
        except OSError as error:
            self.why = f"no control group can be made here ({error.strerror})"
            self.close()

    def take(self, pid: int) -> None:
        """Puts a process inside."""
        if self.folder is not None:
            try:
                (self.folder / "cgroup.procs").write_text(str(pid), encoding="ascii")
            except OSError as error:
                self.why = f"the control group takes no process ({error.strerror})"
                self.close()

    def peak(self) -> int:
        """The most bytes that it held so far, file caches included; 0 without a group."""
        if self.folder is None:
            return 0
        return number(self.folder / self._peak) or number(self.folder / self._current) or 0

    def close(self) -> None:
        """Removes the group."""
        if self.folder is not None:
            with suppress(OSError):
                self.folder.rmdir()
            self.folder = None


@dataclass(slots=True)
class Watch:
    """Looks at a process every now and then, from outside of it, and ends it if it takes too much main memory.

    A process that dies of the limit was `ended`; so limits hold even where no control group can be made.
    """

    pid: int
    limit: int | None
    cage: Cage
    gpu: Nvml | None
    ended: bool = False
    own: int = 0
    """Most bytes of main memory that only this process has: pages of files it mapped are not counted, as the system
    takes them back when it needs them; those that it pinned itself are."""
    process: int = 0
    """Most bytes of the GPU that the driver counts for this process alone, its context included; 0: not known."""
    used: int = 0
    """The same of the whole GPU, less what was in use before."""
    group: int = 0
    before: int = field(default=0)
    available: int = field(default=0)
    least: int = field(default=1 << 60)

    def look(self) -> None:
        """Looks once."""
        status = Path("/proc") / str(self.pid) / "status"
        self.own = max(self.own, from_table(status, "RssAnon:") + from_table(status, "RssShmem:"))
        self.least = min(self.least, from_table(Path("/proc/meminfo"), "MemAvailable:"))
        self.group = max(self.group, self.cage.peak())
        if self.gpu is not None:
            self.used = max(self.used, self.gpu.used() - self.before)
            every = self.gpu.processes()
            # A container may number processes otherwise than the driver: then the only one there is ours.
            mine = every.get(self.pid, next(iter(every.values())) if len(every) == 1 else 0)
            self.process = max(self.process, mine)
        if self.limit is not None and self.own > self.limit and not self.ended:
            self.ended = True
            os.kill(self.pid, signal.SIGKILL)

    def told(self) -> dict[str, Any]:
        """What was seen, in GiB."""
        figures: dict[str, Any] = {
            "ram_own_peak_gib": self.own / GIB,
            "ram_available_dropped_gib": (self.available - self.least) / GIB,
        }
        if self.group:
            figures["ram_cgroup_peak_gib"] = self.group / GIB
        if self.gpu is not None:
            figures |= {"vram_used_peak_gib": self.used / GIB, "vram_process_peak_gib": self.process / GIB}
            figures["vram_peak_gib"] = (self.process or self.used) / GIB
        return figures


@contextmanager
def watching(running: "subprocess.Popen[str]", limit: int | None, cage: Cage, before: int) -> Iterator[Watch]:
    """Watches a process while this lasts. `before`: bytes of the GPU that were in use before it."""
    watch = Watch(running.pid, limit, cage, nvml(), before=before)
    watch.available = from_table(Path("/proc/meminfo"), "MemAvailable:")
    over = threading.Event()

    def keep_looking() -> None:
        while not over.wait(SAMPLED_EVERY):
            with suppress(ProcessLookupError):
                watch.look()

    thread = threading.Thread(target=keep_looking, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()
        watch.group = max(watch.group, cage.peak())


def nvml() -> Nvml | None:
    """NVML, where there is one."""
    with suppress(OSError):
        return Nvml()
    return None
