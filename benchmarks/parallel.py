"""Times the full-size model on several GPUs of one host, with random weights, and compares what they make with one's.

    python -m benchmarks.parallel --out parallel.json --gpus 4 --mode exact
    python -m benchmarks.parallel --out parallel.json --gpus 4 --mode exact --mode fp8:linears=fp8
    python -m benchmarks.parallel --out tiny.json --gpus 4 --tiny                    (a CPU: the same steps, tiny)

A mode is a name and settings of `MemorySettings`. For each, processes are started as `infinitetalk generate --gpus`
starts them, each makes the same weights on its GPU, and then follow: one forward pass of the DiT at 640x640 and 81
frames on all GPUs and on the first one alone, their difference, and the share of exchanges; windows of 72 new frames in
4 steps of one branch with everything that belongs to them; `live` at 768x448 on all GPUs and on one; and with the first
two GPUs a forward pass, windows at 512x512 and `live`. Every finished part is written at once; parts that could end
after `--seconds` are left out, and named.
"""

import argparse
import faulthandler
import gc
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.pipeline import TINY, Remembered, inputs
from benchmarks.random_model import Full
from infinitetalk.bench.random_weights import fill, hollow
from infinitetalk.core.defaults import STANDARD_BUCKETS, ModelDefaults, ModelFacts, resolve
from infinitetalk.core.live import resolve_live
from infinitetalk.core.memory import MemorySettings, Tier
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import FPS, SAMPLES_PER_FRAME, Latents, Pixels
from infinitetalk.engine import live as live_module
from infinitetalk.engine.company import Nobody
from infinitetalk.engine.crew import Crew
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.model import Model, SpeechPart
from infinitetalk.engine.progress import StageClock
from infinitetalk.engine.shared import with_others
from infinitetalk.engine.tasks import Station
from infinitetalk.models.dit import AudioDiT, Branch
from infinitetalk.models.dit_blocks import Block
from infinitetalk.models.speech import SpeechEncoder
from infinitetalk.models.vae import VideoVAE
from infinitetalk.models.vision import VisionEncoder
from infinitetalk.ops.parallel import ALONE
from infinitetalk.runtime.attention import choose_attention
from infinitetalk.runtime.device import Device
from infinitetalk.runtime.regions import choose_eight, choose_pixels, choose_regions, coding_dtype
from infinitetalk.runtime.replay import choose_replay

WINDOWS, CHUNKS = 5, 8
"""How many are made; the first two, in which kernels are chosen, compiled and recorded, do not count."""
REPEATS = 4


@dataclass(frozen=True)
class Scale:
    """The sizes of everything."""

    full: Full
    size: str
    small: str
    live: str
    frames: int
    motion: int
    live_frames: int
    buckets: Any


