"""What 10,000 hours of video take: GPUs, days and money, from committed measurements.

python -m benchmarks.ten_thousand_hours --table docs/ray.md        (writes the table into the document; a second)

Seconds of GPUs for a second of video are measured; everything behind them is arithmetic, and so an estimate: no job of
that size was made.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.quantisation import RESULTS, put
from infinitetalk.core.sizes import FPS

MARKS = "10,000 hours"
HOURS = 10_000
DAYS = 30
BUSY = 0.9
"""Share of the time in which a GPU works: the rest is starting, loading and lost windows."""

PRICE = 2.5
"""Of an hour of one GPU, in any currency: an example, as prices differ by a factor of three and change."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to make a second of video."""

    what: str
    file: str
    rate: Callable[[Mapping[str, Any]], float]
    """GPU-seconds for a second of video, from the file's content."""
    gpus: int = 1
    """That work on the same window."""


def _window(*path: str) -> Callable[[Mapping[str, Any]], float]:
    """Seconds of a window at a place of a file, for a second of what it shows."""

    def rate(content: Mapping[str, Any]) -> float:
        for name in path:
            content = content[name]
        return float(content["seconds"]) / (float(content["new_frames"]) / FPS)

    return rate


def _extrapolated(content: Mapping[str, Any]) -> float:
    """40 steps, each of three passes; decoding a window is measured beside them."""
    new_frames = float(content["windows"]["one branch"]["new_frames"])
    steps, decoding = content["steps_exact"]["H3_40_steps_extrapolated"], content["vae"]["decode, tuned"]["seconds"]
    return (float(steps) + float(decoding)) / (new_frames / FPS)


WAYS = (
    Way("14B, 640x640, 4 steps, one branch, 8 bits: H100", "speed_fast_h100.json", _window("windows", "one branch")),
    Way(
        "14B, 640x640, 4 steps, two branches, 8 bits: H100", "speed_fast_h100.json", _window("windows", "two branches")
    ),
    Way("the first, four H200 on each window", "gpus_h200.json", _window("four", "windows"), gpus=4),
    Way("14B, 640x640, 40 steps, three branches, exact: H100", "speed_h100.json", _extrapolated),
    Way(
        "nano, first edition: H100",
        "twenty_minutes_h100.json",
        lambda told: float(told["wall_seconds_per_video_second"]),
    ),
)


def rows() -> list[dict[str, Any]]:
    """For each way: GPU-seconds for a second of video, GPU-hours, GPUs for a month, cost."""
    found = []
    for way in WAYS:
        content = json.loads((RESULTS / way.file).read_text(encoding="utf-8"))
        rate = way.rate(content) * way.gpus
        hours = HOURS * rate
        found.append({
            "what": way.what, "file": way.file, "rate": rate, "gpu_hours": hours,
            "gpus": hours / BUSY / (DAYS * 24), "cost": hours / BUSY * PRICE,
        })  # fmt: skip
    return found


def _round(value: float) -> str:
    """Two digits that count.

    >>> _round(31_987), _round(49.4), _round(1.62)
    ('32,000', '49', '1.6')
    """
    if value < 10:
        return f"{value:.2g}"
    scale = 10 ** max(0, len(f"{int(value)}") - 2)
    return f"{round(value / scale) * scale:,}"


def table() -> str:
    """The rows as a document has them."""
    head = f"| | GPU-seconds for a second of video | GPU-hours | GPUs for {DAYS} days | cost at {PRICE:g} an hour |"
    lines = [head, "|---|---|---|---|---|"]
    for row in rows():
        rate = f"[{row['rate']:.3g}](../benchmarks/results/{row['file']})"
        numbers = (f"~{_round(row[name])}" for name in ("gpu_hours", "gpus", "cost"))
        lines.append(f"| {row['what']} | {rate} | {' | '.join(numbers)} |")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, metavar="FILE.md")
    arguments = parser.parse_args(words)
    if arguments.table is None:
        sys.stdout.write(table() + "\n")
    else:
        document = arguments.table.read_text(encoding="utf-8")
        arguments.table.write_text(put(document, MARKS, table()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
