"""A model in memory: its networks, ready to be asked."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from infinitetalk.core.configs import NetConfig, TextConfig, VisionConfig
from infinitetalk.core.defaults import ModelFacts
from infinitetalk.core.errors import ModelError
from infinitetalk.core.loras import Lora
from infinitetalk.core.memory import Lodging, MemorySettings, Tier
from infinitetalk.core.stages import Stage
from infinitetalk.engine.company import Company, Nobody
from infinitetalk.engine.guests import Guest
from infinitetalk.engine.level import Level
from infinitetalk.engine.lodging import load_dit, lodge_text, stored_type
from infinitetalk.engine.loras import open_loras, told
from infinitetalk.engine.planning import plan_folder
from infinitetalk.engine.progress import Progress, StageClock
from infinitetalk.engine.protocols import SpeechSource, TextSource, VisionSource, Wave, Waveform
from infinitetalk.models.dit import AudioDiT
from infinitetalk.models.long_speech import LongFeatures, encode_long, fits
from infinitetalk.models.speech import VARIANCE_FLOOR, SpeechEncoder
from infinitetalk.models.text import TextEncoder
from infinitetalk.models.tokenizer import PromptEncoder, Tokenizer
from infinitetalk.models.vae import VideoVAE
from infinitetalk.models.vision import VisionEncoder
from infinitetalk.runtime.attention import choose_attention
from infinitetalk.runtime.device import Device
from infinitetalk.runtime.memory.lanes import release
from infinitetalk.runtime.memory.store import Store
from infinitetalk.runtime.regions import choose_eight, choose_pixels, choose_regions, coding_dtype
from infinitetalk.runtime.replay import choose_replay
from infinitetalk.weights import keymaps
from infinitetalk.weights.folder import ModelFolder, Part
from infinitetalk.weights.keymaps import KeyMap
from infinitetalk.weights.load import build

C = TypeVar("C", bound=NetConfig)
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Networks and the encoders that tell them what to make.

    An encoder that is None must be given to the `Engine` if the DiT asks for what it says.
    """

    facts: ModelFacts
    device: torch.device
    runs_on: Device | None = None
    """The device with its capabilities, which all work then keeps to."""
    dit: AudioDiT
    vae: VideoVAE
    speech: SpeechSource | None = None
    text: TextSource | None = None
    vision: VisionSource | None = None
    loras: tuple[Lora, ...] = ()
    """What was applied to the DiT."""
    lodging: Lodging = Lodging()
    store: Store | None = None
    """The DiT's blocks, if they do not stay on the device."""
    guest: Guest | None = None
    """The VAE's, if it is on the device only while it works."""
    crew: Company = Nobody()
    """The processes that share the work."""
    guidance_split: str = "auto"
    """Whether branches of guidance go to processes of their own; see `core.ranks.guidance_groups`."""

    @contextmanager
    def coding(self) -> Iterator[VideoVAE]:
        """The VAE, at work. The DiT's slots may go meanwhile: they are taken again when it goes on."""
        if self.guest is None:
            yield self.vae
            return
        if self.store is not None:
            self.store.vacate()
        with self.guest.at_work():
            yield self.vae

    def close(self) -> None:
        """Gives back the memory of blocks that move, and ends other processes; the model is of no use any more."""
        self.crew.close()
        if self.store is not None:
            self.store.close()


class Parts(NamedTuple):
    """Which encoders a process loads; the others are elsewhere."""

    speech: bool = True
    text: bool = True
    vision: bool = True


ALL_PARTS = Parts()


@dataclass(frozen=True, slots=True)
class SpeechPart:
    """The speech encoder as a `SpeechSource`."""

    encoder: SpeechEncoder
    device: torch.device
    guest: Guest | None = None

    def normalise(self, samples: Waveform) -> Waveform:
        """Zero mean and unit variance, if this encoder was trained so."""
        if not self.encoder.config.do_normalize:
            return samples
        # By one thread: waking torch's takes longer than all else of it, and a chunk of a live talk waits for that.
        centred = samples - samples.mean(axis=-1, keepdims=True, dtype=np.float64).astype(np.float32)
        variance = np.square(centred).mean(axis=-1, keepdims=True, dtype=np.float64)
        level: Waveform = centred / np.sqrt(variance + VARIANCE_FLOOR).astype(np.float32)
        return level

    def encode(self, samples: Waveform, frames: int, person: int) -> Tensor:  # noqa: ARG002 - all are heard alike
        """Samples [n] → features [frames, layers, channels]."""
        with self.guest.at_work() if self.guest else nullcontext():
            features: Tensor = self.encoder(torch.from_numpy(samples).to(self.device), frames)
            return features

    @property
    def hears_long(self) -> bool:
        """Whether pieces of a sound meet exactly in this encoder."""
        return fits(self.encoder)

    def normalise_long(self, samples: Wave) -> Wave:
        """The same for a voice on disk."""
        return Level(samples) if self.encoder.config.do_normalize else samples

    def encode_long(self, samples: Wave, frames: int) -> LongFeatures:
        """The same for a sound of any length."""

        def part(begin: int, end: int) -> Tensor:
            known = samples[begin:end]
            return torch.from_numpy(np.pad(known, (0, end - begin - len(known)))).to(self.device)

        with self.guest.at_work() if self.guest else nullcontext():
            return encode_long(self.encoder, part, frames)