FULL = Scale(Full(), "640x640", "512x512", "768x448", 81, 9, 33, STANDARD_BUCKETS)
SMALL = Scale(TINY, "64x64", "48x48", "64x96", 13, 5, 33, STANDARD_BUCKETS)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Text tokens that were read long ago."""

    width: int
    device: torch.device

    def encode(self, prompts: Sequence[str]) -> list[Tensor]:
        """See `TextSource`."""
        generator = torch.Generator().manual_seed(5)
        return [torch.randn(8, self.width, generator=generator).to(self.device) for _ in prompts]


@dataclass(frozen=True, slots=True)
class Random:
    """A full-size model of random weights, as one of the processes makes it."""

    scale: Scale
    memory: MemorySettings
    rank: int

    def load(self, device: Device) -> Model:
        """Makes it on the device."""
        full, where = self.scale.full, device.torch_device
        facts = ModelFacts(
            name="random", defaults=ModelDefaults(), buckets=self.scale.buckets, has_text=True, max_people=2
        )
        with torch.random.fork_rng(devices=[]), torch.device(where):
            torch.manual_seed(3)
            vae = VideoVAE(full.vae).to(coding_dtype(device, self.memory)).requires_grad_(False).eval()
            vae.compute_by(choose_pixels(device, self.memory))
            first = self.rank == 0
            speech = SpeechEncoder(full.speech).requires_grad_(False).eval() if first else None
            vision = VisionEncoder(full.vision).to(device.dtype).requires_grad_(False).eval() if first else None
        assert full.dit.text_dim
        return Model(
            facts=facts,
            device=where,
            runs_on=device,
            dit=self.dit(device),
            vae=vae,
            speech=None if speech is None else SpeechPart(speech, where),
            text=Tokens(full.dit.text_dim, where),
            vision=vision,
        )

    def dit(self, device: Device) -> AudioDiT:
        """The transformer, block by block."""
        config, where, eight = self.scale.full.dit, device.torch_device, choose_eight(self.memory)
        dit = fill(hollow(lambda: AudioDiT(replace(config, num_layers=0))), device.dtype, where)
        dit.config = config
        for number in range(config.num_layers):
            block = fill(hollow(lambda: Block(config)), device.dtype, where, f"blocks.{number}.")
            if eight is not None:
                block.hold_eight(eight)
            dit.blocks.append(block)
        dit.regions = choose_regions(device, self.memory)
        dit.replay = choose_replay(device, self.memory, Tier.RESIDENT)
        dit.attend_by = choose_attention(device, self.memory.attention, config.dim // config.num_heads)
        return dit


@dataclass(frozen=True, slots=True)
class Forward:
    """One pass of the transformer in one branch, several times, on inputs that all processes make alike."""

    size: str
    frames: int
    repeats: int

    def run(self, station: Station) -> tuple[list[float], Tensor]:
        """Seconds of each pass after two to warm up, and the velocity."""
        dit, config, device = station.model.dit, station.model.dit.config, station.model.device
        width, height = map(int, self.size.split("x"))
        latents = Latents.of(self.frames, Pixels(height, width))
        generator = torch.Generator(device).manual_seed(11)

        def random(*shape: int) -> Tensor:
            return torch.randn(*shape, device=device, generator=generator)

        latent, condition = random(1, 16, *latents), random(1, 20, *latents)
        sound = random(1, self.frames, config.audio_window, config.audio_blocks, config.audio_channels)
        (heard,) = dit.prepare_sounds([(sound, None)], dit.grid(latent))
        (read,) = dit.prepare_texts([random(1, 8, config.text_dim)])
        told = Branch(read, dit.prepare_picture(random(1, config.clip_tokens, config.clip_dim)), heard)
        when = torch.tensor(700.0, device=device)
        seconds = []
        for _ in range(2 + self.repeats):
            synchronise(device)
            started = time.perf_counter()
            (velocity,) = dit.evaluate(latent, when, condition=condition, branches=[told])
            synchronise(device)
            seconds.append(time.perf_counter() - started)
        return seconds[2:], velocity


def synchronise(device: torch.device) -> None:
    """Waits for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(slots=True)
