"""Writes a file of records in one pass, a record at a time, so that it can be stopped anywhere and go on.

A journal beside the file says how many of its records are on the disk. Weight files are opened anew for each record:
what was mapped of them for the last one is given back, and main memory never holds more than one block.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import torch
from torch import Tensor

from infinitetalk.core.errors import MachineError, ModelError
from infinitetalk.ops.stored import Stored
from infinitetalk.weights.convert.layout import FileLayout, Kind, Record
from infinitetalk.weights.keymaps import KeyMap
from infinitetalk.weights.load import Amendments, _check_names

Tensors = Mapping[str, Tensor | Stored]


class Watcher(Protocol):
    """Is told how a conversion goes."""

    def begin(self, total: int, done: int, /) -> None:
        """Bytes to write in all, and those that were written before."""
        ...

    def move(self, what: str, done: int, /) -> None:
        """Bytes written so far; `what` is being written."""
        ...


class Journal:
    """How far each file of a folder is, on disk.

    Raises:
        ModelError: the folder holds an unfinished conversion of something else.
    """

    NAME = "convert.json"

    def __init__(self, folder: Path, job: Mapping[str, object]) -> None:
        self._path = folder / self.NAME
        self._job = json.loads(json.dumps(job))
        self._done: dict[str, int] = {}
        if self._path.is_file():
            known = json.loads(self._path.read_text(encoding="utf-8"))
            if known["job"] != self._job:
                raise ModelError(
                    f"{folder} holds an unfinished conversion of other files or of another kind; remove it, or give "
                    f"another --output"
                )
            self._done = known["done"]

    def done(self, name: str) -> int:
        """Records of a file that are whole."""
        return self._done.get(name, 0)

    def note(self, name: str, done: int) -> None:
        """Notes on the disk that so many records of a file are whole."""
        self._done[name] = done
        fresh = self._path.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as file:
            json.dump({"job": self._job, "done": self._done}, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)

    def remove(self) -> None:
        """The folder is whole."""
        self._path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One network to convert."""

    name: str
    """Of its file."""
    open: Callable[[], Tensors]
    """Opens its weights."""
    keymap: KeyMap
    shapes: Mapping[str, tuple[int, ...]]
    """Of its parameters, by name."""
    layout: FileLayout
    kind: Kind
    amend: Callable[[], Amendments | None] = lambda: None
    """Opens what is added to its weights."""
    source: str = "weights"


def check(network: Network) -> None:
    """Refuses weights that do not make the network, before anything is written.

    Raises:
        ModelError: tensors that are missing, unused, doubled or of another shape; a LoRA that does not fit.
    """
    tensors = network.open()
    _check_names(network.shapes, tensors, network.keymap, network.source)
    for name in tensors:
        for target, shape in network.keymap.shapes(name, tuple(tensors[name].shape)):
            if target in network.shapes and shape != tuple(network.shapes[target]):
                raise ModelError(
                    f"{network.source}: the tensor {name} gives {target} the shape {list(shape)}, but the "
                    f"configuration asks for {list(network.shapes[target])}"
                )
    network.amend()


def write(
    network: Network, folder: Path, journal: Journal, device: torch.device, moved: Callable[[str, int], None]
) -> None:
    """Writes one network's file, from the first record that is not whole.

    Args:
        network: what is written.
        folder: where; it is there.
        journal: of the folder.
        device: where weights are merged and packed.
        moved: is told a record's name and the bytes of the file so far.

    Raises:
        MachineError: a full disk, or a file that cannot be written.
        ModelError: weights that cannot be read, or whose numbers the kind cannot hold.
    """
    layout, path = network.layout, folder / network.name
    done = journal.done(network.name)
    try:
        with path.open("r+b" if done else "wb") as file:
            if not done:
                file.write(layout.header)
            file.truncate(layout.total)
            for number, record in enumerate(layout.records[done:], done):
                moved(record.name, len(layout.header) + record.start)
                for offset, tensor in _tensors(network, record, device):
                    file.seek(len(layout.header) + offset)
                    _put(file, tensor)
                    moved(record.name, len(layout.header) + offset + tensor.nbytes)
                file.flush()
                os.fsync(file.fileno())
                journal.note(network.name, number + 1)
    except OSError as error:
        raise MachineError(
            f"{path}: cannot be written ({error.strerror or error}); the same command goes on from there"
        ) from error


def _tensors(network: Network, record: Record, device: torch.device) -> Iterator[tuple[int, Tensor]]:
    """A record's tensors with their places, one parameter after the other."""
    tensors, amendments = network.open(), network.amend()
    given = (name for name in tensors if not network.keymap.is_extra(name))
    sources = {target: name for name in given for target in network.keymap.targets(name)}
    for entry in record.entries:
        name = sources[entry.target]
        value = dict(network.keymap.convert(name, tensors[name]))[entry.target]
        amended = _amended(entry.target, value.to(device), amendments)
        packed = network.kind.pack(entry.places[0].name, amended, matrix=entry.matrix)
        for place, part in zip(entry.places, packed, strict=True):
            yield place.offset, part.cpu()


def _amended(target: str, value: Tensor | Stored, amendments: Amendments | None) -> Tensor | Stored:
    if amendments is None or not amendments.changes(target):
        return value
    return amendments.merge(target, value.dequantise(torch.float32) if isinstance(value, Stored) else value)


def _put(file: BinaryIO, tensor: Tensor) -> None:
    file.write(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
