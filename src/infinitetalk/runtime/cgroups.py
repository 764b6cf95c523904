"""How much main memory the container or control group of this process may use, on Linux."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


class Allowance(NamedTuple):
    """Bytes of main memory: what a control group may use at most, and what of it could be taken now."""

    most: int
    free: int


def number(path: Path) -> int | None:
    """The number that a file of the kernel holds; None for no file or no limit."""
    with suppress(OSError, ValueError):
        return int(path.read_text(encoding="ascii"))
    return None


def from_table(path: Path, name: str) -> int:
    """The number behind a name in a table of the kernel, in bytes; 0 if it is not there."""
    with suppress(OSError, ValueError):
        for line in path.read_text(encoding="ascii").splitlines():
            words = line.split()
            if words and words[0] == name:
                return int(words[1]) * (1024 if words[-1] == "kB" else 1)
    return 0


def _folders(root: Path, own: Path) -> Iterator[tuple[Path, str, str]]:
    """Folders of the groups that hold this process, inner ones first, and their files of limit and use."""
    with suppress(OSError):
        for line in own.read_text(encoding="utf-8").splitlines():
            _, kinds, inside = line.split(":", 2)
            base, files = root, ("memory.max", "memory.current")
            if kinds:
                base, files = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
            if not kinds or "memory" in kinds.split(","):
                folder = base / inside.lstrip("/")
                for group in (folder, *folder.parents):
                    if group.is_relative_to(base):
                        yield (group, *files)


def allowance(root: Path = _ROOT, own: Path = _OWN) -> Allowance | None:
    """The tightest allowance of the groups around this process; None where nothing is limited."""
    found: list[Allowance] = []
    for folder, limit, use in _folders(root, own):
        most, used = number(folder / limit), number(folder / use)
        if most is not None and used is not None:
            # Caches of files are counted as used, but are given up for whoever needs memory.
            caches = sum(from_table(folder / "memory.stat", name) for name in ("inactive_file", "active_file"))
            found.append(Allowance(most, max(0, min(most, most - used + caches))))
    return Allowance(min(one.most for one in found), min(one.free for one in found)) if found else None
