"""Renders the clips that nano learns from: `python -m training.nano.make_data DATA --clips 5000`.

DATA receives `clips/` (training identities and voices) and `held/` (other identities, voices of the corpus's test
split). Put it where 4 MB per clip are quickly written and read, such as a folder in memory.
"""

import argparse
import math
import os
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.checkpoint import Progress
from training.clock import RunLog
from training.heads.blendshapes import JAW_OPEN
from training.heads.dataset import ClipBatch, ClipOptions, Split, make_clips
from training.heads.render import SUPERSAMPLING, HeadRenderer
from training.heads.tracks import tracks
from training.nano.settings import EDITIONS, Edition
from training.nano.store import FRAMES, Clips, create, extend, finished
from training.nano.voices import frames_of, spoken
from training.speech.corpus import Utterance


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
    store.mouth[place] = _around(batch.mouth_boxes, batch.people, store.size)
    store.eyes[place] = _around(batch.eye_boxes.flatten(2, 3), batch.people, store.size)
    store.face[place] = _around(batch.face_boxes, batch.people, store.size)
    store.utterance[place] = batch.utterance.cpu().numpy()
    store.start[place] = batch.start.cpu().numpy()
    store.jaw[place] = batch.weights[..., JAW_OPEN].cpu().numpy()
    store.strength[place] = batch.strength.cpu().numpy()
    store.people[place] = batch.people.cpu().numpy()  # last: it says that the clip is whole


def _around(boxes: Tensor, people: Tensor, size: int) -> NDArray[np.float32]:
    """The smallest box around boxes (n, 3, k, 4), inside the picture; zero where nobody is."""
    whole = torch.cat([boxes[..., :2].amin(2), boxes[..., 2:].amax(2)], dim=-1).clamp(0, size)
    there = torch.arange(boxes.shape[1], device=boxes.device) < people[:, None]
    return (whole * there[..., None]).float().cpu().numpy()


def render(
    store: Clips, part: Sequence[int], speech: Sequence[NDArray[np.float32]], split: Split, *,
    renderer: HeadRenderer, log: RunLog, stop: float = math.inf, edition: Edition = EDITIONS["1"], workers: int = 0,
    seed: int = 0,
) -> None:  # fmt: skip
    """Renders those clips of a split that a store lacks, in order, until the clock says `stop`.

    Args:
        part: indices, ascending; clips depend on seed and index alone.
    """
    missing = [index for index in part if not store.people[index]]
    shown = ClipOptions(varied=edition.varied, calm=edition.calm, portraits=edition.portraits * (split == "train"))
    known: dict[str, Any] = {"split": split, "renderer": renderer, "options": shown, "seed": seed}
    drawn = _drawn(missing, speech, workers, known)
    begun = time.monotonic()

    def rate(made: int) -> str:
        return f"{made / max(time.monotonic() - begun, 1e-9):.2f} clips per second"

    for number, index in enumerate(missing):
        if time.monotonic() > stop:
            log(f"{number} of {len(missing)} clips of {split}: time is up; {rate(number)}")
            drawn.close()
            return
        fill(store, index, next(drawn))
        if log.due():
            log(f"{number + 1} of {len(missing)} clips of {split}; {rate(number + 1)}")
    log(f"all {len(missing)} clips of {split} done; {rate(len(missing))}")


def _drawn(
    missing: Sequence[int], speech: Sequence[NDArray[np.float32]], workers: int, known: dict[str, Any]
) -> Generator[ClipBatch, None, None]:
    """Clips one by one; worker processes think ahead, if there are any. `known` is what `make_clips` is told."""
    if workers and len(missing) > 1:
        yield from make_clips(len(missing), speech, indices=missing, batch=1, workers=workers, **known)
        return
    for index in missing:
        yield from make_clips(1, speech, first=index, **known)


