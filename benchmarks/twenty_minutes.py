"""One long video of nano: time, memory, borders and drift over its whole length, and a sheet of pictures to look at.

python -m benchmarks.twenty_minutes --voices FOLDER --out FOLDER [--seconds 1200] [--limit 540] [--device fastest]

Needs no PyAV: the portrait comes with the package, and FOLDER holds a split of the speech corpus (`test-*.npz`; reading
it needs soundfile). Its streams are said one after the other, again and again in other orders, until the video is full.
What is made is written every few seconds, so that a run that is stopped, or that reaches its limit of seconds, leaves
what it has. With OpenCV the pictures are stored too, as silent MPEG-4. Memory of this process is read on Linux alone.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray

from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import FPS, SAMPLE_RATE
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.protocols import Inputs, Picture, Waveform
from infinitetalk.engine.results import WindowResult
from infinitetalk.media.picture import StillSource, read_picture
from infinitetalk.runtime.cgroups import from_table
from infinitetalk.weights.locate import ASSETS
from training.evaluate.measures import changes, sharpness
from training.evaluate.sheets import Row, save
from training.speech.corpus import load

WINDOW: Final = 81
"""Frames of nano's windows."""
TRIED: Final = 3
"""Windows that each device makes to see which is the faster; the first one counts not."""
SEEN_EVERY: Final = 20
"""Seconds of video between pictures of the sheet."""
COLUMNS: Final = 12
WRITTEN_EVERY: Final = 10.0
"""Seconds of work between two times that the figures are written."""
STEEP: Final = 1.5
"""How many times as much as elsewhere may change where windows meet."""


class Repeated:
    """Streams said one after the other, each round in another order: a voice of any length that takes no memory."""

    def __init__(self, streams: Sequence[NDArray[np.int16]], samples: int, seed: int = 0) -> None:
        """Lays the streams out.

        Raises:
            ValueError: there is nothing to say.
        """
        if not any(map(len, streams)):
            raise ValueError("there is no stream with sound to repeat")
        self._streams, self._order, self._begins = streams, list[int](), [0]
        rng = np.random.default_rng(seed)
        while self._begins[-1] < samples:
            for index in rng.permutation(len(streams)).tolist():
                self._order.append(index)
                self._begins.append(self._begins[-1] + len(streams[index]))
        self._count, self._seed = samples, seed

    def begin(self, seconds: float) -> "Repeated":
        """So much of it from its beginning on, at most."""
        return Repeated(self._streams, min(self._count, round(seconds * SAMPLE_RATE)), self._seed)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, part: slice) -> Waveform:
        begin, end, _ = part.indices(self._count)
        found: list[Waveform] = [np.zeros(0, np.float32)]
        place = int(np.searchsorted(self._begins, begin, side="right")) - 1
        while begin < end:
            start, stream = self._begins[place], self._streams[self._order[place]]
            piece = stream[begin - start : end - start]
            found.append(piece.astype(np.float32) / np.float32(32768))
            begin, place = begin + len(piece), place + 1
        return np.concatenate(found)


@dataclass(frozen=True, slots=True)
class Talk:
    """A portrait and what it says: the engine's files."""

    picture: Picture
    voice: Repeated

    def open(self, request: TalkRequest) -> Inputs:  # noqa: ARG002 - the request names nothing that is a file
        """Both."""
        return Inputs(StillSource(self.picture), (self.voice,))

    def windows(self, model: str | Path, device: str, seconds: float) -> Iterator[WindowResult]:
        """The video, window after window."""
        engine = Engine.from_pretrained(model, device=device)
        request = TalkRequest(image=Path("portrait"), audio=(Path("voice"),), duration=seconds, seed=0)
        return Engine(engine.model, media=self).stream(request)


def fastest(talk: Talk, model: str | Path) -> tuple[str, dict[str, float]]:
    """The quicker of CPU and CUDA, and the seconds that each takes for a window."""
    found, voice = {}, talk.voice.begin(TRIED * WINDOW / FPS)
    for device in ("cuda", "cpu") if torch.cuda.is_available() else ("cpu",):
        times = []
        for _ in islice(Talk(talk.picture, voice).windows(model, device, TRIED * WINDOW / FPS), TRIED):
            times.append(time.perf_counter())
        found[device] = round((times[-1] - times[0]) / (len(times) - 1), 4)
    return min(found, key=found.__getitem__), found


