"""Compares what the planner expects with what happens: whole videos at full size, random weights, in tiers and kinds.

python -m benchmarks.planner --out planner.json --scratch FOLDER      (one GPU of 80 GB, 64 GB of main memory and disk)
python -m benchmarks.planner --out tiny.json --tiny                   (a CPU: the same steps with tiny networks)
python -m benchmarks.planner --again planner.json                     (anywhere: expects anew what was measured)

Every combination makes two windows in a process of its own (`benchmarks.pipeline`), and the second one is timed: in
the first, libraries start. `--again FILE --fill TABLE` writes what was measured into a copy of the calibration table;
`--again FILE` alone tells what the planner then expects of the same runs, and writes it into the file.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import pipeline
from benchmarks.pipeline import Task
from benchmarks.random_model import Full, Numbers, write_model
from infinitetalk.core import footprint, planner
from infinitetalk.core.calibration import FURTHER, RATES, Figure, constant
from infinitetalk.core.memory import Lodging, MemorySettings, Tier
from infinitetalk.core.planner import Machine, Networks, Plan, Work
from infinitetalk.core.sizes import Pixels
from infinitetalk.core.stages import Stage
from infinitetalk.core.units import GIB
from infinitetalk.engine.planning import machine_of
from infinitetalk.runtime.device import Device
from infinitetalk.runtime.pretend import VARIABLE

BOUNDS = {"vram": 0.10, "ram": 0.15, "seconds": 0.25}
"""How far expectations may be from what happens."""
WINDOWS = 2
REFERENCE = "h100"
"""The card that tells what operations between products cost; of all others the products' rate is fitted to that."""


@dataclass(frozen=True, slots=True)
class Combination:
    """One way to make a video."""

    kind: str
    """How the transformer's matrices are stored: fp8 or bf16."""
    memory: str
    vram: float | None = None
    """GiB that it may use; None for all there is."""
    size: str | None = None
    frames: int = 81
    pretend: str | None = None

    @property
    def name(self) -> str:
        """What distinguishes it."""
        told = f"{self.memory} {self.kind} {self.size or '640x640'} {self.frames} frames"
        told += f", within {self.vram:g} GiB" if self.vram else ""
        return told + (f", a pretended {self.pretend}" if self.pretend else "")


COMBINATIONS = (
    Combination("fp8", "resident"),
    Combination("fp8", "pinned", 12),
    Combination("fp8", "disk", 10),
    Combination("fp8", "pinned", 6),
    Combination("fp8", "resident", size="448x832", frames=49),
    Combination("fp8", "disk", pretend="t4"),
    Combination("fp8", "pinned", 16, size="960x960"),
    Combination("bf16", "resident"),
    Combination("bf16", "pinned", 16),
    Combination("bf16", "disk", 12, size="448x832", frames=49),
)
TINY_COMBINATIONS = (Combination("fp8", "resident", size="64x64", frames=9), Combination("bf16", "disk", size="64x64"))


def happened(one: Combination, folder: Path, scratch: Path, *, tiny: bool) -> dict[str, Any]:
    """Makes the videos of a combination and tells what the pipeline's benchmark tells.

    Raises:
        SystemExit: it failed.
    """
    task = Task(
        folder=str(folder), device="cpu" if tiny else "auto", memory=one.memory, vram=one.vram, cap=one.vram,
        ram=None, size=one.size, frames=None if tiny else one.frames, windows=WINDOWS, steps=1,
    )  # fmt: skip
    told = pipeline.run(task, scratch, one.pretend)
    if told["exit"]:
        raise SystemExit(f"{one.name} failed: {told.get('error')}")
    return told


def row(one: Combination, told: Mapping[str, Any]) -> dict[str, Any]:
    """One row of the table, from what a run told: GiB, and seconds of a window."""
    expects = {
        "vram": max(told["expected_vram_gib"].values()),
        "ram": told["expected_ram_gib"],
        "seconds": told["expected_window_seconds"],
    }
    found = {"ram": told["ram_own_peak_gib"], "seconds": told["window_seconds"][-1]}
    if told["on_gpu"]:
        found["vram"] = told["vram_peak_gib"]
    if one.pretend is not None:
        del found["seconds"]  # speed is not pretended
    # The window that is timed is one of two equal ones, but for what starts in the first.
    made = {name: spent / WINDOWS for name, spent in told["stage_seconds"].items()}
    kept = (
        "lodging",
        "shapes",
        "stage_peak_allocated_gib",
        "stage_driver_gib",
        "reserved_peak_gib",
        "stalls",
        "computes_in",
        "kernels",
    )
    about = {name: told[name] for name in kept if name in told}
    return asdict(one) | {"combination": one.name} | compared(expects, found) | {"stage_seconds": made} | about


