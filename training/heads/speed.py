"""How fast clips are made, stage by stage, and by several processes at once.

    python -m training.heads.speed --out speed.json --seconds 75

The first quarter of the seconds goes to one process that waits for the GPU after every stage, then does not, and then
names the GPU's longest kernels; the rest to as many processes as told, one number after the other, with what
`training.nano.make_data` does: think of people and motion, draw, and write to a store. FILE is written after each part.
"""

import argparse
import itertools
import json
import multiprocessing
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training.heads.dataset import ClipOptions, collect, make_clips, sample_clip
from training.heads.example import babble_tracks
from training.heads.render import SUPERSAMPLING, HeadRenderer
from training.nano.make_data import fill
from training.nano.store import FRAMES, Clips, create

STORED = 24
"""Clips in a store; later ones overwrite them."""
DRAWN = ClipOptions(frames=FRAMES, varied=True)
STARTING = 15.0
"""Seconds in which processes start, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is measured."""

    device: str
    size: int
    supersampling: int
    at_once: int | None
    workers: int

    def renderer(self, **more: object) -> HeadRenderer:
        """A renderer as set."""
        return HeadRenderer(
            self.device, size=self.size, supersampling=self.supersampling, frames_at_once=self.at_once,
            **more,  # type: ignore[arg-type]
        )  # fmt: skip

    def wait(self) -> None:
        """Until the device has done what it was told."""
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()


@cache
def spoken() -> list[NDArray[np.float32]]:
    """How mouths move."""
    return babble_tracks(16, 14.0, seed=2)


class Stages:
    """Seconds of each stage, the device waited for before and after."""

    def __init__(self, setting: Setting) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._wait = setting.wait

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self._wait()
        begun = time.perf_counter()
        yield
        self._wait()
        self.seconds[name] += time.perf_counter() - begun


def by_stages(setting: Setting, store: Clips, seconds: float) -> dict[str, object]:
    """Milliseconds of each stage per clip, of the first clips of one and of several people, and clips per second."""
    watch = Stages(setting)
    renderer, begun = setting.renderer(stage=watch), time.perf_counter()
    for people in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)):
        renderer.render(sample_clip(spoken(), 0, seed=1, options=replace(DRAWN, people=people)).spec)
    setting.wait()
    first = time.perf_counter() - begun
    watch.seconds.clear()
    begun = time.perf_counter()
    for made in itertools.count(1):
        with watch("sample"):
            item = sample_clip(spoken(), made, seed=3, options=DRAWN)
        with watch("whole drawing"):
            clip = renderer.render(item.spec)
        with watch("write"):
            fill(store, made % STORED, collect([(item, clip)]))
        if time.perf_counter() - begun > seconds:
            break
    stages = {name: round(1000 * spent / made, 2) for name, spent in watch.seconds.items()}
    stages["between stages"] = round(2 * stages["whole drawing"] - sum(stages.values()) + stages["sample"]
                                     + stages["write"], 2)  # fmt: skip
    return {"first_clips_s": round(first, 1), "clips": made, "ms_per_clip": stages}


def unwatched(setting: Setting, seconds: float) -> float:
    """Clips per second that one process draws when it never waits, people and motion ready."""
    specs = [sample_clip(spoken(), index, seed=4, options=DRAWN).spec for index in range(STORED)]
    renderer = setting.renderer()
    renderer.render(specs[0])
    setting.wait()
    begun = time.perf_counter()
    for made in itertools.count(1):
        renderer.render(specs[made % STORED])
        if made % 4 == 0:
            setting.wait()
            if time.perf_counter() - begun > seconds:
                break
    return round(made / (time.perf_counter() - begun), 2)


def longest(setting: Setting, most: int = 16) -> dict[str, object]:
    """The GPU's kernels of one clip that take longest in all: milliseconds and calls, and the sums over all kernels."""
    renderer = setting.renderer()
    spec = sample_clip(spoken(), 0, seed=3, options=replace(DRAWN, people=(1.0, 0.0, 0.0))).spec
    renderer.render(spec)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        renderer.render(spec)
        setting.wait()
    kernels = sorted(profile.key_averages(), key=lambda kernel: -kernel.self_device_time_total)
    return {
        "gpu_ms": round(sum(kernel.self_device_time_total for kernel in kernels) / 1000, 2),
        "calls": sum(kernel.count for kernel in kernels),
        "longest": [
            (kernel.key[:90], round(kernel.self_device_time_total / 1000, 2), kernel.count) for kernel in kernels[:most]
        ],
    }


