"""What a video's length costs at full size: seconds and memory of 1, 4 and 16 windows with random weights.

python -m benchmarks.length_gpu --out length_gpu.json          (one GPU with 80 GB, two minutes)
python -m benchmarks.length_gpu --out tiny.json --tiny         (a CPU: the same steps with narrow networks)

Windows of 81 frames at 640x640 by the engine, one step of one pass each: all that a window needs is done once, and
only denoising, the same in every window, is shorter than in a real video. A window that does not count comes first.
Seconds are those between the first frame asked for and the last one there. They grow in a straight line if a window
more costs the same from 4 to 16 windows as from 1 to 4. Memory is the most that torch had in tensors on the GPU, and
what the process had in main memory (Linux), which for frames that nobody writes is theirs alone.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from infinitetalk.bench.clock import Stopwatch, settle
from infinitetalk.bench.models import RandomText, engine, media
from infinitetalk.bench.ours import windows
from infinitetalk.bench.task import Task
from infinitetalk.core.units import GIB
from infinitetalk.engine.engine import Engine
from infinitetalk.runtime.device import Device
from infinitetalk.runtime.guard import at_work
from infinitetalk.runtime.platform import peak_memory

COUNTS = (1, 4, 16)
BENT, GROWN = 0.03, 0.01
"""How far time may be from a straight line, and how much memory may grow."""


def measure(made: Engine, task: Task, count: int, device: torch.device) -> dict[str, Any]:
    """A video of so many windows."""
    text = RandomText(made.model.dit.config.text_dim)
    one = Engine(made.model, media=media(task, count), text=text)
    watch = Stopwatch(device, 1)
    with watch.peak("peak"):
        settle(device)
        started = time.perf_counter()
        each = [spent.seconds for spent, _ in windows(watch, one, task)]
        settle(device)
        spent = time.perf_counter() - started
    if len(each) != count:
        raise RuntimeError(f"{len(each)} windows were made; {count} were meant")
    return {
        "windows": count,
        "seconds": spent,
        "each_seconds": each,
        "new_frames": task.frames + (count - 1) * task.new_frames,
        "peak_gib": watch.figures["peak_gib"],
        "main_memory_gib": peak_memory() / GIB,
    }


def judged(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How straight time is, and how flat memory: the cost of a window more, early and late."""
    costs = [
        (after["seconds"] - before["seconds"]) / (after["windows"] - before["windows"])
        for before, after in pairwise(rows)
    ]
    peaks = [row["peak_gib"] for row in rows]
    bent, grown = max(costs) / min(costs) - 1, max(peaks) / peaks[0] - 1
    return {
        "seconds_of_a_window_more": costs,
        "bent": bent,
        "grown": grown,
        "straight": bent <= BENT,
        "flat": grown <= GROWN,
    }


def run(task: Task, counts: Sequence[int], out: Path | None = None) -> dict[str, Any]:
    """All lengths, written after each."""
    device = Device.choose(task.device)
    figures: dict[str, Any] = {
        "device": device.name, "torch": torch.__version__, "size": str(task.pixels), "frames": task.frames,
        "steps": task.steps, "passes": 1, "rows": [],
    }  # fmt: skip
    with at_work(device), torch.inference_mode():
        made = engine(task, device, 1)
        measure(made, task, 1, device.torch_device)
        for count in counts:
            figures["rows"].append(measure(made, task, count, device.torch_device))
            if len(figures["rows"]) > 1:
                figures |= judged(figures["rows"])
            sys.stderr.write(f"{json.dumps(figures['rows'][-1])}\n")
            if out is not None:
                out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return figures


def main(words: Sequence[str] | None = None) -> None:
    """Measures and writes one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--windows", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--tiny", action="store_true", help="narrow networks on the CPU")
    given = parser.parse_args(words)
    size: dict[str, Any] = {"size": (640, 640), "frames": 81, "motion": 9}
    if given.tiny:
        size = {"size": (64, 64), "frames": 9, "motion": 5, "blocks": 1, "heads": 2, "vae_width": 4, "device": "cpu"}
    figures = run(Task(subject="ours", steps=1, **size), given.windows, given.out)
    sys.stdout.write(f"{json.dumps({name: value for name, value in figures.items() if name != 'rows'})}\n")


if __name__ == "__main__":
    main()
