"""What a sound asks of a mouth: how far it should be open, and whether anybody speaks.

The openness is a linear function of the loudness of bands of the spectrum, now and up to 0.2 s before and after. It was
fitted on synthetic and recorded speech in six languages whose phones are known (`training.evaluate.ear`), and has
nothing to do with any network that makes videos.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.sizes import SAMPLE_RATE, SAMPLES_PER_FRAME
from infinitetalk.evaluate.series import Floats
from infinitetalk.media.inputs import Wave

WEIGHTS: Final = Path(__file__).parent.parent / "assets" / "evaluate" / "ear.json"

BANDS: Final = 24
CONTEXT: Final = 5
"""Frames before and after that count."""
_WINDOW, _SIZE, _HOP = 400, 512, 160
_PARTS: Final = SAMPLES_PER_FRAME // _HOP
"""Spectra in a frame."""
_LEAST: Final = 1e-3
"""Power of a band that is as good as silence, for a voice at -23 LUFS."""
_LOUD: Final = -3.0
"""Mean logarithm of the bands' powers from which a frame tells what the recording's colour is."""
_BLOCK: Final = 500
"""Frames at a time."""
_QUIET: Final = 35.0
"""Decibels under a sound's loud moments where nobody speaks."""
_AROUND: Final = 5
"""Frames around speech that belong to it: mouths open early and close late."""


@dataclass(frozen=True, slots=True)
class Ear:
    """The linear function."""

    weights: Floats
    """((2 * CONTEXT + 1) * BANDS,)"""
    bias: float

    @staticmethod
    def read(path: Path = WEIGHTS) -> "Ear":
        """Reads it."""
        content = json.loads(path.read_text(encoding="utf-8"))
        return Ear(np.array(content["weights"], np.float32).reshape(-1), float(content["bias"]))


@cache
def _filters() -> Floats:
    """Triangles [BANDS, bins] that are as wide as the ear's, from 60 to 7600 Hz."""
    low, high = (2595 * float(np.log10(1 + hertz / 700)) for hertz in (60, 7600))
    edges = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(_SIZE, 1 / SAMPLE_RATE)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    return np.asarray(np.clip(np.minimum(rising, falling), 0, None), np.float32)


def bands(wave: Wave, first: int, last: int) -> Floats:
    """Logarithms of the bands' powers of video frames `first` to `last`, [last - first, BANDS]; silence outside."""
    begin, end = first * SAMPLES_PER_FRAME - (_WINDOW - _HOP) // 2, last * SAMPLES_PER_FRAME + (_WINDOW - _HOP) // 2
    inside = wave[max(0, begin) : max(0, end)]
    sound = np.pad(inside, (max(0, -begin), 0))
    sound = np.pad(sound, (0, end - begin - len(sound)))
    windows = np.lib.stride_tricks.sliding_window_view(sound, _WINDOW)[::_HOP] * np.hanning(_WINDOW).astype(np.float32)
    power = np.square(np.abs(np.fft.rfft(windows, _SIZE, axis=1))).astype(np.float32) @ _filters().T
    return np.asarray(np.log(power + _LEAST).reshape(last - first, _PARTS, BANDS).mean(1), np.float32)


def color(wave: Wave, frames: int) -> Floats:
    """The mean of the bands (BANDS,) where there is speech: what a microphone and a voice add to all of it."""
    total, count = np.zeros(BANDS, np.float64), 0
    for first in range(0, frames, _BLOCK):
        block = bands(wave, first, min(frames, first + _BLOCK))
        loud = block[block.mean(1) > _LOUD]
        total, count = total + loud.sum(0), count + len(loud)
    return np.asarray(total / max(1, count), np.float32)


def around(block: Floats) -> Floats:
    """Each frame's bands with those of its neighbours: [CONTEXT + F + CONTEXT, BANDS] → [F, 11 * BANDS]."""
    views = np.lib.stride_tricks.sliding_window_view(block, 2 * CONTEXT + 1, axis=0)  # [F, BANDS, 11]
    return np.ascontiguousarray(views.transpose(0, 2, 1).reshape(len(views), -1))


def openness(wave: Wave, frames: int, ear: Ear | None = None) -> Floats:
    """How far a mouth that says this should be open in each video frame, (F,): 0 closed, about 0.5 wide open."""
    ear = ear or Ear.read()
    usual = color(wave, frames)
    said = list[Floats]()
    for first in range(0, frames, _BLOCK):
        last = min(frames, first + _BLOCK)
        block = bands(wave, first - CONTEXT, last + CONTEXT) - usual
        said.append(around(block) @ ear.weights + np.float32(ear.bias))
    return np.concatenate(said) if said else np.zeros(0, np.float32)


def levels(wave: Wave, frames: int) -> Floats:
    """Decibels of full scale of the sound under each video frame, (F,)."""
    return np.concatenate([*_levels(wave, frames), np.zeros(0, np.float32)])


def _levels(wave: Wave, frames: int) -> Iterator[Floats]:
    for first in range(0, frames, _BLOCK):
        last = min(frames, first + _BLOCK)
        sound = wave[first * SAMPLES_PER_FRAME : last * SAMPLES_PER_FRAME]
        sound = np.pad(sound, (0, (last - first) * SAMPLES_PER_FRAME - len(sound)))
        power = np.square(sound.astype(np.float64)).reshape(last - first, SAMPLES_PER_FRAME).mean(1)
        yield (10 * np.log10(np.maximum(power, 1e-12))).astype(np.float32)


def silent(level: Floats) -> NDArray[np.bool_]:
    """Whether nobody speaks in each frame, nor 0.2 s before or after it, (F,), by the frames' `levels`."""
    if not len(level):
        return np.zeros(0, np.bool_)
    loud = level > max(-60.0, float(np.percentile(level, 95)) - _QUIET)
    near = np.convolve(loud, np.ones(2 * _AROUND + 1), "same") if len(level) > 2 * _AROUND else loud.astype(float)
    return np.asarray(near < 0.5)
