"""Parts of `benchmarks.speed` that ask the video network."""

import gc
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend
from torch.profiler import ProfilerActivity

from benchmarks.memory import TINY
from benchmarks.reference import make_reference, reference_class
from infinitetalk.bench.reference import ask as ask_reference
from infinitetalk.core.attention import usable
from infinitetalk.core.configs import DiTConfig
from infinitetalk.core.errors import RequestError
from infinitetalk.core.memory import MemorySettings
from infinitetalk.core.sizes import Latents, Pixels
from infinitetalk.models.dit import AudioDiT, Branch
from infinitetalk.models.dit_blocks import Block
from infinitetalk.ops.attention import Kernel, only
from infinitetalk.ops.eight import FP8, product
from infinitetalk.ops.regions import Regions
from infinitetalk.runtime.attention import choose_attention, installed, place
from infinitetalk.runtime.device import Device
from infinitetalk.runtime.regions import choose_regions, runs_fused
from infinitetalk.weights import keymaps
from infinitetalk.weights.load import assemble

TRILLION = 1e12


@dataclass(slots=True)
class Bench:
    """What is measured, and what parts leave for those after them."""

    device: Device
    config: DiTConfig
    pixels: Pixels
    frames: int
    repeats: int
    tiny: bool
    paths: Sequence[Path] | None
    """The reference's checkout and importer, if it takes part."""
    dit: AudioDiT | None = None
    theirs: nn.Module | None = None
    inputs: dict[str, Tensor] = field(default_factory=dict)
    branches: list[Branch] = field(default_factory=list)
    truth: Tensor | None = None
    """The exact velocity."""
    attentions: Sequence[str] = ("cudnn", "fa3", "flash")
    """The exact ones that are measured; the first is what torch itself takes on such a card."""
    chosen: str = "auto"
    """The quickest exact attention."""
    kept: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def make(cls, *, tiny: bool, repeats: int, reference: Sequence[Path] | None) -> "Bench":
        """Nothing is built yet."""
        device = Device.choose("cpu" if tiny else "cuda")
        config = TINY if tiny else DiTConfig()
        pixels, frames = (Pixels(64, 64), 9) if tiny else (Pixels(640, 640), 81)
        return cls(device, config, pixels, frames, repeats, tiny, reference)

    @property
    def where(self) -> torch.device:
        """The torch device."""
        return self.device.torch_device

    @property
    def size(self) -> Latents:
        """Latent cells."""
        return Latents.of(self.frames, self.pixels)

    def described(self) -> dict[str, Any]:
        """What runs where."""
        return {
            "device": self.device.name,
            "torch": torch.__version__,
            "computes_in": str(self.device.dtype).removeprefix("torch."),
            "size": f"{self.pixels.width}x{self.pixels.height}x{self.frames}",
            "blocks": self.config.num_layers,
            "fused": runs_fused(self.device),
        }

    def tidy(self) -> None:
        """Gives back what a part held."""
        gc.collect()
        if self.where.type == "cuda":
            torch.cuda.empty_cache()

    def network(self) -> AudioDiT:
        """Our network; with a reference, on the reference's own weights."""
        if self.dit is None:
            self.dit = _sharing(self) if self.paths else _random(self)
            self.inputs = _inputs(self)
            self.branches = _branches(self.dit, self)
        return self.dit

    def ask(self, branches: int = 1) -> Tensor:
        """A velocity; of several branches the first one's."""
        dit = self.network()
        told = [self.branches[number % len(self.branches)] for number in range(branches)]
        given = self.inputs
        return dit.evaluate(given["latent"], given["time"], condition=given["condition"], branches=told)[0]

    def seconds(self, call: Callable[[], object], repeats: int | None = None) -> dict[str, Any]:
        """Median seconds after a first call, which is told apart: it compiles and measures."""
        first = self.timed(call)
        spent = [self.timed(call) for _ in range(repeats or self.repeats)]
        return {"seconds": statistics.median(spent), "all": spent, "first": first}

    def timed(self, call: Callable[[], object]) -> float:
        """Seconds of one call, until the device is done."""
        self.wait()
        begun = time.perf_counter()
        call()
        self.wait()
        return time.perf_counter() - begun

    def wait(self) -> None:
        """Until the device is done."""
        if self.where.type == "cuda":
            torch.cuda.synchronize(self.where)

    def peak(self) -> dict[str, float]:
        """The peak of memory since the last call of this."""
        if self.where.type != "cuda":
            return {}
        found = {"peak_gib": torch.cuda.max_memory_allocated(self.where) / 2**30}
        torch.cuda.reset_peak_memory_stats(self.where)
        return found

    def error(self, velocity: Tensor) -> float:
        """Against the exact velocity."""
        assert self.truth is not None
        return float((velocity.float() - self.truth).norm() / self.truth.norm())


