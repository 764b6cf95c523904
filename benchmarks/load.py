"""Times loading a converted full-size model from the system's file cache, and tells its peak of main memory.

python -m benchmarks.load --out load.json --scratch FOLDER             (one GPU with 80 GB; 20 GB of disk for fp8)
python -m benchmarks.load --out load.json --scratch FOLDER --tier pinned
python -m benchmarks.load --out tiny.json --scratch FOLDER --tiny      (a CPU: the same steps with a tiny network)

Weights are random, made a tensor at a time while they are converted, as any other model's are. Loading is timed in a
process of its own, after the file was read once, so that the system has it in its cache as far as memory allows.
"""

import argparse
import json
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.memory import TINY
from infinitetalk.core.configs import DiTConfig
from infinitetalk.core.memory import Lodging, Tier
from infinitetalk.core.units import GIB
from infinitetalk.engine.convert import convert, dit_network
from infinitetalk.engine.lodging import load_dit
from infinitetalk.runtime.cgroups import from_table
from infinitetalk.runtime.device import Device
from infinitetalk.weights import names
from infinitetalk.weights.convert.folder import Job
from infinitetalk.weights.convert.layout import KINDS, Kind
from infinitetalk.weights.folder import ModelFolder, Part

FILE = "dit.safetensors"
PIECE = 64 * 2**20


class RandomWeights(Mapping[str, Tensor]):
    """A network's tensors, each made when asked for: bfloat16, matrices with variance 1 / fan-in."""

    def __init__(self, config: DiTConfig, device: torch.device) -> None:
        self._shapes, self._device = names.dit(config), device

    def __len__(self) -> int:
        return len(self._shapes)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __getitem__(self, name: str) -> Tensor:
        shape = self._shapes[name]
        generator = torch.Generator(self._device).manual_seed(zlib.crc32(name.encode()))
        values = torch.empty(shape, dtype=torch.bfloat16, device=self._device).normal_(generator=generator)
        return values if len(shape) == 1 else values.mul_(prod(shape[1:]) ** -0.5)


class _Shapes(Mapping[str, Tensor]):
    """The same without values, for the checks before a conversion."""

    def __init__(self, config: DiTConfig) -> None:
        self._shapes = names.dit(config)

    def __len__(self) -> int:
        return len(self._shapes)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __getitem__(self, name: str) -> Tensor:
        return torch.empty(self._shapes[name], dtype=torch.bfloat16, device="meta")


class _Silent:
    def begin(self, total: int, done: int, /) -> None:
        """Nobody listens."""

    def move(self, what: str, done: int, /) -> None:
        """Nobody listens."""


def make(config: DiTConfig, folder: Path, kind: Kind, device: torch.device) -> float:
    """Converts random weights; gives the seconds that it took."""
    opened = 0

    def weights() -> Mapping[str, Tensor]:
        nonlocal opened
        opened += 1
        return _Shapes(config) if opened == 1 else RandomWeights(config, device)

    network = replace(dit_network(Part(config, ()), kind, name=FILE), open=weights, source="random weights")
    started = time.perf_counter()
    convert(Job(output=folder, networks=(network,), about={"kind": kind.matrices}), device, _Silent())
    return time.perf_counter() - started


def warm(path: Path) -> None:
    """Reads a file once, so that the system has it in its cache."""
    with path.open("rb", buffering=0) as file:
        piece = bytearray(PIECE)
        while file.readinto(piece):
            pass


def status(entry: str) -> float:
    """A line of this process' memory, in GiB; Linux only."""
    return (from_table(Path("/proc/self/status"), entry) or 0) / GIB


def load(config: DiTConfig, path: Path, tier: Tier, *, tiny: bool) -> dict[str, Any]:
    """Loads the network and tells what it took."""
    device = Device.choose("cpu" if tiny else "cuda")
    if not tiny:
        torch.zeros(1, device=device.torch_device)  # the driver's start is no part of loading
    folder = replace(ModelFolder.open("nano"), dit=Part(config, (path,)))
    before = {"anonymous": status("RssAnon:"), "resident": status("VmRSS:")}
    started = time.perf_counter()
    housed = load_dit(folder, device, Lodging(tier=tier, keep_encoders=tier is Tier.RESIDENT))
    if not tiny:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    found = {
        "seconds": seconds,
        "blocks": config.num_layers,
        "peak_resident_gib": status("VmHWM:"),
        "resident_before_gib": before["resident"],
        "anonymous_before_gib": before["anonymous"],
        "anonymous_after_gib": status("RssAnon:"),
        "device_gib": 0.0 if tiny else torch.cuda.memory_allocated() / GIB,
    }
    if housed.store is not None:
        housed.store.close()
    return found


def read_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True, help="folder for the converted weights; they stay")
    parser.add_argument("--kind", choices=KINDS, default="fp8")
    parser.add_argument("--tier", choices=[tier.value for tier in Tier], default=Tier.RESIDENT.value)
    parser.add_argument("--tiny", action="store_true", help="a tiny network on the CPU")
    parser.add_argument("--only-load", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(words)


@torch.inference_mode()
def main(words: Sequence[str] | None = None) -> None:
    """Converts, then loads in a process of its own; writes one JSON object."""
    arguments = read_arguments(words)
    config = TINY if arguments.tiny else DiTConfig()
    folder = arguments.scratch / f"{'tiny' if arguments.tiny else 'full'}-{arguments.kind}"
    if arguments.only_load:
        told = load(config, folder / FILE, Tier(arguments.tier), tiny=arguments.tiny)
        arguments.out.write_text(json.dumps(told), encoding="utf-8")
        return
    figures: dict[str, Any] = {"kind": arguments.kind, "tier": arguments.tier, "torch": torch.__version__}
    if not (folder / FILE).is_file():
        rest = torch.float32 if arguments.tiny else torch.bfloat16
        where = torch.device("cpu" if arguments.tiny else "cuda")
        figures["convert_seconds"] = make(config, folder, Kind.of(arguments.kind, rest), where)
    warm(folder / FILE)
    figures["file_gib"] = (folder / FILE).stat().st_size / GIB
    given = list(sys.argv[1:] if words is None else words)
    subprocess.run([sys.executable, "-m", "benchmarks.load", *given, "--only-load"], check=True)
    figures |= json.loads(arguments.out.read_text(encoding="utf-8"))
    figures["device"] = "CPU" if arguments.tiny else torch.cuda.get_device_name()
    arguments.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
