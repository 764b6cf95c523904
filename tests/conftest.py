"""Shared by all tests: threads, the `tiny` model folder and the golden cases."""

import json
import os
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

GOLDEN = Path(__file__).parent / "golden"

# Certificates made by tests go where nobody's are; commands that tests start inherit it.
os.environ["INFINITETALK_CONFIG"] = tempfile.mkdtemp(prefix="infinitetalk-config-")
os.environ["INFINITETALK_DATA"] = tempfile.mkdtemp(prefix="infinitetalk-data-")

# Workers share few cores, and sums in one order make equal runs equal.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder `tiny`, built once per worker; tests must not write into it."""
    from tools.make_tiny import make_tiny

    return make_tiny(tmp_path_factory.mktemp("models") / "tiny")


def golden_normal(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard normal values by name, as `golden/README.md` defines them."""
    bits = np.random.Philox(key=[zlib.crc32(name.encode()), seed])
    return torch.from_numpy(np.random.Generator(bits).standard_normal(size=shape, dtype=np.float32))


def golden_weight(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """A parameter by its checkpoint's name, as `golden/README.md` defines it."""
    values = golden_normal(name, shape, seed)
    if len(shape) == 1 or name.endswith("gamma"):
        return 0.05 * values if name.endswith("bias") else 1 + 0.1 * values
    scaled = values * float(0.8 / np.sqrt(int(np.prod(shape[1:]))))
    return scaled.abs() + 0.5 if "original0" in name else scaled


@dataclass(frozen=True)
class GoldenCase:
    """One file of `tests/golden`."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]

    @property
    def state(self) -> dict[str, Tensor]:
        """The network's weights under their checkpoint's names."""
        shapes, seed = self.meta["parameters"], self.meta["weight_seed"]
        return {name: golden_weight(name, tuple(shape), seed) for name, shape in shapes.items()}


@pytest.fixture
def golden_case() -> Callable[[str], GoldenCase]:
    """Reads a golden case by its file's name."""

    def read(name: str) -> GoldenCase:
        path = GOLDEN / f"{name}.safetensors"
        with safe_open(str(path), "pt") as file:
            meta = json.loads(file.metadata()["meta"])
        return GoldenCase(load_file(path), meta)

    return read


@pytest.fixture
def relative_error() -> Callable[[Tensor, Tensor], float]:
    """‖a − b‖ / ‖b‖."""

    def measure(a: Tensor, b: Tensor) -> float:
        assert a.shape == b.shape
        return float((a - b).norm() / b.norm())

    return measure
