"""Brings one file of the hub into Hugging Face's cache: resumed where it broke off, and checked against its hash.

huggingface_hub throws away what an interrupted process had received, so the bytes are received here; their place, name
and lock in the cache are its own, so that other programs find the file there.
"""

import errno
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from huggingface_hub import hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.file_download import are_symlinks_supported
from huggingface_hub.utils import WeakFileLock, build_hf_headers, get_session, hf_raise_for_status

from infinitetalk.core.errors import MachineError
from infinitetalk.weights.hub.client import (
    SHA256_DIGITS,
    Entry,
    Hub,
    blob_path,
    cached,
    explain,
    network_errors,
    partial_path,
    transport_error,
)

CHUNK = 4 * 2**20
TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as broken."""
TRIES = 5
"""How often a connection may break without a byte received in between."""
PAUSE = 1.0
"""Seconds before the first new try; doubled before each further one."""
LOCK_TIMEOUT = 5.0
TRANSIENT = (408, 429, 500, 502, 503, 504)
PARTIAL_CONTENT, UNSATISFIABLE_RANGE = 206, 416

Told = Callable[[int], None]
"""Is told how many bytes of the file are here."""


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


def digest(entry: Entry) -> _Digest:
    """The hash that `entry.blob` is written in: sha256, or git's sha1 of a header and the content."""
    if len(entry.blob) == SHA256_DIGITS:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % entry.size, usedforsecurity=False)


def absorb(path: Path, into: _Digest, told: Told) -> int:
    """Hashes a file; gives its number of bytes."""
    done = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            into.update(chunk)
            done += len(chunk)
            told(done)
    return done


def fetch(hub: Hub, entry: Entry, told: Told) -> Path:
    """Downloads a file unless the cache has it; gives its path there.

    Raises:
        ModelError: the hub does not have the file or does not give it.
        MachineError: network, disk, or content of another hash than the hub told.
    """
    if (found := cached(hub, entry)) is not None:
        told(entry.size)
        return found
    with _disk(hub, entry), _locked(hub, entry):
        # Another process may have brought it while this one waited for the lock.
        if (found := cached(hub, entry)) is None:
            _drop_damaged(hub, entry)
            if not blob_path(hub, entry).is_file():
                _receive(hub, entry, told)
            found = _place(hub, entry)
    told(entry.size)
    return found


@contextmanager
def _disk(hub: Hub, entry: Entry) -> Iterator[None]:
    """Tells what the disk refused."""
    try:
        yield
    except OSError as error:
        if isinstance(error, ConnectionError | TimeoutError):
            raise explain(error, entry.short, hub) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MachineError(
                f"{entry.short}: the disk of {hub.cache} is full; make room and run the same command again to go on"
            ) from error
        raise MachineError(f"{entry.short}: cannot write to {hub.cache} ({error.strerror or error})") from error


@contextmanager
def _locked(hub: Hub, entry: Entry) -> Iterator[None]:
    """Holds the lock that huggingface_hub itself would take."""
    lock = hub.cache / ".locks" / hub.folder(entry.repository).name / f"{entry.blob}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with WeakFileLock(lock, timeout=LOCK_TIMEOUT):
            yield
    except TimeoutError as error:
        raise MachineError(f"{entry.short}: another program is downloading it; wait for that one") from error


def _drop_damaged(hub: Hub, entry: Entry) -> None:
    """Removes what has the file's name in the cache, but not its size."""
    pointer = hub.folder(entry.repository) / "snapshots" / entry.commit / entry.name
    for path in (blob_path(hub, entry), pointer):
        if (path.is_file() and path.stat().st_size != entry.size) or (path.is_symlink() and not path.exists()):
            path.unlink()


