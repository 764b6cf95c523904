"""Times the full-size network on one GPU, exactly and in 8 bits: a forward pass, the VAE, steps and whole windows.

python -m benchmarks.speed --out speed.json                                   (one GPU with 80 GB)
python -m benchmarks.speed --out speed.json --reference CHECKOUT IMPORTER     (the reference's class in the same run)
python -m benchmarks.speed --out tiny.json --tiny                             (a CPU: the same steps, tiny)

640x640, 81 frames, one person, random weights. Parts run in a fixed order, each is written when it is done, and none is
begun after `--seconds`; what was left out is named. Every speed has its error against the exact path beside it: the
relative norm of the difference of two velocities. Attention over random weights is nearly even, so errors of 8-bit
attention say little here: `benchmarks.emulated` measures them on trained weights.

CHECKOUT and IMPORTER are as in `benchmarks.parity`.
"""

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import speed_kernels, speed_network, speed_vae, speed_windows
from benchmarks.speed_network import Bench

Part = Callable[[Bench], dict[str, Any]]

PARTS: Mapping[str, Part] = {
    "rates": speed_network.rates,
    "kernels": speed_kernels.kernels,
    "ready_sizes": speed_kernels.ready_sizes,
    "vae": speed_vae.vae,
    "vae_sizes": speed_vae.sizes,
    "exact": speed_network.exact,
    "reference": speed_network.reference,
    "profile": speed_network.profile,
    "syncs": speed_network.syncs,
    "steps_exact": speed_windows.steps,
    "eight": speed_network.eight,
    "profile_eight": speed_network.profile,
    "steps_eight": speed_windows.steps,
    "windows": speed_windows.windows,
    "cached": speed_windows.cached,
    "convolutions": speed_vae.convolutions,
}
"""In the order in which they run: `eight` packs the matrices, and what comes after it computes in 8 bits."""


class Report:
    """Figures on disk after every part."""

    def __init__(self, path: Path, seconds: float) -> None:
        self._path, self._end = path, time.monotonic() + seconds
        self.figures: dict[str, Any] = {}

    def run(self, name: str, part: Part, bench: Bench) -> None:
        """Runs a part unless time is up; a part that fails is told and does not end the run."""
        if time.monotonic() > self._end:
            self.add({name: {"left_out": "no time was left"}})
            return
        sys.stderr.write(f"{name} ...\n")
        begun = time.perf_counter()
        try:
            found = part(bench)
        except (RuntimeError, ImportError, AssertionError, ValueError) as error:
            traceback.print_exc()
            found = {"failed": f"{type(error).__name__}: {error}".partition("\n")[0]}
        self.add({name: found | {"part_seconds": round(time.perf_counter() - begun, 2)}})
        bench.tidy()

    def add(self, figures: Mapping[str, Any]) -> None:
        """Writes what there is so far."""
        self.figures |= figures
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self.figures, indent=1) + "\n", encoding="utf-8")
        sys.stderr.write(json.dumps(dict(figures)) + "\n")


def read_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=480, help="no part is begun after so many")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--reference", nargs=2, type=Path, metavar=("CHECKOUT", "IMPORTER"))
    parser.add_argument("--attention", nargs="+", metavar="NAME", help="of the exact ones only these")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="a tiny network on the CPU")
    return parser.parse_args(words)


@torch.inference_mode()
def main(words: Sequence[str] | None = None) -> None:
    """Measures and writes one JSON object, part after part."""
    given = read_arguments(words)
    bench = Bench.make(tiny=given.tiny, repeats=given.repeats, reference=given.reference)
    bench.attentions = given.attention or bench.attentions
    report = Report(given.out, given.seconds)
    report.add(bench.described())
    for name, part in PARTS.items():
        if name in given.parts and not (name == "reference" and given.reference is None):
            report.run(name, part, bench)


if __name__ == "__main__":
    main()
