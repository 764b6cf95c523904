"""Renders the clips that nano learns from: `python -m training.nano.make_data DATA --clips 5000`.

DATA receives `clips/` (training identities and voices) and `held/` (other identities, voices of the corpus's test
split). Put it where 4 MB per clip are quickly written and read, such as a folder in memory.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.clock import RunLog
from training.heads.blendshapes import JAW_OPEN
from training.heads.dataset import ClipBatch, ClipOptions, Split, make_clips
from training.heads.render import HeadRenderer
from training.heads.tracks import tracks
from training.nano.store import FRAMES, SIZE, Clips, create
from training.nano.voices import frames_of
from training.speech.corpus import Utterance, load

SPLITS: dict[str, Split] = {"train": "train", "test": "heldout"}


def mouth_tracks(utterances: Sequence[Utterance], seed: int) -> list[NDArray[np.float32]]:
    """How every utterance's mouth moves, [T, 52] each, in the manner of a random speaker."""
    made = []
    for index, utterance in enumerate(utterances):
        rng = np.random.default_rng([seed, index])
        made.append(tracks(utterance.segments, frames_of(len(utterance.audio)), rng, float(rng.uniform(0.95, 1.3))))
    return made


def fill(store: Clips, first: int, batch: ClipBatch) -> None:
    """Puts a rendered batch into the store from clip `first` on."""
    place = slice(first, first + len(batch.people))
    store.frames[place, :FRAMES] = batch.frames.cpu().numpy()
    store.frames[place, FRAMES] = batch.reference.cpu().numpy()
    store.people[place] = batch.people.cpu().numpy()
    store.mouth[place] = _around(batch.mouth_boxes, batch.people)
    store.eyes[place] = _around(batch.eye_boxes.flatten(2, 3), batch.people)
    store.face[place] = _around(batch.face_boxes, batch.people)
    store.utterance[place] = batch.utterance.cpu().numpy()
    store.start[place] = batch.start.cpu().numpy()
    store.jaw[place] = batch.weights[..., JAW_OPEN].cpu().numpy()


def _around(boxes: Tensor, people: Tensor) -> NDArray[np.float32]:
    """The smallest box around boxes (n, 3, k, 4), inside the picture; zero where nobody is."""
    whole = torch.cat([boxes[..., :2].amin(2), boxes[..., 2:].amax(2)], dim=-1).clamp(0, SIZE)
    there = torch.arange(boxes.shape[1], device=boxes.device) < people[:, None]
    return (whole * there[..., None]).float().cpu().numpy()


def render(
    folder: Path, count: int, speech: Sequence[NDArray[np.float32]], split: Split, *,
    renderer: HeadRenderer, options: ClipOptions, workers: int, log: RunLog, seed: int = 0,
) -> None:  # fmt: skip
    """Renders `count` clips of a split into a store."""
    store = create(folder, count)
    done = 0
    for batch in make_clips(count, speech, seed=seed, split=split, options=options, workers=workers, renderer=renderer):
        fill(store, done, batch)
        done += len(batch.people)
        if log.due():
            log(f"{done} of {count} clips")
    log(f"{count} clips in {folder.name}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--corpus", type=Path, default=Path(".corpus"))
    parser.add_argument("--clips", type=int, default=5000)
    parser.add_argument("--held", type=int, default=48)
    parser.add_argument("--workers", type=int, default=max(0, (os.cpu_count() or 2) - 4))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    log = RunLog(options.data / "render_log.txt")
    torch.set_float32_matmul_precision("highest")
    renderer = HeadRenderer(options.device)
    for folder, split, count in (("held", "test", options.held), ("clips", "train", options.clips)):
        speech = mouth_tracks(load(options.corpus, (split,)), seed=1)
        workers = options.workers if count > 200 else 0
        render(options.data / folder, count, speech, SPLITS[split], renderer=renderer, options=ClipOptions(),
               workers=workers, log=log)  # fmt: skip


if __name__ == "__main__":
    main()
