"""Compares what the planner expects with what happens: full-size networks with random weights, in tiers, sizes, kinds.

python -m benchmarks.planner --out planner.json            (one GPU with 80 GB, 64 GB of main memory)
python -m benchmarks.planner --out tiny.json --tiny        (a CPU: the same steps with tiny networks)

Every combination runs in a process of its own, so that peaks are its own. `--fill TABLE` writes what was measured on
this card into a copy of the calibration table; what the planner then expects is told as `refitted`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.memory import TINY, Bench, Watch, build, fill, timed, told
from infinitetalk.core import footprint, planner
from infinitetalk.core.calibration import RATES, Figure, constant
from infinitetalk.core.configs import DiTConfig, SpeechConfig, VAEConfig
from infinitetalk.core.memory import Lodging, Tier
from infinitetalk.core.planner import KINDS, Machine, Networks, Work
from infinitetalk.core.sizes import Latents, Pixels
from infinitetalk.core.units import GIB
from infinitetalk.engine.codec import decode
from infinitetalk.engine.planning import machine_of
from infinitetalk.models.vae import VideoVAE
from infinitetalk.runtime.device import Device
from infinitetalk.runtime.platform import peak_memory

BOUNDS = {"vram": 0.10, "ram": 0.15, "seconds": 0.25}
"""How far expectations may be from what happens."""


@dataclass(frozen=True, slots=True)
class Combination:
    """One way to do one stage."""

    stage: str
    """denoising or decoding."""
    tier: Tier
    kind: str
    """fp8 or dense; the VAE is always dense."""
    size: Pixels
    frames: int = 81
    at_once: int | None = None
    tile: int | None = None
    branches: int = 3

    @property
    def name(self) -> str:
        """What distinguishes it."""
        cut = f", {self.at_once} frames at once" if self.at_once else ""
        cut += f", tiles of {self.tile}" if self.tile else ""
        return f"{self.stage} {self.tier.value} {self.kind} {self.size} {self.frames} frames{cut}"


SMALL, LARGE = Pixels(640, 640), Pixels(960, 960)
COMBINATIONS = (
    Combination("denoising", Tier.RESIDENT, "fp8", SMALL),
    Combination("denoising", Tier.RESIDENT, "dense", SMALL),
    Combination("denoising", Tier.RESIDENT, "fp8", LARGE, at_once=4, branches=1),
    Combination("denoising", Tier.PINNED, "fp8", SMALL),
    Combination("denoising", Tier.PINNED, "fp8", SMALL, at_once=2),
    Combination("denoising", Tier.PINNED, "fp8", Pixels(448, 832), frames=49),
    Combination("denoising", Tier.PINNED, "dense", SMALL, branches=1),
    Combination("denoising", Tier.DISK, "fp8", SMALL, at_once=4),
    Combination("denoising", Tier.DISK, "fp8", LARGE, at_once=1, branches=1),
    Combination("decoding", Tier.RESIDENT, "dense", SMALL),
    Combination("decoding", Tier.RESIDENT, "dense", LARGE),
    Combination("decoding", Tier.RESIDENT, "dense", SMALL, tile=384),
)
TINY_COMBINATIONS = (
    Combination("denoising", Tier.RESIDENT, "dense", Pixels(64, 64), frames=9),
    Combination("denoising", Tier.DISK, "fp8", Pixels(64, 64), frames=9, at_once=1),
    Combination("decoding", Tier.RESIDENT, "dense", Pixels(160, 160), frames=9, tile=128),
)


def situation(one: Combination, *, tiny: bool) -> tuple[Lodging, Networks, Work, Machine]:
    """A combination in the planner's words."""
    networks = Networks(
        dit=TINY if tiny else DiTConfig(),
        vae=VAEConfig(dim=8) if tiny else VAEConfig(),
        speech=SpeechConfig(),
        dit_bytes=KINDS["fp8"] if one.kind == "fp8" else None,
    )
    resident = networks.dit.num_layers if one.tier is Tier.RESIDENT else 0
    lodging = Lodging(
        tier=one.tier, resident_blocks=resident, frames_at_once=one.at_once, keep_encoders=False, tile=one.tile
    )
    work = Work(size=one.size, window_frames=one.frames, motion_frames=9, steps=1, branches=one.branches)
    return lodging, networks, replace(work, motion_frames=1), machine_of(Device.choose("cpu" if tiny else "cuda"))