def compared(expects: Mapping[str, float], found: Mapping[str, float]) -> dict[str, Any]:
    """What was expected and what was found, how far they are apart, and whether that is near enough."""
    errors = {name: expects[name] / found[name] - 1 for name in BOUNDS if name in found}
    within = all(abs(error) <= BOUNDS[name] for name, error in errors.items())
    return {"expected": dict(expects), "measured": dict(found), "error": errors, "within": within}


PLAIN = {"fused": "off", "vae_dtype": "float32"}
"""The kernels of rows that name none."""


@dataclass(frozen=True, slots=True)
class Situation:
    """A row in the planner's words."""

    lodging: Lodging
    networks: Networks
    work: Work
    machine: Machine

    @classmethod
    def of(cls, told: Mapping[str, Any], card: str) -> "Situation":
        """What a row of the full-size networks was about, on the card that it ran on or pretended."""
        full, shapes, device = Full(), told["shapes"], as_if(told["pretend"] or card)
        lodging = Lodging(**(told["lodging"] | {"tier": Tier(told["lodging"]["tier"])}))
        networks = Networks(
            dit=full.dit, vae=full.vae, speech=full.speech, text=full.text, vision=full.vision, **shapes["networks"]
        )
        size, words = Pixels(*shapes["work"]["size"]), shapes["work"]["words"]
        work = Work(**(shapes["work"] | {"size": size, "words": None if words is None else tuple(words)}))
        memory = MemorySettings(**told.get("kernels", PLAIN))
        return cls(lodging, networks, work, machine_of(device, memory, imagined=True))

    def plan(self) -> Plan:
        """What the planner expects."""
        return planner.predict(self.lodging, self.networks, self.work, self.machine)


