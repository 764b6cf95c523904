"""What the hub says of a preset's files: commit, size, hash and licence; and its errors in one line each."""

import os
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Self

from huggingface_hub import HfApi, ModelInfo, constants, get_token, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import get_session

from infinitetalk.core.errors import InfiniteTalkError, MachineError, ModelError
from infinitetalk.core.presets import HubFile, Role

SHA1_DIGITS, SHA256_DIGITS = 40, 64
TIMEOUT = 30.0
"""Seconds after which a hub that does not answer counts as unreachable."""


@dataclass(frozen=True, slots=True)
class Hub:
    """A hub and this disk's cache of it."""

    endpoint: str
    cache: Path
    records: Path
    """Where the records of downloaded models lie."""
    offline: bool = False

    @classmethod
    def from_environment(cls) -> Self:
        """As HF_ENDPOINT, HF_HOME (or HF_HUB_CACHE, HF_ASSETS_CACHE) and HF_HUB_OFFLINE say."""
        return cls(
            endpoint=constants.ENDPOINT,
            cache=Path(constants.HF_HUB_CACHE),
            records=Path(constants.HF_ASSETS_CACHE) / "infinitetalk" / "models",
            offline=constants.is_offline_mode(),
        )

    def folder(self, repository: str) -> Path:
        """The cache's folder of a repository."""
        return self.cache / repo_folder_name(repo_id=repository, repo_type="model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file as the hub describes it, pinned to a commit."""

    role: Role
    repository: str
    revision: str
    wanted: str
    """The name in the preset; it may hold `*`."""
    commit: str
    name: str
    size: int
    blob: str
    """The sha256 of a large file, git's id of a small one; it names the file in the cache. Empty: not known."""
    licence: str

    @property
    def short(self) -> str:
        """The file's name without its folders."""
        return self.name.rpartition("/")[2]


@cache
def transport_error() -> type[Exception]:
    """What is raised when a connection fails: huggingface_hub builds on httpx, since version 2 on httpx2."""
    names = [kind.__module__.partition(".")[0] for kind in type(get_session()).__mro__]
    error: type[Exception] = import_module(next(name for name in names if name.startswith("httpx"))).TransportError
    return error


def explain(error: Exception, what: str, hub: Hub) -> InfiniteTalkError:
    """The error of this product for one of the hub's.

    what: the repository or file that was asked for.
    """
    token = "HF_TOKEN (or `hf auth login`) holds one that it does not accept" if get_token() else "HF_TOKEN is not set"
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    absent = isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError)
    refusals = (
        (
            isinstance(error, OfflineModeIsEnabled),
            f"not in the cache {hub.cache}; HF_HUB_OFFLINE forbids to ask for it",
        ),
        (isinstance(error, GatedRepoError), f"its owners give access on request; ask on {hub.endpoint}, set HF_TOKEN"),
        (isinstance(error, RevisionNotFoundError), f"{hub.endpoint} does not have this revision"),
        (absent, f"{hub.endpoint} does not have this file"),
        (
            isinstance(error, RepositoryNotFoundError),
            f"{hub.endpoint} does not have this repository, or it asks for a token, and {token}",
        ),
        (status in (401, 403), f"{hub.endpoint} refuses it ({status}): it asks for a token, and {token}"),
        (status == 404, f"{hub.endpoint} does not have it (404)"),
    )
    if (refusal := next((text for applies, text in refusals if applies), None)) is not None:
        return ModelError(f"{what}: {refusal}")
    if status is not None:
        return MachineError(f"{what}: {hub.endpoint} answers {status}; try again later")
    told = f"{type(error).__name__} {error}".strip()
    return MachineError(f"{what}: {hub.endpoint} cannot be reached ({told}); check the network and HF_ENDPOINT")


def network_errors() -> tuple[type[Exception], ...]:
    """All that asking the hub can raise."""
    return (HfHubHTTPError, OfflineModeIsEnabled, LocalEntryNotFoundError, FileMetadataError, transport_error())


@dataclass(frozen=True, slots=True)
class Listing:
    """What a repository holds at one commit: size and blob by name."""

    commit: str
    files: Mapping[str, tuple[int, str]]
    licence: str = ""


