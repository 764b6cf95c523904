"""What the training tells the network of a window is what the engine tells it of the same pictures and sounds."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from infinitetalk.core.configs import EVERY, KEY_FRAMES, DiTConfig, SpeechConfig, VAEConfig
from infinitetalk.core.defaults import ModelDefaults, ModelFacts
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import Pixels
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.model import Model, SpeechPart
from infinitetalk.engine.protocols import Inputs, Picture, Waveform
from infinitetalk.models.dit import AudioDiT, Branch, Sound
from infinitetalk.models.speech import SpeechEncoder
from infinitetalk.models.vae import VideoVAE
from infinitetalk.ops.rope import Grid
from training.nano import flow
from training.nano.encode import encode_clips
from training.nano.flow import Batch, Kind, assemble
from training.nano.store import FRAMES, PEOPLE, REFERENCE, Clips
from training.nano.voices import SAMPLES_PER_FRAME, listen

SIZE, LATENTS, MOTION, STREAM = 32, 21, 9, 200
CPU = torch.device("cpu")
DIT = DiTConfig(
    text_dim=0, clip_dim=0, dim=48, ffn_dim=64, num_heads=4, num_layers=1, text_len=0, clip_tokens=0, freq_dim=32,
    audio_blocks=2, audio_channels=16, intermediate_dim=16, output_dim=16, context_tokens=4,
)  # fmt: skip
SPEECH = SpeechConfig(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32, conv_dim=(8,) * 7,
    num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=4,
)  # fmt: skip
VAE = VAEConfig(dim=8, dim_mult=(1, 1, 1, 1), num_res_blocks=1, temporal_downsample=(True, True, False))


class Listening(AudioDiT):
    """A transformer that remembers what it was told."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__(config)
        self.told: list[tuple[Tensor, Tensor, Tensor]] = []
        self.heard = torch.empty(0)

    def prepare_sounds(
        self, sounds: Sequence[tuple[Tensor, Tensor | None]], grid: Grid, *, silent: Collection[int] = ()
    ) -> list[Sound]:
        ((self.heard, _),) = sounds
        return super().prepare_sounds(sounds, grid, silent=silent)

    def evaluate(
        self, latent: Tensor, timestep: Tensor, *, condition: Tensor, branches: Sequence[Branch], **rest: Any
    ) -> list[Tensor]:
        self.told.append((latent, condition, self.heard))
        return super().evaluate(latent, timestep, condition=condition, branches=branches, **rest)


@dataclass(frozen=True)
class Memory:
    """One picture and one voice."""

    picture: Picture
    voice: Waveform

    @property
    def size(self) -> Pixels:
        return Pixels(SIZE, SIZE)

    def frame_at(self, _seconds: float) -> Picture:
        return self.picture

    def frame_index(self, _index: int) -> Picture:
        return self.picture

    def open(self, _request: TalkRequest) -> Inputs:
        return Inputs(self, (self.voice,))


@pytest.fixture(scope="module", params=KEY_FRAMES)
def model(request: pytest.FixtureRequest) -> Model:
    torch.manual_seed(0)
    config = replace(DIT, key_frame=request.param)
    vae, dit = VideoVAE(VAE).requires_grad_(False), Listening(config).requires_grad_(False)
    for network in (vae, dit):
        network.init_weights(torch.Generator().manual_seed(1))
    speech = SpeechEncoder(SPEECH).eval().requires_grad_(False)
    defaults = ModelDefaults(size="32", window_frames=FRAMES, motion_frames=MOTION, steps=1, audio_scale=1.0)
    facts = ModelFacts(
        name="small", defaults=defaults, buckets={"32": {1.0: Pixels(SIZE, SIZE)}}, has_text=False, max_people=1
    )
    return Model(facts=facts, device=CPU, dit=dit, vae=vae, speech=SpeechPart(speech, CPU))


