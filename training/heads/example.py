"""Made-up speech for checks, contact sheets and tests: random syllables with pauses, no sound behind them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.heads.tracks import FRAME_RATE, tracks
from training.heads.visemes import CLASS_INDEX, SILENCE, Segment

_CONSONANTS = ("P", "B", "M", "F", "V", "T", "D", "N", "L", "S", "SH", "K", "R", "W", "TH")
_VOWELS = ("AA", "AE", "AH", "AO", "AY", "EH", "EY", "IH", "IY", "OW", "UW", "AX")


def babble(rng: np.random.Generator, seconds: float) -> list[Segment]:
    """Syllables of 0.12 to 0.35 s in phrases of three to nine, pauses between phrases."""
    segments: list[Segment] = []
    time = 0.0
    left = 0
    while time < seconds:
        if left == 0:
            pause = rng.uniform(0.15, 0.6)
            segments.append(Segment(CLASS_INDEX[SILENCE], time, time + pause))
            time, left = time + pause, int(rng.integers(3, 10))
        for sounds, low, high in ((_CONSONANTS, 0.05, 0.11), (_VOWELS, 0.07, 0.24)):
            length = rng.uniform(low, high)
            segments.append(Segment(CLASS_INDEX[str(rng.choice(sounds))], time, time + length))
            time += length
        left -= 1
    return segments


def babble_tracks(count: int, seconds: float, seed: int) -> list[NDArray[np.float32]]:
    """Mouth tracks ``[25 seconds, 52]`` of ``count`` made-up speakers."""
    speakers = [np.random.default_rng([seed, index]) for index in range(count)]
    frames = int(seconds * FRAME_RATE)
    return [tracks(babble(rng, seconds), frames, rng, float(rng.uniform(0.95, 1.3))) for rng in speakers]
