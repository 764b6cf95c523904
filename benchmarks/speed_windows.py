"""Parts of `benchmarks.speed` that run the engine: steps of denoising, and whole windows with all around them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.speed_network import Bench, _told_of_syncs, kernels_of
from benchmarks.speed_vae import make
from infinitetalk.core.configs import DiTConfig
from infinitetalk.core.defaults import ModelDefaults, ModelFacts, resolve
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import FPS, SAMPLES_PER_FRAME, Pixels
from infinitetalk.engine.denoise import Script
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.model import Model
from infinitetalk.engine.progress import StageClock
from infinitetalk.engine.protocols import Inputs, Picture, Waveform

WAYS = {"three branches": (5.0, 4.0), "two branches": (1.0, 2.0), "one branch": (1.0, 1.0)}
"""Text and audio scale."""
LONG = 40
"""Steps of a run of the best quality."""


@dataclass(frozen=True, slots=True)
class _Told:
    """Encoders of words, pictures and sounds whose answers are drawn: they are not what is measured."""

    config: DiTConfig
    where: torch.device

    def encode(self, told: Any, frames: int = 0, person: int = 0) -> Any:  # noqa: ARG002 - all are heard alike
        """Features of prompts, of a picture or of samples."""
        config, generator = self.config, torch.Generator(self.where).manual_seed(11)
        if isinstance(told, np.ndarray):
            shape = (frames, config.audio_blocks, config.audio_channels)
            return torch.randn(*shape, device=self.where, generator=generator)
        if isinstance(told, Tensor):
            return torch.randn(1, config.clip_tokens, config.clip_dim, device=self.where, generator=generator)
        tokens = min(77, config.text_len)
        return [torch.randn(tokens, config.text_dim, device=self.where, generator=generator) for _ in told]

    def normalise(self, samples: Waveform) -> Waveform:
        """As it is."""
        return samples


@dataclass(frozen=True, slots=True)
class _Frames:
    """A picture of noise in blocks."""

    picture: Picture

    @property
    def size(self) -> Pixels:
        """Of the picture."""
        return Pixels(*self.picture.shape[:2])

    def frame_at(self, seconds: float) -> Picture:  # noqa: ARG002 - there is one
        """The picture."""
        return self.picture

    def frame_index(self, index: int) -> Picture:  # noqa: ARG002 - there is one
        """The picture."""
        return self.picture


@dataclass(frozen=True, slots=True)
class _Media:
    """One picture and one voice from memory."""

    pixels: Pixels
    frames: int

    def open(self, request: TalkRequest) -> Inputs:  # noqa: ARG002 - there is one
        """See `MediaSource`."""
        rng = np.random.default_rng(0)
        blocks = rng.integers(0, 256, (self.pixels.height // 8, self.pixels.width // 8, 3), dtype=np.uint8)
        voice = rng.standard_normal(self.frames * SAMPLES_PER_FRAME).astype(np.float32) * 0.1
        return Inputs(_Frames(blocks.repeat(8, axis=0).repeat(8, axis=1)), (voice,))


def _engine(bench: Bench, windows: int) -> Engine:
    config, dit = bench.config, bench.network()
    facts = ModelFacts(
        name="random",
        defaults=ModelDefaults(size="0", window_frames=bench.frames, motion_frames=5 if bench.tiny else 9),
        buckets={"0": {1.0: bench.pixels}},
        has_text=True,
        max_people=1,
    )
    vae = make(bench, bench.device.dtype)
    model = Model(facts=facts, device=bench.where, runs_on=bench.device, dit=dit, vae=vae)
    told = _Told(config, bench.where)
    length = bench.frames + (windows - 1) * (bench.frames - facts.defaults.motion_frames)
    return Engine(model, media=_Media(bench.pixels, length), text=told, vision=told, speech=told)


def _request(bench: Bench, steps: int, scales: Sequence[float]) -> TalkRequest:
    return TalkRequest(
        model="random", image=Path("picture"), audio=(Path("voice"),), steps=steps, text_scale=scales[0],
        audio_scale=scales[1], framing="crop", window_frames=bench.frames,
    )  # fmt: skip


def steps(bench: Bench) -> dict[str, Any]:
    """A step of three branches, and what 40 of them would take: the sum is extrapolated."""
    row = bench.seconds(lambda: bench.ask(3), 1)
    return {"three branches": row, "H3_40_steps_extrapolated": 40 * row["seconds"]}


def cached(bench: Bench) -> dict[str, Any]:
    """A window of 40 steps of three branches, whole, of which step caching lets 12 ask the network's blocks."""
    request = replace(_request(bench, LONG, WAYS["three branches"]), step_cache="taylorseer", cache_interval=4)
    engine, clock = _engine(bench, 1), StageClock()
    settings = resolve(request, engine.model.facts, bench.pixels)
    asked = Script(engine.model.dit).course(settings).count(None)
    bench.peak()
    spent = bench.timed(lambda: list(engine.stream(request, clock)))
    stages = {stage.value: seconds for stage, seconds in clock.seconds.items() if seconds}
    row = {"steps": LONG, "steps_that_ask": asked, "passes": 3 * asked, "passes_saved": 1 - asked / LONG}
    return row | {"seconds": spent, "H3_cached": spent, "stage_seconds": stages} | bench.peak()


def _profile(bench: Bench) -> dict[str, Any]:
    """A window after the first: the device's milliseconds by kernel and copy, and those of a clock around them."""
    running = _engine(bench, 2).stream(_request(bench, 4, WAYS["one branch"]))
    next(running)
    begun = time.perf_counter()
    found: dict[str, Any] = {"milliseconds": kernels_of(lambda: next(running), bench, 45)}
    return found | {"clock_milliseconds": (time.perf_counter() - begun) * 1e3}


def windows(bench: Bench) -> dict[str, Any]:
    """Windows of four steps through the engine, everything included but the encoders, whose answers are drawn.

    Of three windows, or two of two branches, the first does not count: it starts from the picture.
    """
    found: dict[str, Any] = {}
    for name in ("one branch", "two branches"):
        engine = _engine(bench, 3 if name == "one branch" else 2)
        spent: list[float] = []
        frames = 0
        bench.peak()
        with _told_of_syncs(bench) as told:
            bench.wait()
            begun = time.perf_counter()
            for window in engine.stream(_request(bench, 4, WAYS[name])):
                bench.wait()
                spent.append(time.perf_counter() - begun)
                frames = window.frames.shape[1]
                del window
                begun = time.perf_counter()
        waits = sorted({f"{Path(one.filename).name}:{one.lineno}" for one in told})
        least = min(spent[1:])
        row = {"seconds": least, "all": spent, "new_frames": frames, "waits_at": waits}
        found[name] = row | {"frames_per_second": frames / least, "real_time": FPS} | bench.peak()
    found["profile"] = _profile(bench)
    return found | {"H4_one": found["one branch"]["seconds"], "H4_two": found["two branches"]["seconds"]}
