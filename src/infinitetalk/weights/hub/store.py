"""Records of downloaded models: which cached files a model is made of, and which of them this program brought here.

A record is a JSON file beside Hugging Face's cache. It holds no weights: two models that share a file share its bytes,
and removing a model frees only what no other model needs and what this program had downloaded.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from shutil import rmtree
from typing import Any

from infinitetalk.core.errors import MachineError, ModelError
from infinitetalk.core.presets import DIT_ROLES, Preset, Role
from infinitetalk.weights.hub.client import Entry, Hub, blob_path, cached, describe, partial_path, present

FORMAT = 1
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_HEX = re.compile(r"[0-9a-f]+")
_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True, slots=True)
class Held:
    """One file of a record."""

    entry: Entry
    ours: bool
    """Whether this program downloaded it; what was in the cache before is never removed."""
    replaced_by: str = ""
    """The converted folder that holds its content now; the file itself is gone."""

    @property
    def key(self) -> tuple[str, str]:
        """What is the same for the same bytes in the same repository."""
        return self.entry.repository, self.entry.blob or f"{self.entry.commit}/{self.entry.name}"


@dataclass(frozen=True, slots=True)
class Record:
    """A downloaded model, or one whose download has begun."""

    name: str
    files: tuple[Held, ...]

    @property
    def size(self) -> int:
        """Bytes of all files that it needs."""
        return sum(held.entry.size for held in self.files if not held.replaced_by)

    def present(self, hub: Hub) -> int:
        """Bytes that are here, in the cache."""
        return sum(present(hub, held.entry) for held in self.files if not held.replaced_by)

    @property
    def converted(self) -> tuple[Path, ...]:
        """Folders of converted weights that stand for some of its files."""
        return tuple(dict.fromkeys(Path(held.replaced_by) for held in self.files if held.replaced_by))

    def lacking(self, hub: Hub) -> tuple[Held, ...]:
        """Files that are not here whole."""
        return tuple(held for held in self.files if not held.replaced_by and cached(hub, held.entry) is None)

    def paths(self, hub: Hub) -> tuple[Path, ...]:
        """Every file of the model, in the cache, and the converted folder if there is one.

        Raises:
            ModelError: the download is not complete.
        """
        return tuple(path for _, path in self.by_role(hub))

    def by_role(self, hub: Hub) -> tuple[tuple[Role, Path], ...]:
        """Every file with what it is; a converted folder stands for the base, the adapter and the LoRAs.

        Raises:
            ModelError: the download is not complete.
        """
        if lost := self.lacking(hub):
            names = ", ".join(held.entry.short for held in lost)
            raise ModelError(f"model {self.name} lacks {names}; run: infinitetalk download {self.name}")
        if gone := next((path for path in self.converted if not path.is_dir()), None):
            raise ModelError(
                f"model {self.name} was converted into {gone}, which is not there any more; "
                f"run: infinitetalk models --remove {self.name}, and download it again"
            )
        whole = [(held.entry.role, cached(hub, held.entry)) for held in self.files if not held.replaced_by]
        return (
            *((Role.BASE, path) for path in self.converted),
            *((role, path) for role, path in whole if path is not None),
        )


def converted_folder(hub: Hub, name: str) -> Path:
    """Where a model's transformer goes when it is converted in place."""
    return hub.records.parent / "converted" / name


def folder_bytes(folder: Path) -> int:
    """Bytes of a folder's own files."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def record_path(hub: Hub, name: str) -> Path:
    """Where a model's record lies."""
    return hub.records / f"{name}.json"


def write(hub: Hub, record: Record) -> None:
    """Stores a record, whole or not at all.

    Raises:
        MachineError: the folder of records cannot be written.
    """
    files = [
        {**asdict(held.entry), "role": held.entry.role.value, "ours": held.ours, "replaced_by": held.replaced_by}
        for held in record.files
    ]
    path = record_path(hub, record.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({"format": FORMAT, "name": record.name, "files": files}, indent=2) + "\n")
        fresh.replace(path)
    except OSError as error:
        raise MachineError(f"cannot write to {path.parent} ({error.strerror or error})") from error


def read(hub: Hub, name: str) -> Record | None:
    """The record of a model; None where there is none.

    Raises:
        ModelError: a record that cannot be understood.
    """
    path = record_path(hub, name)
    if not _NAME.fullmatch(name) or not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise ModelError(f"{path} has the format {values['format']}; this version reads format {FORMAT}")
        return Record(name, tuple(_held(file) for file in values["files"]))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ModelError(f"{path} cannot be understood ({error}); run: infinitetalk models --remove {name}") from error


def _held(values: Mapping[str, Any]) -> Held:
    """A file of a record; what leads out of the cache is refused."""
    fields = dict(values)
    ours, replaced_by = bool(fields.pop("ours")), str(fields.pop("replaced_by"))
    entry = Entry(**fields | {"role": Role(fields["role"])})
    name = PurePosixPath(entry.name)
    hexadecimal = _HEX.fullmatch(entry.commit) and (not entry.blob or _HEX.fullmatch(entry.blob))
    if not (hexadecimal and _REPOSITORY.fullmatch(entry.repository)) or name.is_absolute() or ".." in name.parts:
        raise ValueError(f"{entry.repository}/{entry.name} is no file of a cache")
    return Held(entry, ours, replaced_by)


def names(hub: Hub) -> tuple[str, ...]:
    """Names of all records."""
    return tuple(sorted(path.stem for path in hub.records.glob("*.json")))