def expected(one: Combination, *, tiny: bool) -> dict[str, float]:
    """What the planner says of a combination: GiB and seconds."""
    lodging, networks, work, machine = situation(one, tiny=tiny)
    plan = planner.predict(lodging, networks, work, machine)
    ram = planner.main_memory(lodging, networks, work, machine)
    held = ram["process"] + ram["streamed weights"]
    seconds = planner.step_seconds(lodging, networks, work, machine)[0]
    vram = plan.prediction.vram[one.stage]
    if one.stage == "decoding":
        # No transformer is there.
        sizes = footprint.block_step(networks.dit), footprint.block_once(networks.dit)
        blocks = networks.dit.num_layers * sum(planner.held(part, None, machine.number) for part in sizes)
        vram -= blocks + planner.held(footprint.around_blocks(networks.dit), None, machine.number)
        seconds, held = planner.coding_seconds(lodging, networks, work, machine), ram["process"]
    return {"vram": vram / GIB, "ram": held / GIB, "seconds": seconds}


@torch.inference_mode()
def happened(one: Combination, *, tiny: bool, scratch: Path) -> dict[str, float]:
    """What a combination takes: GiB and seconds; `vram` is what the driver says is in use."""
    device = Device.choose("cpu" if tiny else "cuda")
    before = Watch(device.torch_device)
    before.look()
    lodging, networks, _, _ = situation(one, tiny=tiny)
    bench = Bench(
        config=networks.dit,
        size=Latents.of(one.frames, one.size),
        device=device.torch_device,
        dtype=device.dtype,
        kind=one.kind,
        repeats=2,
        scratch=scratch,
        frames_at_once=one.at_once,
    )
    watch = Watch(device.torch_device)
    with watch.watching():
        seconds = _denoise(bench, one) if one.stage == "denoising" else _decode(bench, networks.vae, lodging)
    figures = {"ram": peak_memory() / GIB, "seconds": seconds}
    if bench.on_gpu:
        reserved = torch.cuda.max_memory_reserved(bench.device)
        figures["allocated"] = torch.cuda.max_memory_allocated(bench.device) / GIB
        figures["context"] = max(0, watch.driver - reserved) / GIB
        figures["vram"] = watch.driver / GIB
    return figures


def _denoise(bench: Bench, one: Combination) -> float:
    """Seconds of one step."""
    dit, store = build(bench, one.tier)
    latent = torch.randn(1, 16, *bench.size, device=bench.device)
    condition = torch.randn(1, 20, *bench.size, device=bench.device)
    time, branches = torch.tensor(700.0, device=bench.device), told(dit, bench, latent)[: one.branches]
    if bench.on_gpu:
        # Blocks are made on the device here, as no real model is: that is not what is measured.
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(bench.device)

    def step() -> None:
        dit.evaluate(latent, time, condition=condition, branches=branches)

    seconds = [timed(bench, step) for _ in range(1 + bench.repeats)]
    if store is not None:
        store.close()
    return min(seconds[1:])


def _decode(bench: Bench, config: VAEConfig, lodging: Lodging) -> float:
    """Seconds of decoding one window."""
    with torch.device("meta"):
        hollow = VideoVAE(config)
    vae = fill(hollow, replace(bench, dtype=torch.float32, kind="dense"), 1)
    assert isinstance(vae, VideoVAE)
    latent = torch.randn(1, config.z_dim, *bench.size, device=bench.device)
    return min(timed(bench, lambda: decode(vae, latent, lodging.tile)) for _ in range(bench.repeats))


def compared(one: Combination, expects: Mapping[str, float], found: Mapping[str, float]) -> dict[str, Any]:
    """One row of the table."""
    errors = {name: expects[name] / found[name] - 1 for name in BOUNDS if name in found}
    within = all(abs(error) <= BOUNDS[name] for name, error in errors.items())
    return {
        "combination": one.name,
        "expected": dict(expects),
        "measured": dict(found),
        "error": errors,
        "within": within,
    }


REFERENCE = "h100"
"""The card that tells what operations between products cost; of all others the products' rate is fitted to that."""


