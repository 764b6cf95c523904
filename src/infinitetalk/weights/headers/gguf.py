"""The header of a GGUF file (versions 2 and 3): notes, then one line per tensor.

The format is ggml's: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from infinitetalk.core.errors import ModelError
from infinitetalk.core.ggml import TYPES
from infinitetalk.weights.headers.record import FileKind, Header, TensorInfo, damaged

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_AXES = 5
"""ggml has 4; ComfyUI-GGUF writes the kernel of video patches with 5."""
MOST_NAME_BYTES = 65_535
KEPT_ITEMS = 16
"""Longer lists (a tokenizer's words) are read over."""
ALIGNMENT = "general.alignment"
SHAPE_NOTE = "comfy.gguf.orig_shape."
"""Notes of city96's converter: the shape of a tensor that had to be made flat."""

_SCALARS: Mapping[int, str] = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_TEXT, _LIST = 8, 9


@dataclass(slots=True)
class _Cursor:
    """Reads numbers and words, and never past the file's end."""

    path: Path
    file: BinaryIO
    left: int
    read: int = field(default=0)

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise damaged(self.path, f"the GGUF file ends inside its header: {count} more bytes were promised")
        self.left -= count
        self.read += count
        return self.file.read(count)

    def skip(self, count: int) -> None:
        if count > self.left:
            raise damaged(self.path, f"the GGUF file ends inside its header: {count} more bytes were promised")
        self.left -= count
        self.read += count
        self.file.seek(count, 1)

    def scalar(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def count(self, what: str) -> int:
        """A number of things that take a byte each at least."""
        number: int = self.scalar("<Q")
        if number > self.left:
            raise damaged(self.path, f"the GGUF file promises {number} {what}, and has {self.left} bytes left")
        return number

    def text(self) -> str:
        return self.take(self.count("bytes of text")).decode("utf-8", errors="replace")


def read_gguf(path: Path, file: BinaryIO, size: int) -> Header:
    """Reads the header of an open file of `size` bytes.

    Raises:
        ModelError: another version, sizes that cannot be, or a file that is cut off.
    """
    cursor = _Cursor(path, file, size)
    if cursor.take(len(MAGIC)) != MAGIC:
        raise damaged(path, "not a GGUF file: it does not begin with the letters GGUF")
    if (version := cursor.scalar("<I")) not in VERSIONS:
        raise ModelError(f"{path}: GGUF version {version}; versions {' and '.join(map(str, VERSIONS))} can be read")
    tensors, notes = cursor.count("tensors"), cursor.count("notes")
    metadata = dict(_note(cursor) for _ in range(notes))
    entries = [_entry(cursor) for _ in range(tensors)]
    alignment = metadata.get(ALIGNMENT, "32")
    if not alignment.isdecimal() or not 0 < int(alignment) <= 1 << 20:
        raise damaged(path, f"the GGUF file's {ALIGNMENT} is {alignment}")
    data = -(-cursor.read // int(alignment)) * int(alignment)
    infos: dict[str, TensorInfo] = {}
    for name, axes, kind, offset in entries:
        if name in infos:
            raise damaged(path, f"the GGUF file lists the tensor {name} twice")
        infos[name] = info = _info(path, name, axes, kind, metadata)
        if offset % int(alignment) or data + offset + info.bytes > size:
            raise damaged(path, f"the file is cut off or damaged: the tensor {name} would end past its {size} bytes")
    return Header(path, FileKind.GGUF, infos, metadata)


def _note(cursor: _Cursor) -> tuple[str, str]:
    return cursor.text(), _value(cursor, cursor.scalar("<I"))


def _value(cursor: _Cursor, kind: int) -> str:
    """A note's value as text; short lists as JSON, long ones as nothing."""
    if kind == _TEXT:
        return cursor.text()
    if kind in _SCALARS:
        return str(cursor.scalar(_SCALARS[kind]))
    if kind != _LIST:
        raise damaged(cursor.path, f"the GGUF file has a note of the unknown kind {kind}")
    item, count = cursor.scalar("<I"), cursor.count("items of a list")
    if count > KEPT_ITEMS and item in _SCALARS:
        cursor.skip(count * struct.calcsize(_SCALARS[item]))
        return ""
    if item == _LIST:
        raise damaged(cursor.path, "the GGUF file has a list of lists among its notes")
    values = [_value(cursor, item) for _ in range(count)]
    return json.dumps(values) if count <= KEPT_ITEMS else ""


def _entry(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """A tensor's name, axes in torch's order, type and place."""
    length = cursor.count("bytes of a name")
    if length > MOST_NAME_BYTES:
        raise damaged(cursor.path, f"the GGUF file has a tensor whose name takes {length} bytes")
    name = cursor.take(length).decode("utf-8", errors="replace")
    if (axes := cursor.scalar("<I")) > MOST_AXES:
        raise damaged(cursor.path, f"the GGUF file gives the tensor {name} {axes} axes, at most {MOST_AXES} can be")
    lengths = tuple(cursor.scalar("<Q") for _ in range(axes))
    return name, lengths[::-1], cursor.scalar("<I"), cursor.scalar("<Q")


def _info(path: Path, name: str, axes: tuple[int, ...], kind: int, notes: Mapping[str, str]) -> TensorInfo:
    if kind not in TYPES:
        known = ", ".join(entry[0] for entry in TYPES.values())
        raise ModelError(f"{path}: the tensor {name} has ggml's type {kind}; known are {known}")
    dtype, (block, block_bytes) = TYPES[kind]
    elements = prod(axes)
    if (axes[-1] if axes else 1) % block:
        raise damaged(path, f"the tensor {name} has rows of {axes[-1]}, which {dtype} cannot hold")
    note = notes.get(SHAPE_NOTE + name)
    return TensorInfo(_shape(path, name, axes, note), dtype, elements // block * block_bytes)


def _shape(path: Path, name: str, axes: tuple[int, ...], note: str | None) -> tuple[int, ...]:
    """The tensor's own shape: as the note beside it says, else as it lies in the file."""
    if note is None:
        return axes
    try:
        shape = tuple(int(axis) for axis in json.loads(note or "[]"))
    except (TypeError, ValueError) as error:
        raise damaged(path, f"the GGUF file's note of the shape of {name} is {note!r}") from error
    if prod(shape) != prod(axes) or min(shape, default=1) < 0:
        raise damaged(path, f"the GGUF file says that {name} had the shape {list(shape)}, but holds {list(axes)}")
    return shape
