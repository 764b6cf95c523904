"""The whole pipeline at full size with random weights, held to so much memory: peaks, seconds of stages, stalls.

    python -m benchmarks.pipeline --out t4.json --pretend t4 --memory disk --cap 14.5 --ram 12 --scratch FOLDER
    python -m benchmarks.pipeline --out floor.json --vram 8 7 6 5 --scratch FOLDER     (a budget after the other)
    python -m benchmarks.pipeline --out tiny.json --tiny                               (a CPU: the same steps, tiny)

Needs one GPU, 30 GB of disk and neither PyAV nor the tokenizer's libraries. A model folder is written first
(`benchmarks.random_model`) and read from disk, not from the system's cache; `--folder` keeps it for the next call.
Every budget is one process, which the planner tells where weights live; picture and voice come from memory. Peaks are
taken from outside: of the GPU as NVML counts them for the process (context included), of main memory by a control group
that holds it, or, where none can be made, by what the process has for itself (pinned pages included): it is ended at
its limit.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from benchmarks import memory as memory_benchmark
from benchmarks.caps import Cage, nvml, watching
from benchmarks.probes import refused
from benchmarks.random_model import KINDS, Full, Numbers, write_model
from infinitetalk.core.calibration import constant
from infinitetalk.core.defaults import Settings, resolve
from infinitetalk.core.errors import InfiniteTalkError
from infinitetalk.core.memory import MemorySettings
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import FPS, SAMPLES_PER_FRAME, Pixels
from infinitetalk.core.stages import Stage
from infinitetalk.core.units import GIB
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.model import Model
from infinitetalk.engine.planning import networks_of, plan_job, work_of
from infinitetalk.engine.progress import StageClock
from infinitetalk.media.inputs import Inputs, Picture, Waveform
from infinitetalk.media.picture import StillSource
from infinitetalk.runtime.device import Device
from infinitetalk.runtime.memory.store import seconds_stalled
from infinitetalk.runtime.platform import peak_memory
from infinitetalk.runtime.pretend import VARIABLE
from infinitetalk.weights.folder import ModelFolder
from tools import make_tiny

TINY = Full(
    make_tiny.DIT, make_tiny.VAE, make_tiny.SPEECH, make_tiny.TEXT, make_tiny.VISION,
    defaults=make_tiny.DEFAULTS, buckets=make_tiny.BUCKETS,
)  # fmt: skip
CACHE = "INFINITETALK_CACHE"
ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""Where torch reads how it shall keep the GPU's memory; `expandable_segments:True` leaves fewer gaps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One run."""

    folder: str
    device: str
    memory: str
    vram: float | None
    """GiB that the planner may use; None: what it finds."""
    cap: float | None
    """GiB that the process is held to."""
    ram: float | None
    size: str | None
    frames: int | None
    windows: int
    steps: int


@dataclass(frozen=True, slots=True)
class Remembered:
    """A picture and a voice that are in memory, whatever a request names."""

    picture: Picture
    voice: Waveform

    def open(self, _request: TalkRequest) -> Inputs:
        """See `MediaSource`."""
        return Inputs(StillSource(self.picture), (self.voice,))


class Peaks(StageClock):
    """A clock that also books the most bytes of the GPU that torch gave out in each stage, and kept in all."""

    def __init__(self) -> None:
        self.bytes: dict[Stage, int] = {}
        self.driver: dict[Stage, int] = {}
        """What the driver says is in use when a stage ends: torch gives memory back between networks, not within."""
        self.reserved = 0
        super().__init__()

    def _settle(self) -> None:
        super()._settle()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            if self._open:
                stage = self._open[-1]
                self.bytes[stage] = max(self.bytes.get(stage, 0), torch.cuda.max_memory_allocated())
                free, total = torch.cuda.mem_get_info()
                self.driver[stage] = max(self.driver.get(stage, 0), total - free)
            self.reserved = max(self.reserved, torch.cuda.max_memory_reserved())
            torch.cuda.reset_peak_memory_stats()


