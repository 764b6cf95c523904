"""Records what SyncNet's authors' code computes: `python -m tools.record_syncnet CHECKOUT OUT`.

CHECKOUT is joonson/syncnet_python, and `python_speech_features` must be installed. Weights and inputs are drawn from a
seed, as `tests/evaluate/seeded.py` does it; OUT receives numbers alone.
"""

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from tests.evaluate.seeded import faces, sound, state


def record(checkout: Path) -> dict[str, torch.Tensor]:
    """What the towers, the cepstra and the comparison give."""
    sys.path.insert(0, str(checkout))
    instance: Any = importlib.import_module("SyncNetInstance")
    cepstra: Any = importlib.import_module("python_speech_features").mfcc
    network: Any = importlib.import_module("SyncNetModel").S()
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    network.load_state_dict(state(shapes))
    network.eval()
    steps = torch.from_numpy(cepstra(sound(), 16_000).T.copy()).float()
    frames = faces()
    count = frames.shape[0] - 5
    with torch.no_grad():
        seen = torch.cat([network.forward_lip(frames[at : at + 5].transpose(0, 1)[None]) for at in range(count)])
        heard = torch.cat([network.forward_aud(steps[None, None, :, 4 * at : 4 * at + 20]) for at in range(count)])
        far = torch.stack(instance.calc_pdist(seen, heard, vshift=15), 1).mean(1)
    return {
        "cepstra": steps.contiguous(),
        "faces": seen[:, ::16].contiguous(),
        "sounds": heard[:, ::16].contiguous(),
        "distances": far,
        "offset": torch.tensor(15 - int(far.argmin())),
        "confidence": far.median() - far.min(),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    found = record(given.checkout)
    save_file(found, given.out)
    sys.stdout.write(f"{ {name: tuple(value.shape) for name, value in found.items()} }\n")
    assert np.isfinite(found["distances"].numpy()).all()


if __name__ == "__main__":
    main()
