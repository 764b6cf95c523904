"""A smaller corpus with fewer streams: `python -m training.speech.thin CORPUS OUT --only train-pico train-rhvoice`.

Every process that draws clips reads its corpus first, and the transformer needs less speech than the speech encoder.
Files that `--only` does not name are copied as they are, and so are those of the test split.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np

from infinitetalk.core.errors import MediaError


def thin(source: Path, target: Path, every: int) -> int:
    """Writes every so many-th stream of a file of the corpus, from its first on; returns how many that are."""
    with np.load(source) as file:
        table = dict(file)
    names = json.loads(str(table["names"]))
    streams = range(0, len(names), every)
    packets = np.split(table["audio"], np.cumsum(table["sizes"])[:-1])
    cuts = np.cumsum(table["counts"])[:-1]
    rows = {name: np.split(table[name], cuts) for name in ("phones", "starts", "ends")}
    table |= {name: np.concatenate([parts[index] for index in streams]) for name, parts in rows.items()}
    table["audio"] = np.concatenate([packets[index] for index in streams])
    table |= {name: table[name][::every] for name in ("sizes", "counts")}
    table["names"] = np.array(json.dumps([names[index] for index in streams]))
    np.savez(target, **table)
    return len(streams)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--every", type=int, default=3, help="one stream of so many is kept (%(default)s)")
    parser.add_argument(
        "--only", nargs="+", default=["train-"], help="files to thin, by the start of their names (train)"
    )
    options = parser.parse_args()
    paths = sorted(options.corpus.glob("*.npz"))
    if not paths:
        raise MediaError(options.corpus, "has no *.npz; make them with python -m training.speech.make_corpus")
    options.out.mkdir(parents=True, exist_ok=True)
    for path in paths:
        if path.name.startswith(tuple(options.only)):
            thin(path, options.out / path.name, options.every)
        else:
            shutil.copyfile(path, options.out / path.name)


if __name__ == "__main__":
    main()
