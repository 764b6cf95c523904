"""Pictures of a benchmark: where a window's time goes, how others compare, and how GPUs add up."""

import json
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from infinitetalk.core.errors import MachineError, RequestError

INK, PALE = "#1f6f8b", "#b9ccd3"
WIDTH, HEIGHT, DOTS = 8.0, 2.6, 110


def check(folder: Path, scaling: Path | None) -> None:
    """Refuses, before anything is measured, what cannot be drawn.

    Raises:
        MachineError: matplotlib is lacking, or a folder that cannot be made.
        RequestError: a file that is no result of `benchmarks.parallel`.
    """
    if find_spec("matplotlib") is None:
        raise MachineError("pictures need matplotlib: pip install 'infinitetalk[bench]'")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(f"{folder}: {error.strerror}; give a folder that can be written") from error
    if scaling is not None:
        read_scaling(scaling)


def read_scaling(path: Path) -> Mapping[str, Mapping[int, float]]:
    """Seconds by number of GPUs, for everything that `benchmarks.parallel` measured on one GPU and on more.

    Raises:
        RequestError: a file that does not tell them.
    """
    try:
        modes = json.loads(path.read_text(encoding="utf-8"))
        parts = [(mode, name, part) for mode, found in modes.items() if isinstance(found, dict)
                 for name, part in found.items() if isinstance(part, dict) and "gpus" in part]  # fmt: skip
    except (OSError, ValueError, AttributeError) as error:
        raise RequestError("scaling", path, "must be the JSON of benchmarks.parallel") from error
    found: dict[str, dict[int, float]] = {}
    for mode, name, part in parts:
        seconds = part.get("seconds", part.get("seconds_between_chunks"))
        known = found.setdefault(f"{mode}: {name.partition(': ')[2].removesuffix('_on_one')}", {})
        if seconds is not None:
            known[int(part["gpus"])] = float(seconds)
        if "alone_seconds" in part:
            known.setdefault(1, float(part["alone_seconds"]))
    scaled = {name: seconds for name, seconds in found.items() if 1 in seconds and len(seconds) > 1}
    if not scaled:
        raise RequestError("scaling", path, "has nothing that was measured on one GPU and on more")
    return scaled


def draw(report: Mapping[str, Any], folder: Path, scaling: Path | None = None, name: str = "") -> Iterator[Path]:
    """Writes what there is to draw as PNG files, whose names begin with `name`, and tells their paths."""
    ours = next((row for row in report["rows"] if row["subject"] == "ours" and "stage_seconds" in row), None)
    if ours is not None:
        stages = {stage: seconds for stage, seconds in ours["stage_seconds"].items() if seconds >= 0.0005}
        title = f"{report['model']}, {report['shape']['size']}, {report['shape']['steps']} steps: a window"
        yield _bars(stages, title, folder / f"{name}stages.png", first=len(stages))
    passes = {_name(row): row["forward_seconds"] for row in report["rows"] if "forward_seconds" in row}
    if len(passes) > 1:
        yield _bars(passes, "a forward pass", folder / f"{name}compared.png", first=1)
    if scaling is not None:
        yield _scaling(read_scaling(scaling), folder / f"{name}scaling.png")


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['subject']}, {row['mode']}" if row["mode"] else str(row["subject"])


def _bars(values: Mapping[str, float], title: str, path: Path, *, first: int) -> Path:
    """Seconds as bars, one below the other, the first ones and ours in ink."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, max(HEIGHT, 0.6 + 0.36 * len(values))), layout="constrained")
    axes = figure.subplots()
    own = [number < first or name.startswith("ours") for number, name in enumerate(values)]
    colors = [INK if ours else PALE for ours in own]
    drawn = axes.barh(list(values), list(values.values()), color=colors)
    axes.bar_label(drawn, labels=[f"{value:.3g} s" for value in values.values()], padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_title(title, loc="left")
    axes.set_xlabel("seconds")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=DOTS)
    return path


def _scaling(seconds: Mapping[str, Mapping[int, float]], path: Path) -> Path:
    """How many times as fast as one GPU so many are, and what would be ideal."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 1.6 * HEIGHT), layout="constrained")
    axes = figure.subplots()
    counts = sorted({count for known in seconds.values() for count in known})
    axes.plot(counts, counts, color=PALE, linestyle="--", label="ideal")
    for name, known in seconds.items():
        points = sorted(known)
        axes.plot(points, [known[1] / known[count] for count in points], marker="o", label=name.replace("_", " "))
    axes.set_xticks(counts)
    axes.set_xlabel("GPUs")
    axes.set_ylabel("times as fast as one")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=DOTS)
    return path
