"""How loud a voice is, by ITU-R BS.1770, and what brings it to the loudness that the speech encoder expects."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.sizes import SAMPLE_RATE
from infinitetalk.media.inputs import Wave
from infinitetalk.media.spool import pieces

LOUDNESS: Final = -23.0
"""Loudness in LUFS that the speech encoder was trained at (EBU R 128)."""

GATE: Final = -70.0
"""Loudness in LUFS below which BS.1770 counts a sound as silence."""

_RELATIVE_GATE: Final = -10.0
"""Decibels under the mean below which a block does not count."""

_BLOCK: Final = 0.4
"""Seconds of a block, so of the shortest sound that can be measured."""

_STEP: Final = 0.25
"""Of a block, from one to the next."""


def speech_gain(samples: Wave) -> np.float32:
    """What brings a mono sound at 16 kHz to -23 LUFS; 1 for silence."""
    level = loudness(samples)
    return np.float32(1.0 if level is None else 10 ** ((LOUDNESS - level) / 20))


def loudness(samples: Wave) -> float | None:
    """Integrated loudness in LUFS of a mono sound at 16 kHz; None for silence.

    A sound too short to be measured is measured repeated, which has the same loudness.
    """
    least = int(np.ceil(_BLOCK * SAMPLE_RATE))
    if not len(samples):
        return None
    power = _block_powers(np.resize(samples[:], least) if len(samples) < least else samples)
    with np.errstate(divide="ignore"):
        levels = _decibels(power)
        if not (audible := levels >= GATE).any():
            return None
        counts = (levels > _decibels(power[audible].mean()) + _RELATIVE_GATE) & (levels > GATE)
        level = float(_decibels(power[counts].mean())) if counts.any() else GATE
    return level if level > GATE else None


def _decibels(power: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    return np.asarray(-0.691 + 10 * np.log10(power))


def _block_powers(samples: Wave) -> NDArray[np.float64]:
    """The mean power of each block, as ears weigh it; blocks are cut to samples as pyloudnorm does."""
    count = int(np.round((len(samples) / SAMPLE_RATE - _BLOCK) / (_BLOCK * _STEP))) + 1
    places = np.arange(count) * _STEP
    begins, ends = (
        np.minimum((_BLOCK * place * SAMPLE_RATE).astype(np.int64), len(samples)) for place in (places, places + 1)
    )
    edges = np.unique(np.concatenate([begins, ends]))
    # One more, since `reduceat` wants every index to be one of an element.
    energies = np.append(_energies(samples, edges), 0.0)
    pairs = np.stack([np.searchsorted(edges, begins), np.searchsorted(edges, ends)], axis=1)
    return np.asarray(np.add.reduceat(energies, pairs.ravel())[::2] / (_BLOCK * SAMPLE_RATE))


def _energies(samples: Wave, edges: NDArray[np.int64]) -> NDArray[np.float64]:
    """The energy of the weighted sound between each edge and the next."""
    from pyloudnorm import IIRfilter
    from scipy.signal import lfilter

    shelf = IIRfilter(4.0, 1 / np.sqrt(2), 1500.0, SAMPLE_RATE, "high_shelf")
    high = IIRfilter(0.0, 0.5, 38.0, SAMPLE_RATE, "high_pass")
    states = [np.zeros(2), np.zeros(2)]
    energies = np.zeros(len(edges) - 1)
    begin = 0
    for piece in pieces(samples):
        wave = piece.astype(np.float64)
        for number, weight in enumerate((shelf, high)):
            wave, states[number] = lfilter(weight.b, weight.a, wave, zi=states[number])
        inside = edges[(edges > begin) & (edges < begin + len(wave))]
        starts = np.concatenate([[begin], inside])
        between = np.searchsorted(edges, starts, side="right") - 1
        sums = np.add.reduceat(np.square(wave), starts - begin)
        known = between < len(energies)  # what lies behind the last block does not count
        energies[between[known]] += sums[known]
        begin += len(wave)
    return energies
