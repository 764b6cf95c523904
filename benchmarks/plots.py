"""Draws committed results for the document about speed: one picture of four panels.

python -m benchmarks.plots                     (docs/images/performance.png; needs matplotlib)

Each panel says what it shows and on which machine. The picture carries the SHA-256 of the results that it was drawn
from, so that a test sees when they have changed since.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.quantisation import RESULTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "performance.png"
BITS, CACHE, PLANNER, LENGTH_CPU, LENGTH_GPU = (
    "quantisation_full.json", "caching_nano.json", "planner_h100.json", "length_cpu.json", "length_gpu_h100.json",
)  # fmt: skip
SOURCES = (BITS, CACHE, PLANNER, LENGTH_CPU, LENGTH_GPU)
KEY = "Results"
"""Of the note in the picture."""
COLOURS = ("#1f6f8b", "#c8553d", "#6a994e")


def digest(results: Path = RESULTS) -> str:
    """SHA-256 of the results that the picture shows."""
    found = hashlib.sha256()
    for name in SOURCES:
        found.update((results / name).read_bytes())
    return found.hexdigest()


def _read(results: Path, name: str) -> Any:
    return json.loads((results / name).read_text(encoding="utf-8"))


def bits(found: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """Kind, bits of a weight, and the error of a forward pass in per cent, against matrices in bfloat16."""
    return [(row["kind"], row["bits_per_weight"], 100 * row["forward"]) for row in found["rows"]
            if row["against"] == "bf16" and row["forward"]]  # fmt: skip


def cache(found: Mapping[str, Any], steps: int = 40) -> dict[str, list[tuple[float, float]]]:
    """For each method: how many times as fast, and the PSNR of the video in decibels."""
    methods = dict.fromkeys(row["step_cache"] for row in found["rows"])
    return {name: [(row["speed"], row["psnr_db"]) for row in found["rows"]
                   if row["step_cache"] == name and row["steps"] == steps] for name in methods}  # fmt: skip


def planner(found: Mapping[str, Any], part: str) -> list[tuple[float, float]]:
    """Expected and measured memory of every video, in GiB."""
    return [(row["expected"][part], row["measured"][part]) for row in found["rows"]]


def length(rows: Sequence[Mapping[str, Any]], peak: str) -> list[tuple[int, float]]:
    """Windows of a video, and its peak of memory against that of the shortest."""
    return [(row["windows"], row[peak] / rows[0][peak]) for row in rows]


def _bits(axes: "Axes", found: Mapping[str, Any]) -> None:
    axes.set_title(f"Fewer bits: error of a forward pass\n{found['machine']}, the 14B network's shapes, random weights")
    for _, column in groupby(sorted(bits(found), key=lambda one: (one[1], -one[2])), key=lambda one: one[1]):
        points = list(column)
        for number, (kind, wide, error) in enumerate(points):
            axes.plot(wide, error, "o", color=COLOURS[0])
            place = (0, 5) if number == 0 else (0, -11) if number == len(points) - 1 else (-11, -3)
            axes.annotate(kind.partition(" ")[0], (wide, error), place, textcoords="offset points", ha="center",
                          fontsize=7)  # fmt: skip
    axes.set(xlabel="bits of a weight", ylabel="error in %", ylim=(0, None))


def _cache(axes: "Axes", found: Mapping[str, Any]) -> None:
    axes.set_title(f"Step caches: quicker, not exact\nnano, 40 steps; {found['machine']}")
    for (name, points), colour in zip(cache(found).items(), COLOURS, strict=False):
        speed, psnr = zip(*sorted(points), strict=True)
        axes.plot(speed, psnr, "o-", color=colour, label=name)
    axes.set(xlabel="times as fast in denoising", ylabel="PSNR of the video in dB")
    axes.legend(frameon=False)


def _planner(axes: "Axes", found: Mapping[str, Any]) -> None:
    axes.set_title("The planner: expected and measured memory\nNVIDIA H100, eight videos at full size")
    for (part, label), colour in zip({"vram": "GPU memory", "ram": "main memory"}.items(), COLOURS, strict=False):
        expected, measured = zip(*planner(found, part), strict=True)
        axes.plot(measured, expected, "o", color=colour, label=label)
    most = max(axes.get_xlim()[1], axes.get_ylim()[1])
    axes.plot((0, most), (0, most), color="#999999", linewidth=0.8)
    axes.set(xlabel="measured, GiB", ylabel="expected, GiB", xlim=(0, most), ylim=(0, most))
    axes.legend(frameon=False)


def _length(axes: "Axes", cpu: Mapping[str, Any], gpu: Mapping[str, Any]) -> None:
    axes.set_title("Length: the peak of memory does not grow\nagainst the shortest video")
    axes.plot(*zip(*length(cpu["rows"], "peak_mb"), strict=True), "o-", color=COLOURS[0],
              label="main memory, whole files, CPU")  # fmt: skip
    axes.plot(*zip(*length(gpu["rows"], "peak_gib"), strict=True), "o-", color=COLOURS[1],
              label=f"GPU memory, {gpu['device']}")  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set(xlabel="windows of 81 frames", ylabel="peak", ylim=(0, 1.5))
    axes.legend(frameon=False, loc="lower right")


def draw(picture: Path, results: Path = RESULTS) -> None:
    """Draws the picture."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    with plt.rc_context({"font.size": 8, "axes.titlesize": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure, panels = plt.subplots(2, 2, figsize=(9, 6.4), dpi=100, layout="constrained")
        _bits(panels[0, 0], _read(results, BITS))
        _cache(panels[0, 1], _read(results, CACHE))
        _planner(panels[1, 0], _read(results, PLANNER))
        _length(panels[1, 1], _read(results, LENGTH_CPU), _read(results, LENGTH_GPU))
        figure.savefig(picture)
        plt.close(figure)
    _reduce(picture, digest(results))


def _reduce(picture: Path, note: str) -> None:
    """Few colours are enough for lines and letters, and take a fourth of the bytes."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    about = PngInfo()
    about.add_text(KEY, note)
    with Image.open(picture) as drawn:
        few = drawn.convert("RGB").quantize(32, dither=Image.Dither.NONE)
    few.save(picture, optimize=True, pnginfo=about)


def main(words: Sequence[str] | None = None) -> None:
    """Draws it where it belongs, or elsewhere."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PICTURE, metavar="FILE.png")
    given = parser.parse_args(words)
    draw(given.out)
    sys.stdout.write(f"{given.out}\n")


if __name__ == "__main__":
    main()