def inputs(settings: Settings, windows: int) -> Remembered:
    """A square picture, and a voice that lasts so many windows."""
    window, motion = settings.window_frames, settings.motion_frames
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8).repeat(32, axis=0).repeat(32, axis=1)
    frames = window + (windows - 1) * (window - motion)
    times = np.arange(frames * SAMPLES_PER_FRAME) / (FPS * SAMPLES_PER_FRAME)
    voice = 0.1 * np.sin(2 * np.pi * 140 * times) * (1 + np.sin(2 * np.pi * 3 * times))
    return Remembered(picture, (voice + 0.01 * rng.standard_normal(len(times))).astype(np.float32))


def without_ftfy() -> str:
    """A machine may lack the library that repairs broken characters; this benchmark's prompts have none."""
    try:
        import ftfy

        return str(ftfy.__version__)
    except ImportError:
        stand_in = ModuleType("ftfy")
        stand_in.fix_text = str  # type: ignore[attr-defined]
        sys.modules["ftfy"] = stand_in
        return "absent; prompts are taken as they are"


def hold(device: torch.device, cap: float | None) -> None:
    """Lets torch take no more of the GPU than a limit leaves beside what the process has there otherwise."""
    if cap is None or device.type != "cuda":
        return
    torch.cuda.init()
    free, total = torch.cuda.mem_get_info(device)
    # Libraries that are loaded later add to what the process has there.
    context = max(total - free - torch.cuda.memory_reserved(device), constant("context_bytes").value)
    torch.cuda.set_per_process_memory_fraction((cap * GIB - context) / total, device)


def carry_out(task: Task, figures: dict[str, Any], clock: Peaks) -> None:
    """Makes the video and tells how it went, in figures that are there even if it does not go well."""
    figures |= {"ftfy": without_ftfy(), "allocator": {name: os.environ.get(name) for name in ALLOCATOR}}
    folder = ModelFolder.open(task.folder)
    device = Device.choose(task.device)
    memory = MemorySettings(memory=task.memory, vram=task.vram, ram=task.ram)
    request = TalkRequest(
        model=task.folder, image=Path("picture"), audio=(Path("voice"),),
        size=task.size, steps=task.steps, window_frames=task.frames,
    )  # fmt: skip
    settings = resolve(request, folder.facts, Pixels(1, 1))
    plan = plan_job(folder, request, settings, device, memory)
    networks, work = networks_of(folder), work_of(request, settings)
    kept_as = {name: getattr(networks, name) for name in ("dit_bytes", "around_bytes", "text_bytes")}
    figures |= {
        "shapes": {"networks": kept_as, "work": asdict(work)},
        "device": device.name,
        "pretended": device.pretended is not None,
        "guard_refuses": refused(device) if device.pretended is not None else None,
        "computes_in": str(device.dtype).removeprefix("torch."),
        "kernels": memory.kernels,
        "size": str(settings.size),
        "lodging": asdict(plan.lodging) | {"tier": plan.lodging.tier.value},
        "expected_vram_gib": {name: count / GIB for name, count in plan.prediction.vram.items()},
        "expected_ram_gib": plan.prediction.ram / GIB,
        "expected_window_seconds": plan.prediction.window_seconds,
    }
    hold(device.torch_device, task.cap)
    on_gpu = device.torch_device.type == "cuda"
    driver = memory_benchmark.Watch(device.torch_device)
    started = time.perf_counter()
    with driver.watching():
        model = Engine.from_pretrained(folder, task.device, memory=memory, lodging=plan.lodging).model
        figures["load_seconds"] = time.perf_counter() - started
        figures |= worked(model, task, request, device, clock)
    if on_gpu:
        figures["driver_peak_gib"] = driver.driver / GIB
    model.close()
    figures |= {"on_gpu": on_gpu, "resident_peak_gib": peak_memory() / GIB}


def failure(error: Exception, clock: Peaks) -> dict[str, Any]:
    """What a job that failed left: where it was, what was held, and the peaks up to then."""
    figures: dict[str, Any] = {
        "error": str(error),
        "failed_in": None if clock.failed is None else clock.failed.value,
        "stage_peak_allocated_gib": in_gib(clock.bytes),
        "traceback": innermost(error),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        # The error's traceback keeps the tensors of the failed calls alive.
        figures["allocated_at_failure_gib"] = torch.cuda.memory_allocated() / GIB
        figures["reserved_at_failure_gib"] = torch.cuda.memory_reserved() / GIB
    return figures


def innermost(error: BaseException, most: int = 12) -> list[str]:
    """The innermost frames of the product's own code behind an error, the innermost one last, and what was said."""
    first = error
    while first.__cause__ is not None:
        first = first.__cause__
    own = [frame for frame in traceback.extract_tb(first.__traceback__) if "infinitetalk" in Path(frame.filename).parts]
    told = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}: {frame.line}" for frame in own[-most:]]
    return [*told, f"{type(first).__name__}: {first}"]


