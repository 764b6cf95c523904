"""Arithmetic of weights, operations and memory against the networks themselves; big ones are on the meta device."""

import json
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from infinitetalk.core import footprint
from infinitetalk.core.calibration import constant
from infinitetalk.core.configs import DiTConfig, SpeechConfig, TextConfig, VAEConfig, VisionConfig
from infinitetalk.core.sizes import Latents, Pixels
from infinitetalk.core.units import GIB
from infinitetalk.models.dit import Added, AudioDiT, Branch
from infinitetalk.models.dit_blocks import USES
from infinitetalk.models.speech import SpeechEncoder
from infinitetalk.models.text import TextEncoder
from infinitetalk.models.vae import VideoVAE
from infinitetalk.models.vision import VisionEncoder
from tools import make_tiny
from tools.live_memory import peak_bytes

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
DITS = {"full": DiTConfig(), "tiny": make_tiny.DIT, "no words": DiTConfig(text_dim=0, clip_dim=0, num_layers=3)}


def count(net: nn.Module) -> int:
    return sum(weight.numel() for weight in net.parameters())


@pytest.mark.parametrize("config", DITS.values(), ids=DITS)
def test_the_transformers_weights_are_counted_exactly(config: DiTConfig) -> None:
    with torch.device("meta"):
        net = AudioDiT(config)
    once = sum(
        weight.numel()
        for name, weight in net.blocks[0].named_parameters()
        if name.startswith(tuple(f"{use}." for use in USES))
    )
    assert footprint.block_once(config).count == once
    assert footprint.block_step(config).count == count(net.blocks[0]) - once
    assert footprint.transformer(config).count == count(net)


@pytest.mark.parametrize("config", [VAEConfig(), make_tiny.VAE, VAEConfig(dim=8, num_res_blocks=1)], ids=str)
def test_the_vaes_weights_are_counted_exactly(config: VAEConfig) -> None:
    with torch.device("meta"):
        assert footprint.autoencoder(config).count == count(VideoVAE(config))


def test_the_encoders_weights_are_counted() -> None:
    with torch.device("meta"):
        assert footprint.text_encoder(TextConfig()).count == count(TextEncoder(TextConfig()))
        assert footprint.picture_encoder(VisionConfig()).count == count(VisionEncoder(VisionConfig()))
        speech = count(SpeechEncoder(SpeechConfig()))
    assert footprint.speech_encoder(SpeechConfig()).count == pytest.approx(speech, rel=1e-3)


@pytest.mark.parametrize("encode", [True, False])
def test_the_vaes_operations_are_those_that_torch_counts(encode: bool) -> None:
    config, size = make_tiny.VAE, Pixels(64, 96)
    net = VideoVAE(config)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        if encode:
            net.encode(torch.zeros(1, 3, 9, *size))
        else:
            net.decode(torch.zeros(1, 16, *Latents.of(9, size)))
    assert footprint.coding_operations(config, size, 9, encode=encode) == pytest.approx(
        counter.get_total_flops(), rel=0.01
    )