def helpers(options: argparse.Namespace) -> list[subprocess.Popen[bytes]]:
    """Starts the other processes, on all GPUs in turn; of N processes each renders every Nth clip."""
    command = [sys.executable, "-m", "training.nano.make_data", str(options.data), "--corpus", str(options.corpus)]
    command += ["--clips", str(options.clips), "--processes", str(options.processes), "--device", options.device]
    command += ["--at-most", str(options.at_most), "--edition", options.edition, "--workers", str(options.workers)]
    command += ["--supersampling", str(options.supersampling), "--seed", str(options.seed)]
    command += ["--at-once", str(options.at_once)] if options.at_once else []
    return [
        subprocess.Popen([*command, "--index", str(index)], env={**os.environ, **_gpu(index)})
        for index in range(1, options.processes)
    ]


def _gpu(index: int) -> dict[str, str]:
    """The variable that shows a process one of the GPUs that this one sees; nothing where there is no choice."""
    count = torch.cuda.device_count()
    if count < 2:
        return {}
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = seen.split(",") if seen else [str(number) for number in range(count)]
    return {"CUDA_VISIBLE_DEVICES": names[index % count]}


def opened(folder: Path, count: int, size: int) -> Clips:
    """The store of an earlier run, or a new one.

    Raises:
        SystemExit: the one that is there has another size.
    """
    if not (folder / "people.npy").exists():
        return create(folder, count, size)
    store = extend(folder)
    if store.count != count:
        raise SystemExit(f"{folder} was made for {store.count} clips, not {count}: give that number or another folder")
    if store.size != size:
        raise SystemExit(f"{folder} holds pictures of {store.size} pixels, not {size}: give another folder")
    return store


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--corpus", type=Path, default=Path(".corpus"))
    parser.add_argument("--clips", type=int, default=5000)
    parser.add_argument("--held", type=int, default=48)
    parser.add_argument("--processes", type=int, default=1, help="this many share the work")
    parser.add_argument("--index", type=int, default=0, help="which of them this is; 0 starts the others")
    parser.add_argument("--at-most", type=float, default=math.inf, help="seconds of this run; the next one goes on")
    parser.add_argument("--edition", choices=tuple(EDITIONS), default="1", help="whose pictures")
    parser.add_argument("--workers", type=int, default=0, help="processes that think of clips, for each that renders")
    parser.add_argument("--supersampling", type=int, default=SUPERSAMPLING, help="1 draws coarse edges, but faster")
    parser.add_argument("--at-once", type=int, help="frames drawn together")
    parser.add_argument("--seed", type=int, default=0, help="another one draws other people to train on")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    log = RunLog(options.data / f"render_log_{options.index}.txt")
    stop = time.monotonic() + options.at_most
    torch.set_float32_matmul_precision("highest")
    edition = EDITIONS[options.edition]
    clips = options.data / "clips"
    store = opened(clips, options.clips, edition.size) if options.index == 0 else extend(clips)
    others = helpers(options) if options.index == 0 else []
    renderer = HeadRenderer(options.device, size=edition.size, supersampling=options.supersampling,
                            frames_at_once=options.at_once)  # fmt: skip
    if options.index == 0:
        held = mouth_tracks(spoken(options.corpus, "test"), seed=1)
        render(opened(options.data / "held", options.held, edition.size), range(options.held), held, "heldout",
               renderer=renderer, log=log, edition=edition)  # fmt: skip
    speech = mouth_tracks(spoken(options.corpus, "train"), seed=1)
    part = range(options.index, options.clips, options.processes)
    render(store, part, speech, "train", renderer=renderer, log=log, stop=stop, edition=edition,
           workers=options.workers, seed=options.seed)  # fmt: skip
    if any(process.wait() for process in others):
        raise SystemExit("a process that rendered its share failed; see its messages above")
    if options.index == 0:
        count = len(finished(store))
        log(f"{count} clips are there")
        Progress(0.0, 1.0, count, count == options.clips).write(options.data / "render_progress.json")


if __name__ == "__main__":
    main()
