"""A model in memory for a benchmark: one that has a folder, or the 14B model's shapes with random weights."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from infinitetalk.bench.random_weights import draw, fill, hollow
from infinitetalk.bench.task import WORDS, Task, network_of
from infinitetalk.core import footprint
from infinitetalk.core.configs import SpeechConfig, VAEConfig, VisionConfig
from infinitetalk.core.defaults import STANDARD_BUCKETS, ModelDefaults, ModelFacts
from infinitetalk.core.errors import MachineError
from infinitetalk.core.memory import MemorySettings, Tier
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import FPS, SAMPLES_PER_FRAME
from infinitetalk.core.units import GIB
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.model import Model, SpeechPart
from infinitetalk.media.inputs import Inputs, Picture, Waveform
from infinitetalk.media.picture import StillSource
from infinitetalk.models.dit import AudioDiT
from infinitetalk.models.dit_blocks import Block
from infinitetalk.models.speech import SpeechEncoder
from infinitetalk.models.vae import VideoVAE
from infinitetalk.models.vision import VisionEncoder
from infinitetalk.runtime.attention import choose_attention
from infinitetalk.runtime.device import DTYPES, Device
from infinitetalk.runtime.regions import choose_eight, choose_pixels, choose_regions, coding_dtype
from infinitetalk.runtime.replay import choose_replay

VAE_WIDTH = 96


@dataclass(frozen=True, slots=True)
class RandomText:
    """A `TextSource` of random tokens: texts are read once for a video, so their encoder is no part of a window."""

    width: int

    def encode(self, prompts: Sequence[str]) -> list[Tensor]:
        """See `TextSource`."""
        return [draw(f"text {text}", (WORDS, self.width), torch.float32, torch.device("cpu")) for text in prompts]


@dataclass(frozen=True, slots=True)
class InMemory:
    """A picture and a voice that are in memory, whatever a request names."""

    picture: Picture
    voice: Waveform

    def open(self, _request: TalkRequest) -> Inputs:
        """See `MediaSource`."""
        return Inputs(StillSource(self.picture), (self.voice,))


def media(task: Task, windows: int) -> InMemory:
    """A picture of noise in the video's size, and a voice that lasts so many windows and is never silent."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (task.size[0] // 16, task.size[1] // 16, 3), dtype=np.uint8)
    frames = task.frames + (windows - 1) * task.new_frames
    voice = rng.standard_normal(frames * SAMPLES_PER_FRAME).astype(np.float32)
    times = np.arange(len(voice), dtype=np.float32) / (FPS * SAMPLES_PER_FRAME)
    voice = 0.1 * np.sin(2 * np.pi * 140 * times) * (1 + np.sin(2 * np.pi * 3 * times)) + 0.01 * voice
    return InMemory(coarse.repeat(16, axis=0).repeat(16, axis=1), voice.astype(np.float32))


def request(task: Task, *, reads: bool) -> TalkRequest:
    """What a whole window is made of."""
    return TalkRequest(
        model=task.model or "random",
        image=Path("picture"),
        audio=(Path("voice"),),
        size=str(task.pixels),
        window_frames=task.frames,
        motion_frames=task.motion,
        steps=task.steps,
        text_scale=task.text_scale if reads else None,
        audio_scale=task.audio_scale,
        window_end="full",
    )


def engine(task: Task, device: Device, windows: int) -> Engine:
    """An engine that makes so many windows from memory.

    Raises:
        ModelError: a model that cannot be read.
        MachineError: a machine that is too small.
    """
    memory = MemorySettings(**task.memory)
    if task.model is not None:
        dtype = next(name for name, known in DTYPES.items() if known == device.dtype)
        known = Engine.from_pretrained(task.model, task.device, dtype, memory=memory)
        return Engine(known.model, media=media(task, windows))
    model = random_model(task, device, memory)
    return Engine(model, media=media(task, windows), text=RandomText(model.dit.config.text_dim))


def random_dit(task: Task, device: Device, memory: MemorySettings) -> AudioDiT:
    """The transformer with random weights on the device, at work as a loaded one is; made block by block.

    Raises:
        RequestError: kernels that cannot serve here.
    """
    config, eight = network_of(task), choose_eight(memory)
    dit = fill(hollow(lambda: AudioDiT(replace(config, num_layers=0))), device.dtype, device.torch_device)
    dit.config = config
    dit.attend_by = choose_attention(device, memory.attention, config.dim // config.num_heads)
    dit.regions = choose_regions(device, memory)
    dit.replay = choose_replay(device, memory, Tier.RESIDENT)
    for number in range(config.num_layers):
        block = fill(hollow(lambda: Block(config)), device.dtype, device.torch_device, f"blocks.{number}.")
        if eight is not None:
            block.hold_eight(eight)
        dit.blocks.append(block)
    return dit.eval()


def random_vae(task: Task, device: Device, memory: MemorySettings) -> VideoVAE:
    """The VAE with random weights, in the format that a loaded one has."""
    config = VAEConfig(dim=task.vae_width or VAE_WIDTH)
    vae = fill(hollow(lambda: VideoVAE(config)), coding_dtype(device, memory), device.torch_device)
    vae.compute_by(choose_pixels(device, memory))
    return vae


def _check_room(task: Task, device: Device) -> None:
    """Refuses what cannot fit, before it is made.

    Raises:
        MachineError: how much is needed, and what would fit.
    """
    need = footprint.transformer(network_of(task)).count * device.dtype.itemsize
    free = device.free_main_memory if device.free_memory is None else device.free_memory
    if need > free:
        raise MachineError(
            f"random weights take {need / GIB:.1f} GiB here and {free / GIB:.1f} are free; --model nano would work, or "
            f"fewer --blocks"
        )


def random_model(task: Task, device: Device, memory: MemorySettings) -> Model:
    """All networks that work in each window, with random weights, resident on the device.

    Raises:
        MachineError: settings of memory that random networks have no use for.
    """
    if memory.tier is not None or memory.num_persistent_param_in_dit is not None:
        raise MachineError("random weights stay on the device; leave --memory away, or name a model")
    _check_room(task, device)
    where, small = device.torch_device, task.heads is not None
    dit = random_dit(task, device, memory)
    with torch.device(where):
        speech = SpeechEncoder(SpeechConfig()).eval().requires_grad_(False)
        looks = VisionConfig(num_layers=2) if small else VisionConfig()
        vision = VisionEncoder(looks).eval().requires_grad_(False).to(device.dtype)
    facts = ModelFacts(name="random", defaults=ModelDefaults(), buckets=STANDARD_BUCKETS, has_text=True, max_people=4)
    return Model(
        facts=facts,
        device=where,
        runs_on=device,
        dit=dit,
        vae=random_vae(task, device, memory),
        speech=SpeechPart(speech, where),
        vision=vision,
    )
