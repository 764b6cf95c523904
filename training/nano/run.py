"""nano's whole training on one GPU: `python -m training.nano.run DATA OUT --seconds 520`, again and again until done.

A call does what is missing of the stages below, stops by itself when its seconds are over, and copies what there is to
OUT: weights in files below 16 MB, contact sheets, and `notes.zip` with configurations, progress and logs. DATA must
outlast the calls (about 25 GB, best in memory). `--from-trained FOLDER` brings parts that need no training any more
(`vae-1.safetensors`, `vae_config.json`; `speech.safetensors`, `speech_config.json`), or a half trained transformer
(`dit-*.safetensors`, `dit_progress.json`). `--pilot 320x8 384x6` compares transformers for half a minute each and takes
the best. Each stage's share of one H100's time:

    stage    seconds   does
    speech       300   trains the speech encoder
    render       130   draws clips in several processes, as many as there is time for
    vae          400   trains the video VAE
    encode       105   turns clips into latents and speech into features
    dit          415   trains the transformer
    distil             teaches it to make in few steps what it makes in many (second edition only)
    export        20   puts the model folder together, as a check

With `--edition 2` pictures have 192 pixels, and `--start FOLDER` holds parts of an earlier edition with which the VAE
and the transformer begin (`python -m training.nano.unpack nano FOLDER vae dit`).

Every stage has the GPU for itself: side by side, two stages take longer than one after the other.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from training.checkpoint import Progress
from training.clock import RunLog
from training.nano.pictures import FOLDER
from training.nano.settings import EDITIONS, VAES

STARTING = 20.0
"""Seconds that a process needs before its training begins."""
FINISHING = 25.0
"""Seconds that a training needs to write its weights and show them, and this program to copy them."""
SHORTEST = 20.0
"""Seconds of work for which starting a process is worth while."""
GRACE = 15.0
"""Seconds after which a process that should have stopped by itself is ended."""
WEIGHTS = ("few-*.safetensors", "dit-*.safetensors", "vae-*.safetensors", "speech.safetensors")
SHEETS, NOTES = (
    ("few_sheet.jpg", "dit_sheet.jpg", "vae_sheet.jpg"),
    ("*_config.json", "*_progress.json", "*_scores.json", "*.txt"),
)

DISTIL = "few"
"""The stage that `training.nano.distil` does, under the name of its files."""

GIVEN = {"vae": ("vae-*.safetensors", "vae_config.json"), "speech": ("speech.safetensors", "speech_config.json"),
         "dit": ("dit-*.safetensors", "dit_config.json", "dit_progress.json")}  # fmt: skip
"""Files of parts that were trained elsewhere."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A process of the plan."""

    name: str
    command: tuple[str, ...]
    """module and arguments"""
    seconds: float
    """of work in all"""
    splits: bool
    """whether it can stop early and go on in the next call, by `--at-most`"""
    enough: bool = False
    """whether it is done when its time is over, finished or not"""

    def least(self, data: Path) -> float:
        """Seconds that a call must still have for it to begin."""
        spent = progress.spent if (progress := Progress.read(data / f"{self.name}_progress.json")) else 0.0
        return STARTING + FINISHING + (min(SHORTEST, self.seconds - spent) if self.splits else self.seconds)

    def start(self, left: float, *more: str) -> subprocess.Popen[bytes]:
        """Starts it in a call that lasts so many seconds more."""
        most = left - STARTING - FINISHING
        limit = ("--at-most", f"{min(self.seconds, most) if self.enough else most:.0f}") if self.splits else ()
        return subprocess.Popen([sys.executable, "-u", "-m", *self.command, *limit, *more], start_new_session=True)


def plan(options: argparse.Namespace) -> list[Stage]:
    """Stages in order."""
    data, corpus = str(options.data), str(options.corpus)
    device, sound = ("--device", options.device), ("--corpus", str(options.corpus))

    def budget(seconds: float) -> tuple[str, str]:
        return "--seconds", f"{seconds:.0f}"

    edition = ("--edition", options.edition)
    start = ("--start", str(options.start)) if options.start else ()
    few = EDITIONS[options.edition].audio_scale == 1
    pictures = ("--pictures", str(options.corpus / FOLDER)) if EDITIONS[options.edition].varied else ()
    speech = ("training.speech.train", corpus, data, *budget(options.speech_seconds), *options.speech_options.split())
    render = ("training.nano.make_data", data, *sound, "--clips", str(options.clips), "--held", str(options.held),
              "--processes", str(options.processes), *edition, *options.render_options.split())  # fmt: skip
    vae = ("training.nano.train_vae", data, data, *budget(options.vae_seconds), *edition, *start,
           *(("--config", options.vae) if options.vae else ()), "--clips", str(options.vae_clips),
           *pictures)  # fmt: skip
    dit = ("training.nano.train_dit", data, data, *budget(options.dit_seconds), *edition, *start,
           *options.dit_options.split())  # fmt: skip
    distil = ("training.nano.distil", data, data, *budget(options.distil_seconds), *edition)
    compare = ("training.nano.compare", data, *options.pilot)
    export = ("training.nano.export", data, str(options.data / "nano"), *edition, *(("--dit", "few") if few else ()))
    return [
        Stage("speech", (*speech, *device), options.speech_seconds, splits=False),
        Stage("render", (*render, *device), options.render_seconds, splits=True, enough=True),
        Stage("vae", (*vae, *device), options.vae_seconds, splits=True),
        Stage("encode", ("training.nano.encode", data, *sound, *device, *pictures), options.encode_seconds, splits=True,
              enough=few),
        *([Stage("pilot", (*compare, *device), 75.0 * len(options.pilot), splits=False)] if options.pilot else []),
        Stage("dit", (*dit, *device), options.dit_seconds, splits=True),
        *([Stage(DISTIL, (*distil, *device), options.distil_seconds, splits=True)] if few else []),
        Stage("export", export, 20.0, splits=False),
    ]  # fmt: skip


