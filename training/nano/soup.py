"""The mean of one network's weights from several trainings: `python -m training.nano.soup OUT few FIRST SECOND`.

For trainings that went on from one another, whose weights lie in one valley. Source: model soups, arXiv 2203.05482.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from training.parts import load_parts, save_parts


def soup(out: Path, name: str, folders: Sequence[Path]) -> None:
    """Writes the mean of these folders' `NAME-*.safetensors` into `out`, which may be one of them.

    Raises:
        FileNotFoundError: a folder has no such weights.
        ValueError: the networks differ, or there is only one.
    """
    if len(folders) < 2:
        raise ValueError(f"a mean needs two folders or more; {', '.join(map(str, folders))} alone is what it is")
    configs = [json.loads((folder / f"{name}_config.json").read_text(encoding="utf-8")) for folder in folders]
    for folder, config in zip(folders, configs, strict=True):
        if config != configs[0]:
            other = sorted(key for key in {*config, *configs[0]} if config.get(key) != configs[0].get(key))
            raise ValueError(f"{folder} has another {name} than {folders[0]}: {', '.join(other)} differ")
    total: dict[str, Tensor] = {}
    for folder in folders:
        for key, value in load_parts(folder, name).items():
            total[key] = total.get(key, 0) + value / len(folders)
    out.mkdir(parents=True, exist_ok=True)
    save_parts(total, out, name)
    (out / f"{name}_config.json").write_text(json.dumps(configs[0], indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("name", help="few, dit or vae")
    parser.add_argument("folders", nargs="+", type=Path, help="what trainings wrote")
    options = parser.parse_args()
    try:
        soup(options.out, options.name, options.folders)
    except (FileNotFoundError, ValueError) as problem:
        parser.error(str(problem))


if __name__ == "__main__":
    main()
