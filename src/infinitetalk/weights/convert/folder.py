"""A converted model folder: made beside its final place, whole before it gets its name."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from infinitetalk.core.configs import TOKENIZER_TENSOR, NetConfig
from infinitetalk.core.errors import MachineError, RequestError
from infinitetalk.ops.stored import Stored
from infinitetalk.weights.convert.write import Journal, Network, Watcher, check, write
from infinitetalk.weights.folder import FORMAT, ModelFolder, Part
from infinitetalk.weights.locate import MANIFEST
from infinitetalk.weights.read import read_tensors

RESERVE = 2**28
"""Bytes of the disk that a conversion leaves free."""
PARTIAL = ".partial"
TOKENIZER_FOLDER = "tokenizer"


@dataclass(frozen=True, slots=True)
class Beside:
    """A file or folder that goes into the model folder as it is."""

    source: Path
    name: str

    @property
    def bytes(self) -> int:
        """What a copy takes."""
        if self.source.is_dir():
            return sum(path.stat().st_size for path in self.source.rglob("*") if path.is_file())
        return self.source.stat().st_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One conversion."""

    output: Path
    networks: tuple[Network, ...]
    about: Mapping[str, object]
    """What distinguishes it from every other job; an unfinished one goes on only if this is the same."""
    beside: tuple[Beside, ...] = ()
    copy: bool = False
    """Whether what lies beside is copied; else it is linked."""
    texts: Mapping[str, str | bytes] | None = None
    """Small files by name."""

    @property
    def partial(self) -> Path:
        """The folder while it is not whole."""
        return self.output.with_name(self.output.name + PARTIAL)

    @property
    def copied(self) -> int:
        """Bytes that copies take."""
        return sum(one.bytes for one in self.beside) if self.copy else 0

    @property
    def bytes(self) -> int:
        """Of the whole folder, without what is linked."""
        return sum(network.layout.total for network in self.networks) + self.copied