def _filled(module: nn.Module, bench: Bench, seed: int) -> nn.Module:
    """Random weights made on the device: gains near 1, small biases, matrices that keep the variance."""
    module = module.to(bench.device.dtype).to_empty(device=bench.where)
    generator = torch.Generator(bench.where).manual_seed(seed)
    for name, weight in module.named_parameters():
        weight.requires_grad_(False).normal_(generator=generator)
        if weight.ndim == 1:
            weight.mul_(0.05 if name.endswith("bias") else 0.1).add_(0.0 if name.endswith("bias") else 1.0)
        else:
            weight.mul_(0.8 * (weight.numel() / weight.shape[0]) ** -0.5)
    return module.eval()


def _random(bench: Bench) -> AudioDiT:
    with torch.device("meta"):
        dit = AudioDiT(bench.config)
        blocks = list(dit.blocks)
    dit.blocks = nn.ModuleList()
    made = _filled(dit, bench, 0)
    assert isinstance(made, AudioDiT)
    made.blocks.extend(_filled(block, bench, 1 + number) for number, block in enumerate(blocks))
    return made


def _sharing(bench: Bench) -> AudioDiT:
    """Our network on the tensors of the reference's, which stays."""
    assert bench.paths is not None
    network = reference_class(*bench.paths, compiled=bench.where.type == "cuda")
    theirs = bench.theirs = make_reference(network, bench.config, bench.device.dtype, bench.where.type)
    tensors = {name: value for name, value in theirs.state_dict().items() if name != "freqs"}
    return assemble(
        lambda: AudioDiT(bench.config), tensors, keymaps.DIT, dtype=bench.device.dtype, device=bench.where.type
    )


def _inputs(bench: Bench) -> dict[str, Tensor]:
    generator, config = torch.Generator(bench.where).manual_seed(2), bench.config

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, device=bench.where, generator=generator)

    dtype = bench.device.dtype
    return {
        "latent": normal(1, 16, *bench.size),
        "time": torch.tensor([700.0], device=bench.where),
        "condition": normal(1, 20, *bench.size).to(dtype),
        "audio": normal(
            1, bench.frames, config.audio_window, config.audio_blocks, config.audio_channels
        ).to(dtype),
        "text": normal(1, min(77, config.text_len), config.text_dim).to(dtype),
        "unwanted": normal(1, min(99, config.text_len), config.text_dim).to(dtype),
        "clip": normal(1, config.clip_tokens, config.clip_dim).to(dtype),
        "masks": torch.ones(2, bench.size.height, bench.size.width, device=bench.where),
    }  # fmt: skip


def _branches(dit: AudioDiT, bench: Bench) -> list[Branch]:
    """All, no text, neither."""
    given = bench.inputs
    texts = dit.prepare_texts([given["text"], given["unwanted"]])
    picture = dit.prepare_picture(given["clip"])
    sounds = [(given["audio"], None), (torch.zeros_like(given["audio"]), None)]
    heard, silent = dit.prepare_sounds(sounds, dit.grid(given["latent"]), silent=[1])
    return [Branch(texts[0], picture, heard), Branch(texts[1], picture, heard), Branch(texts[1], picture, silent)]


# --- Parts ---


def rates(bench: Bench) -> dict[str, Any]:
    """What the card reaches: products of matrices at the network's shapes, and a copy."""
    rows, inner, outer = (256, 64, 128) if bench.tiny else (33600, 5120, 13824)
    x = torch.randn(rows, inner, device=bench.where, dtype=bench.device.dtype)
    matrix = torch.randn(outer, inner, device=bench.where, dtype=bench.device.dtype) * inner**-0.5
    work = 2.0 * rows * inner * outer
    spent = bench.seconds(lambda: F.linear(x, matrix), 20)["seconds"]
    found = {"product_tflops": work / spent / TRILLION}
    if bench.device.fp8 or bench.tiny:
        given, packed = FP8.quantise(x), FP8.pack(matrix)
        spent = bench.seconds(lambda: product(given, packed, None), 20)["seconds"]
        found["product_fp8_tflops"] = work / spent / TRILLION
    block = torch.empty(rows * outer * 2, dtype=torch.uint8, device=bench.where)
    spent = bench.seconds(block.clone, 20)["seconds"]
    return found | {"copy_gb_per_second": 2 * block.nbytes / spent / 1e9}


def _kernels(bench: Bench) -> Iterator[tuple[str, Kernel]]:
    width = bench.config.dim // bench.config.num_heads
    names = usable(place(bench.device, width, bench.device.dtype), installed)
    for name in bench.attentions:
        if name in names:
            yield name, choose_attention(bench.device, name, width)