def in_gib(counts: Mapping[Stage, int]) -> dict[str, float]:
    """Bytes per stage as they are written down."""
    return {stage.value: count / GIB for stage, count in counts.items()}


def worked(model: Model, task: Task, request: TalkRequest, device: Device, clock: Peaks) -> dict[str, Any]:
    """The video of a loaded model, with stages and stalls."""
    hold(device.torch_device, task.cap)  # a pretended card sets its own limit when it is chosen
    media = inputs(resolve(request, model.facts, Pixels(1, 1)), task.windows)
    if model.store is not None and device.torch_device.type == "cuda":
        model.store.stalls = []
    figures = streamed(Engine(model, media=media), request, clock)
    figures["stage_seconds"] = {stage.value: spent for stage, spent in clock.seconds.items() if spent}
    figures["stage_peak_allocated_gib"] = in_gib(clock.bytes)
    figures["stage_driver_gib"] = in_gib(clock.driver)
    figures["reserved_peak_gib"] = clock.reserved / GIB
    if model.store is not None and model.store.stalls:
        figures["stalls"] = stalled(seconds_stalled(model.store.stalls))
    return figures


def streamed(engine: Engine, request: TalkRequest, clock: StageClock) -> dict[str, Any]:
    """The windows of the video, looked at and let go."""
    started, frames, spread, windows, finite = time.perf_counter(), 0, 0.0, 0, True
    seconds: list[float] = []
    for window in engine.stream(request, clock):
        frames, windows = frames + window.frames.shape[1], windows + 1
        finite = finite and bool(window.latent.isfinite().all() and window.frames.isfinite().all())
        spread = float(window.frames.std())
        seconds.append(time.perf_counter() - started - sum(seconds))
    return {
        "windows": windows,
        "frames": frames,
        "finite": finite,
        "spread_of_the_last_frames": spread,
        "seconds": time.perf_counter() - started,
        "window_seconds": seconds,
    }


def stalled(waits: Sequence[float]) -> dict[str, float]:
    """How long computing waited for weights, per block that came; preparing inputs included."""
    return {
        "blocks": len(waits),
        "mean_ms": 1000 * statistics.fmean(waits),
        "median_ms": 1000 * statistics.median(waits),
        "largest_ms": 1000 * max(waits),
        "total_seconds": sum(waits),
    }


def run(task: Task, scratch: Path, pretend: str | None) -> dict[str, Any]:
    """Carries a task out in a process of its own, within its limits."""
    gpu = nvml()
    before = 0 if gpu is None else gpu.used()
    limit = None if task.ram is None else int(task.ram * GIB)
    cage, told = Cage(limit), scratch / "told.json"
    told.unlink(missing_ok=True)
    words = [sys.executable, "-m", "benchmarks.pipeline", "--out", str(told), "--task", json.dumps(asdict(task))]
    around = {CACHE: str(scratch / "cache")} | ({VARIABLE: pretend} if pretend else {})
    errors = scratch / "errors.txt"
    with errors.open("w", encoding="utf-8") as stream:
        child = subprocess.Popen(words, env=os.environ | around, stderr=stream, stdout=subprocess.DEVNULL, text=True)
        cage.take(child.pid)
        held_by = "cgroup" if cage.folder is not None else f"watching from outside: {cage.why}"
        with watching(child, limit, cage, before) as watch:
            code = child.wait()
    cage.close()
    figures = {
        "budget": {"vram_gib": task.vram, "held_to_gib": task.cap, "ram_gib": task.ram},
        "ram_held_by": held_by,
        "exit": code,
    }
    figures |= watch.told() | {"ended_for_ram": watch.ended}
    if told.is_file():
        figures |= json.loads(told.read_text(encoding="utf-8"))
    else:
        lines = errors.read_text(encoding="utf-8").strip().splitlines()
        figures["error"] = lines[-1] if lines else f"the process ended with {code} and said nothing"
        figures["traceback"] = lines[-12:-1]
    return figures | {"kept": kept(figures, task)}


