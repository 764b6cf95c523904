"""What step caching saves and what it costs: forward passes and time against errors, for several thresholds.

python -m benchmarks.caching --out caching_nano.json            (the bundled model: a CPU, three minutes)
python -m benchmarks.caching --table docs/performance.md        (writes the committed results into the document)

The bundled model makes the first window of the demo, through the engine, for each count of steps once without a cache
and once with each setting; all start from the same noise. Errors are those against the window without a cache: the
relative error of the latent, without the frame that was given, and the PSNR of the decoded video in 8 bits. Seconds are
of the processor, of denoising alone: other programs on the machine do not count.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.quantisation import DEMO, RESULTS, machine, percent, psnr, put, relative
from infinitetalk.core.defaults import ModelFacts, resolve
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import Pixels
from infinitetalk.core.stages import Stage
from infinitetalk.engine.denoise import Script
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.progress import StageClock

STEPS = (20, 30, 40)
SETTINGS: tuple[Mapping[str, Any], ...] = (
    *({"step_cache": "teacache", "cache_threshold": threshold} for threshold in (0.2, 0.3, 0.5)),
    *({"step_cache": "taylorseer", "cache_interval": interval} for interval in (2, 3, 4)),
)
RESULT = "caching_nano.json"


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """A window's latent [16, T, h, w] without the frame that was given, its video [F, H, W, 3], and how it was made."""

    latent: Tensor
    video: NDArray[np.uint8]
    asked: int
    """Steps that asked the network's blocks."""
    seconds: float


def own_size(facts: ModelFacts) -> Pixels:
    """The first size of a model's own table."""
    return next(iter(facts.buckets[facts.defaults.size].values()))


def make(engine: Engine, request: TalkRequest) -> Outcome:
    """The first window of a request."""
    clock = StageClock(now=time.process_time)
    (window,) = engine.stream(request, clock)
    settings = resolve(request, engine.model.facts, own_size(engine.model.facts))
    with torch.inference_mode():
        course = Script(engine.model.dit).course(settings)
    return Outcome(window.latent[:, 1:], window.rgb(), course.count(None), clock.seconds[Stage.DENOISING])


def compared(found: Outcome, truth: Outcome, steps: int, setting: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table."""
    return {
        "steps": steps,
        **setting,
        "asked": found.asked,
        "saved": 1 - found.asked / steps,
        "latent": relative(found.latent, truth.latent),
        "psnr_db": psnr(found.video, truth.video),
        "seconds": found.seconds,
        "speed": truth.seconds / found.seconds,
    }


def measure(frames: int, all_steps: Sequence[int], settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All rows, and what they were measured with."""
    engine = Engine.from_pretrained("nano", "cpu")
    rows = []
    for steps in all_steps:
        usual: dict[str, Any] = {"steps": steps, "window_frames": frames, "preview": True}
        usual |= {"image": DEMO / "portrait_1.png", "audio": (DEMO / "voice_1.flac",)}
        truth = make(engine, TalkRequest(**usual))
        for setting in settings:
            rows.append(compared(make(engine, TalkRequest(**usual, **setting)), truth, steps, setting))
            sys.stdout.write(json.dumps(rows[-1]) + "\n")
            sys.stdout.flush()
    size = own_size(engine.model.facts)
    return {"model": "the bundled model nano", "size": str(size), "frames": frames, "rows": rows}


def table(figures: Mapping[str, Any]) -> str:
    """The result in Markdown: a line about it, and its rows."""
    about = "{model}; {size}, {frames} frames; {machine}; torch {torch}.".format(**figures)
    head = "| steps | cache | steps that ask | passes saved | denoising | error of the latent | PSNR of the video |"
    lines = [about[0].upper() + about[1:], "", head, "|---|---|---|---|---|---|---|"]
    for row in figures["rows"]:
        with_what = row.get("cache_threshold", row.get("cache_interval"))
        quality = "equal" if row["psnr_db"] is None else f"{row['psnr_db']:.1f} dB"
        lines.append(
            f"| {row['steps']} | {row['step_cache']} {with_what} | {row['asked']} | {percent(row['saved'])} | "
            f"{row['speed']:.1f} times as fast | {percent(row['latent'])} | {quality} |"
        )
    return "\n".join(lines)


def filled(document: str, results: Path) -> str:
    """A document with the table of the committed result between its marks."""
    return put(document, "caching nano", table(json.loads((results / RESULT).read_text(encoding="utf-8"))))


def main(words: Sequence[str] | None = None) -> None:
    """Measures and writes one JSON object, or writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path, metavar="DOCUMENT")
    parser.add_argument("--frames", type=int, default=33, help="of the window")
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS))
    parser.add_argument("--settings", type=int, help="only so many of each method")
    arguments = parser.parse_args(words)
    if (arguments.out is None) == (arguments.table is None):
        parser.error("give --out FILE or --table DOCUMENT")
    if arguments.table is not None:
        text = arguments.table.read_text(encoding="utf-8")
        arguments.table.write_text(filled(text, RESULTS), encoding="utf-8")
        return
    begun, half = time.perf_counter(), len(SETTINGS) // 2
    count = arguments.settings or half
    settings = (*SETTINGS[:count], *SETTINGS[half : half + count])
    figures: dict[str, Any] = {"machine": machine("cpu"), "torch": torch.__version__}
    figures |= measure(arguments.frames, arguments.steps, settings)
    figures["total_seconds"] = time.perf_counter() - begun
    arguments.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
