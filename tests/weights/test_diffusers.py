"""Folders that diffusers and transformers saved: found by `inspect`, loaded, and they compute what theirs compute."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    PreTrainedModel,
    UMT5Config,
    UMT5EncoderModel,
    Wav2Vec2Config,
    Wav2Vec2ForCTC,
)

from infinitetalk.core.configs import DiTConfig, SpeechConfig, TextConfig, VAEConfig, VisionConfig
from infinitetalk.models.dit import AudioDiT
from infinitetalk.models.speech import SpeechEncoder
from infinitetalk.models.text import TextEncoder
from infinitetalk.models.vae import VideoVAE
from infinitetalk.models.vision import VisionEncoder
from infinitetalk.weights import keymaps, names
from infinitetalk.weights.detect.collect import collect
from infinitetalk.weights.detect.unit import Unit
from infinitetalk.weights.load import assemble, build
from infinitetalk.weights.read import read_tensors

SAVED = Path(__file__).parent / "fixtures" / "diffusers"


def _unit(folder: Path) -> Unit:
    (unit,) = collect([folder]).units
    assert unit.problem == ""
    return unit


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    """Inputs and outputs of diffusers' classes."""
    return load_file(SAVED / "expected.safetensors")


def test_diffusers_transformer(expected: dict[str, Tensor]) -> None:
    unit = _unit(SAVED / "transformer")
    config = unit.config
    assert isinstance(config, DiTConfig)
    assert (unit.grammar, config.num_heads, config.dim, config.clip_dim, config.text_dim) == (
        "Diffusers",
        2,
        24,
        20,
        16,
    )
    # Silent audio layers, as diffusers' network has none: what is added to the residual stream is zero.
    audio = {name: torch.zeros(shape) for name, shape in names.dit_audio(config).items()}
    tensors = {**read_tensors(unit.files), **audio}
    network = assemble(partial(AudioDiT, config), tensors, keymaps.DIT, dtype=torch.float32)
    given = {name.removeprefix("transformer."): value for name, value in expected.items()}
    made = network(
        given["latent"][:, :16],
        given["timestep"],
        condition=given["latent"][:, 16:],
        audio=torch.zeros(1, 5, config.audio_window, config.audio_blocks, config.audio_channels),
        text=given["text"],
        clip=given["picture"],
    )
    torch.testing.assert_close(made, given["output"], rtol=1e-4, atol=1e-4)


def test_diffusers_vae(expected: dict[str, Tensor]) -> None:
    unit = _unit(SAVED / "vae")
    assert isinstance(unit.config, VAEConfig)
    assert (unit.grammar, unit.config) == ("Diffusers", VAEConfig(dim=2))
    network = build(partial(VideoVAE, unit.config), unit.files, keymaps.VAE, dtype=torch.float32)
    with torch.no_grad():
        latents = network.encode(expected["vae.frames"])
        decoded = network.decode(network.normalise(expected["vae.latents"]))
    torch.testing.assert_close(latents, network.normalise(expected["vae.latents"]), rtol=1e-4, atol=1e-4)
    # Diffusers clamps what it decodes.
    torch.testing.assert_close(decoded.clamp(-1, 1), expected["vae.decoded"], rtol=1e-4, atol=1e-4)


M = TypeVar("M", bound=PreTrainedModel)


def _saved(make: Callable[[], M], folder: Path) -> M:
    torch.manual_seed(5)
    model = make()
    model.train(mode=False)
    model.save_pretrained(folder)
    return model


def test_transformers_text_encoder(tmp_path: Path) -> None:
    config = UMT5Config(
        vocab_size=60, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, relative_attention_num_buckets=8
    )
    theirs = _saved(lambda: UMT5EncoderModel(config), tmp_path)
    unit = _unit(tmp_path)
    assert isinstance(unit.config, TextConfig)
    ours = build(partial(TextEncoder, unit.config), unit.files, keymaps.TEXT, dtype=torch.float32)
    ids = torch.tensor([[5, 9, 33, 1]])
    with torch.no_grad():
        torch.testing.assert_close(ours.encode(ids[0].tolist()), theirs(input_ids=ids).last_hidden_state[0])


def test_transformers_picture_encoder(tmp_path: Path) -> None:
    config = CLIPVisionConfig(
        hidden_size=32, intermediate_size=128, projection_dim=16, num_hidden_layers=3, num_attention_heads=2,
        image_size=28, patch_size=14, hidden_act="gelu",
    )  # fmt: skip
    theirs = _saved(lambda: CLIPVisionModelWithProjection(config), tmp_path)
    unit = _unit(tmp_path)
    assert isinstance(unit.config, VisionConfig)
    ours = build(partial(VisionEncoder, unit.config), unit.files, keymaps.VISION, dtype=torch.float32)
    pixels = torch.randn(1, 3, 28, 28)
    with torch.no_grad():
        states = theirs(pixel_values=pixels, output_hidden_states=True).hidden_states
        torch.testing.assert_close(ours(pixels), states[-2])


def test_transformers_speech_encoder(tmp_path: Path) -> None:
    config = Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, vocab_size=20,
    )  # fmt: skip
    theirs = _saved(lambda: Wav2Vec2ForCTC(config), tmp_path)
    unit = _unit(tmp_path)
    assert isinstance(unit.config, SpeechConfig)
    assert unit.prefix == "wav2vec2."
    ours = build(partial(SpeechEncoder, unit.config), unit.files, keymaps.SPEECH, dtype=torch.float32)
    samples = torch.randn(4000)
    with torch.no_grad():
        states = theirs(samples[None], output_hidden_states=True).hidden_states
        heard = ours(samples, states[0].shape[1])
    torch.testing.assert_close(heard, torch.stack(states[1:], dim=2)[0])
