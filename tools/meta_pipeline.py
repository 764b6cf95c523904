"""The whole pipeline on the meta device: what each stage of a job holds at its peak, from the code that will run.

python -m tools.meta_pipeline [--dtype float16] [--frames-at-once 3] [--tile 384] [--size 640x640] [--people 1]

Nothing is computed, so networks of full size take seconds and no memory. Weights are there before and are not counted;
the encoders, which run once and alone, are stood in for.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from infinitetalk.core.configs import DiTConfig, VAEConfig
from infinitetalk.core.defaults import STANDARD_BUCKETS, ModelDefaults, ModelFacts
from infinitetalk.core.memory import Lodging
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import SAMPLES_PER_FRAME, parse_size
from infinitetalk.core.stages import Stage
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.model import Model
from infinitetalk.engine.progress import StageClock
from infinitetalk.media.drift import Drift
from infinitetalk.media.inputs import Inputs, Waveform
from infinitetalk.media.picture import StillSource
from infinitetalk.models.dit import AudioDiT
from infinitetalk.models.vae import VideoVAE
from tools.live_memory import LiveMemory

META = torch.device("meta")
GIB = 2**30


class Encoders:
    """Answers of the right shapes for every encoder, and a picture and voices for whatever a request names."""

    def __init__(self, config: DiTConfig, people: int, frames: int, tokens: tuple[int, int]) -> None:
        self._config, self._people, self._frames, self._tokens = config, people, frames, tokens

    def open(self, _request: TalkRequest) -> Inputs:
        """See `MediaSource`."""
        voice = np.zeros(self._frames * SAMPLES_PER_FRAME, dtype=np.float32)
        return Inputs(StillSource(np.zeros((64, 64, 3), dtype=np.uint8)), (voice,) * self._people)

    def normalise(self, samples: Waveform) -> Waveform:
        """See `SpeechSource`."""
        return samples


class Speech(Encoders):
    """Stands in for the speech encoder."""

    def encode(self, _samples: Waveform, frames: int, _person: int) -> Tensor:
        """See `SpeechSource`."""
        return torch.zeros(frames, self._config.audio_blocks, self._config.audio_channels)


class Text(Encoders):
    """Stands in for the text encoder."""

    def encode(self, _prompts: Sequence[str]) -> list[Tensor]:
        """See `TextSource`."""
        return [torch.zeros(count, self._config.text_dim) for count in self._tokens]  # read in main memory


class Vision(Encoders):
    """Stands in for the picture encoder."""

    def encode(self, _picture: Tensor) -> Tensor:
        """See `VisionSource`."""
        return torch.empty(1, self._config.clip_tokens, self._config.clip_dim, device=META)


class LiveStages(StageClock):
    """A clock that also books the most bytes that lived in each stage."""

    def __init__(self, memory: LiveMemory) -> None:
        self.bytes: dict[Stage, int] = {}
        self._memory = memory
        super().__init__()

    def _settle(self) -> None:
        super()._settle()
        if self._open:
            stage = self._open[-1]
            self.bytes[stage] = max(self.bytes.get(stage, 0), self._memory.peak)
        self._memory.peak = self._memory.now


def stage_peaks(
    config: DiTConfig,
    vae: VAEConfig,
    *,
    dtype: torch.dtype,
    size: str,
    frames: int = 81,
    motion: int = 9,
    people: int = 1,
    lodging: Lodging,
    tokens: tuple[int, int] = (512, 512),
    windows: int = 2,
    steps: int = 2,
) -> dict[Stage, int]:
    """The most bytes of tensors, weights left out, that live in each stage of a job of two windows.

    Args:
        tokens: of prompt and negative prompt.
    """
    with META:
        net, coder = AudioDiT(config).to(dtype).eval(), VideoVAE(vae).eval()
    net.frames_at_once = lodging.frames_at_once
    length = frames + (windows - 1) * (frames - motion)
    given = (config, people, length, tokens)
    facts = ModelFacts(
        name="meta", has_text=bool(config.text_dim), max_people=2, buckets=STANDARD_BUCKETS,
        defaults=ModelDefaults(size=size, steps=steps, window_frames=frames, motion_frames=motion),
    )  # fmt: skip
    model = Model(facts=facts, device=META, dit=net, vae=coder, lodging=lodging)
    engine = Engine(
        model, media=Encoders(*given), text=Text(*given), vision=Vision(*given), speech=Speech(*given),
        noise=lambda _seed, _index, shape: torch.empty(shape),
    )  # fmt: skip
    request = TalkRequest(model="meta", image=Path("picture"), audio=(Path("voice"),) * people, size=size)
    memory = LiveMemory()
    clock = LiveStages(memory)
    # The meta device has no autocast to switch off, and its tensors cannot leave it.
    with (
        patch.object(torch, "autocast", lambda *_, **__: nullcontext()),
        # Numbers are read from tensors, which have none here.
        patch("infinitetalk.engine.engine.measure_drift", lambda *_, **__: Drift(0.0, 0.0, 0.0, None, None)),
        patch("infinitetalk.engine.engine.finite", lambda frames, _number: frames),
        patch.object(Tensor, "cpu", lambda self: self.new_empty(0) if self.is_meta else self),
        memory,
    ):
        for _window in engine.stream(request, clock):
            pass
    return clock.bytes


def main(words: Sequence[str] | None = None) -> None:
    """Prints GiB per stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=["bfloat16", "float16"], default="bfloat16")
    parser.add_argument("--size", default="640x640")
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--people", type=int, default=1)
    parser.add_argument("--layers", type=int, default=40)
    parser.add_argument("--frames-at-once", type=int)
    parser.add_argument("--tile", type=int)
    parser.add_argument("--coded-at-once", type=int)
    parser.add_argument("--tokens", type=int, nargs=2, default=(512, 512))
    given = parser.parse_args(words)
    parse_size(given.size)
    found = stage_peaks(
        replace(DiTConfig(), num_layers=given.layers), VAEConfig(), dtype=getattr(torch, given.dtype), size=given.size,
        frames=given.frames, people=given.people, tokens=tuple(given.tokens),
        lodging=Lodging(frames_at_once=given.frames_at_once, tile=given.tile, coded_at_once=given.coded_at_once),
    )  # fmt: skip
    for stage, count in found.items():
        sys.stdout.write(f"{stage.value:<20} {count / GIB:6.2f} GiB\n")


if __name__ == "__main__":
    main()
