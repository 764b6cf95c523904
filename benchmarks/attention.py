"""Times every attention back end that works here, at the shapes of the 14B network in a window of 81 frames.

python -m benchmarks.attention --out attention.json           (one GPU)
python -m benchmarks.attention --out tiny.json --tiny         (a CPU: the same steps with small shapes)

Three kinds of attention (640x640): among all video tokens, to a text of 512 tokens, and of each latent frame to its 32
tokens of sound. Back ends take turns, so that a card that grows hot does so for all of them. The error is that of 64
queries of the first head against plain products in float32; inputs are normal.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.quantisation import machine
from infinitetalk.core.attention import usable
from infinitetalk.core.errors import RequestError
from infinitetalk.ops.attention import Kernel
from infinitetalk.runtime.attention import choose_attention, error_of, installed, place
from infinitetalk.runtime.device import Device


class Shape(NamedTuple):
    """Sizes of one kind of attention."""

    batch: int
    length: int
    told: int

    def operations(self, heads: int, width: int) -> float:
        """Floating-point operations of a call."""
        return 4.0 * self.batch * self.length * self.told * heads * width


HEADS, WIDTH = 40, 128
FULL = {"self": Shape(1, 33600, 33600), "text": Shape(1, 33600, 512), "sound": Shape(21, 1600, 32)}
TINY = {"self": Shape(1, 192, 192), "text": Shape(1, 192, 16), "sound": Shape(3, 64, 8)}
DTYPES = ("bfloat16", "float16")


def inputs(shape: Shape, heads: int, width: int, device: Device) -> tuple[Tensor, Tensor, Tensor]:
    """Normal queries, keys and values."""
    where = device.torch_device
    generator = torch.Generator(where).manual_seed(0)
    lengths = (shape.length, shape.told, shape.told)
    q, k, v = (
        torch.randn(shape.batch, length, heads, width, generator=generator, device=where, dtype=device.dtype)
        for length in lengths
    )
    return q, k, v


def timed(kernel: Kernel, given: tuple[Tensor, Tensor, Tensor]) -> float:
    """Seconds of one call."""
    where = given[0].device
    _wait(where)
    started = time.perf_counter()
    kernel(*given)
    _wait(where)
    return time.perf_counter() - started


def _wait(where: torch.device) -> None:
    if where.type == "cuda":
        torch.cuda.synchronize(where)


def compare(
    kernels: Mapping[str, Kernel], given: tuple[Tensor, Tensor, Tensor], operations: float, rounds: int
) -> dict[str, dict[str, Any]]:
    """Median milliseconds, rate and error of each back end; `failed` instead, where one does."""
    told: dict[str, dict[str, Any]] = {}
    for name, kernel in kernels.items():
        try:
            told[name] = {"relative_error": error_of(kernel, *given)}
        except RuntimeError as error:  # full memory too: plain products keep the weights of all pairs
            told[name] = {"failed": str(error).partition("\n")[0]}
    works = [name for name in kernels if "failed" not in told[name]]
    spent: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name in works:
            spent[name].append(timed(kernels[name], given))
    for name, seconds in spent.items():
        middle = median(seconds)
        told[name] |= {"milliseconds": middle * 1e3, "tflops": operations / middle / 1e12, "least": min(seconds) * 1e3}
    return told


@torch.inference_mode()
def measure(device: Device, shapes: Mapping[str, Shape], heads: int, width: int, rounds: int) -> dict[str, Any]:
    """All back ends at all shapes in one number format."""
    names = usable(place(device, width, device.dtype), installed)
    kernels: dict[str, Kernel] = {}
    told: dict[str, Any] = {}
    for name in names:
        try:
            kernels[name] = choose_attention(device, name, width)
        except RequestError as error:
            told.setdefault("broken", {})[name] = str(error)
    for kind, shape in shapes.items():
        rows = compare(kernels, inputs(shape, heads, width, device), shape.operations(heads, width), rounds)
        told[kind] = {"shape": [*shape, heads, width], "back_ends": rows}
        for name, row in rows.items():
            sys.stdout.write(json.dumps({"dtype": str(device.dtype), "kind": kind, "name": name} | row) + "\n")
    return told


def main(words: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args(words)
    first = Device.choose(given.device)
    if first.pretended is not None:
        parser.error(f"{first.name} is only pretended: speed is not")
    if first.torch_device.type != "cuda" and not given.tiny:
        parser.error(f"{first.name} would take hours: give --tiny, or a GPU")
    dtypes = [name for name in DTYPES if name != "bfloat16" or first.bfloat16]
    shapes, heads, width = (TINY, 4, 16) if given.tiny else (FULL, HEADS, WIDTH)
    figures: dict[str, Any] = {
        "machine": machine(first.torch_device.type),
        "torch": torch.__version__,
        "rounds": given.rounds,
        "tiny": given.tiny,
    }
    for dtype in dtypes:
        figures[dtype] = measure(first.with_dtype(dtype), shapes, heads, width, given.rounds)
    given.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
