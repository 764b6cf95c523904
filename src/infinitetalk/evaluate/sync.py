"""Lip sync: the correlation of what a sound asks of a mouth with what the mouth does, for every lag between them."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from infinitetalk.core.sizes import FPS
from infinitetalk.evaluate.series import Floats, correlation, filled, smoothed

REACH: Final = 15
"""Frames of the largest lag."""
_SLOW: Final = 51
"""Frames over which slow changes are taken out: they have no time."""
_PIECE: Final = 12
"""Frames of the pieces that are put in another order."""
_ORDERS: Final = 20
SHORTEST: Final = 2 * REACH + 10
"""Frames that a video must last to be judged."""


@dataclass(frozen=True, slots=True)
class Sync:
    """How lips and sound go together."""

    peak: float
    """The highest correlation, -1 to 1."""
    offset_ms: float
    """The lag of it: above 0 the lips come after the sound, below 0 before it."""
    together: float
    """The correlation without a lag."""
    control: float
    """The peak that the same lips reach, on average, with the same sound in a random order."""
    lags_ms: tuple[float, ...]
    curve: tuple[float, ...]
    """The correlation for each lag."""
    control_curve: tuple[float, ...]
    """The same for the sound in one of those orders."""


def measure(shown: Floats, heard: Floats) -> Sync | None:
    """Compares lips with a sound.

    Args:
        shown: openness of the lips, (F,), not a number where there is no face.
        heard: the openness that the sound asks for, (F,).

    Returns:
        None if that is too short, or if no face is in half of the frames.
    """
    count = min(len(shown), len(heard))
    if count < SHORTEST or np.isfinite(shown[:count]).mean() < 0.5:
        return None
    lips, sound = _quick(filled(shown[:count])), _quick(heard[:count])
    curve = _curve(lips, sound)
    best, offset = _top(curve)
    others = [_curve(lips, _shuffled(sound, seed)) for seed in range(_ORDERS)]
    return Sync(
        peak=best,
        offset_ms=offset * 1000 / FPS,
        together=float(curve[REACH]),
        control=float(np.mean([other.max() for other in others])),
        lags_ms=tuple(lag * 1000 / FPS for lag in range(-REACH, REACH + 1)),
        curve=tuple(map(float, curve)),
        control_curve=tuple(map(float, others[0])),
    )


def _quick(values: Floats) -> Floats:
    return values - smoothed(values, _SLOW)


def _curve(lips: Floats, sound: Floats) -> Floats:
    """Correlations [2 * REACH + 1] from the lips REACH frames before the sound to REACH after it."""
    middle = sound[REACH:-REACH]
    return np.array([correlation(lips[lag : lag + len(middle)], middle) for lag in range(2 * REACH + 1)], np.float32)


def _top(curve: Floats) -> tuple[float, float]:
    """The highest value and its lag in frames, between frames by a parabola."""
    at = int(curve.argmax())
    if not 0 < at < len(curve) - 1:
        return float(curve[at]), float(at - REACH)
    before, top, after = (float(value) for value in curve[at - 1 : at + 2])
    bend = before - 2 * top + after
    shift = 0.5 * (before - after) / bend if bend < 0 else 0.0
    return top - 0.25 * (before - after) * shift, at - REACH + shift


def _shuffled(sound: Floats, seed: int) -> Floats:
    """The sound's pieces in another order."""
    pieces = [sound[begin : begin + _PIECE] for begin in range(0, len(sound), _PIECE)]
    order = np.random.default_rng(seed).permutation(len(pieces))
    return np.concatenate([pieces[place] for place in order])