def stamp(paths: Sequence[Path]) -> list[list[object]]:
    """What tells whether files are the same as before."""
    return [[str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]


def prepare(job: Job) -> Journal:
    """Refuses a conversion that cannot be done; nothing is written.

    Raises:
        RequestError: there is something at the output already.
        ModelError: weights that do not make the networks, or an unfinished conversion of something else.
        MachineError: not enough room on the disk, or no permission.
    """
    if job.output.exists() and (not job.output.is_dir() or any(job.output.iterdir())):
        raise RequestError("output", job.output, "is there already; remove it, or give another folder")
    for network in job.networks:
        check(network)
    journal = Journal(job.partial, job.about)
    near = next(path for path in (job.output, *job.output.absolute().parents) if path.exists())
    if not near.is_dir() or not os.access(near, os.W_OK | os.X_OK):
        raise MachineError(f"{job.output}: nothing may be written to {near}; give --output a folder of yours")
    free = shutil.disk_usage(near).free
    need = job.bytes - done_bytes(job, journal) + RESERVE
    if need > free:
        raise MachineError(
            f"{job.output}: {need / 1e9:.1f} GB are needed, and its disk has {free / 1e9:.1f} GB left: make "
            f"{(need - free) / 1e9:.1f} GB free, or give --output a folder on another disk"
        )
    return journal


def done_bytes(job: Job, journal: Journal) -> int:
    """Bytes of records that an earlier try wrote."""
    total = 0
    for network in job.networks:
        if done := journal.done(network.name):
            total += network.layout.records[done - 1].end + len(network.layout.header)
    return total


def convert(job: Job, device: torch.device, watcher: Watcher) -> Path:
    """Writes the folder, or what lacks of it, and gives it its name when it is whole.

    Args:
        job: what to convert.
        device: where weights are merged and packed.
        watcher: is told how it goes.

    Raises:
        RequestError, ModelError, MachineError: see `prepare` and `write`.
    """
    journal = prepare(job)
    watcher.begin(job.bytes, done_bytes(job, journal))
    try:
        job.partial.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(f"{job.partial}: cannot be made ({error.strerror or error})") from error
    before = 0
    for network in job.networks:
        write(network, job.partial, journal, device, partial(_moved, watcher, before))
        before += network.layout.total
    try:
        for one in job.beside:
            watcher.move(one.name, before)
            _place(one, job.partial / one.name, copy=job.copy)
            before += one.bytes if job.copy else 0
        for name, content in (job.texts or {}).items():
            path = job.partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        watcher.move(job.output.name, before)
        journal.remove()
        with suppress(OSError):  # an empty folder may be in the way
            job.output.rmdir()
        job.partial.rename(job.output)
    except OSError as error:
        raise MachineError(
            f"{error.filename or job.partial}: cannot be written ({error.strerror or error}); the same command goes on"
        ) from error
    return job.output


def _moved(watcher: Watcher, base: int, what: str, done: int) -> None:
    watcher.move(what, base + done)


def _place(one: Beside, target: Path, *, copy: bool) -> None:
    """Puts a file or folder at its place, whole or not at all."""
    if target.is_symlink():
        target.unlink()
    if not copy:
        try:
            target.symlink_to(one.source.absolute(), target_is_directory=one.source.is_dir())
        except OSError as error:
            raise MachineError(
                f"{target}: no link can be made here ({error.strerror or error}); --encoders copy needs none"
            ) from error
    elif one.source.is_dir():
        shutil.copytree(one.source, target, dirs_exist_ok=True)
    elif not target.is_file() or target.stat().st_size != one.bytes:
        fresh = target.with_name(target.name + ".new")
        shutil.copyfile(one.source, fresh)
        fresh.replace(target)


# --- The manifest and what lies beside the networks ---


def places(part: str, files: Sequence[Path]) -> tuple[Beside, ...]:
    """The files of a part under names of their own."""
    if len(files) == 1:
        return (Beside(files[0], part + files[0].suffix.lower()),)
    return tuple(Beside(file, f"{part}-{number:05d}{file.suffix.lower()}") for number, file in enumerate(files, 1))


def tokenizer_inside(file: Path) -> bytes:
    """The sentencepiece model that a text encoder's file holds."""
    found = read_tensors([file])[TOKENIZER_TENSOR]
    assert not isinstance(found, Stored)
    return bytes(found.numpy().tobytes())


Listed = tuple[Part[Any], Sequence[str], str | None]
"""A part, the names of its files in the folder, and that of its tokenizer."""


def manifest(folder: ModelFolder, parts: Mapping[str, Listed], note: object) -> str:
    """The `model.json` of a converted folder.

    Args:
        folder: what was converted, with the settings that it shall have.
        parts: configuration, names of the files and of the tokenizer by part.
        note: for people: what it was made of.
    """
    values: dict[str, object] = {
        "format": FORMAT,
        "name": folder.name,
        "max_people": folder.max_people,
        "_converted": note,
        "parts": {name: _entry(part.config, files, words) for name, (part, files, words) in parts.items()},
        "defaults": asdict(folder.defaults),
        "buckets": {
            name: {str(ratio): [size.height, size.width] for ratio, size in table.items()}
            for name, table in folder.buckets.items()
        },
    }
    if folder.motion is not None:
        values["motion"] = folder.motion
    return json.dumps(values, indent=1) + "\n"


def _entry(config: NetConfig, files: Sequence[str], tokenizer: str | None) -> Mapping[str, object]:
    entry: dict[str, object] = {"config": asdict(config), "files": list(files)}
    return entry if tokenizer is None else entry | {"tokenizer": tokenizer}


def tokenizer_places(
    part: Part[Any], texts: dict[str, str | bytes], names: Mapping[Path, str], *, converted: bool
) -> tuple[tuple[Beside, ...], str]:
    """Where a text encoder's tokenizer goes, and its name in the manifest.

    Args:
        part: the text encoder.
        texts: small files of the folder; one may be added.
        names: of files that go into the folder as they are.
        converted: whether the encoder's own file does not.
    """
    assert part.tokenizer is not None
    if part.tokenizer.is_dir():
        return (Beside(part.tokenizer, TOKENIZER_FOLDER),), TOKENIZER_FOLDER
    if part.tokenizer in names:
        return (), names[part.tokenizer]
    if converted and part.tokenizer in part.files:
        texts[f"{TOKENIZER_FOLDER}/spiece.model"] = tokenizer_inside(part.tokenizer)
        return (), TOKENIZER_FOLDER
    return (Beside(part.tokenizer, part.tokenizer.name),), part.tokenizer.name


__all__ = ["MANIFEST", "Beside", "Job", "convert", "manifest", "places", "prepare", "stamp", "tokenizer_places"]
