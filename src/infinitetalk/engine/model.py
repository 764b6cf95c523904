"""A model in memory: its networks, ready to be asked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from infinitetalk.core.configs import NetConfig, TextConfig
from infinitetalk.core.defaults import ModelFacts
from infinitetalk.core.errors import ModelError
from infinitetalk.core.loras import Lora
from infinitetalk.core.stages import Stage
from infinitetalk.engine.loras import open_loras, told
from infinitetalk.engine.progress import Progress, StageClock
from infinitetalk.engine.protocols import SpeechSource, TextSource, VisionSource, Waveform
from infinitetalk.models.dit import AudioDiT
from infinitetalk.models.speech import SpeechEncoder, normalise
from infinitetalk.models.text import TextEncoder
from infinitetalk.models.tokenizer import PromptEncoder, Tokenizer
from infinitetalk.models.vae import VideoVAE
from infinitetalk.models.vision import VisionEncoder
from infinitetalk.runtime.device import Device
from infinitetalk.weights import keymaps
from infinitetalk.weights.folder import ModelFolder, Part
from infinitetalk.weights.keymaps import KeyMap
from infinitetalk.weights.load import Amendments, build

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


@dataclass(frozen=True, slots=True)
class SpeechPart:
    """The speech encoder as a `SpeechSource`."""

    encoder: SpeechEncoder
    device: torch.device

    def normalise(self, samples: Waveform) -> Waveform:
        """Zero mean and unit variance, if this encoder was trained so."""
        if not self.encoder.config.do_normalize:
            return samples
        level: Waveform = normalise(torch.from_numpy(samples)).numpy()
        return level

    def encode(self, samples: Waveform, frames: int, person: int) -> Tensor:  # noqa: ARG002 - all are heard alike
        """Samples [n] → features [frames, layers, channels]."""
        features: Tensor = self.encoder(torch.from_numpy(samples).to(self.device), frames)
        return features


def load_model(
    folder: ModelFolder, device: Device, progress: Progress | None = None, loras: Sequence[Lora] = ()
) -> Model:
    """Reads all weights of a model folder, and applies LoRAs to its DiT in the order given.

    The DiT and the text and picture encoders compute in the device's number format. The VAE, whose small errors add up
    from window to window, and the small speech encoder stay in float32.

    Raises:
        ModelError: weights that are missing, damaged or do not fit; a LoRA that does not fit, before any is read.
    """
    listener = progress or StageClock()
    where, low, full = device.torch_device, device.dtype, torch.float32
    with listener.stage(Stage.FEATURE_EXTRACTION):
        stack = open_loras(folder, loras, where)
        dit = _network(folder.dit, AudioDiT, keymaps.DIT, low, where, amendments=stack)
        for line in told(stack, dit) if stack else ():
            listener.note(line)
        return Model(
            facts=folder.facts,
            device=where,
            runs_on=device,
            dit=dit,
            vae=_network(folder.vae, VideoVAE, keymaps.VAE, full, where),
            speech=SpeechPart(_network(folder.speech, SpeechEncoder, keymaps.SPEECH, full, where), where),
            text=_text(folder.text, folder.dit.config.text_len, low, where) if folder.text else None,
            vision=_network(folder.vision, VisionEncoder, keymaps.VISION, low, where) if folder.vision else None,
            loras=tuple(loras),
        )


def _text(part: Part[TextConfig], limit: int, dtype: torch.dtype, where: torch.device) -> PromptEncoder:
    if part.tokenizer is None:
        raise ModelError("the part text has no tokenizer")
    tokenizer = Tokenizer.open(part.tokenizer, limit)
    return PromptEncoder(tokenizer, _network(part, TextEncoder, keymaps.TEXT, dtype, where))


def _network(
    part: Part[C],
    kind: Callable[[C], M],
    keymap: KeyMap,
    dtype: torch.dtype,
    where: torch.device,
    *,
    amendments: Amendments | None = None,
) -> M:
    """Builds one network from its part of a model folder."""
    return build(partial(kind, part.config), part.files, keymap, dtype=dtype, device=where, amendments=amendments)
