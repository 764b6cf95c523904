"""The same network written plainly: float32, every pass by itself, nothing kept from pass to pass.

So the reference works: keys and values of sound, text and picture are made anew in each pass, and the VAE encodes a
window of grey frames behind the picture. What the engine does beyond that is what the comparison shows.

On a CPU, where others may be at work, the engine's windows and plain ones are made in turn, and their ratio is that of
the processor's time.
"""

import statistics
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from infinitetalk.bench.clock import Stopwatch
from infinitetalk.bench.models import engine
from infinitetalk.bench.ours import Asked, windows
from infinitetalk.bench.task import FORWARD, TIMESTEP, WINDOW, Task
from infinitetalk.engine.codec import decode, encode
from infinitetalk.engine.denoise import silence
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.model import Model
from infinitetalk.ops.attention import sdpa
from infinitetalk.runtime.device import Device
from infinitetalk.runtime.guard import at_work


@torch.inference_mode()
def measure(task: Task) -> Mapping[str, Any]:
    """A forward pass, and a window: passes and the VAE, without its sound's encoder and colours."""
    device = Device.choose(task.device, "float32")
    task = replace(task, memory={"fused": "off", "vae_dtype": "float32"})
    watch = Stopwatch(device.torch_device, task.repeats)
    with at_work(device), watch.peak("window_peak"):
        made = engine(task, device, 1 + task.repeats)
        model = made.model
        model.dit.attend_by = sdpa
        asked = Asked(model, task)
        watch.figures["branches"] = len(asked.wanted)
        if FORWARD in task.parts:
            watch.median("forward", lambda: passed(asked, hears=True))
        if WINDOW in task.parts:
            if device.torch_device.type == "cpu":
                in_turn(watch, made, asked, task)
            else:
                watch.median("window", lambda: window(model, asked, task))
            watch.figures["frames_per_second"] = task.new_frames / watch.figures["window_seconds"]
    return watch.figures | {"device": device.name, "dtype": "float32"}


def in_turn(watch: Stopwatch, made: Engine, asked: Asked, task: Task) -> None:
    """The engine's windows and plain ones, one after the other; the first pair does not count."""
    pairs = [
        (engines, watch.once(lambda: window(made.model, asked, task))) for engines, _ in windows(watch, made, task)
    ]
    watch.note("window", [plain for _, plain in pairs[1:]])
    found = [plain.processor / engines.processor for engines, plain in pairs[1:]]
    watch.figures |= {"times_ours_window": statistics.median(found), "times_ours_window_all": found}


def passed(asked: Asked, *, hears: bool) -> torch.Tensor:
    """One pass with everything in it."""
    told = asked.given
    audio = told["audio"] if hears else silence(told["audio"])
    time = torch.tensor(TIMESTEP, device=audio.device)
    velocity: torch.Tensor = asked.dit(
        told["latent"], time, condition=told["condition"], audio=audio, text=told.get("text"), clip=told.get("clip")
    )
    return velocity


def window(model: Model, asked: Asked, task: Task) -> None:
    """A window after the first."""
    where = model.device
    picture = torch.zeros(1, 3, task.frames, *task.size, device=where)
    with model.coding() as vae:
        encode(vae, picture)
        encode(vae, picture[:, :, : task.motion])
    for _ in range(task.steps):
        for branch in asked.wanted:
            passed(asked, hears=branch.hears)
    with model.coding() as vae:
        decode(vae, asked.given["latent"])
