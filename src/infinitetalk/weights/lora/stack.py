"""Several LoRAs on one network: added in float32 where a weight is dense, as side branches where it is stored.

weight + sum over LoRAs of strength * scale * up @ down, or of strength * difference
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from infinitetalk.core.errors import ModelError
from infinitetalk.core.loras import Lora
from infinitetalk.ops.stored import Holder, Stored
from infinitetalk.weights.header import read_header
from infinitetalk.weights.load import read_tensors
from infinitetalk.weights.lora.file import Difference, LoraFile, Pair, Shape, open_lora


@dataclass(frozen=True, slots=True)
class _Opened:
    """A file's changes and its tensors, each read when asked for."""

    file: LoraFile
    tensors: Mapping[str, Tensor | Stored]

    def read(self, key: str, device: torch.device) -> Tensor:
        """One tensor in float32.

        Raises:
            ModelError: numbers that are not finite.
        """
        value = self.tensors[key]
        value = value.dequantise(torch.float32) if isinstance(value, Stored) else value.float()
        if not value.isfinite().all():
            raise ModelError(f"{self.file.lora.path}: {key} holds numbers that are not finite; the file is damaged")
        return value.to(device)

    def scale(self, pair: Pair) -> float:
        """What a pair counts, the LoRA's strength included."""
        cpu = torch.device("cpu")
        alpha = None if pair.alpha is None else float(self.read(pair.alpha, cpu).reshape(()))
        return self.file.lora.strength * pair.scales.scale(pair.module, pair.rank, alpha)

    def factors(self, pair: Pair, device: torch.device) -> tuple[Tensor, Tensor, float]:
        """up [out, rank] and down [rank, in] in float32, and what they count."""
        up, down = self.read(pair.up, device).flatten(1), self.read(pair.down, device).flatten(1)
        return up, down, self.scale(pair)


class LoraStack:
    """LoRAs that fit one network, in the order in which they were given."""

    def __init__(self, opened: Sequence[_Opened], device: torch.device | None = None) -> None:
        self._opened = tuple(opened)
        self._device = device

    @classmethod
    def open(cls, loras: Sequence[Lora], parameters: Mapping[str, Shape], device: torch.device | None = None) -> Self:
        """Reads the headers of LoRA files and finds a place for every tensor of theirs.

        Args:
            loras: files and strengths.
            parameters: names and shapes of the network's parameters.
            device: where weights are merged, wherever they lie; by default where they lie.

        Raises:
            ModelError: a file that cannot be read, or of which any tensor does not belong to this network.
        """
        opened = []
        for lora in loras:
            header = read_header(lora.path)
            shapes = {key: info.shape for key, info in header.tensors.items()}
            file = open_lora(lora, shapes, header.metadata, parameters)
            opened.append(_Opened(file, read_tensors([lora.path])))
        return cls(opened, device)

    @property
    def files(self) -> tuple[LoraFile, ...]:
        """What each file changes."""
        return tuple(one.file for one in self._opened)

    def changes(self, name: str) -> bool:
        """Whether any LoRA changes a parameter."""
        return any(name in file.changes for file in self.files)

    def branches(self, name: str) -> bool:
        """Whether all changes of a parameter are pairs of matrices, which can stand beside it as a side branch."""
        return all(isinstance(change, Pair) for file in self.files for change in file.changes.get(name, ()))

    def merge(self, name: str, value: Tensor) -> Tensor:
        """A parameter with all its changes added, in float32, where it lies; `value` itself if there are none.

        Raises:
            ModelError: a LoRA with numbers that are not finite.
        """
        if not self.changes(name):
            return value
        total = value.to(self._device or value.device, torch.float32, copy=True)
        for one, change in self._of(name):
            if isinstance(change, Pair):
                up, down, scale = one.factors(change, total.device)
                total.view(len(total), -1).addmm_(up, down, alpha=scale)
            else:
                scale = one.file.lora.strength if change.pair is None else one.scale(change.pair)
                total.add_(one.read(change.key, total.device).reshape(total.shape), alpha=scale)
        return total.to(value.device)

    def attach(self, name: str, layer: Holder, device: torch.device | str, dtype: torch.dtype) -> None:
        """Hangs the pairs of a parameter beside the stored matrix that `layer` holds.

        Raises:
            ModelError: a LoRA with numbers that are not finite.
        """
        for one, change in self._of(name):
            if isinstance(change, Pair):
                up, down, scale = one.factors(change, torch.device("cpu"))
                if math.isfinite(scale) and scale:
                    up, down = _balanced(up * scale, down)
                    layer.add_branch(down.to(device, dtype), up.to(device, dtype))

    def _of(self, name: str) -> Iterator[tuple[_Opened, Pair | Difference]]:
        for one in self._opened:
            for change in one.file.changes.get(name, ()):
                yield one, change


def _balanced(up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    """The same product from factors of like size, so that a small scale does not vanish in float16."""
    sizes = up.abs().amax(), down.abs().amax()
    if not all(sizes):
        return up, down
    shift = 2.0 ** round(math.log2(sizes[0] / sizes[1]) / 2)  # a power of two changes no digit
    return up / shift, down * shift
