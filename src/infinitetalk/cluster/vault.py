"""Files at a URL that every node reaches: s3, gs, file, memory and whatever else fsspec knows."""

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from infinitetalk.core.errors import MachineError, RequestError

_GROW = frozenset({"file", "local", "sftp", "ssh", "smb", "hdfs", "webhdfs", "ftp"})
"""Where a file can be seen while it is written; elsewhere it is there as a whole or not at all."""

_HALF = re.compile(r".*\.[0-9a-f]{32}\.part")
"""What a file is called while it is written there."""

OWN = ".infinitetalk"
"""Folder of the store for what is not a result."""


class Vault:
    """A folder of a store. A file in it is whole or not there.

    Args:
        url: of the folder; a path means a folder of this machine.

    Raises:
        RequestError: no URL that fsspec knows, or one whose package is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            import fsspec

            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            known = "file:///FOLDER, s3://BUCKET/FOLDER or another that fsspec and its packages know"
            raise RequestError("store", url, f"cannot be used ({error}); {known} would work") from error
        self._root = self._root.rstrip("/")
        self._grows = bool(_GROW & {*_protocols(self._files)})

    @property
    def url(self) -> str:
        """The folder, so that every node finds it."""
        return str(self._files.unstrip_protocol(self._root))

    @property
    def shared(self) -> bool:
        """Whether other processes can see it."""
        return "memory" not in _protocols(self._files)

    def where(self, name: str) -> str:
        """The URL of a file."""
        return f"{self.url}/{name}"

    def put(self, path: Path, name: str) -> None:
        """Copies a file of this machine to the store, in place of what was there.

        Raises:
            MachineError: the store cannot be written.
        """
        with self._told(name, "written"), self._whole(name) as target:
            self._files.put_file(str(path), target)

    def write(self, name: str, content: bytes) -> None:
        """Writes a small file, in place of what was there.

        Raises:
            MachineError: the store cannot be written.
        """
        with self._told(name, "written"), self._whole(name) as target:
            self._files.pipe_file(target, content)

    def get(self, name: str, path: Path) -> None:
        """Copies a file of the store to this machine.

        Raises:
            MachineError: it is not there, or cannot be read.
        """
        with self._told(name, "read"):
            self._files.get_file(self._at(name), str(path))

    def read(self, name: str) -> bytes | None:
        """What a small file holds; None if there is none.

        Raises:
            MachineError: the store cannot be read.
        """
        with self._told(name, "read"):
            try:
                return bytes(self._files.cat_file(self._at(name)))
            except FileNotFoundError:
                return None

    def has(self, name: str) -> bool:
        """Whether there is a file.

        Raises:
            MachineError: the store cannot be read.
        """
        with self._told(name, "read"):
            return bool(self._files.isfile(self._at(name)))

    def names(self, folder: str) -> list[str]:
        """Names of the files right in a folder, without it; none if there is no such folder.

        A file that is being written, or was when its writer was killed, is not there yet.

        Raises:
            MachineError: the store cannot be read.
        """
        with self._told(folder, "read"):
            with suppress(FileNotFoundError):
                self._files.invalidate_cache()
                found = self._files.ls(self._at(folder), detail=True)
                names = (str(one["name"]).rpartition("/")[2] for one in found if one["type"] == "file")
                return sorted(name for name in names if not _HALF.fullmatch(name))
            return []

    def remove(self, name: str) -> None:
        """Deletes a file or a folder with all that is in it, if it is there; a store that does not answer keeps it."""
        with suppress(Exception):
            self._files.rm(self._at(name), recursive=True)

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _whole(self, name: str) -> Iterator[str]:
        """Where to write a file so that nobody sees half of it."""
        target = self._at(name)
        if self._grows:
            self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
            part = f"{target}.{uuid.uuid4().hex}.part"
            try:
                yield part
                self._files.mv(part, target)
            except BaseException:
                with suppress(Exception):
                    self._files.rm(part)
                raise
        else:
            yield target

    @contextmanager
    def _told(self, name: str, what: str) -> Iterator[None]:
        """What goes wrong, as one line."""
        try:
            yield
        except Exception as error:  # each store has errors of its own
            reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
            line = f"{self.where(name)}: cannot be {what} ({reason}); check the store and who may use it"
            raise MachineError(line) from error


def _protocols(files: Any) -> tuple[str, ...]:
    named = files.protocol
    return (named,) if isinstance(named, str) else tuple(named)
