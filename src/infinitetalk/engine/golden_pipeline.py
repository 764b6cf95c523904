"""Golden cases of whole runs: the engine in reference mode, told by precomputed text, picture and sound features."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from infinitetalk.core.configs import DiTConfig, NetConfig, VAEConfig
from infinitetalk.core.defaults import ModelDefaults, ModelFacts
from infinitetalk.core.input_json import legacy_box
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import FPS, SAMPLES_PER_FRAME, Pixels
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.golden_case import Case, Finding, network, relative
from infinitetalk.engine.model import Model
from infinitetalk.engine.protocols import Inputs, Picture, Waveform
from infinitetalk.models.dit import AudioDiT
from infinitetalk.models.vae import VideoVAE
from infinitetalk.weights import keymaps

C = TypeVar("C", bound=NetConfig)

LATENT_BOUND = 1e-3
CONDITION_BOUND = 1e-3
"""Stored in float16, which alone is 3e-4 off."""
VIDEO_BOUND = 2e-3

PROMPT, NEGATIVE = "context", "context_null"
"""Prompts that stand for generated text tokens of these names."""
TOKENS = {PROMPT: 9, NEGATIVE: 7}


@dataclass(frozen=True, slots=True)
class _Texts:
    """Generated text tokens."""

    case: Case
    width: int

    def encode(self, prompts: Sequence[str]) -> list[Tensor]:
        return [self.case.normal(prompt, TOKENS[prompt], self.width) for prompt in prompts]


@dataclass(frozen=True, slots=True)
class _Looks:
    """Generated vision tokens that know the mean colour of the picture."""

    case: Case
    tokens: int
    width: int

    def encode(self, picture: Tensor) -> Tensor:
        mean = picture.mean(dim=(0, 2, 3, 4))
        shift = mean @ self.case.normal("clip_proj", 3, self.width)
        return self.case.normal("clip_fea", 1, self.tokens, self.width) + shift


@dataclass(frozen=True, slots=True)
class _Sounds:
    """Generated features of each voice."""

    case: Case
    layers: int
    width: int

    def normalise(self, samples: Waveform) -> Waveform:
        return samples

    def encode(self, samples: Waveform, frames: int, person: int) -> Tensor:  # noqa: ARG002 - features are given
        return self.case.normal(f"audio{person + 1}", frames, self.layers, self.width)


@dataclass(frozen=True, slots=True)
class _Frames:
    """The case's picture or video."""

    frames: Picture

    @property
    def size(self) -> Pixels:
        return Pixels(*self.frames.shape[1:3])

    def frame_at(self, seconds: float) -> Picture:
        return self.frame_index(int(seconds * FPS))

    def frame_index(self, index: int) -> Picture:
        frame: Picture = self.frames[min(index, len(self.frames) - 1)]
        return frame


@dataclass(frozen=True, slots=True)
class _Files:
    """The case in the place of files."""

    case: Case

    def open(self, request: TalkRequest) -> Inputs:  # noqa: ARG002 - there is one case
        # Half a frame more than the features last: rounding down must find them all.
        lengths = (frames * SAMPLES_PER_FRAME + SAMPLES_PER_FRAME // 2 for frames in self.case.meta["audio_lengths"])
        voices = tuple(np.zeros(length, dtype=np.float32) for length in lengths)
        return Inputs(_Frames(self.case.tensors["source"].numpy()), voices)


@dataclass(frozen=True, slots=True)
class _Noise:
    """The case's starting noise."""

    case: Case

    def __call__(self, seed: int, window: int, shape: tuple[int, ...]) -> Tensor:  # noqa: ARG002 - given, not drawn
        return self.case.tensors[f"noise{window}"]


def pipeline(case: Case) -> Iterator[Finding]:
    """Runs a case and compares each window's conditioning and latents, and the video."""
    shown: list[Tensor] = []
    for window in _engine(case).stream(_request(case)):
        shown.append(window.frames)
        for name, found, bound in (
            ("y", window.condition, CONDITION_BOUND),
            ("latent", window.latent, LATENT_BOUND),
        ):
            expected = case.tensors[f"{name}{window.index}"]
            yield Finding(f"{name}{window.index}", relative(found, expected), bound)
    video, expected = torch.cat(shown, dim=1), case.tensors["video"]
    error = float((video - expected.float()).abs().mean()) if video.shape == expected.shape else math.inf
    yield Finding("video", error, VIDEO_BOUND)


def _engine(case: Case) -> Engine:
    config = DiTConfig.read(case.meta["dit_config"])
    codec = VAEConfig.read(case.meta["vae"])
    table = {float(ratio): Pixels(*size) for ratio, size in case.meta["buckets"].items()}
    facts = ModelFacts(
        name=case.name,
        defaults=ModelDefaults(size="0"),
        buckets={"0": table},
        has_text=config.text_dim > 0,
        max_people=max(2, int(case.meta["people"])),
    )
    model = Model(
        facts=facts,
        device=torch.device("cpu"),
        dit=case.quarters.lodge(network(lambda: AudioDiT(config), shapes_of(AudioDiT, config), case.seed, keymaps.DIT)),
        vae=network(lambda: VideoVAE(codec), shapes_of(VideoVAE, codec), case.seed, keymaps.VAE),
    )
    return Engine(
        model,
        media=_Files(case),
        text=_Texts(case, config.text_dim),
        vision=_Looks(case, config.clip_tokens, config.clip_dim),
        speech=_Sounds(case, config.audio_blocks, config.audio_channels),
        noise=_Noise(case),
    )


def shapes_of(kind: Callable[[C], nn.Module], config: C) -> Mapping[str, tuple[int, ...]]:
    """Names and shapes of a network's parameters, which these two networks share with their checkpoints."""
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in kind(config).state_dict().items()}


def _request(case: Case) -> TalkRequest:
    meta, people = case.meta, int(case.meta["people"])
    source = Path(f"{case.name}.source")
    still = len(case.tensors["source"]) == 1
    # The reference looks at boxes for two people only.
    boxes = tuple(legacy_box(box) for box in meta["bbox"].values()) if meta["bbox"] and people == 2 else ()
    return TalkRequest(
        model=case.name,
        image=source if still else None,
        video=None if still else source,
        audio=tuple(Path(f"{case.name}.person{index + 1}") for index in range(people)),
        boxes=boxes,
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        color_strength=float(meta["color_correction_strength"]),
        duration=meta["max_frames"] / FPS,
        mode="clip" if meta["max_frames"] == meta["frame_num"] else "streaming",
        window_frames=int(meta["frame_num"]),
        motion_frames=int(meta["motion_frames"]),
        steps=int(meta["steps"]),
        shift=float(meta["shift"]),
        text_scale=float(meta["text_guidance_scale"]),
        audio_scale=float(meta["audio_guidance_scale"]),
        apg=bool(meta["apg"]),
        reference=True,
    )
