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
from training.nano.settings import EDITIONS, MOTION, WINDOW, Edition
from training.parts import load_parts

N = TypeVar("N", bound=nn.Module)

NAME, MAX_PEOPLE = "nano", 3
PROMPTS = {"text_scale": 1.0, "prompt": "", "negative_prompt": ""}
EDGE = 128
"""Pixels of the pictures by which the error of storing is measured."""
PARTS = ("dit", "vae", "speech")
SMALLEST = 16_384
"""Numbers of a tensor from which 8 bits save enough to be worth their error."""
PARAMETERS, BYTES = 30_000_000, 30_000_000
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


def read(folder: Path, dit: str = "dit") -> dict[str, Trained]:
    """The trained parts; `dit` is the name of the transformer's files.

    Raises:
        FileNotFoundError: one of them is not there.
    """
    files = dict(zip(PARTS, (dit, *PARTS[1:]), strict=True))
    configs = {name: json.loads((folder / f"{file}_config.json").read_text(encoding="utf-8"))
               for name, file in files.items()}  # fmt: skip
    configs["speech"].pop("model_type")
    speech = {name: value.float() for name, value in load_file(folder / "speech.safetensors").items()
              if name != "masked_spec_embed"}  # fmt: skip
    return {
        "dit": Trained(DiTConfig.read(configs["dit"]), load_parts(folder, dit)),
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


def defaults_of(edition: Edition) -> dict[str, object]:
    """The settings with which a model of this edition is asked unless told otherwise."""
    return {"size": str(edition.size), "window_frames": WINDOW, "motion_frames": MOTION, "steps": edition.steps,
            "shift": edition.shift, "audio_scale": edition.audio_scale, **PROMPTS}  # fmt: skip


def write(
    parts: Mapping[str, Trained], out: Path, packed: Collection[str] = PARTS, *, edition: Edition = EDITIONS["1"],
    **defaults: object,
) -> None:  # fmt: skip
    """Writes the model folder of an edition; `defaults` replaces its own settings."""
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
        "defaults": {**defaults_of(edition), **defaults},
        "buckets": {str(edition.size): {"1.00": [edition.size, edition.size]}},
    }
    if edition.motion is not None:
        manifest["motion"] = edition.motion
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
    blocks = torch.rand(1, 3, 5, EDGE // 16, EDGE // 16, generator=draws) * 2 - 1
    video = nn.functional.interpolate(blocks, size=(17, EDGE, EDGE), mode="trilinear")
    latents, true_latents = model.vae.encode(video), vae.encode(video)
    dit = _with_weights(AudioDiT(model.dit.config), parts["dit"])
    grid = (EDGE // 8, EDGE // 8)
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
    parser.add_argument("--edition", choices=tuple(EDITIONS), default="1", help="whose size and settings it has")
    parser.add_argument("--dit", default="dit", help="name of the transformer's files: few for what distil writes")
    parser.add_argument("--steps", type=int, help="default the edition's")
    parser.add_argument("--shift", type=float)
    parser.add_argument("--audio-scale", type=float)
    parser.add_argument("--packed", nargs="*", default=PARTS, choices=PARTS,
                        help="parts whose large matrices are stored in 8 bits; all by default")  # fmt: skip
    options = parser.parse_args()
    parts = read(options.trained, options.dit)
    given = {"steps": options.steps, "shift": options.shift, "audio_scale": options.audio_scale}
    write(parts, options.out, options.packed, edition=EDITIONS[options.edition],
          **{name: value for name, value in given.items() if value is not None})  # fmt: skip
    sys.stdout.writelines(line + "\n" for line in check(parts, options.out))


if __name__ == "__main__":
    main()
