"""What is in a weight file, without reading its weights: names, shapes and types of all tensors."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from infinitetalk.core.errors import ModelError
from infinitetalk.weights.headers.gguf import MAGIC, read_gguf
from infinitetalk.weights.headers.record import FileKind, Header, TensorInfo, damaged
from infinitetalk.weights.headers.safe import read_safetensors
from infinitetalk.weights.headers.torch_zip import read_old_torch, read_torch

__all__ = ["SUFFIXES", "FileKind", "Header", "TensorInfo", "read_header"]

SUFFIXES: Mapping[str, FileKind] = {
    ".safetensors": FileKind.SAFETENSORS,
    ".gguf": FileKind.GGUF,
    ".pth": FileKind.TORCH,
    ".pt": FileKind.TORCH,
    ".bin": FileKind.TORCH,
}
"""How the names of weight files end, and what they then hold."""

_READERS: Mapping[FileKind, Callable[[Path, BinaryIO, int], Header]] = {
    FileKind.SAFETENSORS: read_safetensors,
    FileKind.GGUF: read_gguf,
    FileKind.TORCH: read_torch,
}
_ZIP = b"PK\x03\x04"
_OLD_TORCH = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
_FOREIGN: Mapping[bytes, str] = {
    b"version https://git-lfs": "a Git LFS pointer, not the file itself; get it with git lfs pull or download it",
    **dict.fromkeys(
        (b"<!doctype", b"<html", b"<head", b"<?xml"), "a web page, not a weight file; the download went wrong"
    ),
}
"""Beginnings of other things, in small letters; long ones, as a safetensors file begins with a number of any bytes."""


def read_header(path: Path) -> Header:
    """Reads what a weight file holds. No tensor's data are read, no code in the file is run.

    Args:
        path: a file that ends in .safetensors, .gguf, .pth, .pt or .bin.

    Raises:
        ModelError: a file that is not there, of another kind, damaged, cut off, absurd or dangerous.
    """
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise ModelError(f"{path}: weight files end in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise ModelError(f"{path}: there is no such weight file")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(32)
            _check_start(path, kind, start)
            file.seek(0)
            reader = read_old_torch if start.startswith(_OLD_TORCH) else _READERS[kind]
            return reader(path, file, size)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from error


def _check_start(path: Path, kind: FileKind, start: bytes) -> None:
    """Refuses a file whose first bytes say that it is something else than its name says."""
    if not start:
        raise damaged(path, "the file is empty")
    for sign, what in _FOREIGN.items():
        if start.lower().startswith(sign):
            raise ModelError(f"{path}: {what}")
    held = FileKind.GGUF if start.startswith(MAGIC) else FileKind.TORCH if start.startswith(_ZIP) else None
    if held not in (None, kind):
        raise ModelError(f"{path}: holds a {held.value} file in spite of its name; rename it")
    if kind is FileKind.TORCH and held is None and not start.startswith(_OLD_TORCH):
        raise damaged(path, "not a torch file: it does not begin as a zip file does")