class Film:
    """The pictures as MPEG-4 without sound, where OpenCV is; nowhere else."""

    def __init__(self, path: Path) -> None:
        try:
            import cv2
        except ImportError:
            self._codec = None
        else:
            self._codec = cv2
        self._path = path
        self._writer: Any = None

    def write(self, pictures: NDArray[np.uint8]) -> None:
        """Adds pictures [F, height, width, 3]."""
        if self._codec is None:
            return
        if self._writer is None:
            code = self._codec.VideoWriter.fourcc(*"mp4v")
            self._writer = self._codec.VideoWriter(str(self._path), code, FPS, pictures.shape[2:0:-1])
        for picture in pictures:
            self._writer.write(np.ascontiguousarray(picture[..., ::-1]))

    def close(self) -> None:
        """Ends the file."""
        if self._writer is not None:
            self._writer.release()


@dataclass
class Record:
    """What is known of the video so far, and where it is written."""

    folder: Path
    facts: dict[str, Any]
    started: float = field(default_factory=time.perf_counter)
    rows: list[dict[str, Any]] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    """Mean differences between neighbouring frames inside of windows, of 255 shades."""
    seen: list[Picture] = field(default_factory=list)

    def add(self, window: WindowResult) -> NDArray[np.uint8]:
        """Takes a window's figures and, if it is time, a picture of it; gives its pictures."""
        pictures = window.rgb()
        status = Path("/proc/self/status")
        first, after = window.first_frame, window.first_frame + len(pictures)
        self.rows.append({
            "window": window.index,
            "first_frame": first,
            "frames": len(pictures),
            "wall_seconds": round(time.perf_counter() - self.started, 2),
            "rss_mb": round(from_table(status, "VmRSS:") / 1e6, 1),
            "peak_rss_mb": round(from_table(status, "VmHWM:") / 1e6, 1),
            "peak_vram_mb": round(torch.cuda.max_memory_allocated() / 1e6, 1) if torch.cuda.is_available() else 0,
            "border": window.drift.border,
            "motion": window.drift.motion,
            "color_made": window.drift.color_made,
            "color_shown": window.drift.color_shown,
            "sharpness": round(sharpness(pictures), 3),
        })  # fmt: skip
        self.steps += changes(pictures).tolist()
        step = SEEN_EVERY * FPS
        # Copies: a view would keep all of its window's pictures.
        self.seen += [pictures[place - first].copy() for place in range(-(-first // step) * step, after, step)]
        return pictures

    def summary(self) -> dict[str, Any]:
        """The figures of the whole video; memory is compared between its first tenth and its end."""
        rows, tenth = self.rows, self.rows[len(self.rows) // 10]
        usual = float(np.median([row["motion"] for row in rows if row["motion"] is not None] or [np.nan]))
        borders = [row["border"] / usual for row in rows if row["border"] is not None]
        inside = [value / usual for value in self.steps]
        frames = sum(row["frames"] for row in rows)
        return {
            "frames": frames,
            "seconds": frames / FPS,
            "windows": len(rows),
            "wall_seconds": rows[-1]["wall_seconds"],
            "wall_seconds_per_video_second": round(rows[-1]["wall_seconds"] / (frames / FPS), 3),
            "peak_rss_mb": {"first_tenth": tenth["peak_rss_mb"], "end": rows[-1]["peak_rss_mb"]},
            "peak_vram_mb": {"first_tenth": tenth["peak_vram_mb"], "end": rows[-1]["peak_vram_mb"]},
            "border_over_motion": _spread(borders) | _steep(borders),
            "inside_over_motion": _spread(inside) | _steep(inside),
            "color_made": _spread([row["color_made"] for row in rows]),
            "color_shown": _spread([row["color_shown"] for row in rows]),
            "sharpness": {name: round(float(np.mean([row["sharpness"] for row in part])), 3)
                          for name, part in (("first_tenth", rows[: len(rows) // 10 + 1]),
                                             ("last_tenth", rows[-(len(rows) // 10 + 1) :]))},
        }  # fmt: skip

    def write(self, *, complete: bool) -> None:
        """Replaces the files by what is known now."""
        columns: dict[str, list[Any]] = {name: [row[name] for row in self.rows] for name in self.rows[0]}
        content = {**self.facts, "complete": complete, **self.summary(), "windows_one_by_one": columns}
        # One line for each list: a list of numbers line by line would be thousands of lines.
        text = json.dumps(content, indent=1)
        for values in columns.values():
            text = text.replace(json.dumps(values, indent=1).replace("\n", "\n  "), json.dumps(values))
        draft = self.folder / "figures.json.part"
        draft.write_text(text + "\n", encoding="utf-8")
        draft.replace(self.folder / "figures.json")
        rows = [Row(self.seen[place : place + COLUMNS], f"{place * SEEN_EVERY // 60}:{place * SEEN_EVERY % 60:02d}")
                for place in range(0, len(self.seen), COLUMNS)]  # fmt: skip
        save(self.folder / "sheet.jpg", rows, cell=96, quality=80, margin=44)


def _steep(values: Sequence[float]) -> dict[str, float]:
    """How many are steep, and their share: borders show where theirs is larger than that of all other frames."""
    count = sum(value > STEEP for value in values)
    return {"over_1.5": count, "share_over_1.5": round(count / max(1, len(values)), 4)}


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    found = np.asarray(values, np.float64)
    if not len(found):
        return {"median": None, "p95": None, "largest": None}
    figures = {"median": np.median(found), "p95": np.percentile(found, 95), "largest": found.max()}
    return {name: round(float(value), 3) for name, value in figures.items()}


@dataclass(frozen=True, slots=True)
class Options:
    """What is to be made."""

    out: Path
    model: str | Path = "nano"
    device: str = "fastest"
    seconds: float = 1200.0
    limit: float = 540.0

    @classmethod
    def of(cls, given: argparse.Namespace) -> Self:
        """From the command line."""
        return cls(given.out, given.model, given.device, given.seconds, given.limit)


def run(talk: Talk, options: Options) -> dict[str, Any]:
    """Makes the video within the limit, and gives the summary."""
    options.out.mkdir(parents=True, exist_ok=True)
    begun, device, tried = time.perf_counter(), options.device, dict[str, float]()
    if device == "fastest":
        device, tried = fastest(talk, options.model)
        _say(f"seconds for a window: {tried}; {device} is taken")
    card = torch.cuda.get_device_name() if device == "cuda" else None
    facts = {"model": str(options.model), "device": device, "card": card, "torch": torch.__version__,
             "threads": torch.get_num_threads(), "seconds_for_a_window": tried}  # fmt: skip
    film, record, written = Film(options.out / "talk.mp4"), Record(options.out, facts), 0.0
    complete = False
    try:
        for window in talk.windows(options.model, device, options.seconds):
            film.write(record.add(window))
            complete, now = window.index + 1 == window.count, time.perf_counter()
            if complete or now - written > WRITTEN_EVERY:
                record.write(complete=complete)
                _say(f"window {window.index + 1} of {window.count}, {record.rows[-1]['wall_seconds']} s")
                written = now
            if not complete and now - begun > options.limit:
                record.write(complete=False)
                _say(f"stopped at the limit of {options.limit} s")
                break
    finally:
        film.close()
    return record.summary() | {"complete": complete}


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def main(words: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voices", type=Path, required=True, help="folder with test-*.npz of the speech corpus")
    parser.add_argument("--out", type=Path, required=True, help="folder for figures.json, sheet.jpg and talk.mp4")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--portrait", type=Path, default=ASSETS / "demo" / "portrait_1.png")
    parser.add_argument("--seconds", type=float, default=1200.0, help="of video")
    parser.add_argument("--limit", type=float, default=540.0, help="of work, after which what is there is kept")
    parser.add_argument("--device", default="fastest", choices=("fastest", "cpu", "cuda"))
    given = parser.parse_args(words)
    streams = [utterance.audio for utterance in load(given.voices, ("test",))]
    talk = Talk(read_picture(given.portrait), Repeated(streams, round(given.seconds * SAMPLE_RATE)))
    summary = run(talk, Options.of(given))
    sys.stdout.write(f"{json.dumps(summary)}\n")


if __name__ == "__main__":
    main()
