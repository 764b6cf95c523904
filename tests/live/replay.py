"""The recorded run of SoulX-FlashTalk's own loop (see `tools/record_flashtalk.py`), as an engine of ours."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infinitetalk.core.configs import DiTConfig, SpeechConfig, VAEConfig
from infinitetalk.core.defaults import ModelDefaults, ModelFacts
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import Pixels
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.golden_case import Case, network
from infinitetalk.engine.golden_pipeline import shapes_of
from infinitetalk.engine.model import Model, SpeechPart
from infinitetalk.engine.protocols import Waveform
from infinitetalk.models.dit import AudioDiT
from infinitetalk.models.speech import SpeechEncoder
from infinitetalk.models.vae import VideoVAE
from infinitetalk.weights import keymaps
from tests.engine.inputs import Frames, Memory

CASE = Path(__file__).parent / "flashtalk.safetensors"


@dataclass(frozen=True)
class Texts:
    """Generated text tokens."""

    case: Case

    def encode(self, prompts: Sequence[str]) -> list[Tensor]:
        return [self.case.normal("context", 9, 48) for _ in prompts]


@dataclass(frozen=True)
class Looks:
    """Generated vision tokens."""

    case: Case

    def encode(self, picture: Tensor) -> Tensor:
        assert picture.shape[:3] == (1, 3, 1)
        return self.case.normal("clip_fea", 1, 257, 1280)


@dataclass(frozen=True)
class Noise:
    """Every draw of the recorded loop, by name."""

    case: Case

    def __call__(self, seed: int, window: int, shape: tuple[int, ...]) -> Tensor:
        assert seed == self.case.seed
        return torch.stack([self.case.normal(f"noise{window}.{step}", *shape[1:]) for step in range(shape[0])])


def request_of(case: Case, **changes: Any) -> TalkRequest:
    """The input; but for seams, which that loop does not have, the numbers are live talk's own."""
    height, width = case.meta["size"]
    values: dict[str, Any] = {
        "image": "source",
        "audio": "-",
        "seam_frames": 0,
        "size": f"{width}x{height}",
        "seed": case.seed,
    }
    return TalkRequest(**(values | changes))


def sound_of(case: Case) -> Waveform:
    """All samples that arrive."""
    samples: Waveform = (0.1 * case.normal("sound", case.meta["samples"])).numpy()
    return samples


def engine_of(case: Case) -> Engine:
    """Our networks with the case's weights, loaded through the key maps of published files."""
    meta, cpu = case.meta, torch.device("cpu")
    dit, vae, heard = (
        kind.read(meta[name])
        for kind, name in ((DiTConfig, "dit_config"), (VAEConfig, "vae"), (SpeechConfig, "speech"))
    )
    assert isinstance(dit, DiTConfig) and isinstance(vae, VAEConfig) and isinstance(heard, SpeechConfig)
    speech = network(lambda: SpeechEncoder(heard), meta["speech_parameters"], case.seed, keymaps.SPEECH)
    model = Model(
        facts=ModelFacts(name="tiny", defaults=ModelDefaults(), buckets={}, has_text=True, max_people=1),
        device=cpu,
        dit=network(lambda: AudioDiT(dit), shapes_of(AudioDiT, dit), case.seed, keymaps.DIT),
        vae=network(lambda: VideoVAE(vae), shapes_of(VideoVAE, vae), case.seed, keymaps.VAE),
        speech=SpeechPart(speech, cpu),
    )
    media = Memory(Frames(case.tensors["source"][None].numpy()), (sound_of(case),))
    assert media.source.size == Pixels(64, 72)
    return Engine(model, media=media, text=Texts(case), vision=Looks(case), noise=Noise(case))
