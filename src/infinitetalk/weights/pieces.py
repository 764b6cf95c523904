"""A large network piece by piece: what lies around its blocks first, then block after block.

So whoever takes the pieces decides where each of them lives, and main memory never holds more than a block at a time.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from infinitetalk.ops.stored import Holder, Stored
from infinitetalk.weights.keymaps import KeyMap
from infinitetalk.weights.load import Amendments, _check_names, assemble

M = TypeVar("M", bound=nn.Module)
B = TypeVar("B", bound=nn.Module)

Tensors = Mapping[str, Tensor | Stored]


@dataclass(frozen=True, slots=True)
class _Inside(KeyMap):
    """The names of one block of a network, seen from inside the block."""

    prefix: str = field(kw_only=True)

    def targets(self, name: str) -> tuple[str, ...]:
        return tuple(target.removeprefix(self.prefix) for target in KeyMap.targets(self, name))

    def convert(self, name: str, tensor: Tensor | Stored) -> Iterator[tuple[str, Tensor | Stored]]:
        for target, value in KeyMap.convert(self, name, tensor):
            yield target.removeprefix(self.prefix), value


class _AmendedInside:
    """Changes to the parameters of one block, seen from inside the block; see `load.Amendments`."""

    def __init__(self, amendments: Amendments, prefix: str) -> None:
        self._amendments, self._prefix = amendments, prefix

    def changes(self, name: str) -> bool:
        return self._amendments.changes(self._prefix + name)

    def branches(self, name: str) -> bool:
        return self._amendments.branches(self._prefix + name)

    def merge(self, name: str, value: Tensor) -> Tensor:
        return self._amendments.merge(self._prefix + name, value)

    def attach(self, name: str, layer: Holder, device: torch.device | str, dtype: torch.dtype) -> None:
        self._amendments.attach(self._prefix + name, layer, device, dtype)


class _Some(Mapping[str, Tensor | Stored]):
    """Some tensors of a mapping, read when asked for."""

    def __init__(self, tensors: Tensors, names: list[str]) -> None:
        self._tensors = tensors
        self._names = dict.fromkeys(names)

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __getitem__(self, name: str) -> Tensor | Stored:
        if name not in self._names:
            raise KeyError(name)
        return self._tensors[name]


class Pieces(Generic[M, B]):
    """A network's weights by block.

    Args:
        whole: makes the whole network; on the meta device, to learn its names.
        hollow: makes the network without its blocks.
        block: makes one block.
        prefix: a regular expression for the names of blocks with their number as a group: ``blocks\\.(\\d+)\\.``.
        tensors, keymap, source, amendments: as `load.assemble` takes them.

    Raises:
        ModelError: tensors that are missing, unused or doubled, anywhere in the network.
    """

    def __init__(
        self,
        whole: Callable[[], nn.Module],
        hollow: Callable[[], M],
        block: Callable[[], B],
        *,
        prefix: str,
        tensors: Tensors,
        keymap: KeyMap,
        source: str = "weights",
        amendments: Amendments | None = None,
    ) -> None:
        self._hollow, self._block, self._amendments = hollow, block, amendments
        self._tensors, self._keymap, self._source = tensors, keymap, source
        with torch.device("meta"):
            names = list(whole().state_dict())
        _check_names(names, tensors, keymap, source)
        self._around: list[str] = []
        self._prefixes: dict[int, str] = {}
        self._inside: dict[int, list[str]] = {}
        for name in tensors:
            if keymap.is_extra(name):
                continue
            found = re.match(prefix, keymap.targets(name)[0])
            if found is None:
                self._around.append(name)
            else:
                self._prefixes[int(found[1])] = found[0]
                self._inside.setdefault(int(found[1]), []).append(name)

    def __len__(self) -> int:
        return len(self._inside)

    def around(self, dtype: torch.dtype, device: torch.device | str, *, keep_stored: bool) -> M:
        """The network without its blocks, on a device."""
        tensors = _Some(self._tensors, self._around)
        return assemble(
            self._hollow, tensors, self._keymap,
            dtype=dtype, device=device, source=self._source, keep_stored=keep_stored, amendments=self._amendments,
        )  # fmt: skip

    def block(self, number: int, dtype: torch.dtype, *, keep_stored: bool) -> B:
        """One block, on the CPU: values that need no conversion stay mapped from their files."""
        inside = _Inside(self._keymap.rows, self._keymap.extras, prefix=self._prefixes[number])
        tensors = _Some(self._tensors, self._inside[number])
        amended = None if self._amendments is None else _AmendedInside(self._amendments, inside.prefix)
        return assemble(
            self._block, tensors, inside,
            dtype=dtype, source=self._source, keep_stored=keep_stored, amendments=amended,
        )  # fmt: skip