def kept(figures: dict[str, Any], task: Task) -> bool:
    """Whether the whole video was made within the budgets."""
    guarded = all((figures.get("guard_refuses") or {}).values())
    whole = (
        guarded and figures["exit"] == 0 and figures.get("windows") == task.windows and figures.get("finite") is True
    )
    # NVML tells of the process; where it is missing, the driver tells of the whole GPU.
    peak = figures.get("vram_peak_gib") or figures.get("driver_peak_gib", 0.0)
    vram = task.cap is None or not figures.get("on_gpu") or 0 < peak <= task.cap
    ram = task.ram is None or max(figures["ram_own_peak_gib"], figures.get("ram_cgroup_peak_gib", 0.0)) <= task.ram
    return bool(whole and vram and ram)


def read_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kind", choices=KINDS, default="fp8")
    parser.add_argument("--folder", type=Path, help="model folder: written if it is not there, and kept")
    parser.add_argument("--scratch", type=Path, help="where the model and its cache go; default: the system's")
    parser.add_argument("--pretend", help="a card to pretend, t4 say")
    parser.add_argument("--vram", type=float, nargs="+", default=[None], help="budgets in GiB, one process each")
    parser.add_argument("--cap", type=float, help="GiB of the GPU that the process is held to; default: its budget")
    parser.add_argument("--ram", type=float, help="budget in GiB, and what the process is held to")
    parser.add_argument("--memory", default="auto", choices=["auto", "resident", "pinned", "disk"])
    parser.add_argument("--size", default=None, help="default: the model's own, 480")
    parser.add_argument("--frames", type=int, help="frames in a window; default: the model's own, 81")
    parser.add_argument("--windows", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=570, help="no further process is started that may end later")
    parser.add_argument("--tiny", action="store_true", help="tiny networks on the CPU")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    return parser.parse_args(words)


def measure(arguments: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Writes the model and carries out one task for each budget; what is known is written after each."""
    started = time.perf_counter()
    folder = arguments.folder or scratch / "model"
    if not folder.exists():
        tiny = arguments.tiny
        write_model(folder, arguments.kind, TINY if tiny else None, Numbers(1 << 16) if tiny else None)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    report: dict[str, Any] = {
        "torch": torch.__version__,
        "kind": arguments.kind,
        "pretend": arguments.pretend,
        "model_gib": size / GIB,
        "write_seconds": time.perf_counter() - started,
        "runs": [],
        "not_tried": [],
    }
    longest = 0.0
    for budget in arguments.vram:
        begun = time.perf_counter()
        if begun - started + longest > arguments.seconds:
            report["not_tried"].append(budget)
            continue
        task = Task(
            folder=str(folder), device="cpu" if arguments.tiny and not arguments.pretend else "auto",
            memory=arguments.memory, vram=budget, cap=arguments.cap or budget, ram=arguments.ram, size=arguments.size,
            frames=arguments.frames, windows=arguments.windows, steps=arguments.steps,
        )  # fmt: skip
        report["runs"].append(run(task, scratch, arguments.pretend))
        longest = max(longest, time.perf_counter() - begun)
        held = [one["budget"]["held_to_gib"] for one in report["runs"] if one["kept"]]
        report["smallest_kept_gib"] = min((one for one in held if one is not None), default=None)
        arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def carry_out_and_tell(task: Task, out: Path) -> None:
    """Writes the figures of one task, of a failed one too; exits 1 then."""
    figures: dict[str, Any] = {}
    clock, failed = Peaks(), None
    try:
        carry_out(task, figures, clock)
    except (InfiniteTalkError, RuntimeError) as error:
        figures, failed = figures | failure(error, clock), error
    out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if failed is not None:
        raise SystemExit(str(failed)) from failed


def main(words: Sequence[str] | None = None) -> None:
    """Measures and writes one JSON object; exits 1 if a budget was not kept."""
    arguments = read_arguments(words)
    if arguments.task is not None:
        carry_out_and_tell(Task(**json.loads(arguments.task)), arguments.out)
        return
    with tempfile.TemporaryDirectory(dir=arguments.scratch, prefix="pipeline-") as scratch:
        report = measure(arguments, Path(scratch))
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    if not all(one["kept"] for one in report["runs"]):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