class _Partial:
    """The part of a file that is here, and its hash so far."""

    def __init__(self, hub: Hub, entry: Entry, told: Told) -> None:
        self.path = partial_path(hub, entry)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._hub, self._entry, self._told = hub, entry, told
        self._hashed = digest(entry)
        self.done = absorb(self.path, self._hashed, told) if self.path.is_file() else 0

    def restart(self) -> None:
        """Throws away what is here."""
        self.path.unlink(missing_ok=True)
        self.done, self._hashed = 0, digest(self._entry)
        self._told(0)

    def extend(self, chunks: Iterable[bytes]) -> None:
        """Appends what comes, at most one chunk beyond the file's size."""
        with self.path.open("ab") as file:
            for chunk in chunks:
                file.write(chunk)
                self._hashed.update(chunk)
                self.done += len(chunk)
                self._told(min(self.done, self._entry.size))
                if self.done > self._entry.size:
                    return

    def finish(self) -> None:
        """Gives the file its name in the cache.

        Raises:
            MachineError: the content is not what the hub said it would be.
        """
        size, blob, found = self._entry.size, self._entry.blob, self._hashed.hexdigest()
        if self.done != size or found != blob:
            self.path.unlink()
            raise MachineError(
                f"{self._entry.short}: what {self._hub.endpoint} sent ({self.done} bytes, hash {found}) is not what it "
                f"told ({size} bytes, hash {blob}); it was thrown away, try again"
            )
        self.path.replace(blob_path(self._hub, self._entry))


def _receive(hub: Hub, entry: Entry, told: Told) -> None:
    """Downloads what is lacking of a file, in as many connections as it takes."""
    partial = _Partial(hub, entry, told)
    partial.path.touch()
    if partial.done > entry.size:
        partial.restart()
    best, broken, pause = partial.done, 0, PAUSE
    while partial.done < entry.size:
        reason = _stream(hub, entry, partial)
        if partial.done >= entry.size:
            break
        # Only what was never reached before counts as getting on: a hub may let the same bytes come again and again.
        broken, pause = (0, PAUSE) if partial.done > best else (broken + 1, pause * 2)
        best = max(best, partial.done)
        if broken >= TRIES:
            raise MachineError(
                f"{entry.short}: broken off at {partial.done:,} of {entry.size:,} bytes ({reason}); "
                "run the same command again to go on from there"
            )
        time.sleep(pause)
    partial.finish()


def _stream(hub: Hub, entry: Entry, partial: _Partial) -> str:
    """Receives what one connection brings; gives the reason why it ended, should the file not be whole.

    Raises:
        ModelError: the hub does not give the file, and would not at another try either.
    """
    url = hf_hub_url(entry.repository, entry.name, revision=entry.commit, endpoint=hub.endpoint)
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if partial.done:
        headers["Range"] = f"bytes={partial.done}-"
    try:
        # Redirects are followed at every try: the addresses that large files are sent to expire.
        with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT, follow_redirects=True) as answer:
            if answer.status_code == UNSATISFIABLE_RANGE:
                partial.restart()
                return "the hub refused to go on"
            hf_raise_for_status(answer)
            start = _start(answer.headers.get("Content-Range")) if answer.status_code == PARTIAL_CONTENT else 0
            if start != partial.done:
                partial.restart()
            if start in (0, partial.done):
                partial.extend(answer.iter_bytes())
    except network_errors() as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code in TRANSIENT:
            return f"the hub answers {error.response.status_code}"
        if isinstance(error, transport_error()):
            return f"{type(error).__name__} {error}".strip().splitlines()[0]
        raise explain(error, f"{entry.repository}/{entry.name}", hub) from error
    return "the connection ended early"


def _start(content_range: str | None) -> int:
    """The first byte of a partial answer.

    >>> _start("bytes 100-199/200")
    100
    """
    match = re.match(r"bytes (\d+)-", content_range or "")
    return int(match[1]) if match else -1


def _place(hub: Hub, entry: Entry) -> Path:
    """Makes the content appear under the file's name at its commit, as huggingface_hub lays out its cache."""
    pointer, blob = hub.folder(entry.repository) / "snapshots" / entry.commit / entry.name, blob_path(hub, entry)
    pointer.parent.mkdir(parents=True, exist_ok=True)
    if are_symlinks_supported(hub.cache):
        pointer.symlink_to(os.path.relpath(blob, pointer.parent))
    else:
        # The content itself goes there: a copy would be a second one.
        blob.replace(pointer)
    ref = hub.folder(entry.repository) / "refs" / entry.revision
    if not ref.exists():
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(entry.commit, encoding="utf-8")
    return pointer


def verify(path: Path, entry: Entry, told: Told) -> bool:
    """Whether a file's content has the hash that the hub told for it."""
    hashed = digest(entry)
    return absorb(path, hashed, told) == entry.size and hashed.hexdigest() == entry.blob