class Run:
    """One call: what is done, how much time is left, and the log."""

    def __init__(self, data: Path, out: Path, seconds: float) -> None:
        self.data, self.out = data, out
        self._end = time.monotonic() + seconds
        self.log = RunLog(data / "run_log.txt")
        self.given: set[str] = set()

    @property
    def left(self) -> float:
        """Seconds of this call."""
        return self._end - time.monotonic()

    def done(self, stage: Stage) -> bool:
        """Whether a stage has done all its work."""
        return (self.data / f"{stage.name}.done").exists()

    def mark(self, name: str) -> None:
        """Notes that a stage has done all its work."""
        (self.data / f"{name}.done").touch()

    def take(self, folder: Path, *, again: Sequence[str]) -> None:
        """Copies trained parts that are not there yet; the parts in `again` are trained though they are given."""
        for part, patterns in GIVEN.items():
            found = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
            if len(found) < len(patterns) or part in again:
                continue
            for path in found:
                if part == "dit" and (self.data / path.name).exists():
                    continue
                shutil.copyfile(path, self.data / path.name)
            if part != "dit":
                self.given.add(part)
                self.mark(part)
            self.log(f"{part} is taken from {folder}")

    def work(self, stage: Stage) -> bool:
        """Works on a stage as long as there is time; True if it is done."""
        if self.done(stage):
            return True
        if self.left < stage.least(self.data):
            return False
        begun, left = time.monotonic(), self.left
        code = self._wait(stage.start(left))
        if code and stage.name == "dit" and self.left >= stage.least(self.data):
            self.log("dit failed; once more without what makes it fastest")
            code = self._wait(stage.start(self.left, "--careful"))
        self.log(f"{stage.name}: {time.monotonic() - begun:.0f} s, exit code {code}")
        if code:
            raise SystemExit(f"stage {stage.name} failed with exit code {code}; its messages are above")
        if self._complete(stage, left):
            self.mark(stage.name)
        self.copy()
        return self.done(stage)

    def _complete(self, stage: Stage, left: float) -> bool:
        """Whether a stage that ended well has done all its work."""
        progress = Progress.read(self.data / f"{stage.name}_progress.json")
        whole = stage.enough and left - STARTING - FINISHING >= stage.seconds
        return whole or not stage.splits or (progress is not None and progress.done)

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        """Its exit code, in the end by force: what it saved a minute ago is still there."""
        try:
            return process.wait(self.left + GRACE)
        except subprocess.TimeoutExpired:
            self.log(f"{process.args!r} did not stop in time")
            os.killpg(process.pid, signal.SIGKILL)
            return process.wait()

    def copy(self) -> None:
        """Copies what there is to OUT, given parts excepted."""
        self.out.mkdir(parents=True, exist_ok=True)
        taught = any(self.data.glob(WEIGHTS[0]))  # then its teacher is not needed any more
        for pattern in (*WEIGHTS, *SHEETS):
            if not pattern.startswith(tuple(self.given)) and not (taught and pattern == WEIGHTS[1]):
                for path in sorted(self.data.glob(pattern)):
                    shutil.copyfile(path, self.out / path.name)
        with zipfile.ZipFile(self.out / "notes.zip", "w", zipfile.ZIP_DEFLATED) as file:
            for path in sorted(path for pattern in NOTES for path in self.data.glob(pattern)):
                file.write(path, path.name)


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=520, help="of this call")
    parser.add_argument("--from-trained", type=Path, help="folder with parts that are trained already")
    parser.add_argument("--again", nargs="*", default=[], choices=("vae", "speech"), help="train though given")
    parser.add_argument("--corpus", type=Path, default=Path(".corpus"))
    parser.add_argument("--clips", type=int, default=8000, help="the most to render")
    parser.add_argument("--held", type=int, default=32, help="held-out clips")
    parser.add_argument("--processes", type=int, default=4, help="that render")
    parser.add_argument("--edition", choices=tuple(EDITIONS), default="1")
    parser.add_argument("--start", type=Path, help="folder with an earlier edition's parts to begin with")
    parser.add_argument("--vae", choices=tuple(VAES), help="default the edition's")
    parser.add_argument("--vae-clips", type=int, default=4000, help="the most that the VAE trains on")
    parser.add_argument("--pilot", nargs="*", default=[], help="transformers to compare first: NAME or NAME@RATE")
    parser.add_argument("--speech-options", default="", help="of training.speech.train, in one string after =")
    parser.add_argument("--render-options", default="", help="of training.nano.make_data, in one string after =")
    parser.add_argument("--dit-options", default="--graph", help="of training.nano.train_dit, in one string after =")
    for stage, seconds in {"speech": 300, "render": 130, "vae": 400, "encode": 105, "dit": 415, "distil": 150}.items():
        parser.add_argument(f"--{stage}-seconds", type=float, default=seconds)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def main() -> None:
    """Does what fits into this call."""
    options = read_options()
    options.data.mkdir(parents=True, exist_ok=True)
    run = Run(options.data, options.out, options.seconds)
    if options.from_trained:
        run.take(options.from_trained, again=options.again)
    try:
        finished = all(run.work(stage) for stage in plan(options))
    finally:
        run.copy()
    run.log("everything is done" if finished else "time is up: give the same command again")


if __name__ == "__main__":
    main()
