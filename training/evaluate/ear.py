"""Fits what `infinitetalk evaluate` expects of a mouth: `python -m training.evaluate.ear CORPUS`.

Ridge regression from bands of the spectrum to the jaw openness that the phones of the corpus's training voices ask for.
Prints its correlation on the test voices.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.sizes import SAMPLES_PER_FRAME
from infinitetalk.evaluate import speech
from infinitetalk.evaluate.series import Floats, correlation
from infinitetalk.evaluate.speech import WEIGHTS, Ear
from infinitetalk.media.loudness import speech_gain
from training.evaluate.scenes import samples_of
from training.heads.tracks import openness, tracks
from training.speech.corpus import Utterance, load

SECONDS: Final = 500.0
"""Of each engine that are used."""
RIDGE: Final = 100.0


def heard(item: Utterance) -> tuple[Floats, int]:
    """An utterance as the command hears it, and its video frames."""
    sound = samples_of(item)
    return sound * np.float32(speech_gain(sound)), len(sound) // SAMPLES_PER_FRAME


def truth(item: Utterance, frames: int) -> Floats:
    """How far the jaw should be open, (F,)."""
    return openness(tracks(item.segments, frames, np.random.default_rng(0)))


def chosen(utterances: Iterable[Utterance]) -> list[Utterance]:
    """About as much of each engine."""
    seconds: dict[str, float] = {}
    kept = []
    for item in utterances:
        if seconds.get(item.engine, 0.0) < SECONDS:
            seconds[item.engine] = seconds.get(item.engine, 0.0) + item.seconds
            kept.append(item)
    return kept


def fit(utterances: Sequence[Utterance]) -> Ear:
    """The regression."""
    inputs, wanted = list[Floats](), list[Floats]()
    for item in utterances:
        sound, frames = heard(item)
        block = speech.bands(sound, -speech.CONTEXT, frames + speech.CONTEXT) - speech.color(sound, frames)
        inputs.append(speech.around(block))
        wanted.append(truth(item, frames))
    x, y = np.concatenate(inputs).astype(np.float64), np.concatenate(wanted).astype(np.float64)
    mean, spread = x.mean(0), x.std(0)
    scaled = (x - mean) / spread
    gram: NDArray[np.float64] = scaled.T @ scaled + RIDGE * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, scaled.T @ (y - y.mean())) / spread
    return Ear(weights.astype(np.float32), float(y.mean() - mean @ weights))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    options = parser.parse_args()
    ear = fit(chosen(load(options.corpus, ("train",))))
    rows = [[float(f"{value:.5g}") for value in row] for row in ear.weights.reshape(-1, speech.BANDS)]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    options.out.write_text(f'{{"bias": {ear.bias:.6g}, "weights": [\n  {lines}\n]}}\n', encoding="utf-8")
    by_engine: dict[str, list[float]] = {}
    for item in load(options.corpus, ("test",)):
        sound, frames = heard(item)
        said = speech.openness(sound, frames, Ear.read(options.out))
        by_engine.setdefault(item.engine, []).append(correlation(said, truth(item, frames)))
    for engine, values in by_engine.items():
        sys.stdout.write(f"{engine}: mean r {np.mean(values):.3f} of {len(values)}, lowest {min(values):.3f}\n")


if __name__ == "__main__":
    main()
