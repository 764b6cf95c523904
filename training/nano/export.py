"""Puts trained parts together as the model folder nano: `python -m training.nano.export TRAINED [OUT]`.

TRAINED holds `dit-*.safetensors`, `vae-*.safetensors`, `speech.safetensors` and their `*_config.json`. OUT (the
package's bundled nano by default) receives `model.json` and one weight file per part. Large matrices are stored in 8
bits, and the command measures what that costs.
"""

import argparse
import json
import sys
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from infinitetalk.core.configs import DiTConfig, NetConfig, SpeechConfig, VAEConfig
from infinitetalk.engine.model import Model, SpeechPart, load_model
from infinitetalk.models.dit import AudioDiT
from infinitetalk.models.speech import SpeechEncoder, normalise
from infinitetalk.models.vae import VideoVAE
from infinitetalk.runtime.device import Device
from infinitetalk.weights.folder import FORMAT, ModelFolder
from infinitetalk.weights.locate import ASSETS, MANIFEST
from infinitetalk.weights.packed import pack
from training.nano.settings import MOTION, WINDOW
from training.nano.store import SIZE
from training.parts import load_parts

N = TypeVar("N", bound=nn.Module)

NAME, MAX_PEOPLE = "nano", 3
DEFAULTS = {
    "size": str(SIZE), "window_frames": WINDOW, "motion_frames": MOTION, "steps": 10, "shift": 3.0, "text_scale": 1.0,
    "audio_scale": 2.0, "prompt": "", "negative_prompt": "",
}  # fmt: skip
BUCKETS = {str(SIZE): {"1.00": [SIZE, SIZE]}}
PARTS = ("dit", "vae", "speech")
SMALLEST = 16_384
"""Numbers of a tensor from which 8 bits save enough to be worth their error."""
PARAMETERS, BYTES = 20_000_000, 30_000_000
"""The most that all parts together may have."""


@dataclass(frozen=True, slots=True)
class Trained:
    """One part as the training left it."""

    config: NetConfig
    weights: Mapping[str, Tensor]
    """Under the names that the model folder's files have."""

    @property
    def parameters(self) -> int:
        """How many numbers it has."""
        return sum(value.numel() for value in self.weights.values())


def read(folder: Path) -> dict[str, Trained]:
    """The trained parts.

    Raises:
        FileNotFoundError: one of them is not there.
    """
    configs = {name: json.loads((folder / f"{name}_config.json").read_text(encoding="utf-8"))
               for name in PARTS}  # fmt: skip
    configs["speech"].pop("model_type")
    speech = {name: value.float() for name, value in load_file(folder / "speech.safetensors").items()
              if name != "masked_spec_embed"}  # fmt: skip
    return {
        "dit": Trained(DiTConfig.read(configs["dit"]), load_parts(folder, "dit")),
        "vae": Trained(VAEConfig.read(configs["vae"]), load_parts(folder, "vae")),
        "speech": Trained(SpeechConfig.read(configs["speech"]), speech),
    }


def stored(part: Trained, *, packed: bool) -> dict[str, Tensor]:
    """Weights as they go to disk: half precision, large matrices in 8 bits if so wanted."""
    half = {name: value.to(torch.float16).contiguous() for name, value in part.weights.items()}
    if not packed:
        return half
    large = {name for name, value in part.weights.items() if value.numel() >= SMALLEST and value.ndim >= 2}
    # Packed from full precision, so that rounding happens once.
    return pack({**half, **{name: part.weights[name] for name in large}}, lambda name, _: name in large)


