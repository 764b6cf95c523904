"""What a header says, whatever the kind of file."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from math import prod
from pathlib import Path

from infinitetalk.core.errors import ModelError

GET_AGAIN = "get it again"


class FileKind(Enum):
    """How a weight file is laid out."""

    SAFETENSORS = "safetensors"
    GGUF = "gguf"
    TORCH = "torch"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of a file, unread."""

    shape: tuple[int, ...]
    """In torch's order; a GGUF tensor's is the one that it had before it was made flat."""
    dtype: str
    """As safetensors names it (F32, BF16, F8_E4M3, …), or ggml's name (Q4_0, Q4_K, …)."""
    bytes: int

    @property
    def elements(self) -> int:
        """How many numbers the tensor has."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """The names, shapes and kinds of all tensors of one file, and the notes that its author left."""

    path: Path
    kind: FileKind
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]


def damaged(path: Path, problem: str) -> ModelError:
    """The error for a file that is not whole."""
    return ModelError(f"{path}: {problem}; {GET_AGAIN}")
