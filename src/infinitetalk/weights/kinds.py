"""From the tensors of weight files to the tensors that they stand for.

A matrix of few bits has companions beside it. Which ones depends on who wrote the file; `<m>` is a layer:

| written by                | numbers           | scale                        | beside it                         |
|---------------------------|-------------------|------------------------------|-----------------------------------|
| optimum-quanto            | `<m>.weight._data`| `<m>.weight._scale` [out, 1] | `.input_scale`, `.output_scale`   |
| ComfyUI and Kijai, scaled | `<m>.weight`      | `<m>.scale_weight` []        | `.scale_input`; `scaled_fp8`      |
| ComfyUI, newer            | `<m>.weight`      | `<m>.weight_scale` []        | `.comfy_quant`, `.input_scale`    |
| LightX2V                  | `<m>.weight`      | `<m>.weight_scale` [out, 1]  |                                   |
| `weights.packed`          | `<name>`          | `<name>.scale` [out]         |                                   |
| unscaled fp8              | any name          |                              |                                   |

A value is a number times its scale everywhere. Scales of activations are left out: activations stay in 16 or 32 bits
here. A companion without its matrix, a matrix without its scale and a kind that is not in this table are errors.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infinitetalk.core.errors import ModelError
from infinitetalk.ops.stored import SCALED_KINDS, Scaled, Stored

MARKER = "scaled_fp8"
DATA = "._data"
SCALES: tuple[tuple[str, str], ...] = (
    ("._scale", ""),
    (".scale_weight", ".weight"),
    (".weight_scale", ".weight"),
    (".scale", ""),
)
"""How the name of a scale ends, and what stands there in the name of its matrix."""

NOTE = ".comfy_quant"
ACTIVATIONS = (".scale_input", ".input_scale", ".output_scale")

COMFY_FORMATS: Mapping[str, torch.dtype] = {
    "float8_e4m3fn": torch.float8_e4m3fn,
    "float8_e5m2": torch.float8_e5m2,
    "int8_tensorwise": torch.int8,
}
"""Formats of `comfy_quant` whose values are numbers times a scale."""
SAMPLED_ROWS = 16
LARGEST_MEAN = 4.0
"""Weights of trained matrices are far smaller on average, numbers that were made to fill fp8's range far larger."""

HARMLESS_NOTES = frozenset({"format", "full_precision_matrix_mult"})

# Tables that are looked up in, not multiplied with: they have no scale in files whose matrices have.
_TABLE = re.compile(
    r"(.+\.)?(shared|token_embedding|embed_tokens|relative_attention_bias|pos_embedding\.embedding)\.weight"
)


@dataclass(frozen=True, slots=True)
class Siblings:
    """Which names of weight files belong together; tells it by the names alone.

    `tensors` are the names of what the files stand for, in order. `data`, `scales` and `notes` say, for some of these,
    what holds their numbers, their scale and ComfyUI's description; `left` are the names without use here.
    """

    tensors: tuple[str, ...]
    data: Mapping[str, str]
    scales: Mapping[str, str]
    notes: Mapping[str, str]
    left: tuple[str, ...]

    @classmethod
    def of(cls, names: Iterable[str]) -> "Siblings":
        """Sorts the names of a model's files.

        Raises:
            ModelError: a companion without its matrix, or two of one kind for one matrix.
        """
        given = dict.fromkeys(names)
        data = {name.removesuffix(DATA): name for name in given if name.endswith(DATA)}
        scales: dict[str, str] = {}
        notes: dict[str, str] = {}
        left: list[str] = []
        for name in given:
            if name.rpartition(".")[2] == MARKER or name.endswith(ACTIVATIONS):
                left.append(name)
            elif name.endswith(NOTE):
                notes[name.removesuffix(NOTE) + ".weight"] = name
            elif (matrix := _matrix_of(name, given)) is not None:
                if matrix in scales:
                    raise ModelError(f"the tensor {matrix} has two scales: {scales[matrix]} and {name}")
                scales[matrix] = name
        companions = {*data.values(), *scales.values(), *notes.values(), *left}
        tensors = tuple(name.removesuffix(DATA) for name in given if name not in companions or name in data.values())
        found = cls(tensors, data, scales, notes, tuple(left))
        found._check(given)
        return found

    def _check(self, given: Mapping[str, None]) -> None:
        known = set(self.tensors)
        for matrix, companion in (*self.scales.items(), *self.notes.items()):
            if matrix not in known:
                raise ModelError(f"the tensor {companion} belongs to {matrix}, which is not there")
        for companion in self.left:
            layer, _, last = companion.rpartition(".")
            if last != MARKER and f"{layer}.weight" not in known:
                raise ModelError(f"the tensor {companion} belongs to {layer}.weight, which is not there")
        for matrix, data in self.data.items():
            if matrix in given:
                raise ModelError(f"there are both a tensor {matrix} and its numbers, {data}")
            if matrix not in self.scales:
                raise ModelError(f"the tensor {data} has no {matrix}._scale beside it, so that its values are unknown")
        for matrix in self.notes:
            if matrix not in self.scales:
                layer = matrix.removesuffix(".weight")
                raise ModelError(f"the tensor {matrix} has no {layer}.weight_scale beside it, but {layer}{NOTE}")