@dataclass(frozen=True, slots=True)
class Share:
    """What one of several processes does."""

    setting: Setting
    index: int
    seconds: float  # of drawing
    latest: float  # monotonic time at which it stops whatever happens


def draw_share(share: Share) -> list[float]:
    """Monotonic times at which each clip was written."""
    torch.set_float32_matmul_precision("highest")
    moments: list[float] = []
    with tempfile.TemporaryDirectory(dir=shared_memory()) as folder:
        store = create(Path(folder) / "clips", STORED, share.setting.size)
        clips = make_clips(
            1 << 20, spoken(), seed=5, first=share.index << 20, options=DRAWN, batch=1, workers=share.setting.workers,
            renderer=share.setting.renderer(),
        )  # fmt: skip
        for number, batch in enumerate(clips):
            fill(store, number % STORED, batch)
            moments.append(time.monotonic())
            if moments[-1] > min(moments[0] + share.seconds, share.latest):
                clips.close()
                break
    return moments


def together(setting: Setting, processes: int, seconds: float) -> dict[str, object]:
    """Clips per second of several processes, counted while all of them draw."""
    begun = time.monotonic()
    shares = [Share(setting, index, seconds - STARTING, begun + seconds) for index in range(processes)]
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        moments = list(pool.map(draw_share, shares))
    return {"processes": processes, **summed(moments, begun)}


def summed(moments: Sequence[Sequence[float]], begun: float) -> dict[str, float]:
    """Clips per second while all processes drew: from the last one's first clip to the first one's last."""
    start, stop = max(made[0] for made in moments), min(made[-1] for made in moments)
    clips = sum(start < moment <= stop for made in moments for moment in made)
    return {
        "first_clip_after_s": round(start - begun, 1),
        "clips": clips,
        "seconds": round(stop - start, 2),
        "clips_per_s": round(clips / (stop - start), 2) if stop > start else 0.0,
    }


def shared_memory() -> str | None:
    """A folder in memory, where there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


class Report:
    """Results so far, written after every part."""

    def __init__(self, path: Path, facts: Mapping[str, object]) -> None:
        self._path, self._facts = path, dict(facts)

    def add(self, name: str, result: object) -> None:
        """Adds one part's result, and says it on stderr."""
        self._facts[name] = result
        self._path.write_text(json.dumps(self._facts, indent=1) + "\n", encoding="utf-8")
        sys.stderr.write(f"{name}: {json.dumps(result)}\n")


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60, help="in all, about")
    parser.add_argument(
        "--processes", type=int, nargs="*", default=[3], help="that draw at once; several numbers try each"
    )
    parser.add_argument("--workers", type=int, default=3, help="processes that think of clips, for each that draws")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--supersampling", type=int, default=SUPERSAMPLING)
    parser.add_argument("--at-once", type=int, help="frames drawn together")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def main() -> None:
    """Measures, part by part."""
    options = read_options()
    setting = Setting(device=options.device, size=options.size, supersampling=options.supersampling,
                      at_once=options.at_once, workers=options.workers)  # fmt: skip
    torch.set_float32_matmul_precision("highest")
    on_gpu = options.device.startswith("cuda")
    machine = torch.cuda.get_device_name() if on_gpu else "cpu"
    options.out.parent.mkdir(parents=True, exist_ok=True)
    report = Report(options.out, {"machine": machine, "setting": asdict(setting)})
    begun = time.monotonic()
    alone = options.seconds / 4
    with tempfile.TemporaryDirectory(dir=shared_memory()) as folder:
        report.add("one_process", by_stages(setting, create(Path(folder) / "clips", STORED, options.size), alone / 2))
    report.add("clips_per_s_unwatched", unwatched(setting, alone / 4))
    if on_gpu:
        try:
            report.add("kernels", longest(setting))
        except RuntimeError as error:  # the profiler needs rights that some machines do not give
            report.add("kernels", f"not measured: {error}")
    parts: list[object] = []
    for number, processes in enumerate(options.processes):
        left = options.seconds - (time.monotonic() - begun)
        parts.append(together(setting, processes, left / (len(options.processes) - number)))
        report.add("several_processes", parts)


if __name__ == "__main__":
    main()