def readable(hub: Hub) -> Iterator[Record]:
    """All records that can be understood."""
    for name in names(hub):
        with suppress(ModelError):
            if (record := read(hub, name)) is not None:
                yield record


def plan(hub: Hub, preset: Preset) -> Record:
    """What to download for a preset: as its record says if it was begun before, else as the hub describes it now.

    Raises:
        ModelError, MachineError: the hub does not tell.
        ModelError: a record of another version of this program, with other files.
    """
    wanted = {(file.repository.name, file.revision, file.name) for file in preset.files}
    if (begun := read(hub, preset.name)) is not None:
        if {(held.entry.repository, held.entry.revision, held.entry.wanted) for held in begun.files} != wanted:
            raise ModelError(
                f"{preset.name} was downloaded by another version with other files; "
                f"run: infinitetalk models --remove {preset.name}"
            )
        return begun
    brought = {held.key for record in readable(hub) for held in record.files if held.ours}
    files = []
    for entry in describe(hub, preset.files):
        held = Held(entry, ours=True)
        files.append(replace(held, ours=held.key in brought or present(hub, entry) < entry.size))
    return Record(preset.name, tuple(files))


@dataclass(frozen=True, slots=True)
class Removal:
    """What removing a model does."""

    free: tuple[Held, ...]
    shared: tuple[tuple[Held, str], ...]
    """Files that stay, with the model that needs them."""
    foreign: tuple[Held, ...]
    """Files that stay because they were in the cache before."""


def removal(hub: Hub, record: Record) -> Removal:
    """Sorts a model's files into those that may go and those that stay."""
    needed = {
        held.key: other.name
        for other in readable(hub)
        if other.name != record.name
        for held in other.files
        if not held.replaced_by
    }
    own = [held for held in record.files if not held.replaced_by]
    return Removal(
        free=tuple(held for held in own if held.ours and held.key not in needed),
        shared=tuple((held, needed[held.key]) for held in own if held.key in needed),
        foreign=tuple(held for held in own if not held.ours and held.key not in needed),
    )


def remove(hub: Hub, record: Record) -> int:
    """Removes a model: its record, and the files that nothing else needs. Gives the bytes that came free.

    Raises:
        MachineError: a file cannot be removed.
    """
    freed = _free(hub, removal(hub, record).free)
    own = converted_folder(hub, record.name)
    for folder in (own, own.with_name(own.name + ".partial")):
        if folder.is_dir():
            freed += folder_bytes(folder)
            rmtree(folder, ignore_errors=True)
    forget(hub, record.name)
    return freed


def forget(hub: Hub, name: str) -> None:
    """Removes a record alone; every file stays in the cache.

    Raises:
        MachineError: the record cannot be removed.
    """
    try:
        record_path(hub, name).unlink(missing_ok=True)
    except OSError as error:
        raise MachineError(f"cannot remove {record_path(hub, name)} ({error.strerror or error})") from error


def replace_dit(hub: Hub, record: Record, converted: Path) -> Record:
    """Notes that a converted folder holds the transformer now, and frees the files that it was made of.

    A later download brings only the files that are still needed; `paths` gives the folder in place of those replaced.

    Raises:
        MachineError: a file cannot be removed.
    """
    goes = [held for held in record.files if held.entry.role in DIT_ROLES]
    files = (replace(held, replaced_by=str(converted.absolute())) if held in goes else held for held in record.files)
    changed = Record(record.name, tuple(files))
    free = [held for held in removal(hub, record).free if held in goes]
    write(hub, changed)
    _free(hub, free)
    return changed


def drop(hub: Hub, files: Iterable[Held]) -> None:
    """Removes files whose content is damaged, whoever brought them.

    Raises:
        MachineError: a file cannot be removed.
    """
    _free(hub, files)


def _free(hub: Hub, files: Iterable[Held]) -> int:
    try:
        return sum(_free_file(hub, held.entry) for held in files)
    except OSError as error:
        raise MachineError(f"cannot remove {error.filename} ({error.strerror or error})") from error


def _free_file(hub: Hub, entry: Entry) -> int:
    """Removes a file's name at its commit, and its content unless another commit's name leads to it."""
    folder = hub.folder(entry.repository)
    snapshots = folder / "snapshots"
    pointer = snapshots / entry.commit / entry.name
    blob, freed = blob_path(hub, entry), 0
    if pointer.is_file() and not pointer.is_symlink():
        freed += pointer.stat().st_size
    pointer.unlink(missing_ok=True)
    for path in (blob, partial_path(hub, entry)):
        if entry.blob and path.is_file() and not _led_to(snapshots, blob):
            freed += path.lstat().st_size
            path.unlink()
    _prune(pointer.parent, snapshots)
    if not _content(folder / "blobs") and not _content(snapshots):
        rmtree(folder, ignore_errors=True)
    return freed


def _led_to(snapshots: Path, blob: Path) -> bool:
    """Whether a name in any snapshot leads to a blob."""
    links = (path for path in snapshots.rglob("*") if path.is_symlink())
    return any(link.resolve() == blob.resolve() for link in links)


def _content(folder: Path) -> Sequence[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _prune(folder: Path, top: Path) -> None:
    """Removes empty folders, from `folder` up to but without `top`."""
    while folder != top and folder.is_dir() and not _content(folder):
        folder.rmdir()
        folder = folder.parent
