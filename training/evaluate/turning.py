"""Measures frames between frames: `python -m training.evaluate.turning OUT.json`.

Held-out rendered heads speak and turn at 50 frames a second. Every second frame is left out and made from its
neighbours, by optical flow and by mixing; the gain is by how many decibels the flow comes nearer to the true frame.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from infinitetalk.media.interpolation import Between
from training.evaluate.report import Check, write
from training.heads.dataset import ClipOptions, sample_clip
from training.heads.example import babble_tracks
from training.heads.motion import Motion
from training.heads.render import HeadRenderer

RATE: Final = 50
REACH: Final = 15.0
"""Degrees to each side, between which a head turns to and fro."""
FRAMES: Final = 7
SIZES: Final = (128, 192, 256)
SPEEDS: Final = (20.0, 25.0, 30.0, 40.0, 60.0)
"""Degrees a second."""
BOUND: Final = 2.0


def turning_head(index: int, frames: int, size: int, speed: float) -> NDArray[np.uint8]:
    """A held-out head that speaks and turns to and fro by so many degrees a second, at 50 frames a second."""
    options = ClipOptions(frames=frames + 1, people=(1.0, 0.0, 0.0))
    spec = sample_clip(babble_tracks(4, 10.0, seed=1), index, seed=7, split="heldout", options=options).spec
    person, time = spec.people[0], np.arange(frames) / RATE

    def at_rate(values: NDArray[np.float32]) -> NDArray[np.float32]:
        known = np.arange(len(values) - 1) / 25
        return np.stack([np.interp(time, known, column[:-1]) for column in values.T], axis=1).astype(np.float32)

    pose = at_rate(person.motion.pose)
    quarter = np.pi / 2
    pose[:, 0] = np.radians(REACH) / quarter * np.arcsin(np.sin(time * speed / REACH * quarter))
    moving = Motion(at_rate(person.motion.weights), pose, at_rate(person.motion.sway))
    turned = replace(spec, people=(replace(person, motion=moving),))
    return HeadRenderer(size=size).render(turned).frames.numpy()


def gain(frames: NDArray[np.uint8]) -> float:
    """Decibels by which frames made between every second one are nearer to the true ones than mixed ones are."""
    flow = linear = 0.0
    for number in range(1, len(frames), 2):
        before, true, after = frames[number - 1 : number + 2].astype(np.float64)
        made = Between(frames[number - 1], frames[number + 1]).at(0.5)
        linear += float(np.mean(((before + after) / 2 - true) ** 2))
        flow += float(np.mean((made - true) ** 2))
    return float(10 * np.log10(linear / flow))


def any_speed(index: int) -> float:
    """A head's own speed: evenly spread over 20 to 60 degrees a second."""
    return float(np.random.default_rng(index).uniform(SPEEDS[0], SPEEDS[-1]))


def measure(size: int, heads: int, speed: float | None) -> Check:
    """The mean gain of several heads at a size and a speed; without one, each has its own."""
    gains = [gain(turning_head(index, FRAMES, size, speed or any_speed(index))) for index in range(heads)]
    named = f"{speed:g}" if speed else f"{SPEEDS[0]:g} to {SPEEDS[-1]:g}"
    note = f"of {heads}; lowest {min(gains):.2f}"
    return Check(f"{size} pixels, {named} degrees a second", float(np.mean(gains)), ">=", BOUND, note)


def main(words: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--heads", type=int, default=12)
    given = parser.parse_args(words)
    checks = list[Check]()
    for size in SIZES:
        for speed in (*SPEEDS, None):
            checks.append(measure(size, given.heads, speed))
            sys.stdout.write(checks[-1].line() + "\n")
            sys.stdout.flush()
            write(given.out, checks, {})


if __name__ == "__main__":
    main()