def describe(
    hub: Hub, files: Sequence[HubFile], known: MutableMapping[tuple[str, str], Listing] | None = None
) -> tuple[Entry, ...]:
    """Asks the hub for the present commit, size and hash of every file; offline, what the cache knows of them.

    known: what was asked before, by repository and revision; new answers are added.

    Raises:
        ModelError: a repository, revision or file that is not there, or a token that is lacking.
        MachineError: the hub cannot be reached, or answers as no hub does.
    """
    look = _cached_repository if hub.offline else _hub_repository
    known = {} if known is None else known
    for file in files:
        key = file.repository.name, file.revision
        if key not in known:
            known[key] = look(hub, *key)
    return tuple(entry for file in files for entry in _entries(file, known[file.repository.name, file.revision], hub))


def _entries(file: HubFile, listing: Listing, hub: Hub) -> Iterator[Entry]:
    found = [name for name in sorted(listing.files) if fnmatchcase(name, file.name)]
    if not found:
        place = f"the cache {hub.cache}, and HF_HUB_OFFLINE forbids to ask for it" if hub.offline else hub.endpoint
        raise ModelError(f"{file.repository.name} at {file.revision}: there is no {file.name} in {place}")
    for name in found:
        size, blob = listing.files[name]
        yield Entry(
            role=file.role,
            repository=file.repository.name,
            revision=file.revision,
            wanted=file.name,
            commit=listing.commit,
            name=name,
            size=size,
            blob=blob,
            licence=listing.licence or file.repository.licence,
        )


def _hub_repository(hub: Hub, repository: str, revision: str) -> Listing:
    try:
        info = HfApi(endpoint=hub.endpoint).model_info(
            repository, revision=revision, files_metadata=True, timeout=TIMEOUT
        )
    except network_errors() as error:
        raise explain(error, f"{repository} at {revision}", hub) from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise MachineError(f"{hub.endpoint} does not answer as a hub does ({error}); check HF_ENDPOINT") from error
    files = {}
    for file in info.siblings or ():
        blob = file.lfs.sha256 if file.lfs else file.blob_id
        if file.size is None or blob is None:
            raise MachineError(
                f"{hub.endpoint} tells no size or hash of {repository}/{file.rfilename}; use another hub"
            )
        files[file.rfilename] = (file.size, blob)
    return Listing(info.sha or revision, files, _licence(info))


def _licence(info: ModelInfo) -> str:
    """The licence that a repository's card states, if it does."""
    stated = getattr(info.card_data, "license", None)
    if isinstance(stated, str):
        return stated
    tags = [tag.removeprefix("license:") for tag in info.tags or () if tag.startswith("license:")]
    return tags[0] if tags else ""


def _cached_repository(hub: Hub, repository: str, revision: str) -> Listing:
    folder = hub.folder(repository)
    try:
        commit = (folder / "refs" / revision).read_text(encoding="utf-8").strip()
    except OSError:
        return Listing(revision, {})
    snapshot = folder / "snapshots" / commit
    paths = (path for path in snapshot.rglob("*") if path.is_file())
    return Listing(
        commit, {path.relative_to(snapshot).as_posix(): (path.stat().st_size, _blob_name(path)) for path in paths}
    )


def _blob_name(path: Path) -> str:
    """The hash that a cached file is named by; empty where the system has no symbolic links."""
    name = path.resolve().name
    return name if len(name) in (SHA1_DIGITS, SHA256_DIGITS) and not set(name) - set("0123456789abcdef") else ""


def cached(hub: Hub, entry: Entry) -> Path | None:
    """The file in the cache at the entry's commit, if it is there with the right size."""
    found = try_to_load_from_cache(entry.repository, entry.name, cache_dir=hub.cache, revision=entry.commit)
    if not isinstance(found, str | os.PathLike):
        return None
    path = Path(found)
    return path if path.stat().st_size == entry.size else None


def blob_path(hub: Hub, entry: Entry) -> Path:
    """Where the cache keeps the content of a file, whichever commits point to it."""
    return hub.folder(entry.repository) / "blobs" / entry.blob


def partial_path(hub: Hub, entry: Entry) -> Path:
    """Where the content lies while it is not whole."""
    return blob_path(hub, entry).with_name(f"{entry.blob}.incomplete")


def present(hub: Hub, entry: Entry) -> int:
    """Bytes of a file that need no download any more."""
    if cached(hub, entry) is not None:
        return entry.size
    blob = blob_path(hub, entry)
    if entry.blob and blob.is_file() and blob.stat().st_size == entry.size:
        return entry.size
    partial = partial_path(hub, entry)
    return min(partial.stat().st_size, entry.size) if partial.is_file() else 0