def evaluate(
    config: DiTConfig,
    size: Latents,
    dtype: torch.dtype,
    *,
    people: int,
    branches: int,
    at_once: int | None,
    device: str,
    kept: int = 0,
) -> tuple[int, int]:
    """Bytes at the peak of one step of the transformer beside weights, keys and values; and operations."""
    with torch.device(device), torch.inference_mode(), patch.object(torch, "autocast", lambda *_, **__: nullcontext()):
        net = AudioDiT(config).to(dtype).eval()
        net.frames_at_once = at_once
        latent, condition = torch.zeros(1, 16, *size), torch.zeros(1, 20, *size)
        audio = torch.zeros(people, 4 * (size.frames - 1) + 1, 5, config.audio_blocks, config.audio_channels)
        masks = torch.zeros(people + 1, size.height, size.width)
        (text,) = net.prepare_texts([torch.zeros(1, config.text_len, config.text_dim)])
        picture = net.prepare_picture(torch.zeros(1, config.clip_tokens, config.clip_dim))
        (sound,) = net.prepare_sounds([(audio, masks)], net.grid(latent))
        told = [Branch(text, picture, sound)] * branches
        time = torch.zeros(())
        counter = FlopCounterMode(display=False)
        if device == "meta":
            added = Added(kept) if kept else None

            def steps() -> None:
                """As many as fill what is kept, one more, and one that asks no block."""
                for ahead in (*(None,) * (kept + 1), *(float(kept - 1),) * bool(kept)):
                    net.evaluate(latent, time, condition=condition, branches=told, added=added, ahead=ahead)

            return peak_bytes(steps), 0
        with counter:
            net.evaluate(latent, time, condition=condition, branches=told)
    return 0, int(counter.get_total_flops())


@pytest.mark.parametrize("people", [1, 2])
def test_the_transformers_operations_are_those_that_torch_counts(people: int) -> None:
    config, size = make_tiny.DIT, Pixels(64, 96)
    latents = Latents.of(9, size)
    _, operations = evaluate(config, latents, torch.float32, people=people, branches=1, at_once=None, device="cpu")
    predicted = footprint.forward_operations(config, size, 9, people)
    # Patches, time and head are left out: of no weight in a network of full size.
    assert predicted == pytest.approx(operations, rel=0.12)


@pytest.mark.parametrize(
    ("dtype", "people", "branches", "at_once"),
    [
        (torch.bfloat16, 1, 1, None),
        (torch.bfloat16, 2, 3, None),
        (torch.bfloat16, 1, 3, 4),
        (torch.bfloat16, 1, 3, 3),
        (torch.bfloat16, 2, 1, 1),
        (torch.float16, 1, 3, None),
        (torch.float16, 2, 1, None),
        (torch.float16, 2, 3, 4),
        (torch.float16, 1, 1, 1),
    ],
)
@pytest.mark.parametrize("size", [Pixels(640, 640), pytest.param(Pixels(832, 1088), marks=pytest.mark.full)], ids=str)
def test_what_a_step_holds_is_what_lives(
    dtype: torch.dtype, people: int, branches: int, at_once: int | None, size: Pixels
) -> None:
    """The full-size network with two of its blocks, at the real sizes."""
    config, latents = DiTConfig(num_layers=2), Latents.of(81, size)
    live, _ = evaluate(config, latents, dtype, people=people, branches=branches, at_once=at_once, device="meta")
    wide = dtype == torch.float16
    predicted = footprint.forward_numbers(
        config, size, 81, at_once=at_once, branches=branches, people=people, wide=wide
    )
    assert predicted == pytest.approx(live, rel=0.05)


@pytest.mark.parametrize("kept", [1, 2])
@pytest.mark.parametrize(
    ("dtype", "branches", "at_once"),
    [
        (torch.bfloat16, 3, None),
        (torch.bfloat16, 3, 3),
        pytest.param(torch.bfloat16, 2, 1, marks=pytest.mark.full),
        pytest.param(torch.float16, 3, 1, marks=pytest.mark.full),
    ],
)
def test_what_a_step_cache_holds_is_what_lives(
    dtype: torch.dtype, branches: int, at_once: int | None, kept: int
) -> None:
    config, size = DiTConfig(num_layers=2), Pixels(640, 640)
    latents, wide = Latents.of(81, size), dtype == torch.float16
    live, _ = evaluate(config, latents, dtype, people=1, branches=branches, at_once=at_once, device="meta", kept=kept)
    predicted = footprint.forward_numbers(
        config, size, 81, at_once=at_once, branches=branches, people=1, wide=wide, kept=kept
    )
    assert predicted == pytest.approx(live, rel=0.05)


