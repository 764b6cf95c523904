"""Measures long videos and dubbed ones: `python -m training.evaluate.dubbing MODEL CORPUS OUT`.

Many windows in a row: how much changes where they meet, and how far colours stray. Dubbing by SDEdit: whether the
background moves as the source's does, in footage of held-out heads that a hand-held camera follows.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import FPS, SAMPLES_PER_FRAME, Pixels
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.protocols import Inputs, Picture, Waveform
from infinitetalk.evaluate.series import correlation
from training.evaluate import measures, sheets
from training.evaluate.bench import ADDED, WINDOW
from training.evaluate.report import Check, write
from training.evaluate.scenes import ALONE, CHAIN, Floats, Studio
from training.evaluate.videos import Still, Video
from training.heads.dataset import ClipOptions, sample_clip
from training.heads.render import ClipSpec, HeadRenderer

FIRST: Final = 8000
"""Where the footage's people begin among the held-out ones."""
SIDE, LARGE = 128, 192
"""Pixels of the footage, and of the pictures that the camera moves over."""
PATCHES, FARTHER = 24, 0.75
STRENGTH: Final = 0.3
FLOW: Final = 0.8
BORDER: Final = 1.5
DRIFT: Final = 2.0


@dataclass(frozen=True, slots=True)
class Footage:
    """A video in memory as the engine's source, and the voice to dub it with."""

    frames: Video
    person: NDArray[np.bool_]
    """Where the person is in each frame, [F, height, width]"""
    voice: Waveform

    @property
    def size(self) -> Pixels:
        """Height and width."""
        return Pixels(*self.frames.shape[1:3])

    def frame_at(self, seconds: float) -> Picture:
        """The frame of a time."""
        return self.frame_index(round(seconds * FPS))

    def frame_index(self, index: int) -> Picture:
        """The frame of a number."""
        frame: Picture = self.frames[min(index, len(self.frames) - 1)]
        return frame

    def open(self, request: TalkRequest) -> Inputs:  # noqa: ARG002 - whatever the request names
        """The frames and the voice."""
        return Inputs(self, (self.voice,))


@dataclass(frozen=True, slots=True)
class Bench:
    """The model and where results go."""

    engine: Engine
    studio: Studio
    out: Path
    details: dict[str, object] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """Tells how far the work is."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def many_windows(bench: Bench, count: int) -> list[Check]:
    """One portrait and the unseen voices, one after the other, for so many windows."""
    length = WINDOW + (count - 1) * ADDED
    scene = next(bench.studio.scenes("chain", CHAIN, 1, WINDOW))
    spoken = np.concatenate([item.audio for item in bench.studio.unseen])[: length * SAMPLES_PER_FRAME]
    voice = spoken.astype(np.float32) / np.float32(32768)
    request = TalkRequest(image=Path("picture"), audio=(Path("voice"),), duration=length / FPS, seed=0)
    parts, rows, starts = list[Video](), list[dict[str, float]](), list[int]()
    for window in Engine(bench.engine.model, media=Still(scene.picture, voice)).stream(request):
        parts.append(window.rgb())
        drift = window.drift
        starts.append(window.first_frame)
        rows.append({"first_frame": window.first_frame, "made": drift.color_made, "shown": drift.color_shown})
        bench.say(f"window {window.index + 1} of {window.count}: {drift}")
    video = np.concatenate(parts)
    borders = measures.borders(video, starts)
    bench.details["windows"] = rows
    bench.details["borders"] = np.round(borders, 3).tolist()
    shown = [sheets.Row([*part[:: max(1, len(part) // 12)][:12]], f"{number + 1}") for number, part in enumerate(parts)]
    sheets.save(bench.out / "windows.jpg", shown, cell=96, margin=28)
    made, kept = (max(row[name] for row in rows) for name in ("made", "shown"))
    note = f"of {len(rows)} windows; before colours are matched {made:.2f}"
    return [
        Check("change at a border relative to the median, largest", float(borders.max()), "<=", BORDER,
              f"median {np.median(borders):.2f}, of {len(borders)}"),
        Check("distance of colours from the portrait's (Delta E), largest", kept, "<=", DRIFT, note),
    ]  # fmt: skip


def in_a_room(spec: ClipSpec, rng: np.random.Generator) -> ClipSpec:
    """The same person farther away, before patches of light and dark: plain walls show no camera's motion."""
    (person,) = spec.people
    spots = np.zeros((PATCHES, 7), np.float32)
    spots[:, :2] = rng.uniform(0, 1, (PATCHES, 2))
    spots[:, 2:4] = rng.uniform(0.05, 0.15, (PATCHES, 2))
    spots[:, 4:] = rng.uniform(-0.3, 0.3, (PATCHES, 1))
    place = replace(person.place, zoom=person.place.zoom * FARTHER)
    return replace(spec, people=(replace(person, place=place),), background=replace(spec.background, spots=spots))