def write(parts: Mapping[str, Trained], out: Path, packed: Collection[str] = PARTS, **defaults: object) -> None:
    """Writes the model folder; `defaults` replaces the model's own settings."""
    out.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        save_file(stored(part, packed=name in packed), out / f"{name}.safetensors")
    manifest = {
        "format": FORMAT,
        "name": NAME,
        "max_people": MAX_PEOPLE,
        "parts": {
            name: {"config": asdict(part.config), "files": [f"{name}.safetensors"]} for name, part in parts.items()
        },
        "defaults": {**DEFAULTS, **defaults},
        "buckets": BUCKETS,
    }
    (out / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def relative(made: Tensor, truth: Tensor) -> float:
    """The size of the difference relative to the truth's."""
    return float((made - truth).norm() / truth.norm())


@torch.inference_mode()
def errors(parts: Mapping[str, Trained], model: Model) -> dict[str, float]:
    """What storing costs: the relative error of one pass of each network on drawn inputs."""
    assert isinstance(model.speech, SpeechPart)
    draws = torch.Generator().manual_seed(0)
    voice = normalise(torch.randn(80 * 640, generator=draws))
    encoder = model.speech.encoder
    heard, wanted = encoder(voice, 80), _speech(parts["speech"])(voice, 80)
    vae = _with_weights(VideoVAE(_vae_config(parts["vae"])), parts["vae"])
    blocks = torch.rand(1, 3, 5, SIZE // 16, SIZE // 16, generator=draws) * 2 - 1
    video = nn.functional.interpolate(blocks, size=(17, SIZE, SIZE), mode="trilinear")
    latents, true_latents = model.vae.encode(video), vae.encode(video)
    dit = _with_weights(AudioDiT(model.dit.config), parts["dit"])
    grid = (SIZE // 8, SIZE // 8)
    noisy, picture = (torch.randn(1, 16, 5, *grid, generator=draws) for _ in range(2))
    told = torch.cat([torch.zeros(1, 4, 5, *grid).index_fill(2, torch.tensor(0), 1), picture], dim=1)
    around = wanted[torch.arange(17)[:, None] + torch.arange(model.dit.config.audio_window)][None]
    made, truth = (net(noisy, torch.tensor(500.0), condition=told, audio=around) for net in (model.dit, dit))
    return {
        "dit": relative(made, truth),
        "vae encode": relative(latents, true_latents),
        "vae decode": relative(model.vae.decode(true_latents), vae.decode(true_latents)),
        "speech": relative(heard, wanted),
    }


def _vae_config(part: Trained) -> VAEConfig:
    assert isinstance(part.config, VAEConfig)
    return part.config


def _speech(part: Trained) -> SpeechEncoder:
    assert isinstance(part.config, SpeechConfig)
    encoder = SpeechEncoder(part.config).eval()
    encoder.network.load_state_dict(part.weights, strict=False)
    return encoder


def _with_weights(network: N, part: Trained) -> N:
    network.load_state_dict(part.weights)
    return network.eval()


def check(parts: Mapping[str, Trained], out: Path) -> list[str]:
    """Opens the written folder as the product does; lines about its size and errors.

    Raises:
        ValueError: more parameters or bytes than nano may have.
    """
    model = load_model(ModelFolder.open(out), Device.choose("cpu"))
    sizes = {path.name: path.stat().st_size for path in sorted(out.glob("*.safetensors"))}
    total, size = sum(part.parameters for part in parts.values()), sum(sizes.values())
    if total > PARAMETERS or size > BYTES:
        raise ValueError(f"{total} parameters in {size} bytes: {PARAMETERS} in {BYTES} are the most that nano may have")
    lines = [f"{name}: {part.parameters / 1e6:.2f} M parameters, {sizes[f'{name}.safetensors'] / 1e6:.2f} MB"
             for name, part in parts.items()]  # fmt: skip
    lines.append(f"all: {total / 1e6:.2f} M parameters, {size / 1e6:.2f} MB")
    return [*lines, *(f"error of storing, {name}: {value:.2e}" for name, value in errors(parts, model).items())]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", type=Path)
    parser.add_argument("out", type=Path, nargs="?", default=ASSETS / NAME)
    parser.add_argument("--steps", type=int, default=DEFAULTS["steps"])
    parser.add_argument("--shift", type=float, default=DEFAULTS["shift"])
    parser.add_argument("--audio-scale", type=float, default=DEFAULTS["audio_scale"])
    parser.add_argument("--packed", nargs="*", default=PARTS, choices=PARTS,
                        help="parts whose large matrices are stored in 8 bits; all by default")  # fmt: skip
    options = parser.parse_args()
    parts = read(options.trained)
    write(parts, options.out, options.packed, steps=options.steps, shift=options.shift,
          audio_scale=options.audio_scale)  # fmt: skip
    sys.stdout.writelines(line + "\n" for line in check(parts, options.out))


if __name__ == "__main__":
    main()
