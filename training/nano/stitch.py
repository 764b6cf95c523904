"""Lets a transformer hear through another speech encoder, so that it need not learn to hear anew.

    python -m training.nano.stitch OUT few CORPUS --network FOLDER --before OLD --after NEW

What the encoder in OLD says of the corpus is predicted from what that in NEW says, frame by frame, and the prediction
goes into the first layers of the transformer's audio projection. FOLDER holds `NAME-*.safetensors` and
`NAME_config.json` (few or dit), and OUT receives the same.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from infinitetalk.models.speech import SpeechEncoder
from training.nano.voices import listen, spoken
from training.parts import load_parts, save_parts
from training.speech.encoder import load

FIRST_LAYERS = ("audio_proj.proj1", "audio_proj.proj1_vf")
STIFFNESS = 1e-4
"""Of the prediction: the share of the features' mean square that is added to each one's own."""


class Prediction(NamedTuple):
    """Old features as a linear function of new ones."""

    matrix: Tensor
    """(old features, new features) float64"""
    constant: Tensor
    """(old features,) float64"""
    explained: float
    """Share of the old features' variance that it predicts, on what it was fitted to."""


def predict(old: Tensor, new: Tensor) -> Prediction:
    """Old features (frames, features) from the new ones of the same frames, by least squares."""
    wanted, known = old.double(), new.double()
    centre, middle = wanted.mean(0), known.mean(0)
    wanted, known = wanted - centre, known - middle
    moments = known.T @ known
    stiff = moments.diagonal().mean() * STIFFNESS * torch.eye(len(moments), dtype=moments.dtype, device=moments.device)
    solved = torch.linalg.solve(moments + stiff, known.T @ wanted)
    missed = float((wanted - known @ solved).square().sum() / wanted.square().sum())
    return Prediction(solved.T.cpu().contiguous(), (centre - middle @ solved).cpu(), 1 - missed)


def fit(before: SpeechEncoder, after: SpeechEncoder, streams: Sequence[Tensor]) -> Prediction:
    """Predicts what one encoder hears in waveforms [samples] from what the other does; both on one device."""
    old, new = (listen(encoder, streams, dtype=torch.float32).features.flatten(1) for encoder in (before, after))
    return predict(old, new)


def stitched(weights: Mapping[str, Tensor], prediction: Prediction) -> dict[str, Tensor]:
    """A transformer's weights that make of new features what they made of the predicted old ones.

    Raises:
        ValueError: these are no weights of a transformer that heard such features.
    """
    changed = dict(weights)
    for name in FIRST_LAYERS:
        weight, bias = (weights.get(f"{name}.{kind}") for kind in ("weight", "bias"))
        if weight is None or bias is None or weight.shape[1] % len(prediction.constant):
            raise ValueError(f"{name} does not take frames of {len(prediction.constant)} features")
        frames = weight.double().unflatten(1, (-1, len(prediction.constant)))
        changed[f"{name}.weight"] = (frames @ prediction.matrix).flatten(1).to(weight)
        changed[f"{name}.bias"] = (bias.double() + (frames @ prediction.constant).sum(1)).to(bias)
    return changed


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("name", help="few or dit")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--network", type=Path, required=True, help="folder of the transformer")
    parser.add_argument("--before", type=Path, required=True, help="folder of the encoder that it knows")
    parser.add_argument("--after", type=Path, required=True, help="folder of the one that it shall hear through")
    parser.add_argument("--minutes", type=float, default=60, help="of the corpus (default: %(default)g)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    heard = spoken(options.corpus, "train")
    streams, left = list[Tensor](), options.minutes * 60
    for place in torch.randperm(len(heard), generator=torch.Generator().manual_seed(0)).tolist():
        if left > 0:
            streams.append(torch.from_numpy(heard[place].audio).to(device).float() / 32768)
            left -= heard[place].seconds
    prediction = fit(load(options.before, device), load(options.after, device), streams)
    sys.stdout.write(f"{100 * prediction.explained:.1f} % of what the encoder before says is predicted\n")
    weights = stitched(load_parts(options.network, options.name), prediction)
    options.out.mkdir(parents=True, exist_ok=True)
    save_parts(weights, options.out, options.name)
    config = f"{options.name}_config.json"
    (options.out / config).write_bytes((options.network / config).read_bytes())


if __name__ == "__main__":
    main()