def exact(bench: Bench) -> dict[str, Any]:
    """One forward pass by every exact attention, with fused regions and with plain ones."""
    dit = bench.network()
    bench.wait()
    found: dict[str, Any] = {"weights": sum(weight.numel() for weight in dit.parameters())}
    fused = choose_regions(bench.device, MemorySettings())
    kernels = dict(_kernels(bench))
    bench.peak()
    for name, kernel in kernels.items():
        dit.attend_by, dit.regions = kernel, Regions()
        velocity = bench.ask()
        if bench.truth is None:
            bench.truth = velocity.float()
        for words, regions in (("plain", Regions()), ("fused", fused)):
            if words == "plain" and name != next(iter(kernels)):
                continue
            dit.regions = regions
            row = bench.seconds(bench.ask) | bench.peak()
            found[f"{name}, {words}"] = row | {"error": bench.error(bench.ask())}
    quickest = min(kernels, key=lambda name: found[f"{name}, fused"]["seconds"])
    bench.chosen, dit.attend_by, dit.regions = quickest, kernels[quickest], fused
    return found | {"quickest": quickest, "H1": found[f"{quickest}, fused"]["seconds"]}


def reference(bench: Bench) -> dict[str, Any]:
    """The reference's class on the same weights, by FlashAttention-2 and by what torch chooses, beside ours."""
    bench.network()
    theirs = bench.theirs
    assert theirs is not None
    call = partial(ask_reference, theirs, bench.inputs, bench.device.dtype)
    ours = bench.seconds(bench.ask)
    found: dict[str, Any] = {"ours": ours}
    velocity = bench.ask()
    ways: Mapping[str, Any] = {"SDPA's own choice": nullcontext()}
    if bench.where.type == "cuda":
        ways = {"FlashAttention-2": only([SDPBackend.FLASH_ATTENTION]), "cuDNN": only([SDPBackend.CUDNN_ATTENTION])}
    for name, way in ways.items():
        with way:
            row = bench.seconds(call)
            truth = call().float()
        ratio = row["seconds"] / ours["seconds"]
        error = float((velocity.float() - truth).norm() / truth.norm())
        found[name] = row | {"ours_is_faster_by": ratio, "our_error_against_it": error}
    bench.theirs = None
    return found


def profile(bench: Bench) -> dict[str, Any]:
    """Where the time of a forward pass goes: the device's milliseconds by kernel."""
    bench.ask()
    return {"milliseconds": kernels_of(bench.ask, bench)}


def kernels_of(call: Callable[[], object], bench: Bench, most: int = 30) -> dict[str, float]:
    """Milliseconds of a call by kernel, the largest first."""
    on_gpu = bench.where.type == "cuda"
    bench.wait()
    with torch.profiler.profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as seen:
        call()
        bench.wait()
    spent: dict[str, float] = {}
    for event in seen.key_averages():
        time_of = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        name = event.key[:110]
        spent[name] = spent.get(name, 0.0) + time_of / 1000
    rows = sorted(spent.items(), key=lambda row: -row[1])
    return {"all": sum(spent.values())} | {name: round(time_of, 3) for name, time_of in rows[:most]}


@contextmanager
def _told_of_syncs(bench: Bench) -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if bench.where.type == "cuda":
            torch.cuda.set_sync_debug_mode("warn")
        try:
            yield told
        finally:
            if bench.where.type == "cuda":
                torch.cuda.set_sync_debug_mode("default")


def syncs(bench: Bench) -> dict[str, Any]:
    """Whether the host waits for the device anywhere in a forward pass; the steps around it are watched in `steps`."""
    bench.ask()
    with _told_of_syncs(bench) as told:
        bench.ask()
    lines = [f"{Path(one.filename).name}:{one.lineno}: {str(one.message)[:90]}" for one in told]
    return {"waits": len(lines), "where": sorted(set(lines)), "watched": bench.where.type == "cuda"}


def eight(bench: Bench) -> dict[str, Any]:
    """The same in 8 bits: products, then attention too. Packs the matrices, for the parts that follow."""
    dit = bench.network()
    settings = MemorySettings(linears="fp8")
    if bench.truth is None:
        bench.truth = bench.ask().float()
    bench.theirs = None
    bench.tidy()
    for block in dit.blocks:
        assert isinstance(block, Block)
        block.hold_eight(FP8)
    bench.tidy()
    bench.peak()
    found: dict[str, Any] = {}
    plain, fused = Regions(FP8), Regions(FP8) if bench.tiny else choose_regions(bench.device, settings)
    for words, regions in (("plain", plain), ("fused", fused)):
        dit.regions = regions
        row = bench.seconds(bench.ask, 1 if words == "plain" else None) | bench.peak()
        found[f"fp8 products, {words}"] = row | {"error": bench.error(bench.ask())}
    found["H2_products"] = found["fp8 products, fused"]["seconds"]
    return found | _eight_attention(bench, dit)


def _eight_attention(bench: Bench, dit: AudioDiT) -> dict[str, Any]:
    """Attention in 8 bits beside products in 8 bits, if it runs here; it stays, if it is quicker."""
    width = bench.config.dim // bench.config.num_heads
    name = "fp8 products, fp8 attention"
    before = dit.attend_by
    try:
        dit.attend_by = choose_attention(bench.device, "fp8", width)
    except RequestError as error:
        return {name: {"refused": str(error)}}
    row = bench.seconds(bench.ask) | bench.peak()
    found = {name: row | {"error": bench.error(bench.ask())}, "H2_attention": row["seconds"]}
    bench.kept["exact_attention"] = before
    return found
