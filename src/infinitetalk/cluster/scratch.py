"""A worker's own folder, which is gone when the worker is, however that ended."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Reads until the worker's end of the pipe is closed, which the system does when it dies.
_SWEEPER = "import shutil, sys; sys.stdin.read(); shutil.rmtree(sys.argv[1], ignore_errors=True)"


class Scratch:
    """A new folder, and a small process that deletes it when this one has ended."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="infinitetalk-worker-"))
        # A session of its own: what ends the worker with all its group must leave it be.
        self._sweeper = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _SWEEPER, str(self.folder)], stdin=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip

    def room(self, name: str) -> Path:
        """An empty folder in it."""
        room = self.folder / name
        shutil.rmtree(room, ignore_errors=True)
        room.mkdir()
        return room

    def clear(self, name: str) -> None:
        """Deletes a folder of it."""
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def close(self) -> None:
        """Deletes all of it now."""
        assert self._sweeper.stdin is not None
        self._sweeper.stdin.close()
        self._sweeper.wait()