def footage(studio: Studio, index: int, frames: int, *, room: bool = True) -> Footage:
    """A held-out head that speaks, seen by a camera that sways, and another voice."""
    sampled = sample_clip(
        studio.mouths, index, seed=0, split="heldout", options=ClipOptions(frames=frames, people=ALONE)
    )
    rng, time = np.random.default_rng(index), np.arange(frames) / FPS
    clip = HeadRenderer(size=LARGE).render(in_a_room(sampled.spec, rng) if room else sampled.spec)
    margin = (LARGE - SIDE) / 2
    path = np.zeros((frames, 2))
    for seconds, share in ((1.6, 0.5), (2.9, 0.3)):
        path += share * margin * np.sin(2 * np.pi * (time[:, None] / seconds + rng.uniform(size=2)))
    pictures, people = clip.frames.numpy()[:frames], clip.person_map.numpy()[:frames]
    seen = [_crop(picture, place + margin) for picture, place in zip(pictures, path, strict=True)]
    where = [_crop(person, place + margin) > 0 for person, place in zip(people, path, strict=True)]
    other = studio.unseen[(sampled.utterance[0] + 1) % len(studio.unseen)].audio[: frames * SAMPLES_PER_FRAME]
    return Footage(np.stack(seen), np.stack(where), other.astype(np.float32) / np.float32(32768))


def _crop(picture: NDArray[np.uint8], corner: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A part of a picture from a place between its pixels on (right, down)."""
    move = np.array([[1, 0, -corner[0]], [0, 1, -corner[1]]], np.float32)
    return np.asarray(cv2.warpAffine(picture, move, (SIDE, SIDE), flags=cv2.INTER_CUBIC), np.uint8)


def flows(video: Video) -> Iterator[Floats]:
    """Motion from each frame to the next, [height, width, 2]."""
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in video]
    for one, two in pairwise(grey):
        yield np.asarray(finder.calc(one, two, np.zeros((*one.shape, 2), np.float32)), np.float32)


def agreement(source: Footage, made: Video) -> tuple[float, float]:
    """Correlation of the background's motion with the source's: of each frame's mean, and pixel by pixel."""
    pixels: tuple[list[Floats], list[Floats]] = ([], [])
    means: tuple[list[Floats], list[Floats]] = ([], [])
    for number, both in enumerate(zip(flows(source.frames[: len(made)]), flows(made), strict=True)):
        where = measures.background(source.person[number] | source.person[number + 1])
        for flow, one, mean in zip(both, pixels, means, strict=True):
            one.append(flow[where].ravel())
            mean.append(flow[where].mean(axis=0))
    return correlation(*map(np.concatenate, means)), correlation(*map(np.concatenate, pixels))


def dubbed(bench: Bench, count: int) -> list[Check]:
    """Footage dubbed by SDEdit; to compare, without it, and before plain walls."""
    rows, shown = list[dict[str, float]](), []
    for index in range(FIRST, FIRST + count):
        row: dict[str, float] = {}
        for name, strength, room in (("room", STRENGTH, True), ("made anew", 1.0, True), ("wall", STRENGTH, False)):
            source = footage(bench.studio, index, WINDOW, room=room)
            request = TalkRequest(
                video=Path("footage"), audio=(Path("voice"),), strength=strength, seed=0, duration=WINDOW / FPS
            )
            made = Engine(bench.engine.model, media=source).generate(request).rgb()
            row[name], row[f"{name} by pixels"] = agreement(source, made)
            shown += [sheets.Row([*source.frames[::8]], "source"), sheets.Row([*made[::8]], f"{strength}")]
        rows.append(row)
        bench.say(f"footage {index}: { ({name: round(value, 3) for name, value in row.items()}) }")
    bench.details["footage"] = rows
    sheets.save(bench.out / "dubbed.jpg", shown, cell=96, margin=60)
    mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    lowest = min(row["room"] for row in rows)
    return [
        Check(f"strength {STRENGTH}: motion of the background with the source's, mean r", mean["room"],
              ">=", FLOW, f"of {count}; lowest {lowest:.2f}; with strength 1 {mean['made anew']:.2f}"),
        Check(f"strength {STRENGTH}: the same pixel by pixel", mean["room by pixels"],
              note=f"with strength 1 {mean['made anew by pixels']:.2f}"),
        Check(f"strength {STRENGTH}: the same before plain walls, of which little is seen", mean["wall"],
              note=f"pixel by pixel {mean['wall by pixels']:.2f}"),
    ]  # fmt: skip


def main(words: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model folder, or nano for the bundled one")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--windows", type=int, default=12)
    parser.add_argument("--footage", type=int, default=4, help="dubbed videos")
    given = parser.parse_args(words)
    given.out.mkdir(parents=True, exist_ok=True)
    studio = Studio.open(given.out / "scenes", given.corpus)
    bench = Bench(Engine.from_pretrained(given.model, given.device), studio, given.out)
    checks = list[Check]()
    for measure, amount in ((dubbed, given.footage), (many_windows, given.windows)):
        checks += measure(bench, amount) if amount else []
        write(given.out / "dubbing.json", checks, bench.details)
    bench.say("\n" + "\n".join(check.line() for check in checks))


if __name__ == "__main__":
    main()