def test_streaming_in_fp8_needs_less_than_six_gib_on_the_gpu() -> None:
    """All that the GPU holds while it denoises 640x640, 81 frames, with three branches: three frames at a time."""
    config, size = DiTConfig(), Pixels(640, 640)
    live, _ = evaluate(
        DiTConfig(num_layers=2), Latents.of(81, size), torch.bfloat16, people=1, branches=3, at_once=3, device="meta"
    )
    slots = 2 * (footprint.block_step(config).matrices + 2 * footprint.block_step(config).rest)
    around = 2 * footprint.around_blocks(config).count
    told = 2 * footprint.keys_and_values(config, 81, 1, 3)
    widest = 2 * config.dim * config.ffn_dim
    assert (slots + around + told + widest + live) / GIB < 5.6
    assert live < 8 * 2 * config.dim * footprint.tokens(config, size, 81)


@pytest.mark.parametrize("at_once", [None, 1, 2])
@pytest.mark.parametrize("size", [Pixels(640, 640), Pixels(832, 1088)], ids=str)
def test_what_coding_holds_is_what_lives(size: Pixels, at_once: int | None) -> None:
    config = VAEConfig()
    with torch.device("meta"):
        net = VideoVAE(config).eval()
        video, latent = torch.empty(1, 3, 17, *size), torch.empty(1, 16, *Latents.of(17, size))
    coded = peak_bytes(lambda: [None for _ in net.encode_stream([video], 1, at_once)])
    decoded = peak_bytes(lambda: [None for _ in net.decode_stream([latent], 1, at_once)])
    assert footprint.coding_numbers(config, size, encode=True, at_once=at_once) * 4 == pytest.approx(coded, rel=0.05)
    assert footprint.coding_numbers(config, size, encode=False, at_once=at_once) * 4 == pytest.approx(decoded, rel=0.05)


def test_keys_and_values_are_those_of_the_network() -> None:
    config = make_tiny.DIT
    net = AudioDiT(config).eval()
    with torch.inference_mode():
        texts = net.prepare_texts([torch.zeros(1, 3, config.text_dim)] * 2)
        picture = net.prepare_picture(torch.zeros(1, config.clip_tokens, config.clip_dim))
        latent = torch.zeros(1, 16, *Latents.of(13, Pixels(64, 64)))
        heard = torch.zeros(2, 13, 5, config.audio_blocks, config.audio_channels)
        masks = torch.ones(3, 8, 8)
        sounds = net.prepare_sounds([(heard, masks), (heard[:1], None)], net.grid(latent), silent=[1])
    prepared = [*(text.prepared for text in texts if text), picture, *(sound.prepared for sound in sounds)]
    numbers = sum(part.numel() for made in prepared if made for pair in made for part in pair)
    assert footprint.keys_and_values(config, 13, 2, 3, (3, 3)) == numbers


def test_the_h100s_figures_are_met() -> None:
    """The committed measurement of the full-size networks on one H100: memory within 10 %, as the product promises."""
    measured = json.loads((RESULTS / "full_size_h100.json").read_text(encoding="utf-8"))
    config, size, share = DiTConfig(), Pixels(640, 640), 1 + constant("allocator_share").value
    step = footprint.forward_numbers(config, size, 81, at_once=None, branches=1, people=1, wide=False)
    told = footprint.keys_and_values(config, 81, 1, 1) * 2
    predicted = footprint.transformer(config).count * 2 + (step + told) * share
    assert predicted / GIB == pytest.approx(measured["peak_gib_1_people"], rel=0.1)
    vae = 2 * footprint.autoencoder(VAEConfig()).count
    video = footprint.video_numbers(size, 81)
    for name, encode, held in (("encode", True, 2 * video), ("decode", False, 4 * video)):
        coding = 2 * footprint.coding_numbers(VAEConfig(), size, encode=encode)
        assert (vae + held + coding * share) / GIB == pytest.approx(measured[f"vae_{name}_peak_gib"], rel=0.1)
