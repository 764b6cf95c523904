"""Where everything lies in a file of records, known before any weight is read.

A record holds what one block needs. Inside it, weights that are needed at different times lie in runs of their own, so
that each run comes with one read. Around the blocks there is a first record of everything else.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from infinitetalk.core.errors import ModelError
from infinitetalk.ops.ggml import LAYOUTS, Blocks
from infinitetalk.ops.pack import PACKERS, four_bits
from infinitetalk.ops.stored import Scaled, Stored
from infinitetalk.weights.headers.packed import PADDING, RECORDS_NOTE, VERSION, VERSION_NOTE
from infinitetalk.weights.packed import SUFFIX

RECORD_ALIGNMENT, TENSOR_ALIGNMENT = 4096, 256
"""Bytes: a page, and what the memory engine and CUDA keep between tensors."""

Shape = tuple[int, ...]

DTYPES: Mapping[str, torch.dtype] = {
    "BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F8_E4M3": torch.float8_e4m3fn,
    "I8": torch.int8, "U8": torch.uint8,
}  # fmt: skip
"""Types that are written, by safetensors' names."""
NAMES = {dtype: name for name, dtype in DTYPES.items()}

DENSE: Mapping[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
KINDS = ("bf16", "fp16", *PACKERS)
"""How matrices can be stored."""
_KEPT: Mapping[str, torch.dtype] = {"fp8": torch.float8_e4m3fn, "int8": torch.int8}


@dataclass(frozen=True, slots=True)
class Kind:
    """How a network is stored.

    `matrices`: one of `KINDS`, for the matrices of blocks. `rest`: number format of everything else.
    """

    matrices: str
    rest: torch.dtype

    @classmethod
    def of(cls, matrices: str, rest: torch.dtype) -> "Kind":
        """A kind of 16 bits is one for everything."""
        return cls(matrices, DENSE.get(matrices, rest))

    def parts(self, name: str, shape: Shape, *, matrix: bool) -> tuple[tuple[str, str, Shape], ...]:
        """Name, type and shape of the tensors that stand for one parameter."""
        if matrix and self.matrices in _KEPT:
            kept = NAMES[_KEPT[self.matrices]]
            return (name, kept, shape), (name + SUFFIX, "F32", shape[:1])
        if matrix and self.matrices == "q4" and (ggml := four_bits(shape[-1])) is not None:
            layout = LAYOUTS[ggml]
            row = shape[-1] // layout.weights * layout.bytes
            return ((f"{name}.{ggml.lower()}", "U8", (shape[0], row)),)
        return ((name, NAMES[self.rest], shape),)

    def pack(self, name: str, value: Tensor | Stored, *, matrix: bool) -> tuple[Tensor, ...]:
        """The tensors of `parts`. Bits that are of the kind already stay as they are.

        Raises:
            ModelError: numbers that are not finite, or beyond what the kind holds.
        """
        parts = self.parts(name, tuple(value.shape), matrix=matrix)
        if (kept := self._kept(value, parts)) is not None:
            return kept
        dense = value.dequantise(torch.float32) if isinstance(value, Stored) else value
        if not dense.is_floating_point() or not dense.isfinite().all():
            raise ModelError(f"the tensor {name} holds numbers that are not finite; the file is damaged, get it again")
        if len(parts) == 1 and parts[0][1] != "U8":
            found = dense.to(DTYPES[parts[0][1]])
            if not found.isfinite().all():
                raise ModelError(f"the tensor {name} holds numbers beyond float16's 65504; bf16 holds them")
            return (found,)
        packed = PACKERS[self.matrices](dense)
        pieces = [packed.data, packed.scale] if isinstance(packed, Scaled) else list(packed.parts().values())
        return tuple(
            piece.reshape(shape) for piece, (_, _, shape) in zip(pieces, parts, strict=True) if piece is not None
        )

    def _kept(self, value: Tensor | Stored, parts: tuple[tuple[str, str, Shape], ...]) -> tuple[Tensor, ...] | None:
        """A stored matrix that has this kind already."""
        if isinstance(value, Scaled) and len(parts) == 2 and value.data.dtype == DTYPES[parts[0][1]]:
            scale = torch.ones(1) if value.scale is None else value.scale.float()
            return value.data, scale.expand(value.shape[0]).contiguous()
        if isinstance(value, Blocks) and parts[0][1] == "U8" and parts[0][0].endswith(f".{value.kind}"):
            return (value.data.reshape(parts[0][2]),)
        return None


@dataclass(frozen=True, slots=True)
class Place:
    """One tensor of the file."""

    name: str
    dtype: str
    shape: Shape
    offset: int
    """From the first byte behind the header."""

    @property
    def bytes(self) -> int:
        """What it takes."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize


@dataclass(frozen=True, slots=True)
class Entry:
    """One parameter and the tensors that stand for it."""

    target: str
    matrix: bool
    places: tuple[Place, ...]


@dataclass(slots=True)
class Record:
    """The parameters that lie together: a block's, or all those around the blocks."""

    name: str
    start: int
    entries: list[Entry] = field(default_factory=list)
    end: int = 0

    @property
    def bytes(self) -> int:
        """From its first byte to its last."""
        return self.end - self.start


AROUND = "around"


@dataclass(frozen=True)
class FileLayout:
    """A file of records."""

    records: tuple[Record, ...]
    notes: Mapping[str, str]

    @classmethod
    def of(
        cls, shapes: Mapping[str, Shape], kind: Kind, *, prefix: str, matrix: Callable[[str], bool],
        run: Callable[[str], int], rename: Callable[[str], str] = str, notes: Mapping[str, str] | None = None,
    ) -> "FileLayout":  # fmt: skip
        """Lays out a network.

        Args:
            shapes: of its parameters, by name.
            kind: how they are stored.
            prefix: a regular expression for the names of blocks, with the number as a group.
            matrix: whether a parameter of a block, by its name in the block, is a matrix of a linear layer.
            run: what a parameter of a block is needed for, by its name in the block, as a number.
            rename: from a parameter's name to the one in the file.
            notes: for the file's header.
        """
        groups: dict[tuple[int, int], list[tuple[str, bool]]] = {}
        names = {-1: AROUND}
        for target, shape in shapes.items():
            found = re.match(prefix, target)
            number, inner = (-1, "") if found is None else (int(found[1]), target[found.end() :])
            if found is not None:
                names[number] = found[0].rstrip(".")
            stored = found is not None and len(shape) == 2 and matrix(inner)
            groups.setdefault((number, run(inner) if inner else 0), []).append((target, stored))
        records: dict[int, Record] = {}
        offset = 0
        for number, use in sorted(groups):
            offset = _aligned(offset, RECORD_ALIGNMENT)
            record = records.setdefault(number, Record(rename(names[number]), offset))
            for target, stored in groups[number, use]:
                offset = _aligned(offset, TENSOR_ALIGNMENT)
                places = []
                for name, dtype, size in kind.parts(rename(target), tuple(shapes[target]), matrix=stored):
                    places.append(Place(name, dtype, size, _aligned(offset, TENSOR_ALIGNMENT)))
                    offset = record.end = places[-1].offset + places[-1].bytes
                record.entries.append(Entry(target, stored, tuple(places)))
        return cls(tuple(records.values()), notes or {})

    @cached_property
    def total(self) -> int:
        """Bytes of the whole file."""
        return len(self.header) + self.records[-1].end

    @cached_property
    def header(self) -> bytes:
        """The header, of a length that makes records begin at pages of the file."""
        room = 1 << 12
        while True:  # the table in the header tells places that depend on the header's length
            text = self._text(room)
            if len(text) + 8 <= room:
                return (room - 8).to_bytes(8, "little") + text.ljust(room - 8)
            room = _aligned(len(text) + 8 + 64, RECORD_ALIGNMENT)

    def _text(self, start: int) -> bytes:
        table = {record.name: [start + record.start, record.bytes] for record in self.records}
        notes = {"format": "pt", VERSION_NOTE: VERSION, RECORDS_NOTE: json.dumps(table), **self.notes}
        content: dict[str, object] = {"__metadata__": notes}
        for name, dtype, shape, offset, count in self._tensors():
            content[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + count]}
        return json.dumps(content, separators=(",", ":")).encode()

    def _tensors(self) -> Iterator[tuple[str, str, list[int], int, int]]:
        """All tensors in order, those between them too."""
        reached, holes = 0, 0
        for record in self.records:
            for place in (place for entry in record.entries for place in entry.places):
                if place.offset > reached:
                    yield f"{PADDING}{holes}", "U8", [place.offset - reached], reached, place.offset - reached
                    holes += 1
                yield place.name, place.dtype, list(place.shape), place.offset, place.bytes
                reached = place.offset + place.bytes


def _aligned(count: int, alignment: int) -> int:
    return -(-count // alignment) * alignment
