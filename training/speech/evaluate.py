"""How well the encoder hears voices that it was not trained on: ``python -m training.speech.evaluate CORPUS OUT``.

For each engine of the test split: share of 20 ms labels with the right phone and the right mouth shape; share of closed
lips (p, b, m) that are heard as such, and of what is heard as such, the share that is. By a ridge regression from the
encoder's states to the jaw openness track that the phones give: its correlation, the lag at which that is highest, and
how often it is low where lips are closed.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infinitetalk.evaluate.series import correlation
from infinitetalk.models.speech import normalise
from training.heads.tracks import openness, tracks
from training.heads.visemes import GESTURES, LIPS_CLOSED, PHONE_CLASSES
from training.speech import corpus
from training.speech.batches import GRID, SAMPLES_PER_LABEL, label_grid
from training.speech.corpus import Utterance
from training.speech.encoder import SAMPLES_PER_FRAME, SMALL, PhoneReader, take_over

LAGS = range(-3, 4)  # video frames
RIDGE = 10.0
RIDGE_SECONDS = 400.0
_SHAPES = sorted({shape for shapes in GESTURES.values() for shape in shapes[:1]})
# Class -> index of its first mouth shape; h, which has none, counts as an own one.
VISEME_OF = torch.tensor([_SHAPES.index(GESTURES[n][0]) if GESTURES[n] else len(_SHAPES) for n in PHONE_CLASSES])
CLOSED = torch.tensor([name in LIPS_CLOSED for name in PHONE_CLASSES])


@dataclass(frozen=True)
class Heard:
    """One utterance as the encoder hears it: states [frames, layers * channels] and phones [labels], with the truth."""

    engine: str
    states: Tensor
    phones: Tensor
    true_phones: Tensor
    openness: NDArray[np.float32]


@dataclass(frozen=True)
class Score:
    """Figures of one engine."""

    engine: str
    seconds: float
    phone: float
    viseme: float
    closed: float
    closed_precision: float
    jaw: float
    shut: float
    lag: int

    def line(self) -> str:
        """One row of the report."""
        return (
            f"{self.engine:16s} {self.seconds:6.0f} s  phone {self.phone:.3f}  viseme {self.viseme:.3f}  "
            f"lips closed {self.closed:.3f} (precision {self.closed_precision:.3f}, jaw low {self.shut:.3f})  "
            f"jaw r {self.jaw:.3f} (best lag {self.lag:+d})"
        )


@torch.no_grad()
def hear(reader: PhoneReader, utterance: Utterance, device: torch.device) -> Heard:
    """Run the encoder over a whole utterance."""
    frames = len(utterance.audio) // SAMPLES_PER_FRAME
    samples = torch.from_numpy(utterance.audio[: frames * SAMPLES_PER_FRAME]).to(device).float() / 32768
    states = reader.encoder(normalise(samples), frames)
    logits = reader.heads[-1](states[:, -1]).reshape(2 * frames, len(PHONE_CLASSES))
    grid = torch.from_numpy(label_grid(utterance)[SAMPLES_PER_LABEL // GRID // 2 :: SAMPLES_PER_LABEL // GRID])
    track = tracks(utterance.segments, frames, np.random.default_rng(0))
    return Heard(
        utterance.engine, states.flatten(1).cpu(), logits.argmax(-1).cpu(), grid[: 2 * frames].long(), openness(track)
    )


def with_one(states: Tensor) -> Tensor:
    """States with a column of ones."""
    return torch.cat([states, torch.ones(len(states), 1)], dim=1).double()


def ridge(heard: Iterable[Heard]) -> Tensor:
    """Weights from states (and one) to jaw openness."""
    rows = list(heard)
    inputs = with_one(torch.cat([row.states for row in rows]))
    target = torch.from_numpy(np.concatenate([row.openness for row in rows])).double()
    gram = inputs.T @ inputs + RIDGE * torch.eye(inputs.shape[1], dtype=torch.float64)
    weights: Tensor = torch.linalg.solve(gram, inputs.T @ target)
    return weights


def score(rows: Sequence[Heard], weights: Tensor) -> Score:
    """Figures over all utterances of one engine."""
    truth = torch.cat([row.true_phones for row in rows])
    guess = torch.cat([row.phones for row in rows])
    closed = CLOSED[truth]
    said = [(with_one(row.states) @ weights).float().numpy() for row in rows]
    by_lag = {lag: _lagged(said, [row.openness for row in rows], lag) for lag in LAGS}
    return Score(
        engine=rows[0].engine,
        seconds=len(truth) / 50,
        phone=float((truth == guess).float().mean()),
        viseme=float((VISEME_OF[truth] == VISEME_OF[guess]).float().mean()),
        closed=float(CLOSED[guess][closed].float().mean()),
        closed_precision=float(closed[CLOSED[guess]].float().mean()),
        jaw=by_lag[0],
        shut=_low(said, [row.true_phones for row in rows]),
        lag=max(by_lag, key=lambda lag: by_lag[lag]),
    )


def _lagged(said: Sequence[NDArray[np.float32]], truth: Sequence[NDArray[np.float32]], lag: int) -> float:
    """Correlation when ``said`` is read ``lag`` frames later than the truth."""
    edge = max(LAGS)
    pairs = [(s[edge + lag : len(s) - edge + lag], t[edge : len(t) - edge]) for s, t in zip(said, truth, strict=True)]
    return correlation(np.concatenate([s for s, _ in pairs]), np.concatenate([t for _, t in pairs]))


def _low(said: Sequence[NDArray[np.float32]], truth: Sequence[Tensor]) -> float:
    """Share of video frames with closed lips whose openness is among the lowest quarter of the utterance."""
    found = []
    for openness_said, phones in zip(said, truth, strict=True):
        closed = CLOSED[phones].reshape(-1, 2).all(1).numpy()
        found.append((openness_said <= np.quantile(openness_said, 0.25))[closed])
    frames = np.concatenate(found)
    return float(frames.mean()) if len(frames) else math.nan


def evaluate(
    reader: PhoneReader, train: Sequence[Utterance], test: Sequence[Utterance], device: torch.device
) -> list[Score]:
    """Scores per engine of ``test``; the regression is fitted on part of ``train``."""
    was_training = reader.training
    reader.eval()
    # Every utterance has its own length: seeking the fastest convolution for each would take a minute.
    with torch.backends.cudnn.flags(benchmark=False):
        weights, by_engine = _heard(reader, train, test, device)
    reader.train(was_training)
    return [score(rows, weights) for rows in by_engine.values()]


def _heard(
    reader: PhoneReader, train: Sequence[Utterance], test: Sequence[Utterance], device: torch.device
) -> tuple[Tensor, dict[str, list[Heard]]]:
    """The regression's weights, and what was heard of the tests by engine."""
    order = np.random.default_rng(0).permutation(len(train))
    few: list[Utterance] = []
    for index in order:
        if sum(utterance.seconds for utterance in few) > RIDGE_SECONDS:
            break
        few.append(train[index])
    weights = ridge(hear(reader, utterance, device) for utterance in few)
    by_engine: dict[str, list[Heard]] = {}
    for utterance in test:
        by_engine.setdefault(utterance.engine, []).append(hear(reader, utterance, device))
    return weights, by_engine


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Score a trained speech encoder on the held-out voices.")
    parser.add_argument("corpus", type=Path, help="folder that training.speech.make_corpus wrote")
    parser.add_argument("out", type=Path, help="folder that training.speech.train wrote")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    reader = PhoneReader(SMALL)
    take_over(reader, arguments.out)
    reader.to(device)
    scores = evaluate(reader, corpus.load(arguments.corpus, ["train"]), corpus.load(arguments.corpus, ["test"]), device)
    sys.stdout.writelines(row.line() + "\n" for row in scores)


if __name__ == "__main__":
    main()