@pytest.fixture(scope="module")
def memory() -> Memory:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (SIZE // 8, SIZE // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    # A voice that ends with the stream: the engine then hears all of it, as the training does.
    return Memory(picture, rng.standard_normal(STREAM * SAMPLES_PER_FRAME).astype(np.float32) * 0.1)


def engine_windows(
    model: Model, memory: Memory, motion: float = 1.0
) -> tuple[list[tuple[Tensor, Tensor, Tensor]], Tensor]:
    """What the network was told of two windows, and the frames of the first one."""
    assert isinstance(model.dit, Listening)
    model.dit.told.clear()
    request = TalkRequest(image=Path("picture"), audio=(Path("voice"),), duration=(2 * FRAMES - MOTION) / 25,
                          color_strength=0.0, motion=motion)  # fmt: skip
    able = replace(model, facts=replace(model.facts, motion=1.0))
    windows = list(Engine(able, media=memory).stream(request))
    assert len(windows) == 2
    return model.dit.told, windows[0].frames


def training_batch(
    model: Model, memory: Memory, frames: Tensor, reference: Picture, start: int, *, strength: float = 1.0
) -> Batch:
    """Eight samples of a clip with these frames [F, H, W, 3], this extra reference picture and this place in time."""
    pixels = np.empty((1, FRAMES + 1, SIZE, SIZE, 3), np.uint8)
    pixels[0, :FRAMES], pixels[0, REFERENCE] = frames.numpy(), reference
    boxes = np.zeros((1, PEOPLE, 4), np.float32)
    place, jaw = np.full((1, PEOPLE), start), np.zeros((1, PEOPLE, FRAMES + 1), np.float32)
    clips = Clips(pixels, np.ones(1, np.int64), boxes, boxes, boxes, np.zeros((1, PEOPLE), np.int64), place, jaw,
                  np.full(1, strength, np.float32))  # fmt: skip
    assert isinstance(model.speech, SpeechPart)
    voices = listen(model.speech.encoder, [torch.from_numpy(memory.voice)], dtype=torch.float32)
    kind = Kind(1, LATENTS, 8)
    index = torch.zeros(kind.batch, dtype=torch.long)
    draws = torch.Generator().manual_seed(0)
    latents = encode_clips(model.vae, clips, CPU)
    latents = latents.shown_always() if model.dit.config.key_frame == EVERY else latents
    return assemble(index, kind, latents, voices, draws, dropout=0.0)


def as_bytes(frames: Tensor) -> Tensor:
    """[3, F, H, W] in [-1, 1] to bytes [F, H, W, 3]."""
    return ((frames + 1) * 127.5).round().byte().permute(1, 2, 3, 0)


def close(made: Tensor, told: Tensor, bound: float) -> bool:
    assert made.shape == told.shape
    return float((made - told).norm() / told.norm()) < bound


def agree(batch: Batch, told: Sequence[Tensor], motion: int) -> None:
    """Some sample of the batch (others are worn on purpose) has the latents, and all have what else was told."""
    latent, condition, audio = told
    # The training keeps latents in bfloat16.
    assert all(close(sample, condition[0], 0.01) for sample in batch.condition)
    assert all(close(sample, audio, 1e-4) for sample in batch.audio)
    kept = batch.weight[:, 0, :, 0, 0] == 0
    assert kept[:, :motion].all()
    assert not kept[:, motion:].any()
    assert any(close(sample[:, :motion], latent[0, :, :motion], 0.03) for sample in batch.noisy)


STRENGTHS = pytest.mark.parametrize("strength", [0.0, 1.0, 1.75])


@STRENGTHS
def test_first_window(model: Model, memory: Memory, monkeypatch: pytest.MonkeyPatch, strength: float) -> None:
    monkeypatch.setattr(flow, "FIRST_SHARE", 1.0)
    told, _ = engine_windows(model, memory, strength)
    video = torch.from_numpy(memory.picture).expand(FRAMES, -1, -1, -1)
    other = 255 - memory.picture
    agree(training_batch(model, memory, video, other, 0, strength=strength), told[0], 1)
    mask = told[0][1][0, :4]
    assert (mask[:, 0] == 1).all() and (mask[:, 1:] == strength - 1).all()


@STRENGTHS
def test_window_that_goes_on(model: Model, memory: Memory, monkeypatch: pytest.MonkeyPatch, strength: float) -> None:
    monkeypatch.setattr(flow, "FIRST_SHARE", 0.0)
    monkeypatch.setattr(flow, "MOTION_LATENTS", (3,))
    told, shown = engine_windows(model, memory, strength)
    video = torch.full((FRAMES, SIZE, SIZE, 3), 99, dtype=torch.uint8)
    video[:MOTION] = as_bytes(shown[:, -MOTION:])
    agree(training_batch(model, memory, video, memory.picture, FRAMES - MOTION, strength=strength), told[1], 3)
