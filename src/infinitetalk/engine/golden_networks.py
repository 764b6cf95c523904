"""Golden cases of single networks and formulas."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields

import torch

from infinitetalk.core.configs import DiTConfig, SpeechConfig, TextConfig, VAEConfig, VisionConfig
from infinitetalk.diffusion.guidance import AdaptiveGuidance, Branch, combine
from infinitetalk.engine.golden_case import Case, Finding, network, normal, relative
from infinitetalk.media.color import match_colors
from infinitetalk.models.dit import AudioDiT
from infinitetalk.models.speech import SpeechEncoder
from infinitetalk.models.text import TextEncoder
from infinitetalk.models.vae import VideoVAE
from infinitetalk.models.vision import VisionEncoder
from infinitetalk.weights import keymaps

NETWORK_BOUND = 1e-4
GUIDANCE_BOUND = 1e-5
"""A handful of sums and one float64 projection: a few roundings of float32."""
COLOR_BOUND = 1e-4
"""Largest error of a value in [-1, 1]: 1/80 of a step of 8 bits; float32 Lab and back stays below a tenth of it."""


def _dit(case: Case) -> Iterator[Finding]:
    config = DiTConfig.read(case.meta["config"])
    dit = case.quarters.lodge(network(lambda: AudioDiT(config), case.meta["parameters"], case.seed, keymaps.DIT))
    shapes = case.meta["generated"]
    audio_seed = int(case.tensors["audio_seed"][0]) if "audio_seed" in case.tensors else case.seed
    velocity = dit(
        case.tensors["latent"][None],
        torch.tensor(float(case.meta["timestep"])),
        condition=case.tensors["y"],
        audio=normal("audio", tuple(shapes["audio"]), audio_seed),
        masks=case.tensors["masks"],
        text=case.tensors["context"][None],
        clip=case.normal("clip_fea", *shapes["clip_fea"]),
    )
    yield Finding("velocity", relative(velocity[0], case.tensors["output"]), NETWORK_BOUND)


def _vae(case: Case) -> Iterator[Finding]:
    config = VAEConfig.read({name: case.meta[name] for name in _names(VAEConfig) if name in case.meta})
    vae = network(lambda: VideoVAE(config), case.meta["parameters"], case.seed, keymaps.VAE)
    latent = case.tensors["latent"]
    random = case.normal("latent", *latent.shape)
    for what, found, expected in (
        ("latent", vae.encode(case.tensors["video"]), latent),
        ("reconstruction", vae.decode(latent), case.tensors["reconstruction"]),
        ("decoded random latent", vae.decode(random), case.tensors["decoded_random_latent"]),
    ):
        yield Finding(what, relative(found, expected), NETWORK_BOUND)


def _names(config: type) -> list[str]:
    return [field.name for field in fields(config)]


def _text(case: Case) -> Iterator[Finding]:
    config = TextConfig.read(case.meta["config"])
    encoder = network(lambda: TextEncoder(config), case.meta["parameters"], case.seed, keymaps.TEXT)
    case.quarters.lodge_text(encoder)
    real = case.tensors["mask"] > 0
    found = encoder.encode_ids(case.tensors["ids"], case.tensors["mask"])
    yield Finding("tokens", relative(found[real], case.tensors["output"][real]), NETWORK_BOUND)


def _vision(case: Case) -> Iterator[Finding]:
    config = VisionConfig.read(case.meta["config"])
    encoder = network(lambda: VisionEncoder(config), case.meta["parameters"], case.seed, keymaps.VISION)
    picture = case.tensors["image"]
    yield Finding("pixels", relative(encoder.pixels(picture), case.tensors["pixel_values"]), NETWORK_BOUND)
    yield Finding("tokens", relative(encoder.encode(picture), case.tensors["output"]), NETWORK_BOUND)


def _speech(case: Case) -> Iterator[Finding]:
    config = SpeechConfig.read(case.meta["config"])
    encoder = network(lambda: SpeechEncoder(config), case.meta["parameters"], case.seed, keymaps.SPEECH)
    found = encoder.encode(case.tensors["waveform"], int(case.meta["frames"]))
    yield Finding("features", relative(found, case.tensors["embedding"]), NETWORK_BOUND)


def _guidance(case: Case) -> Iterator[Finding]:
    note = case.meta["note"]
    text, audio = _number(note, "text scale"), _number(note, "audio scale")
    cond, no_text, neither = (case.tensors[name] for name in ("cond", "drop_text", "uncond"))
    answers = {Branch.FULL: cond, Branch.NO_TEXT: no_text, Branch.NEITHER: neither}
    yield Finding("guidance", relative(combine(answers, text, audio), case.tensors["cfg"]), GUIDANCE_BOUND)
    guide = AdaptiveGuidance(text, audio, _number(note, "momentum"), _number(note, "threshold"))
    for index in range(sum(name.startswith("apg") for name in case.tensors)):
        changed = {
            Branch.FULL: cond * (1 + index),
            Branch.NO_TEXT: no_text + 0.1 * index,
            Branch.NEITHER: neither * (1 - 0.2 * index),
        }
        found, expected = guide(changed), case.tensors[f"apg{index}"]
        yield Finding(f"adaptive guidance, step {index}", relative(found, expected), GUIDANCE_BOUND)


def _number(note: str, name: str) -> float:
    """The number behind a word of a case's note."""
    found = re.search(rf"{name} ([-+]?[\d.]+\b)", note)
    if found is None:
        raise ValueError(f"the note does not say the {name}")
    return float(found[1])


def _color(case: Case) -> Iterator[Finding]:
    video, reference = case.tensors["video"][0], case.tensors["reference"][0]
    for name, expected in case.tensors.items():
        if name.startswith("strength_"):
            digits = name.removeprefix("strength_")
            # "1" is one, "04" is 0.4, "075" is 0.75.
            strength = float(digits if "." in digits else f"{digits[0]}.{digits[1:] or 0}")
            found = match_colors(video, reference, strength)
            error = float((found - expected[0]).abs().max()) if found.shape == expected[0].shape else math.inf
            yield Finding(f"strength {strength:g}", error, COLOR_BOUND)


NETWORKS: Mapping[str, Callable[[Case], Iterator[Finding]]] = {
    "dit": _dit,
    "vae": _vae,
    "t5": _text,
    "clip": _vision,
    "wav2vec2": _speech,
    "guidance": _guidance,
    "color": _color,
}