class Report:
    """What was found, on disk after each part."""

    out: Path
    until: float
    figures: dict[str, Any] = field(default_factory=dict)

    def part(self, mode: str, name: str, cost: float, measure: Callable[[], Any]) -> bool:
        """Measures one part if so many seconds are left; says whether the work can go on."""
        parts = self.figures.setdefault(mode, {})
        if time.perf_counter() + cost > self.until:
            parts.setdefault("not_tried", []).append(name)
            self.write()
            return True
        sys.stderr.write(f"{mode}: {name} ...\n")
        started, fine = time.perf_counter(), True
        try:
            parts[name] = measure()
        except Exception as error:  # noqa: BLE001 - what a part does not find, others may
            parts[name], fine = {"error": " ".join(str(error).split())[:600]}, False
        sys.stderr.write(f"{mode}: {name} took {time.perf_counter() - started:.1f} s\n")
        self.write()
        return fine

    def write(self) -> None:
        """Replaces the file."""
        self.out.write_text(json.dumps(self.figures, indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Bench:
    """A model on some GPUs, and what is asked of it."""

    scale: Scale
    model: Model
    device: Device

    @property
    def station(self) -> Station:
        """What this process works with, as the first of all."""
        station = Station(self.model, self.model.crew.all)
        station.share()
        return station

    @torch.inference_mode()
    def forward(self, size: str, frames: int) -> dict[str, Any]:
        """The pass on all GPUs, then on the first one alone, and how they differ."""
        task, crew = Forward(size, frames, REPEATS), self.model.crew
        with crew.together(task):
            seconds, many = task.run(self.station)
        self.model.dit.parallel = ALONE
        alone, one = task.run(Station(self.model))
        self.station.share()
        return {
            "gpus": crew.size,
            "seconds": statistics.median(seconds),
            "all_seconds": seconds,
            "alone_seconds": statistics.median(alone),
            "all_alone_seconds": alone,
            "times_faster": statistics.median(alone) / statistics.median(seconds),
            "relative_error_to_one": float((many - one).norm() / one.norm()),
            "finite": bool(torch.isfinite(many).all()),
        }

    @torch.inference_mode()
    def exchanges(self, size: str) -> dict[str, Any]:
        """Of the time of passes on all GPUs, what kernels that exchange tensors take, beside others or not."""
        if self.device.torch_device.type != "cuda":
            return {"exchange": "not measured: no GPU"}
        from torch.profiler import ProfilerActivity, profile

        task = Forward(size, self.scale.frames, 1)
        with profile(activities=[ProfilerActivity.CUDA]) as found, self.model.crew.together(task):
            seconds, _ = task.run(self.station)
        # Three passes: two to warm up, which are warm by now.
        times = {event.key: event.self_device_time_total / 3e6 for event in found.key_averages()}
        exchanging = sum(spent for name, spent in times.items() if "nccl" in name.lower())
        computing = sum(times.values()) - exchanging
        longest = sorted(times.items(), key=lambda pair: -pair[1])[:12]
        return {
            "exchange_kernel_seconds": exchanging,
            "other_kernel_seconds": computing,
            "exchange_share_of_kernels": exchanging / (exchanging + computing),
            "pass_in_profile_seconds": seconds[0],
            "longest_kernels": {name[:90]: spent for name, spent in longest},
        }

    def windows(self, size: str) -> dict[str, Any]:
        """Whole windows in 4 steps of one branch: from the end of one to the end of the next."""
        request = self.request(size)
        settings = resolve(request, self.model.facts, Pixels(1, 1))
        engine = Engine(self.model, media=inputs(settings, WINDOWS))
        clock, ends, stages = StageClock(), [time.perf_counter()], [dict.fromkeys(StageClock().seconds, 0.0)]
        finite = True
        for window in engine.stream(request, clock):
            ends.append(time.perf_counter())
            stages.append(dict(clock.seconds))
            finite = finite and bool(torch.isfinite(window.frames).all())
        spent = [after - before for before, after in itertools.pairwise(ends)]
        new = settings.window_frames - settings.motion_frames
        last = {stage.value: stages[-1][stage] - stages[-2][stage] for stage in stages[-1]}
        return {
            "gpus": self.model.crew.size,
            "size": size,
            "new_frames": new,
            "seconds": statistics.median(spent[2:]),
            "all_seconds": spent,
            "times_real_time": new / FPS / statistics.median(spent[2:]),
            "stages_of_the_last": last,
            "finite": finite,
            **self.memory(),
        }

    def request(self, size: str) -> TalkRequest:
        """A window's request: one branch."""
        return TalkRequest(
            model="random", image=Path("picture"), audio=(Path("voice"),), size=size, steps=4, text_scale=1.0,
            audio_scale=1.0, window_frames=self.scale.frames, motion_frames=self.scale.motion, window_end="full",
            seed=1,
        )  # fmt: skip

    def live(self, size: str) -> dict[str, Any]:
        """Chunks of a live talk, whose sound comes as fast as it is used."""
        request = TalkRequest(model="random", image=Path("picture"), audio=(Path("-"),), size=size, seed=1)
        settings = resolve_live(request, self.model.facts, Pixels(1, 1))
        media = inputs(replace(settings, motion_frames=0), CHUNKS)
        engine = Engine(self.model, media=Remembered(media.picture, media.voice))
        new = settings.window_frames - settings.motion_frames
        latencies, ends, clock = [], [], StageClock()
        last = before = dict(clock.seconds)
        for chunk in engine.live(request, self.sound(media, new), progress=clock):
            latencies.append(chunk.latency)
            ends.append(time.perf_counter())
            last, before = {stage: spent - before[stage] for stage, spent in clock.seconds.items()}, dict(clock.seconds)
        between = [after - before for before, after in itertools.pairwise(ends)]
        return {
            "gpus": self.model.crew.size,
            "size": size,
            "new_frames": new,
            "seconds_from_last_sample_to_frames": statistics.median(latencies[3:]),
            "all_latencies": latencies,
            "seconds_between_chunks": statistics.median(between[2:]),
            "times_real_time": new / FPS / statistics.median(between[2:]),
            "stages_of_the_last": {stage.value: spent for stage, spent in last.items() if spent},
            **self.memory(),
        }

    def sound(self, media: Remembered, new: int) -> Iterator[Any]:
        """As many samples as the chunks need, in pieces of one frame."""
        for start in range(0, CHUNKS * new * SAMPLES_PER_FRAME, SAMPLES_PER_FRAME):
            yield media.voice[start : start + SAMPLES_PER_FRAME]

    def memory(self) -> dict[str, float]:
        """The first GPU's peak so far."""
        if self.device.torch_device.type != "cuda":
            return {}
        return {"peak_gib_on_the_first": torch.cuda.max_memory_allocated() / 2**30}


@dataclass(frozen=True, slots=True)
class Mode:
    """A name, and how the work is done."""

    name: str
    settings: dict[str, str]

    @classmethod
    def parse(cls, text: str) -> "Mode":
        """Reads NAME or NAME:SETTING=VALUE,..."""
        name, _, rest = text.partition(":")
        pairs = [part.split("=", 1) for part in rest.split(",") if part]
        return cls(name, dict(pairs))


def without_loudness() -> str:
    """A machine may lack the library that weighs loudness; then the voice of `live` stays as loud as it is."""
    try:
        from pyloudnorm import IIRfilter

        return str(IIRfilter.__name__)
    except ImportError:
        vars(live_module)["speech_gain"] = lambda _samples: 1.0
        return "absent; voices keep their loudness, which saves live some milliseconds"


def measure(report: Report, mode: Mode, arguments: argparse.Namespace) -> None:
    """All parts of one mode: on all GPUs, then on the first two of them."""
    device = Device.choose("cpu" if arguments.tiny else "auto")
    if device.row is not None and device.row < arguments.gpus:
        raise SystemExit(f"--gpus {arguments.gpus}: there are {device.row}")
    for size in dict.fromkeys((arguments.gpus, 2)):
        crew_parts(report, mode, device, size, arguments)
        gc.collect()  # the next processes need the memory
        if device.torch_device.type == "cuda":
            torch.cuda.empty_cache()


def crew_parts(report: Report, mode: Mode, device: Device, size: int, arguments: argparse.Namespace) -> None:
    """All parts that one number of processes measures."""
    scale, memory = SMALL if arguments.tiny else FULL, MemorySettings(**mode.settings)  # type: ignore[arg-type]
    started: list[Bench] = []

    def start() -> dict[str, Any]:
        begun = time.perf_counter()
        crew = Crew.start(size, device)
        joined = time.perf_counter()
        model = with_others(lambda rank: Random(scale, memory, rank), crew, device)
        started.append(Bench(scale, model, device))
        return {"start_seconds": joined - begun, "load_seconds": time.perf_counter() - joined}

    name, pace = f"on_{size}", arguments.pace
    if not report.part(mode.name, f"{name}: start", 60 * pace, start) or not started:
        return
    bench = started[0]
    alone = replace(bench, model=replace(bench.model, crew=Nobody()))
    parts: list[tuple[str, float, Callable[[], Any]]] = []
    parts.append(("forward", 45, lambda: bench.forward(scale.size, scale.frames)))
    if size == 2:
        parts.append(("windows_512", 25, lambda: bench.windows(scale.small)))
    else:
        parts.append(("windows", 30, lambda: bench.windows(scale.size)))
    parts.append(("live", 20, lambda: bench.live(scale.live)))
    parts.append(("live_pass", 10, lambda: bench.forward(scale.live, scale.live_frames)))
    if size == arguments.gpus:
        parts.append(("live_on_one", 35, lambda: alone.live(scale.live)))
        parts.append(("exchanges", 20, lambda: bench.exchanges(scale.size)))
    for part, cost, call in parts:
        if arguments.only and part not in arguments.only:
            continue
        if not report.part(mode.name, f"{name}: {part}", cost * pace, call):
            break
    bench.model.close()


def main(words: Sequence[str] | None = None) -> None:
    """Measures and writes one JSON object; exits 1 if a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--gpus", type=int, default=4)
    parser.add_argument("--mode", type=Mode.parse, action="append", help="default: exact")
    parser.add_argument("--seconds", type=float, default=420, help="no part is begun that may end later")
    parser.add_argument("--pace", type=float, default=1.0, help="how much slower parts may be than on an H100")
    parser.add_argument("--only", nargs="+", metavar="PART", help="of the parts only these")
    parser.add_argument("--tiny", action="store_true", help="tiny networks on the CPU")
    arguments = parser.parse_args(words)
    multicast = {name: os.environ.get(name) for name in ("NCCL_NVLS_ENABLE", "TORCH_SYMM_MEM_DISABLE_MULTICAST")}
    faulthandler.dump_traceback_later(arguments.seconds + 90, exit=True)
    report = Report(arguments.out, time.perf_counter() + arguments.seconds)
    report.figures = {"torch": torch.__version__, "environment": multicast, "loudness": without_loudness()}
    if torch.cuda.is_available():
        report.figures["devices"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    for mode in arguments.mode or [Mode("exact", {})]:
        measure(report, mode, arguments)
    sys.stdout.write(json.dumps(report.figures, indent=1) + "\n")
    modes = [found for found in report.figures.values() if isinstance(found, dict)]
    if any(isinstance(part, dict) and "error" in part for found in modes for part in found.values()):
        raise SystemExit(1)
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    # Other processes know this module's tasks by its own name.
    from benchmarks.parallel import main as own_main

    own_main()
