"""Times the full-size video network with its weights on the device, in pinned main memory and on disk, in one run.

python -m benchmarks.memory --out memory.json                        (one GPU with 80 GB, 64 GB of main memory)
python -m benchmarks.memory --out disk.json --tiers disk --vram 14.5 --ram 12 --scratch FOLDER
python -m benchmarks.memory --out tiny.json --tiny                   (a CPU: the same steps with a tiny network)

Weights are random, the same in every tier: so the velocities must be too, and the largest difference is told. Peaks of
the device's memory are told as torch counts them (`allocated`, `reserved`) and as the driver does (`driver`: everything
in use on the device, the process' context included). `--ram` needs a cgroup that may be written; where there is none,
it is said, and the drop of the system's available memory is what tells.
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from infinitetalk.core.configs import DiTConfig
from infinitetalk.core.memory import Tier
from infinitetalk.core.sizes import Latents, Pixels
from infinitetalk.core.units import GIB
from infinitetalk.engine.lodging import empty_store, lend
from infinitetalk.models.dit import AudioDiT, Branch
from infinitetalk.models.dit_blocks import Block, Use
from infinitetalk.models.layers import Linear
from infinitetalk.ops.pack import pack_fp8
from infinitetalk.runtime.allocator import keep_few_gaps
from infinitetalk.runtime.memory.store import Store, seconds_stalled
from infinitetalk.runtime.platform import available_memory

TINY = DiTConfig(
    text_len=12, dim=48, ffn_dim=64, freq_dim=16, text_dim=10, num_heads=4, num_layers=5, clip_dim=14, clip_tokens=5,
    audio_blocks=2, audio_channels=6, intermediate_dim=8, output_dim=20, context_tokens=3,
)  # fmt: skip
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured."""

    config: DiTConfig
    size: Latents
    device: torch.device
    dtype: torch.dtype
    kind: str
    """fp8 (rows with scales, computed in `dtype`) or dense."""
    repeats: int
    scratch: Path
    frames_at_once: int | None

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"


def fill(module: nn.Module, bench: Bench, seed: int) -> nn.Module:
    """Random weights for a module on the meta device, made on the device: matrices with variance 1 / fan-in."""
    module = module.to(bench.dtype).to_empty(device=bench.device)
    generator = torch.Generator(bench.device).manual_seed(seed)
    for weight in module.parameters():
        scale = 1.0 if weight.ndim == 1 else (weight.numel() / weight.shape[0]) ** -0.5
        weight.requires_grad_(False).normal_(generator=generator).mul_(scale)
    if bench.kind == "fp8":
        for layer in list(module.modules()):
            if isinstance(layer, Linear):
                layer.hold(pack_fp8(layer.weight))
    return module.eval()


def build(bench: Bench, tier: Tier) -> tuple[AudioDiT, Store | None]:
    """The network with its blocks in a tier; the numbers are the same in all of them."""
    with torch.device("meta"):
        hollow = AudioDiT(replace(bench.config, num_layers=0))
    dit = fill(hollow, replace(bench, kind="dense"), 0)
    assert isinstance(dit, AudioDiT)
    dit.config, dit.frames_at_once = bench.config, bench.frames_at_once
    store = None
    if tier is not Tier.RESIDENT:
        store = empty_store(tier, 0, bench.config.num_layers, bench.device, bench.scratch)
    for number in range(bench.config.num_layers):
        with torch.device("meta"):
            block: nn.Module = Block(bench.config)
        block = fill(block, bench, 1 + number)
        if store is None:
            dit.blocks.append(block)
        else:
            store.add(block.to("cpu"))
    if store is not None:
        store.seal()
        lend(dit, store)
    return dit, store


def told(dit: AudioDiT, bench: Bench, latent: Tensor) -> list[Branch]:
    """Three branches of guidance: all, no text, neither."""
    config, generator = bench.config, torch.Generator(bench.device).manual_seed(7)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, device=bench.device, dtype=bench.dtype, generator=generator)

    frames = (bench.size.frames - 1) * config.vae_scale + 1
    sound = random(1, frames, config.audio_window, config.audio_blocks, config.audio_channels)
    texts = dit.prepare_texts([random(1, config.text_len, config.text_dim) for _ in range(2)])
    picture = dit.prepare_picture(random(1, config.clip_tokens, config.clip_dim))
    sounds = [(sound, None), (torch.zeros_like(sound), None)]
    heard, silent = dit.prepare_sounds(sounds, dit.grid(latent), silent=[1])
    return [Branch(texts[0], picture, heard), Branch(texts[1], picture, heard), Branch(texts[1], picture, silent)]


