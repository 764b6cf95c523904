"""A smaller corpus with fewer streams: `python -m training.speech.thin CORPUS OUT --only train-pico train-rhvoice`.

Every process that draws clips reads its corpus first, and the transformer needs less speech than the speech encoder.
Files that `--only` does not name are copied as they are.
"""

import argparse
import shutil
from pathlib import Path

from infinitetalk.core.errors import MediaError
from training.speech import corpus


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
    for name in options.only:
        if not any(path.name.startswith(name) for path in paths):
            raise MediaError(options.corpus, f"has no file whose name begins with {name}")
    options.out.mkdir(parents=True, exist_ok=True)
    for path in paths:
        if path.name.startswith(tuple(options.only)):
            corpus.save(options.out / path.name, corpus.read(path)[:: options.every])
        else:
            shutil.copyfile(path, options.out / path.name)


if __name__ == "__main__":
    main()