def as_if(card: str) -> Device:
    """A card of the table, whatever this machine has."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = card
    try:
        return Device.choose()
    finally:
        del os.environ[VARIABLE]
        os.environ.update({} if before is None else {VARIABLE: before})


def fit(rows: Sequence[Mapping[str, Any]], card: str) -> dict[str, Figure]:
    """Constants and rates that the measured rows tell of."""
    found: dict[str, Figure] = {}
    for told in rows:
        now, plain = Situation.of(told, card), told["lodging"]["tier"] == "resident" and told["frames"] == 81
        if plain and told["kind"] == "bf16":
            found |= _fit_step(told, now, card)
        if plain and told["kind"] == "fp8":
            half = "kernels" in told and told["computes_in"] == "bfloat16"
            found["coding_half" if half else "coding"] = _fit_coding(told, now)
    found["process_ram"] = _fit_process(rows, card)
    reserved = [told for told in rows if told.get("reserved_peak_gib")]
    if reserved:
        beside = max(told["measured"]["vram"] - told["reserved_peak_gib"] for told in reserved)
        found["context_bytes"] = Figure(beside * GIB, "measured", "benchmarks.planner, all combinations")
    return found


def _fit_coding(told: Mapping[str, Any], now: Situation) -> Figure:
    """The rate of the VAE."""
    spent = told["stage_seconds"][Stage.LIP_SYNC.value] + told["stage_seconds"][Stage.KEY_FRAMES.value]
    share = planner.coding_seconds(now.lodging, now.networks, now.work, now.machine) / spent
    return Figure(now.machine.rates.coding.value * share, "measured", f"benchmarks.planner, {told['combination']}")


def _fit_process(rows: Sequence[Mapping[str, Any]], card: str) -> Figure:
    """Main memory of a process before networks, in the middle of all rows."""
    constants = constant("process_ram").value
    beside = []
    for told in rows:
        now = Situation.of(told, card)
        others = sum(planner.main_memory(now.lodging, now.networks, now.work, now.machine).values()) - constants
        beside.append(told["measured"]["ram"] * GIB - others)
    return Figure(max(0.0, statistics.median(beside)), "measured", "benchmarks.planner, median of all combinations")


def _fit_step(told: Mapping[str, Any], now: Situation, card: str) -> dict[str, Figure]:
    """What one pass of the transformer tells: the rate of products, or what passes between them."""
    seconds = told["stage_seconds"][Stage.DENOISING.value] / now.work.branches
    dit, rates, work = now.networks.dit, now.machine.rates, now.work
    products = footprint.forward_operations(dit, work.size, work.window_frames, 1)
    numbers = footprint.tokens(dit, work.size, work.window_frames) * dit.dim * dit.num_layers * now.machine.number / 2
    measured = Figure(0, "measured", f"benchmarks.planner, {told['combination']}")
    between = "elementwise_bytes_fused" if now.machine.fused else "elementwise_bytes"
    if card == REFERENCE:
        left = max(0.0, seconds - products / rates.products.value)
        each, rate = left * rates.memory.value / numbers, rates.products.value
        found = {between: replace(measured, value=each)}
    else:
        left = seconds - numbers * constant(between).value / rates.memory.value
        found, rate = {}, products / left if left > 0 else products / seconds
    # Together they give the time that was measured, so neither is an estimate on this card any more.
    return found | {"products": replace(measured, value=rate), "memory": replace(measured, value=rates.memory.value)}


def fill_table(table: Path, card: str, figures: Mapping[str, Figure]) -> None:
    """Writes figures into a calibration table, in the units that it has."""
    values = json.loads(table.read_text(encoding="utf-8"))
    for name, figure in figures.items():
        told = {"value": figure.value, "status": figure.status, "source": figure.source}
        if name in values["constants"]:
            values["constants"][name] = told
        for rate in values["rates"]:
            if (rate["card"], rate["rate"]) == (card, name):
                rate.update(told | {"value": figure.value / {**RATES, **FURTHER}[name]})
    table.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def expected_anew(told: Mapping[str, Any], card: str) -> dict[str, Any]:
    """A row with what the planner expects now."""
    found = Situation.of(told, card).plan().prediction
    expects = {"vram": found.vram_peak / GIB, "ram": found.ram / GIB, "seconds": found.window_seconds}
    return dict(told) | compared(expects, told["measured"])


def measured(every: Iterable[Combination], folder: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """All rows, as far as time goes; what is known is written after each."""
    rows: list[dict[str, Any]] = []
    begun, longest, written = time.perf_counter(), 0.0, ""
    card = Device.choose("cpu" if arguments.tiny else "cuda").card
    about = {"card": card.key if card is not None else None, "torch": torch.__version__}
    for one in every:
        started = time.perf_counter()
        if started - begun + longest > arguments.seconds:
            sys.stderr.write(f"not tried for want of time: {one.name}\n")
            continue
        if one.kind != written:
            # Disks of lent machines hold one model.
            shutil.rmtree(folder, ignore_errors=True)
            tiny = arguments.tiny
            write_model(folder, one.kind, pipeline.TINY if tiny else None, Numbers(1 << 16) if tiny else None)
            written, started = one.kind, time.perf_counter()
        rows.append(row(one, happened(one, folder, folder.parent, tiny=arguments.tiny)))
        longest = max(longest, time.perf_counter() - started)
        sys.stderr.write(json.dumps(rows[-1]) + "\n")
        write(arguments.out, about, rows)
    return rows


def write(out: Path, about: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes the report."""
    report = {**about, "bounds": BOUNDS, "windows": WINDOWS, "rows": rows}
    out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def read_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--tiny", action="store_true", help="tiny networks on the CPU")
    parser.add_argument("--scratch", type=Path, help="where models and their caches go")
    parser.add_argument("--only", nargs="+", choices=["fp8", "bf16"], help="combinations of these kinds")
    parser.add_argument("--seconds", type=float, default=570, help="no further combination starts that may end later")
    parser.add_argument("--fill", type=Path, metavar="TABLE", help="with --again: a calibration table to write into")
    parser.add_argument("--again", type=Path, metavar="FILE", help="expect anew what a file tells of")
    arguments = parser.parse_args(words)
    if (arguments.out is None) == (arguments.again is None):
        parser.error("one of --out and --again is needed")
    return arguments


def main(words: Sequence[str] | None = None) -> None:
    """Measures all combinations, or expects them anew."""
    arguments = read_arguments(words)
    if arguments.again is not None:
        told = json.loads(arguments.again.read_text(encoding="utf-8"))
        rows, card = told.pop("rows"), told["card"]
        if arguments.fill is not None:
            fill_table(arguments.fill, card, fit(rows, card))
        else:
            write(arguments.again, told, [expected_anew(one, card) for one in rows])
        return
    every = TINY_COMBINATIONS if arguments.tiny else COMBINATIONS
    chosen = [one for one in every if arguments.only is None or one.kind in arguments.only]
    with tempfile.TemporaryDirectory(dir=arguments.scratch, prefix="planner-") as scratch:
        measured(chosen, Path(scratch) / "model", arguments)
    sys.stdout.write(arguments.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
