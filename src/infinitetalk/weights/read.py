"""Opening weight files: tensors by name, each read when it is asked for, none by running code of a file."""

import pickle
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from infinitetalk.core.errors import ModelError
from infinitetalk.ops.ggml import Blocks
from infinitetalk.ops.stored import Stored
from infinitetalk.weights.header import read_header
from infinitetalk.weights.headers.packed import is_packed, split_blocks
from infinitetalk.weights.kinds import DATA, Logical
from infinitetalk.weights.quanto import check_map

PICKLES = (".pth", ".pt", ".bin")

# What unpickling a damaged or foreign file can raise.
PICKLE_ERRORS = (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError)

PLAIN_GGML: Mapping[str, torch.dtype] = {
    "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64,
    "I8": torch.int8, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64,
}  # fmt: skip
"""ggml's types without blocks."""


def _first_line(error: Exception) -> str:
    """The first sentence of an error."""
    return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0].split(". ")[0]


class _Reader(Protocol):
    """An open `safetensors` file."""

    def keys(self) -> Iterable[str]: ...
    def metadata(self) -> Mapping[str, str] | None: ...
    def get_tensor(self, name: str) -> Tensor: ...


def _open_safetensors(path: Path) -> _Reader:
    try:
        return safe_open(str(path), framework="pt")
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not a whole safetensors file ({_first_line(error)}); get it again") from error


class _SafeFile(Mapping[str, Tensor]):
    """The tensors of one `.safetensors` file; each is read when asked for."""

    def __init__(self, path: Path) -> None:
        self._file = _open_safetensors(path)
        self.notes = self._file.metadata() or {}
        self._names = dict.fromkeys(self._file.keys())
        if any(name.endswith(DATA) for name in self._names):
            check_map(read_header(path))

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._file.get_tensor(name)


class _PackedFile(Mapping[str, Tensor | Stored]):
    """The tensors of a file that `convert` wrote: padding is not seen, blocks are under their matrices' names."""

    def __init__(self, path: Path, file: Mapping[str, Tensor]) -> None:
        self._file = file
        self._infos = read_header(path).tensors
        split = ((name, split_blocks(name)) for name in file)
        self._blocks = {found[0]: name for name, found in split if found is not None}

    def __len__(self) -> int:
        return len(self._infos)

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __getitem__(self, name: str) -> Tensor | Stored:
        if name not in self._blocks:
            return self._file[name]
        info = self._infos[name]
        return Blocks.of(name, self._file[self._blocks[name]], info.dtype, info.shape)


def _open_safe(path: Path) -> Mapping[str, Tensor | Stored]:
    file = _SafeFile(path)
    return _PackedFile(path, file) if is_packed(path, file.notes) else file


class _GgufFile(Mapping[str, Tensor | Stored]):
    """The tensors of one `.gguf` file, mapped from disk: blocks stay blocks."""

    def __init__(self, path: Path) -> None:
        from gguf import GGUFReader

        self._path = path
        self._infos = read_header(path).tensors  # refuses what is damaged or absurd
        try:
            reader = GGUFReader(path, "c")  # torch wants to own what it may write to: pages that are written are copied
        except (ValueError, LookupError, OSError, OverflowError) as error:
            raise ModelError(f"{path}: not a whole GGUF file ({_first_line(error)}); get it again") from error
        self._data = {tensor.name: tensor.data for tensor in reader.tensors}

    def __len__(self) -> int:
        return len(self._infos)

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __getitem__(self, name: str) -> Tensor | Stored:
        info = self._infos[name]
        raw = torch.from_numpy(self._data[name])
        if info.dtype in PLAIN_GGML:
            return raw.view(PLAIN_GGML[info.dtype]).reshape(info.shape)
        try:
            return Blocks.of(name, raw, info.dtype, info.shape)
        except ModelError as error:
            raise ModelError(f"{self._path}: {error}") from error


def _read_pickle(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a torch file, mapped from disk where its format allows; no code in the file is run."""
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except PICKLE_ERRORS as error:
        raise ModelError(f"{path}: not a whole torch weight file ({_first_line(error)}); get it again") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ModelError(f"{path}: holds something other than named tensors")
    return content


OPENERS: Mapping[str, Callable[[Path], Mapping[str, Tensor | Stored]]] = {
    ".safetensors": _open_safe,
    ".gguf": _GgufFile,
    **dict.fromkeys(PICKLES, _read_pickle),
}
"""How the names of weight files end, and what opens them."""


def read_tensors(paths: Sequence[Path]) -> Mapping[str, Tensor | Stored]:
    """Opens weight files as one mapping from name to what stands under it, companions of few bits folded in.

    Args:
        paths: safetensors, GGUF or torch files (.pth, .pt, .bin). They may be stored in different ways.

    Raises:
        ModelError: a file that is missing, damaged or of another kind, one name in two files, or companions that do
            not fit.
    """
    files: list[tuple[Path, Mapping[str, Tensor | Stored]]] = []
    for path in paths:
        if not path.is_file():
            raise ModelError(f"{path}: there is no such weight file")
        opener = OPENERS.get(path.suffix)
        if opener is None:
            raise ModelError(f"{path}: weight files end in {', '.join(OPENERS)}")
        files.append((path, opener(path)))
    return Logical(files)