def _matrix_of(scale: str, given: Mapping[str, None]) -> str | None:
    """The name of the matrix that a tensor of this name scales; None for a tensor that is no scale."""
    for ending, matrix_ending in SCALES:
        if scale.endswith(ending):
            matrix = scale.removesuffix(ending) + matrix_ending
            # Other tensors may be called a scale too: `weights.packed` needs the matrix beside it to be meant.
            return matrix if ending != ".scale" or matrix in given else None
    return None


class Logical(Mapping[str, Tensor | Stored]):
    """What the tensors of some files stand for, by name; each is read when asked for."""

    def __init__(self, files: Sequence[tuple[Path | str, Mapping[str, Tensor | Stored]]]) -> None:
        self._homes: dict[str, tuple[Path | str, Mapping[str, Tensor | Stored]]] = {}
        scaled: list[Path | str] = []
        for path, tensors in files:
            for name in tensors:
                if name in self._homes and name.rpartition(".")[2] != MARKER:
                    raise ModelError(f"{path}: the tensor {name} is in another of the part's files already")
                self._homes[name] = path, tensors
            if any(name.rpartition(".")[2] == MARKER or _matrix_of(name, {}) for name in tensors):
                scaled.append(path)
        self._scaled = frozenset(scaled)
        try:
            self._siblings = Siblings.of(self._homes)
        except ModelError as error:
            raise ModelError(f"{', '.join(str(path) for path, _ in files)}: {error}") from error
        self._names = dict.fromkeys(self._siblings.tensors)

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> Tensor | Stored:
        """Reads one tensor; those of few bits come as they are stored.

        Raises:
            ModelError: numbers, a scale or a description that do not fit each other.
        """
        if name not in self._names:
            raise KeyError(name)
        path, _ = self._homes[self._siblings.data.get(name, name)]
        try:
            return self._joined(name, scaled=path in self._scaled)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error

    def _read(self, name: str) -> Tensor | Stored:
        return self._homes[name][1][name]

    def _joined(self, name: str, *, scaled: bool) -> Tensor | Stored:
        data = self._read(self._siblings.data.get(name, name))
        scale = self._read(self._siblings.scales[name]) if name in self._siblings.scales else None
        if isinstance(data, Stored) or isinstance(scale, Stored):
            if scale is not None:
                raise ModelError(f"the tensor {name} has a scale beside it, {self._siblings.scales[name]}, and blocks")
            return data
        if name in self._siblings.notes:
            _check_note(name, self._read(self._siblings.notes[name]), data)
        if data.dtype in SCALED_KINDS:
            if scale is None and data.ndim == 2 and not _TABLE.fullmatch(name):
                _check_unscaled(name, data, scaled=scaled)
            return Scaled.of(name, data, scale)
        return data if scale is None else _scaled_dense(name, data, scale)


def _check_unscaled(name: str, data: Tensor, *, scaled: bool) -> None:
    """Refuses a matrix that must have had a scale once."""
    if scaled:
        raise ModelError(f"the tensor {name} has no scale beside it, while others of its file have; get it again")
    size = data[:SAMPLED_ROWS].float().abs().mean()
    if data.dtype != torch.int8 and size > LARGEST_MEAN:
        raise ModelError(
            f"the tensor {name} has numbers of {size:.0f} on average, as fp8 with a scale has, but no scale beside it; "
            f"a file of the model lacks, or give all of them together"
        )


def _scaled_dense(name: str, data: Tensor, scale: Tensor) -> Tensor:
    """A matrix of many bits that has a scale all the same: ComfyUI saves one, mostly 1, for every matrix it left."""
    if not data.is_floating_point() or not scale.is_floating_point() or scale.numel() != 1:
        Scaled.of(name, data, scale)  # says what is wrong
    return (data.float() * scale.float().reshape(())).to(data.dtype)


def _check_note(name: str, note: Tensor | Stored, data: Tensor) -> None:
    """Refuses what ComfyUI says of a matrix if more than a scale is needed to get its values."""
    try:
        said: Any = json.loads(bytes(note.tolist())) if isinstance(note, Tensor) else None
    except (ValueError, TypeError) as error:
        raise ModelError(f"what {NOTE} says of the tensor {name} is not readable ({error})") from error
    said = said if isinstance(said, dict) else {"format": said}
    kind = str(said.get("format"))
    if kind not in COMFY_FORMATS:
        raise ModelError(
            f"the tensor {name} is stored as {kind}; of ComfyUI's kinds {', '.join(COMFY_FORMATS)} are read"
        )
    if COMFY_FORMATS[kind] != data.dtype:
        raise ModelError(f"the tensor {name} should be {kind}, but is {str(data.dtype).removeprefix('torch.')}")
    if more := [f"{key} = {value}" for key, value in said.items() if key not in HARMLESS_NOTES and value]:
        raise ModelError(f"the tensor {name} is stored with {', '.join(more)}, which this version cannot undo")
