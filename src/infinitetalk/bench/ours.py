"""Our own networks under the clock: a forward pass, a step, the VAE, and whole windows by the engine."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infinitetalk.bench.clock import Spent, Stopwatch
from infinitetalk.bench.models import engine, request
from infinitetalk.bench.random_weights import inputs
from infinitetalk.bench.task import FORWARD, STEP, TIMESTEP, VAE, WINDOW, Task
from infinitetalk.core.stages import Stage
from infinitetalk.diffusion.guidance import branches, combine
from infinitetalk.engine.codec import decode, encode
from infinitetalk.engine.denoise import silence
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.model import Model
from infinitetalk.engine.progress import StageClock
from infinitetalk.models.dit import AudioDiT, Branch, Prepared, Words
from infinitetalk.runtime.device import Device
from infinitetalk.runtime.guard import at_work


@torch.inference_mode()
def measure(task: Task) -> Mapping[str, Any]:
    """All parts that the task names, each figure in seconds or GiB."""
    device = Device.choose(task.device)
    watch = Stopwatch(device.torch_device, task.repeats)
    with at_work(device):
        made = engine(task, device, window_count(task))
        asked = Asked(made.model, task)
        watch.figures["branches"] = len(asked.wanted)
        works: Mapping[str, Callable[[], None]] = {
            FORWARD: lambda: forward(watch, asked, task),
            STEP: lambda: step(watch, asked),
            VAE: lambda: coding(watch, made.model, task),
            WINDOW: lambda: window(watch, made, task),
        }
        for part, work in works.items():
            if part in task.parts:
                with watch.peak(f"{part}_peak"):
                    work()
    return watch.figures | {"device": device.name, "dtype": str(device.dtype).removeprefix("torch.")}


def window_count(task: Task) -> int:
    """How many windows are made: the first has work to do that no later one has. Large networks make one more."""
    return 1 + (1 if task.model is None else task.repeats)


class Asked:
    """A network and what it is told of a window, prepared as the engine prepares it."""

    def __init__(self, model: Model, task: Task) -> None:
        self.dit, self._task = model.dit, task
        self.given = given(model, task)
        self.time = torch.tensor(TIMESTEP, device=model.device)
        reads = bool(self.dit.config.text_dim)
        self.text_scale = task.text_scale if reads else 1.0
        self.wanted = branches(self.text_scale, task.audio_scale)

    def prepare(self) -> list[Branch]:
        """Keys and values for every branch of a step."""
        dit, told = self.dit, self.given
        texts = read(dit, told)
        picture: Prepared | None = dit.prepare_picture(told.get("clip"))
        heard = sorted({branch.hears for branch in self.wanted})
        sounds = [(told["audio"] if hears else silence(told["audio"]), None) for hears in heard]
        silent = [number for number, hears in enumerate(heard) if not hears]
        made = dict(zip(heard, dit.prepare_sounds(sounds, dit.grid(told["latent"]), silent=silent), strict=True))
        return [Branch(texts[branch.reads], picture, made[branch.hears]) for branch in self.wanted]

    def evaluate(self, told: list[Branch]) -> list[Tensor]:
        """A velocity for each branch."""
        latent, condition = self.given["latent"], self.given["condition"]
        return self.dit.evaluate(latent, self.time, condition=condition, branches=told)

    def guided(self, told: list[Branch]) -> Tensor:
        """One step's velocity."""
        answers = dict(zip(self.wanted, self.evaluate(told), strict=True))
        return combine(answers, self.text_scale, self._task.audio_scale)


def read(dit: AudioDiT, told: Mapping[str, Tensor]) -> tuple[Words | None, Words | None]:
    """The negative prompt and the prompt, prepared."""
    text = told.get("text")
    negative = None if text is None else -text
    first, second = dit.prepare_texts([negative, text])
    return first, second


def given(model: Model, task: Task) -> Mapping[str, Tensor]:
    """Random inputs in the shapes of this network."""
    config, size = model.dit.config, task.latents
    if task.model is None:
        return inputs(task, model.dit.dtype, model.device)
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(model.device)

    audio = normal(1, task.frames, config.audio_window, config.audio_blocks, config.audio_channels)
    told = {"latent": normal(1, config.out_dim, *size), "condition": normal(1, config.in_dim - config.out_dim, *size)}
    told["audio"] = audio.to(model.dit.dtype)
    if config.text_dim:
        told["text"] = normal(1, min(77, config.text_len), config.text_dim).to(model.dit.dtype)
    if config.clip_dim:
        told["clip"] = normal(1, config.clip_tokens, config.clip_dim).to(model.dit.dtype)
    return told


def forward(watch: Stopwatch, asked: Asked, task: Task) -> None:
    """One pass, keys and values at hand; its answer may be kept."""
    told = asked.prepare()[:1]
    watch.median("prepare", asked.prepare, 1)
    watch.median("forward", lambda: asked.evaluate(told))
    if task.answer is not None:
        torch.save(asked.evaluate(told)[0].float().cpu(), Path(task.answer))


def step(watch: Stopwatch, asked: Asked) -> None:
    """All passes of a step, and their guidance."""
    told = asked.prepare()
    watch.median("step", lambda: asked.guided(told))


def coding(watch: Stopwatch, model: Model, task: Task) -> None:
    """The VAE's part of a window: motion frames to latents, and all latents to frames."""
    lodging = model.lodging
    motion = torch.rand(1, 3, task.motion, *task.size, device=model.device) * 2 - 1
    latent = torch.randn(1, model.vae.config.z_dim, *task.latents, device=model.device)
    with model.coding() as vae:
        watch.median("encode", lambda: encode(vae, motion, lodging.tile, lodging.coded_at_once))
        watch.median("decode", lambda: decode(vae, latent, lodging.tile, lodging.coded_at_once))


def window(watch: Stopwatch, made: Engine, task: Task) -> None:
    """Whole windows, from the engine: those after the first, with everything in them."""
    spent, clocks = [], []
    for one, clock in windows(watch, made, task):
        spent.append(one)
        clocks.append(clock)
    watch.figures["first_window_seconds"] = spent[0].seconds
    watch.note("window", spent[1:])
    watch.figures["frames_per_second"] = task.new_frames / watch.figures["window_seconds"]
    later = len(clocks) - 1
    stages = {stage.value: (clocks[-1][stage] - clocks[0][stage]) / later for stage in Stage}
    watch.figures["stage_seconds"] = {name: seconds for name, seconds in stages.items() if seconds > 0}


def windows(watch: Stopwatch, made: Engine, task: Task) -> Iterator[tuple[Spent, Mapping[Stage, float]]]:
    """What each window took, and the seconds of all stages up to its end."""
    clock = StageClock()
    stream = made.stream(request(task, reads=bool(made.model.dit.config.text_dim)), clock)
    pulled: list[object] = [None]

    def pull() -> None:
        pulled[0] = next(stream, None)

    while (spent := watch.once(pull)) and pulled[0] is not None:
        yield spent, dict(clock.seconds)