def fit(rows: Sequence[Mapping[str, Any]], every: Sequence[Combination], card: str | None) -> dict[str, Figure]:
    """Constants and rates that the measured rows tell of."""
    found: dict[str, Figure] = {}
    for one, row in zip(every, rows, strict=True):
        seconds = row["measured"]["seconds"]
        _, networks, _, machine = situation(one, tiny=every is TINY_COMBINATIONS)
        if one.stage == "denoising" and one.tier is Tier.RESIDENT and one.kind == "dense":
            found |= _fit_step(one, seconds / one.branches, networks, machine, card)
        if one.stage == "decoding" and one.tile is None and "coding" not in found:
            done = footprint.coding_operations(networks.vae, one.size, one.frames, encode=False)
            found["coding"] = Figure(done / seconds, "measured", f"benchmarks.planner, {one.name}")
    if contexts := [row["measured"]["context"] for row in rows if "context" in row["measured"]]:
        found["context_bytes"] = Figure(max(contexts) * GIB, "measured", "benchmarks.planner, all combinations")
    return found


def _fit_step(
    one: Combination, seconds: float, networks: Networks, machine: Machine, card: str | None
) -> dict[str, Figure]:
    """What one pass of the transformer tells: the rate of products, or what passes between them."""
    dit, rates, measured = networks.dit, machine.rates, Figure(0, "measured", f"benchmarks.planner, {one.name}")
    products = footprint.forward_operations(dit, one.size, one.frames, 1)
    numbers = footprint.tokens(dit, one.size, one.frames) * dit.dim * dit.num_layers * machine.number / 2
    if card in (None, REFERENCE):
        left = max(0.0, seconds - products / rates.products.value)
        each, rate = left * rates.memory.value / numbers, rates.products.value
        found = {"elementwise_bytes": replace(measured, value=each)}
    else:
        left = seconds - numbers * constant("elementwise_bytes").value / rates.memory.value
        found, rate = {}, products / left if left > 0 else products / seconds
    # Together they give the time that was measured, so neither is an estimate on this card any more.
    return found | {"products": replace(measured, value=rate), "memory": replace(measured, value=rates.memory.value)}


def fill_table(table: Path, card: str, figures: Mapping[str, Figure]) -> None:
    """Writes figures into a calibration table, in the units that it has."""
    values = json.loads(table.read_text(encoding="utf-8"))
    for name, figure in figures.items():
        row = {"value": figure.value, "status": figure.status, "source": figure.source}
        if name in values["constants"]:
            values["constants"][name] = row
        for rate in values["rates"]:
            if (rate["card"], rate["rate"]) == (card, name):
                rate.update(row | {"value": figure.value / RATES[name]})
    table.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _in_own_process(number: int, *, tiny: bool, scratch: Path) -> dict[str, float]:
    """Measures one combination in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.planner", "--one", str(number), "--scratch", str(scratch)]
    done = subprocess.run([*words, *(["--tiny"] if tiny else [])], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"combination {number} failed: {done.stderr.strip()}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def read_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--tiny", action="store_true", help="tiny networks on the CPU")
    parser.add_argument("--scratch", type=Path, help="folder for the weights of the tier disk")
    parser.add_argument(
        "--fill", type=Path, metavar="TABLE", help="a calibration table to write what was measured into"
    )
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Measures all combinations and writes one JSON object."""
    arguments = read_arguments(words)
    every = TINY_COMBINATIONS if arguments.tiny else COMBINATIONS
    if arguments.one is not None:
        figures = happened(every[arguments.one], tiny=arguments.tiny, scratch=arguments.scratch)
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    rows = []
    with tempfile.TemporaryDirectory(dir=arguments.scratch, prefix="planner-") as scratch:
        for number, one in enumerate(every):
            found = _in_own_process(number, tiny=arguments.tiny, scratch=Path(scratch))
            rows.append(compared(one, expected(one, tiny=arguments.tiny), found))
            sys.stderr.write(json.dumps(rows[-1]) + "\n")  # a run that is cut off has told what it knows
    card = Device.choose("cpu" if arguments.tiny else "cuda").card
    fitted = fit(rows, every, card.key if card is not None else None)
    if arguments.fill is not None and card is not None:
        fill_table(arguments.fill, card.key, fitted)
    report = {
        "card": card.key if card is not None else None,
        "torch": torch.__version__,
        "bounds": BOUNDS,
        "rows": rows,
        "fitted": {name: figure.value for name, figure in fitted.items()},
        "used": {name: constant(name).value for name in ("elementwise_bytes", "context_bytes", "allocator_share")},
    }
    text = json.dumps(report, indent=1) + "\n"
    sys.stdout.write(text)
    if arguments.out is not None:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