class Watch:
    """Samples what the driver says is in use on the device, and what main memory is available."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._over = threading.Event()
        self.driver, self.available = 0, available_memory()
        self._before = self.available

    def _look(self) -> None:
        while not self._over.wait(0.02):
            self.look()

    def look(self) -> None:
        """Looks once."""
        if self._device.type == "cuda":
            free, total = torch.cuda.mem_get_info(self._device)
            self.driver = max(self.driver, total - free)
        self.available = min(self.available, available_memory())

    @contextmanager
    def watching(self) -> Iterator["Watch"]:
        """Looks every now and then while this lasts."""
        thread = threading.Thread(target=self._look, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()
            self.look()

    @property
    def dropped(self) -> int:
        """Bytes of main memory that went meanwhile, pinned pages included."""
        return self._before - self.available


def timed(bench: Bench, call: Callable[[], object]) -> float:
    """Seconds of a call, until the device is done."""
    if bench.on_gpu:
        torch.cuda.synchronize(bench.device)
    started = time.perf_counter()
    call()
    if bench.on_gpu:
        torch.cuda.synchronize(bench.device)
    return time.perf_counter() - started


def measure(bench: Bench, tier: Tier) -> tuple[dict[str, Any], Tensor]:
    """Figures of one tier, and the velocity of its first branch on the CPU."""
    if bench.on_gpu:
        torch.cuda.empty_cache()
    watch = Watch(bench.device)
    with watch.watching():
        started = time.perf_counter()
        dit, store = build(bench, tier)
        built = time.perf_counter() - started
        if bench.on_gpu:
            # Blocks are made on the device here, as no real model is: that is not what is measured.
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(bench.device)
        watch.driver = 0
        figures, velocity = forwards(bench, dit, store)
    figures |= {"tier": tier.value, "build_seconds": built, "main_memory_dropped_gib": watch.dropped / GIB}
    if bench.on_gpu:
        figures |= {
            "peak_allocated_gib": torch.cuda.max_memory_allocated(bench.device) / GIB,
            "peak_reserved_gib": torch.cuda.max_memory_reserved(bench.device) / GIB,
            "peak_driver_gib": watch.driver / GIB,
        }
    with suppress(OSError, ValueError):
        figures["cgroup_peak_gib"] = int((CGROUP / "memory.peak").read_text(encoding="utf-8")) / GIB
    if store is not None:
        store.close()
    return figures, velocity


def forwards(bench: Bench, dit: AudioDiT, store: Store | None) -> tuple[dict[str, Any], Tensor]:
    """Times one branch and three."""
    generator = torch.Generator(bench.device).manual_seed(8)
    latent = torch.randn(1, 16, *bench.size, device=bench.device, generator=generator)
    condition = torch.randn(1, 20, *bench.size, device=bench.device, generator=generator)
    step = torch.tensor(700.0, device=bench.device)
    made: list[Branch] = []
    figures: dict[str, Any] = {"prepare_seconds": timed(bench, lambda: made.extend(told(dit, bench, latent)))}
    velocity = torch.empty(0)
    for count in (1, 3):

        def ask(branches: Sequence[Branch] = made[:count]) -> None:
            nonlocal velocity
            velocity = dit.evaluate(latent, step, condition=condition, branches=branches)[0]

        ask()
        if store is not None and bench.on_gpu:
            store.stalls = []
        seconds = [timed(bench, ask) for _ in range(bench.repeats)]
        name = f"{count}_branches" if count > 1 else "1_branch"
        figures[f"{name}_seconds"] = statistics.median(seconds)
        figures[f"{name}_all_seconds"] = seconds
        if store is not None:
            figures |= stalled(store, name, bench)
    return figures, velocity.float().cpu()


def stalled(store: Store, name: str, bench: Bench) -> dict[str, Any]:
    """How long the device waited for weights, per block."""
    figures: dict[str, Any] = {"slots_gib": store.slot_bytes / GIB, "moved_gib": store.moving_bytes(Use.STEP) / GIB}
    if bench.on_gpu and store.stalls:
        waits = seconds_stalled(store.stalls)
        figures[f"{name}_stall_ms_mean"] = 1000 * statistics.fmean(waits)
        figures[f"{name}_stall_ms_median"] = 1000 * statistics.median(waits)
        figures[f"{name}_stall_ms_largest"] = 1000 * max(waits)
    store.stalls = None
    return figures


def hold_to(vram: float | None, ram: float | None, device: torch.device) -> dict[str, Any]:
    """Holds this process to so much memory; says what could not be held."""
    said: dict[str, Any] = {}
    if vram is not None and device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        context = total - torch.cuda.mem_get_info(device)[0]
        torch.cuda.set_per_process_memory_fraction((vram * GIB - context) / total, device)
        said["vram_held_gib"] = vram
    if ram is not None:
        group = CGROUP / "infinitetalk-benchmark"
        try:
            group.mkdir(exist_ok=True)
            (group / "memory.max").write_text(str(int(ram * GIB)), encoding="utf-8")
            (group / "cgroup.procs").write_text("0", encoding="utf-8")
            said["ram_held_gib"] = ram
        except OSError as error:
            said["ram_held_gib"] = None
            said["ram_not_held"] = f"no cgroup can be made here ({error.strerror})"
    return said


def compare(results: Sequence[tuple[dict[str, Any], Tensor]]) -> dict[str, Any]:
    """Every tier against the first."""
    (first, truth), *others = results
    found: dict[str, Any] = {"finite": bool(truth.isfinite().all())}
    for figures, velocity in others:
        name = f"{figures['tier']}_against_{first['tier']}"
        found[f"{name}_largest_difference"] = float((velocity - truth).abs().max())
        for count in ("1_branch", "3_branches"):
            found[f"{name}_{count}_slower"] = figures[f"{count}_seconds"] / first[f"{count}_seconds"] - 1
    return found


def read_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tiers", nargs="+", choices=[tier.value for tier in Tier], default=["resident", "pinned"])
    parser.add_argument("--kind", choices=["fp8", "dense"], default="fp8")
    parser.add_argument("--dtype", choices=["bfloat16", "float16"], default="bfloat16")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--frames-at-once", type=int, help="latent frames through a block's layers at once")
    parser.add_argument("--scratch", type=Path, help="folder for the weights of the tier disk")
    parser.add_argument("--vram", type=float, help="GiB of the device's memory that may be used")
    parser.add_argument("--ram", type=float, help="GiB of main memory that may be used, by a cgroup")
    parser.add_argument("--tiny", action="store_true", help="a tiny network on the CPU")
    return parser.parse_args(words)


@torch.inference_mode()
def main(words: Sequence[str] | None = None) -> None:
    """Measures and writes one JSON object."""
    arguments = read_arguments(words)
    tiny = arguments.tiny
    device = torch.device("cpu" if tiny else "cuda")
    growing = keep_few_gaps(device)
    figures: dict[str, Any] = hold_to(arguments.vram, arguments.ram, device)
    with tempfile.TemporaryDirectory(dir=arguments.scratch, prefix="weights-") as scratch:
        bench = Bench(
            config=TINY if tiny else DiTConfig(),
            size=Latents.of(9, Pixels(64, 64)) if tiny else Latents.of(81, Pixels(640, 640)),
            device=device,
            dtype=torch.float32 if tiny else getattr(torch, arguments.dtype),
            kind=arguments.kind,
            repeats=arguments.repeats,
            scratch=Path(scratch),
            frames_at_once=arguments.frames_at_once,
        )
        results = [measure(bench, Tier(name)) for name in arguments.tiers]
    figures |= {
        "device": "CPU" if tiny else torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "kind": arguments.kind,
        "computes_in": str(bench.dtype).removeprefix("torch."),
        "frames_at_once": arguments.frames_at_once,
        "expandable_segments": growing,
        "latents": list(bench.size),
        "tiers": [told for told, _ in results],
        "compared": compare(results),
    }
    arguments.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
