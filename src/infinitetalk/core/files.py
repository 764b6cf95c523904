"""Files that are whole or not there at all, whenever the process or the machine stops."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def digest(path: Path) -> str:
    """The SHA-256 of a file's bytes.

    Raises:
        OSError: a file that cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Returns when a file's bytes are on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def durable(path: Path) -> Iterator[Path]:
    """Gives a path to write to. When the block ends, its bytes are on the disk and it is moved to `path`.

    An error leaves what was at `path` before, and nothing else.

    Raises:
        OSError: the disk is full or gone.
    """
    fresh = path.with_name(path.name + ".new")
    try:
        yield fresh
        sync(fresh)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # elsewhere folders cannot be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
