"""Writes the clips that docs show: `python -m training.evaluate.clips CORPUS RESULTS docs/clips --edition 2`.

RESULTS is what `training.evaluate.nano` left. Of its clips of one window, the one whose lips landmarks find nearest to
the truth becomes `nano-best.mp4`, and the one where they find them farthest from it `nano-worst.mp4`.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from infinitetalk.core.sizes import FPS, SAMPLE_RATE, Pixels
from infinitetalk.media.sound import Sound
from infinitetalk.media.writer import VideoWriter
from training.evaluate.bench import WINDOW
from training.evaluate.scenes import SINGLE, Studio
from training.nano.settings import EDITIONS


def extremes(results: Path) -> dict[str, tuple[int, float]]:
    """Number and correlation of the best and of the worst clip, as `metrics.json` tells."""
    told = json.loads((results / "metrics.json").read_text(encoding="utf-8"))["details"]["single"]
    found = [(float(row["r"]), index) for index, row in enumerate(told)]
    return {name: (index, r) for name, (r, index) in (("best", max(found)), ("worst", min(found)))}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--edition", choices=tuple(EDITIONS), default="2", help="whose people are drawn")
    options = parser.parse_args()
    studio = Studio.open(options.results / "scenes", options.corpus, EDITIONS[options.edition])
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, (index, r) in extremes(options.results).items():
        (scene,) = studio.scenes("single", SINGLE + index, 1, WINDOW, truth=True)
        frames = np.load(options.results / "videos" / f"single-{index}.npy")
        voice = scene.voice[: len(frames) * SAMPLE_RATE // FPS]
        path = options.folder / f"nano-{name}.mp4"
        with VideoWriter(
            path, Pixels(*frames.shape[1:3]), quality=31, sound=Sound(voice[None], SAMPLE_RATE, "mono")
        ) as video:
            video.write(frames)
        sys.stdout.write(f"{path}: clip {index}, r {r:.2f}\n")


if __name__ == "__main__":
    main()
