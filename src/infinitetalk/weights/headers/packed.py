"""Files that `convert` wrote: safetensors with notes on them, and what those notes mean for the names inside.

A file holds records: the tensors that are needed together, one behind the other, each at a multiple of 256 bytes and
each record at a multiple of 4096. Safetensors files have no holes, so that bytes between tensors are tensors too,
called `padding.0` and so on. A matrix in ggml's blocks is a tensor of bytes [rows, bytes of a row] with the kind behind
its name: `blocks.0.ffn.0.weight.q4_k`. All other names and types are as everywhere.
"""

from collections.abc import Mapping
from pathlib import Path

from infinitetalk.core.errors import ModelError
from infinitetalk.core.ggml import SIZES
from infinitetalk.weights.headers.record import TensorInfo, damaged

VERSION_NOTE, VERSION = "infinitetalk_format", "1"
RECORDS_NOTE = "infinitetalk_records"
"""JSON: record → [first byte in the file, bytes]."""
PADDING = "padding."
KINDS = frozenset(name for name in SIZES if name.startswith("Q"))
"""ggml's kinds of blocks that a matrix may be in."""


def is_packed(path: Path, notes: Mapping[str, str]) -> bool:
    """Whether `convert` wrote a file with these notes.

    Raises:
        ModelError: another version of it did.
    """
    version = notes.get(VERSION_NOTE)
    if version not in (None, VERSION):
        raise ModelError(f"{path}: has the format {version}; this version reads format {VERSION}")
    return version is not None


def split_blocks(name: str) -> tuple[str, str] | None:
    """Name and ggml's kind behind the name of a tensor of blocks; None for any other."""
    stem, _, ending = name.rpartition(".")
    kind = ending.upper()
    return (stem, kind) if stem and kind in KINDS and ending == kind.lower() else None


def unpadded(path: Path, tensors: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    """What the tensors of a file of records stand for: no padding, blocks under their matrices' names and shapes."""
    found: dict[str, TensorInfo] = {}
    for name, info in tensors.items():
        if name.startswith(PADDING):
            continue
        split = split_blocks(name)
        if split is None:
            found[name] = info
            continue
        stem, kind = split
        weights, size = SIZES[kind]
        if info.dtype != "U8" or len(info.shape) != 2 or info.shape[1] % size:
            raise damaged(path, f"the tensor {name} ({info.dtype} {list(info.shape)}) is not made of blocks of {kind}")
        found[stem] = TensorInfo((info.shape[0], info.shape[1] // size * weights), kind, info.bytes)
    return found