@dataclass(frozen=True, slots=True)
class VisionPart:
    """The picture encoder as a `VisionSource`, on the device only while it works."""

    encoder: VisionEncoder
    guest: Guest

    def encode(self, picture: Tensor) -> Tensor:
        """See `VisionEncoder.encode`."""
        with self.guest.at_work():
            return self.encoder.encode(picture)


@dataclass(frozen=True, slots=True)
class TextPart:
    """The text encoder as a `TextSource`, read anew for each job, its layers coming from disk one after the other."""

    tokenizer: Tokenizer
    load: Callable[[], TextEncoder]
    device: torch.device

    def encode(self, prompts: Sequence[str]) -> list[Tensor]:
        """See `PromptEncoder.encode`."""
        encoder = self.load()
        store = lodge_text(encoder, Tier.DISK, self.device)
        try:
            return PromptEncoder(self.tokenizer, encoder).encode(prompts)
        finally:
            if store is not None:
                store.close()
            del encoder
            release(self.device)


def load_model(
    folder: ModelFolder,
    device: Device,
    progress: Progress | None = None,
    loras: Sequence[Lora] = (),
    *,
    memory: MemorySettings | None = None,
    lodging: Lodging | None = None,
    parts: Parts = ALL_PARTS,
) -> Model:
    """Reads the weights of a model folder, and applies LoRAs to its DiT in the order given.

    Where weights live is planned for the model's own size within the budgets of `memory`, unless `lodging` says it;
    `memory` also names the kernels.

    The DiT and the text and picture encoders compute in the device's number format, the small speech encoder in
    float32.

    Raises:
        ModelError: weights that are missing, damaged or do not fit; a LoRA that does not fit, before any is read.
        RequestError: kernels that cannot serve here.
        MachineError: memory that is too small.
    """
    listener = progress or StageClock()
    where = device.torch_device
    with listener.stage(Stage.FEATURE_EXTRACTION):
        config = folder.dit.config
        settings = memory or MemorySettings()
        kernel = choose_attention(device, settings.attention, config.dim // config.num_heads)
        regions, coded_in = choose_regions(device, settings), coding_dtype(device, settings)
        stack = open_loras(folder, loras, where)
        lodging = lodging or plan_folder(folder, device, memory, loras).lodging
        housed = load_dit(folder, device, lodging, stack, choose_eight(settings))
        housed.dit.attend_by, housed.dit.regions = kernel, regions
        housed.dit.replay = choose_replay(device, settings, housed.lodging.tier)
        for line in told(stack, housed.named_modules(), folder.loras) if stack else ():
            listener.note(line)
        keep = housed.lodging.keep_encoders
        home = where if keep else torch.device("cpu")
        vae = _network(folder.vae, VideoVAE, keymaps.VAE, coded_in, home)
        vae.compute_by(choose_pixels(device, settings))
        speech = _network(folder.speech, SpeechEncoder, keymaps.SPEECH, torch.float32, home) if parts.speech else None
        return Model(
            facts=folder.facts,
            device=where,
            runs_on=device,
            dit=housed.dit,
            loras=tuple(loras),
            vae=vae,
            speech=SpeechPart(speech, where, None if keep else Guest(speech, where)) if speech else None,
            text=_text(folder.text, config.text_len, device, keep=keep) if folder.text and parts.text else None,
            vision=_vision(folder.vision, device, keep=keep) if folder.vision and parts.vision else None,
            lodging=housed.lodging,
            store=housed.store,
            guest=None if keep else Guest(vae, where),
        )


def _text(part: Part[TextConfig], limit: int, device: Device, *, keep: bool) -> TextSource:
    if part.tokenizer is None:
        raise ModelError("the part text has no tokenizer")
    tokenizer = Tokenizer.open(part.tokenizer, limit)
    half = device.dtype == torch.float16
    where = device.torch_device if keep else torch.device("cpu")

    def load() -> TextEncoder:
        held = stored_type(part.files) if half or not keep else device.dtype
        encoder = _network(part, TextEncoder, keymaps.TEXT, held, where, keep_stored=not keep)
        if half or held != device.dtype:
            encoder.compute_in(torch.float32 if half else device.dtype)
        return encoder

    if keep:
        return PromptEncoder(tokenizer, load())
    return TextPart(tokenizer, load, device.torch_device)


def _vision(part: Part[VisionConfig], device: Device, *, keep: bool) -> VisionSource:
    if keep:
        return _network(part, VisionEncoder, keymaps.VISION, device.dtype, device.torch_device)
    encoder = _network(part, VisionEncoder, keymaps.VISION, device.dtype, torch.device("cpu"))
    return VisionPart(encoder, Guest(encoder, device.torch_device))


def _network(
    part: Part[C],
    kind: Callable[[C], M],
    keymap: KeyMap,
    dtype: torch.dtype,
    where: torch.device,
    *,
    keep_stored: bool = False,
) -> M:
    """Builds one network from its part of a model folder."""
    return build(partial(kind, part.config), part.files, keymap, dtype=dtype, device=where, keep_stored=keep_stored)
