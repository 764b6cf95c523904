"""Takes parts out of a model folder as trainings write them: `python -m training.nano.unpack MODEL OUT vae speech`.

The reverse of `training.nano.export`, so that a new training can keep what an earlier one made. Matrices that the
folder stores in 8 bits keep the values that they have there, and storing them again changes nothing.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file

from infinitetalk.weights.locate import MANIFEST, locate
from infinitetalk.weights.packed import Unpacked
from training.nano.export import PARTS
from training.parts import save_parts


def unpack(model: Path, out: Path, parts: Sequence[str]) -> None:
    """Writes weights and `PART_config.json` of these parts into `out`."""
    manifest = json.loads((model / MANIFEST).read_text(encoding="utf-8"))["parts"]
    out.mkdir(parents=True, exist_ok=True)
    for part in parts:
        weights = dict(Unpacked(load_file(model / f"{part}.safetensors")))
        config = manifest[part]["config"]
        if part == "speech":
            config = {"model_type": "wav2vec2", **config}
            save_file({name: value.float().contiguous() for name, value in weights.items()}, out / "speech.safetensors")
        else:
            save_parts(weights, out, part)
        (out / f"{part}_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a model folder that export wrote, or nano for the bundled one")
    parser.add_argument("out", type=Path)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    options = parser.parse_args()
    unpack(locate(options.model), options.out, options.parts)


if __name__ == "__main__":
    main()
