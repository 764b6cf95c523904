"""The header of a safetensors file: eight bytes of length, then JSON. Checked as strictly as the library does."""

import json
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from infinitetalk.core.errors import ModelError
from infinitetalk.weights.headers.packed import is_packed, unpadded
from infinitetalk.weights.headers.record import FileKind, Header, TensorInfo, damaged

LENGTH_BYTES = 8
MOST_HEADER_BYTES = 100_000_000
"""The library's own limit."""

BITS: Mapping[str, int] = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64,
}  # fmt: skip
"""Bits of one number of each type."""


def read_safetensors(path: Path, file: BinaryIO, size: int) -> Header:
    """Reads the header of an open file of `size` bytes.

    Raises:
        ModelError: a header that is damaged or absurd, or a file shorter or longer than it says.
    """
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    if length > min(size - LENGTH_BYTES, MOST_HEADER_BYTES):
        raise damaged(
            path, f"not a whole safetensors file: it promises a header of {length} bytes and has {size} in all"
        )
    content = _object(path, file.read(length))
    notes = content.pop("__metadata__", {})
    if not isinstance(notes, dict) or not all(isinstance(note, str) for note in notes.values()):
        raise damaged(path, "the notes in its safetensors header are not text")
    spans = {name: _tensor(path, name, entry) for name, entry in content.items()}
    end = _check_spans(path, spans)
    if (there := size - LENGTH_BYTES - length) != end:
        word = "cut off" if there < end else "too long"
        raise damaged(path, f"the file is {word}: its tensors take {end} bytes, but {there} are there")
    tensors = {name: info for name, (info, _) in spans.items()}
    return Header(path, FileKind.SAFETENSORS, unpadded(path, tensors) if is_packed(path, notes) else tensors, notes)


def _object(path: Path, content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"its safetensors header is not readable ({error})") from error
    if not isinstance(value, dict):
        raise damaged(path, "its safetensors header is not a list of tensors")
    return value


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)} stands there twice")
    return result


def _tensor(path: Path, name: str, entry: Any) -> tuple[TensorInfo, tuple[int, int]]:
    """One entry of the header, and where its data lie."""
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(end)]}:
            pass
        case _:
            raise damaged(path, f"its safetensors header does not say what the tensor {name} is")
    if dtype not in BITS:
        raise ModelError(f"{path}: the tensor {name} has the type {dtype}; known are {', '.join(BITS)}")
    if not all(isinstance(axis, int) and not isinstance(axis, bool) and axis >= 0 for axis in shape):
        raise damaged(path, f"the tensor {name} has the shape {shape}")
    bits = prod(shape) * BITS[dtype]
    if bits % 8 or end - start != bits // 8:
        raise damaged(path, f"the tensor {name} ({dtype} {shape}) has {end - start} bytes")
    return TensorInfo(tuple(shape), dtype, end - start), (start, end)


def _check_spans(path: Path, spans: Mapping[str, tuple[TensorInfo, tuple[int, int]]]) -> int:
    """Checks that the tensors' data lie one after the other without holes; gives their end."""
    reached = 0
    for name, (_, (start, end)) in sorted(spans.items(), key=lambda item: item[1][1]):
        if start != reached:
            raise damaged(path, f"the data of the tensor {name} begin at byte {start}, not at {reached}")
        reached = end
    return reached
