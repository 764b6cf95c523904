"""A record: some tensors of one module, one behind the other in a single piece of memory, so that one copy moves all.

Nothing here knows what the tensors mean: parameters and buffers, dense or quantised, of any mixture of types.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

U = TypeVar("U", bound=Hashable)

ALIGNMENT = 256
"""Bytes at whose multiples every tensor of a record begins: what CUDA's own allocator keeps."""


def aligned(count: int, alignment: int = ALIGNMENT) -> int:
    """The next multiple of `alignment`."""
    return -(-count // alignment) * alignment


@dataclass(frozen=True, slots=True)
class Field:
    """One tensor of a record."""

    name: str
    shape: torch.Size
    dtype: torch.dtype
    offset: int

    @property
    def bytes(self) -> int:
        return self.shape.numel() * self.dtype.itemsize

    def view(self, memory: Tensor) -> Tensor:
        """The tensor, in a piece of memory uint8 [bytes] that holds the record."""
        return memory[self.offset : self.offset + self.bytes].view(self.dtype).view(self.shape)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the tensors of a record lie."""

    fields: tuple[Field, ...]
    bytes: int

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "Layout":
        """Plans a record for tensors by name."""
        fields, offset = [], 0
        for name, tensor in tensors.items():
            fields.append(Field(name, tensor.shape, tensor.dtype, offset))
            offset = aligned(offset + fields[-1].bytes)
        return cls(tuple(fields), offset)

    def fill(self, memory: Tensor, tensors: Mapping[str, Tensor]) -> None:
        """Copies the tensors into a piece of memory."""
        for field in self.fields:
            field.view(memory).copy_(tensors[field.name])

    def lay(self, module: nn.Module, memory: Tensor) -> None:
        """Makes the tensors of a module views into a piece of memory that holds the record."""
        for field in self.fields:
            put(module, field.name, field.view(memory))


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of a module by name, those that no file holds too."""
    found: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    found.update(module.named_buffers(remove_duplicate=False))
    return found


def put(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Gives a module's parameter or buffer another tensor, of any device."""
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    if leaf in owner._parameters:  # assignment would refuse another type
        owner._parameters[leaf] = nn.Parameter(tensor, requires_grad=False)
    else:
        owner._buffers[leaf] = tensor


def sort_by_use(names: Sequence[str], uses: Mapping[str, U], rest: U) -> Iterator[tuple[U, list[str]]]:
    """Names of tensors by what their modules are needed for; `uses` has modules, all others are for `rest`."""
    groups: dict[U, list[str]] = {}
    for name in names:
        use = next((use for module, use in uses.items() if name.startswith(module + ".")), rest)
        groups.setdefault(use, []).append(name)
    yield from groups.items()
