"""The same network written plainly: float32, every pass by itself, nothing kept from pass to pass.

So the reference works: keys and values of sound, text and picture are made anew in each pass, and the VAE encodes a
window of grey frames behind the picture. What the engine does beyond that is what the comparison shows.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from infinitetalk.bench.clock import Stopwatch
from infinitetalk.bench.models import engine
from infinitetalk.bench.ours import Asked
from infinitetalk.bench.task import FORWARD, TIMESTEP, WINDOW, Task
from infinitetalk.engine.codec import decode, encode
from infinitetalk.engine.denoise import silence
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
        model = engine(task, device, 1).model
        model.dit.attend_by = sdpa
        asked = Asked(model, task)
        watch.figures["branches"] = len(asked.wanted)
        if FORWARD in task.parts:
            watch.median("forward", lambda: passed(asked, hears=True))
        if WINDOW in task.parts:
            watch.median("window", lambda: window(model, asked, task))
            watch.figures["frames_per_second"] = task.new_frames / watch.figures["window_seconds"]
    return watch.figures | {"device": device.name, "dtype": "float32"}


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
