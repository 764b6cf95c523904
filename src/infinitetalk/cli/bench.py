"""`infinitetalk bench`: how fast this machine is, part by part, and how fast others are on it."""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infinitetalk.cli.command import (
    DONE,
    FAILED,
    Command,
    add_device_flag,
    add_json_flag,
    add_memory_flags,
    memory_settings,
)
from infinitetalk.cli.text import print_json, print_table, say
from infinitetalk.core.errors import RequestError, UsageError
from infinitetalk.core.sizes import Latents, parse_size

if TYPE_CHECKING:
    from infinitetalk.bench.run import Result
    from infinitetalk.bench.task import Task
    from infinitetalk.core.defaults import ModelDefaults

PASSES: Mapping[int, tuple[float, float]] = {1: (1.0, 1.0), 2: (1.0, 2.0), 3: (5.0, 4.0)}
"""Passes of the network in a step, and the scales of text and audio that need so many."""
RANDOM_STEPS = 4
HIGHEST = 1000


def _add_flags(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what is measured")
    which = what.add_mutually_exclusive_group()
    which.add_argument("--model", metavar="NAME", help="a model that is here (default nano)")
    which.add_argument("--random", action="store_true", help="the 14B model's shapes with random weights; no download")
    what.add_argument("--size", metavar="WxH", help="of the video (default: the model's own; random 640x640)")
    what.add_argument("--frames", type=int, metavar="N", help="of a window, 4n+1 (default: the model's own; random 81)")
    what.add_argument("--steps", type=int, metavar="N", help="of a whole window (default: the model's own; random 4)")
    what.add_argument("--passes", type=int, choices=tuple(PASSES), help="of the network in each step (random: 2)")
    what.add_argument("--repeats", type=int, default=3, metavar="N", help="of which the median is told (default 3)")
    what.add_argument("--blocks", type=int, metavar="N", help="blocks of the random network (default 40)")
    what.add_argument("--heads", type=int, metavar="N", help="heads of its blocks; fewer make it narrower (default 40)")
    add_device_flag(what)
    others = parser.add_argument_group("others, in the same shapes and the same run")
    others.add_argument(
        "--compare", action="append", default=[], metavar="NAME[=DIR]",
        help="reference=DIR: the reference's network from a checkout of MeiGen-AI/InfiniteTalk; lightx2v=DIR: "
        "LightX2V's InfiniteTalk runner from a checkout; plain: the same network in float32, every pass by itself",
    )  # fmt: skip
    told = parser.add_argument_group("what becomes of it")
    add_json_flag(told)
    told.add_argument("--save", type=Path, metavar="FILE", help="JSON file, written anew after every process")
    told.add_argument("--plot", type=Path, metavar="DIR", help="folder for pictures of it; needs matplotlib")
    told.add_argument("--scaling", type=Path, metavar="FILE", help="JSON of benchmarks.parallel, for one more picture")
    told.add_argument("--minutes", type=float, metavar="X", help="begin no process after so long")
    add_memory_flags(parser)


def _rivals(given: Sequence[str]) -> dict[str, str | None]:
    from infinitetalk.bench.run import check

    found: dict[str, str | None] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        found[name] = folder if equals else None
    check(found)
    return found


def _least(name: str, value: int | None, least: int = 1, most: int = HIGHEST) -> None:
    if value is not None and not least <= value <= most:
        raise RequestError(name, value, f"must be from {least} to {most}")


def _task(arguments: argparse.Namespace) -> "Task":
    """What the command line asks for.

    Raises:
        InfiniteTalkError: what cannot be measured.
    """
    from infinitetalk.bench.task import Task

    for name in ("steps", "repeats", "blocks", "heads"):
        _least(name, getattr(arguments, name))
    if not arguments.random and (arguments.blocks or arguments.heads):
        raise UsageError("--blocks and --heads are of the random network; add --random")
    model = None if arguments.random else arguments.model or "nano"
    own = _defaults(model)
    size = parse_size(arguments.size or own["size"])
    frames = arguments.frames or own["frames"]
    Latents.of(frames, size)
    motion = min(own["motion"], frames - 4)
    if motion < 1:
        raise RequestError("frames", frames, "leaves no new frames: 9 or more would work")
    scales = (own["text_scale"], own["audio_scale"]) if arguments.passes is None else PASSES[arguments.passes]
    narrow = arguments.heads is not None and arguments.random
    return Task(
        subject="ours", model=model, device=arguments.device, size=(size.height, size.width),
        frames=frames, motion=motion, steps=arguments.steps or own["steps"], text_scale=scales[0],
        audio_scale=scales[1], repeats=arguments.repeats, memory=asdict(memory_settings(arguments)),
        blocks=arguments.blocks, heads=arguments.heads, vae_width=8 if narrow else None,
    )  # fmt: skip


def _defaults(model: str | None) -> dict[str, Any]:
    if model is None:
        text_scale, audio_scale = PASSES[2]
        return {"size": "640x640", "frames": 81, "motion": 9, "steps": RANDOM_STEPS,
                "text_scale": text_scale, "audio_scale": audio_scale}  # fmt: skip
    from infinitetalk.weights.folder import ModelFolder

    folder = ModelFolder.open(model)
    own: ModelDefaults = folder.defaults
    rows = folder.buckets[own.size]
    square = rows[min(rows, key=lambda ratio: abs(ratio - 1))]
    return {"size": str(square), "frames": own.window_frames, "motion": own.motion_frames, "steps": own.steps,
            "text_scale": own.text_scale, "audio_scale": own.audio_scale}  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Measures and prints; exit code 1 if something could not be measured."""
    from infinitetalk.bench import run as bench
    from infinitetalk.core.devices import check_device
    from infinitetalk.runtime.attention import check_attention, usable_backends
    from infinitetalk.runtime.device import Device
    from infinitetalk.runtime.regions import check_regions

    check_device(arguments.device)
    base, rivals = _task(arguments), _rivals(arguments.compare)
    if base.model is not None and (foreign := [name for name in rivals if name in bench.CHECKOUTS]):
        raise UsageError(f"--compare {foreign[0]}: its network has the 14B model's shapes; add --random")
    if arguments.plot is not None or arguments.scaling is not None:
        _check_plots(arguments)
    device = Device.choose(arguments.device)
    settings = memory_settings(arguments)
    check_attention(device, settings.attention, 128)
    check_regions(device, settings)
    if settings.gpus not in (None, 1):
        raise UsageError("--gpus: one GPU is measured here; python -m benchmarks.parallel measures several")
    until = None if arguments.minutes is None else time.monotonic() + 60 * arguments.minutes
    gpu = device.torch_device.type == "cuda"
    work = bench.tasks(base, rivals, gpu=gpu, fp8=device.fp8, attends=usable_backends(device))
    results: list[Result] = []
    for result in _told(bench.run(work, until), len(work)):
        results.append(result)
        if arguments.save is not None:
            arguments.save.write_text(json.dumps(bench.report(results), indent=1) + "\n", encoding="utf-8")
    report = bench.report(results)
    if arguments.json:
        print_json(report)
    else:
        _print(report)
    if arguments.plot is not None:
        from infinitetalk.bench.plots import draw

        for path in draw(report, arguments.plot, arguments.scaling):
            sys.stderr.write(f"{path}\n")
    return FAILED if any(result.error for result in results) else DONE


def _check_plots(arguments: argparse.Namespace) -> None:
    from infinitetalk.bench.plots import check

    if arguments.plot is None:
        raise UsageError("--scaling: is for a picture; say where to with --plot DIR")
    check(arguments.plot, arguments.scaling)


def _told(results: "Iterable[Result]", count: int) -> "Iterator[Result]":
    """Says on standard error what is done."""
    for number, result in enumerate(results, 1):
        spent = result.figures.get("process_seconds", 0.0)
        what = result.error or f"{spent:.0f} s"
        sys.stderr.write(f"{number}/{count}  {result.task.name}: {what}\n")
        sys.stderr.flush()
        yield result


def _seconds(row: Mapping[str, Any], part: str) -> str:
    value = row.get(f"{part}_seconds")
    if value is None:
        return ""
    text = f"{value:.2f} s" if value >= 1 else f"{1000 * value:.1f} ms"
    if part == "window" and row.get("window_is_sum"):
        text = f"= {text}"
    ratio = row.get(f"times_ours_{part}")
    return f"{text} ({ratio:.2f}x)" if ratio is not None else text


def _row(row: Mapping[str, Any]) -> list[str]:
    name = f"{row['subject']}, {row['mode']}" if row["mode"] else row["subject"]
    if row.get("error"):
        return [name, str(row["error"]), *[""] * 8]
    peaks = [value for key, value in row.items() if key.endswith("_peak_gib")]
    speed, share, error = (row.get(key) for key in ("frames_per_second", "share_of_roofline", "error_to_ours"))
    return [
        name,
        *(_seconds(row, part) for part in ("forward", "step", "encode", "decode", "window")),
        "" if speed is None else f"{speed:.2f}",
        f"{max(peaks):.1f}" if peaks else "",
        "" if share is None else f"{100 * share:.0f} %",
        "" if error is None else f"{error:.2g}",
    ]


def _print(report: Mapping[str, Any]) -> None:
    """The table of one machine."""
    rates, shape = report["rates"], report["shape"]
    if "product_rate" in rates:
        say(f"{rates['device']}, {rates['dtype']}: products {rates['product_rate'] / 1e12:.3g} TFLOP/s, "
            f"attention {rates['attention_rate'] / 1e12:.3g} TFLOP/s")  # fmt: skip
    say(f"{report['model']}: {shape['size']}, windows of {shape['frames']} frames, {shape['steps']} steps")
    headers = ("", "forward", "step", "encode", "decode", "window", "frames/s", "peak GiB", "roofline", "error")
    print_table(headers, [_row(row) for row in report["rows"]], right=tuple(range(1, len(headers))))
    say(
        "Seconds are medians. Encode: what a window after the first needs, for a still picture. Window: such a one, and"
    )
    say("everything in it; = is the sum of its passes and the VAE's work. Frames/s are its new frames.")
    say("Roofline: share of the forward pass that its operations take at the measured rates. Error: of its velocity")
    say("against ours, relative, on the same random weights. (1.50x): takes 1.5 times as long as ours;")
    say("on a CPU of the processor's time, which others on the machine do not add to.")


COMMAND = Command(
    name="bench",
    group="look after models and the machine",
    summary="measure how fast this machine makes videos, and others on it",
    add_flags=_add_flags,
    run=run,
    example="infinitetalk bench --random --compare reference=InfiniteTalk --compare lightx2v=LightX2V",
)
