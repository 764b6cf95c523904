"""Reading a golden case: stored tensors, generated weights and inputs, and the measure of errors."""

import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn

from infinitetalk.core.errors import MediaError
from infinitetalk.core.memory import Lodging, Tier
from infinitetalk.engine.lodging import lodge, lodge_text
from infinitetalk.models.dit import AudioDiT
from infinitetalk.models.text import TextEncoder
from infinitetalk.runtime.memory.store import Store
from infinitetalk.weights.keymaps import KeyMap
from infinitetalk.weights.load import assemble

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Finding:
    """One compared quantity."""

    what: str
    error: float
    bound: float

    @property
    def passed(self) -> bool:
        """Whether the error is a number within its bound."""
        return self.error <= self.bound


CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Quarters:
    """Where the networks of a case live: a tier of memory, and a folder for what it writes."""

    tier: Tier = Tier.RESIDENT
    folder: Path | None = None
    stores: list[Store] = field(default_factory=list)

    def lodge(self, dit: AudioDiT) -> AudioDiT:
        """A network with its blocks in the tier; two in three of them move."""
        lodging = Lodging(tier=self.tier, resident_blocks=len(dit.blocks) // 3)
        self._keep(lodge(dit, lodging, CPU, self.folder))
        return dit

    def lodge_text(self, encoder: TextEncoder) -> TextEncoder:
        """The same for the text encoder."""
        self._keep(lodge_text(encoder, self.tier, CPU, self.folder))
        return encoder

    def _keep(self, store: Store | None) -> None:
        if store is not None:
            self.stores.append(store)


@dataclass(frozen=True, slots=True)
class Case:
    """A golden case, read."""

    name: str
    meta: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    quarters: Quarters = field(default_factory=Quarters)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for store in self.quarters.stores:
            store.close()

    @classmethod
    def read(cls, path: Path, quarters: Quarters | None = None) -> "Case":
        """Reads a file of a golden folder.

        Raises:
            MediaError: a file without the metadata of a golden case.
        """
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        if "meta" not in metadata:
            raise MediaError(path.name, "has no `meta` in its metadata, so it is no golden case")
        return cls(path.stem, json.loads(metadata["meta"]), tensors, quarters or Quarters())

    @property
    def seed(self) -> int:
        """Of the generated weights and inputs."""
        return int(self.meta["weight_seed"])

    def normal(self, name: str, *shape: int) -> Tensor:
        """Generated standard normal values."""
        return normal(name, shape, self.seed)


def normal(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard normal float32 values that depend on the name, the shape and the seed alone."""
    bits = np.random.Philox(key=[zlib.crc32(name.encode()), seed])
    return torch.from_numpy(np.random.Generator(bits).standard_normal(size=shape, dtype=np.float32))


def weight(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """A generated parameter: small biases, gains near 1, matrices that keep the variance."""
    values = normal(name, shape, seed)
    if len(shape) == 1 or name.endswith("gamma"):
        return 0.05 * values if name.endswith("bias") else 1 + 0.1 * values
    return values * (0.8 / math.sqrt(math.prod(shape[1:])))


class Generated(Mapping[str, Tensor]):
    """Weights by name, generated when asked for."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], seed: int) -> None:
        self._shapes = shapes
        self._seed = seed

    def __len__(self) -> int:
        return len(self._shapes)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __getitem__(self, name: str) -> Tensor:
        values = weight(name, tuple(self._shapes[name]), self._seed)
        # A weight-normed convolution's magnitudes are positive.
        return values.abs() + 0.5 if "original0" in name else values


def network(factory: Callable[[], M], shapes: Mapping[str, Any], seed: int, keymap: KeyMap) -> M:
    """A network with generated weights under their checkpoint's names, built by the usual loader."""
    return assemble(factory, Generated(shapes, seed), keymap, dtype=torch.float32, source="generated weights")


def relative(found: Tensor, expected: Tensor) -> float:
    """‖found - expected‖ / ‖expected‖; infinite for tensors of different shapes."""
    if found.shape != expected.shape:
        return math.inf
    expected = expected.double()
    return float((found.double() - expected).norm() / expected.norm())
