"""A noise floor: what is far quieter than the voice becomes silence, so that breath and hum move no lips."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.sizes import SAMPLE_RATE
from infinitetalk.media.inputs import Wave, Waveform
from infinitetalk.media.loudness import LOUDNESS
from infinitetalk.media.spool import pieces

STEP: Final = SAMPLE_RATE // 100
"""Samples between two measurements of the level."""
_SPAN: Final = 3
"""Steps that a measurement lasts."""
_AROUND: Final = (8, 15)
"""Steps before and after speech that stay, so that soft beginnings and ends are heard."""
_SHORTEST: Final = 5
"""Steps that something must be loud to count as speech: a click is shorter."""
_FADE: Final = 4
"""Steps over which sound comes and goes."""


def levels(wave: Wave) -> NDArray[np.float64]:
    """The level in decibels of full scale every 10 ms of a sound at 16 kHz, over 30 ms each."""
    steps = -(-len(wave) // STEP)
    if not steps:
        return np.zeros(0)
    power = np.concatenate([_powers(piece) for piece in pieces(wave)])
    level = np.convolve(power, np.full(_SPAN, 1 / _SPAN), mode="same")[:steps]
    np.log10(np.maximum(level, 1e-12, out=level), out=level)
    level *= 10
    return level


def _powers(wave: Waveform) -> NDArray[np.float64]:
    """The mean power of each step."""
    whole = np.pad(wave, (0, -len(wave) % STEP)).astype(np.float64)
    return np.asarray(np.square(whole).reshape(-1, STEP).mean(1))


def silence_below(wave: Waveform, floor: float) -> Waveform:
    """A voice [samples] at -23 LUFS and 16 kHz without what lies more than `floor` decibels under that.

    What is louder stays as it is, to the last bit, with a moment around it.
    """
    return Floor(wave, floor).silence(0, wave)


class Floor:
    """What of a voice becomes silence, see `silence_below`.

    Args:
        wave: the whole voice.
        floor: decibels.
    """

    def __init__(self, wave: Wave, floor: float) -> None:
        loud = _lasting(levels(wave) > LOUDNESS - floor)
        self._kept = _grown(loud, *_AROUND)
        if not len(loud):
            return
        fades = np.full(2 * _FADE + 1, 1 / (2 * _FADE + 1))
        gain = np.convolve(_grown(self._kept, _FADE, _FADE), fades, mode="same")
        self._gain = np.where(self._kept, 1.0, gain[: len(self._kept)])

    def silence(self, begin: int, wave: Waveform) -> Waveform:
        """A part of the voice [n] that begins with a sample, a whole number of steps, without what is below."""
        if not len(wave):
            return wave
        first, steps = begin // STEP, -(-len(wave) // STEP)
        around = slice(max(0, first - 1), first + steps + 1)
        gain = self._gain[around]
        places = np.arange(around.start, around.start + len(gain)) * STEP + STEP / 2
        smooth = np.interp(np.arange(begin, begin + len(wave)), places, gain)
        whole = np.repeat(self._kept[first : first + steps], STEP)[: len(wave)]
        quiet: Waveform = np.where(whole, wave, wave * smooth).astype(np.float32)
        return quiet


def _lasting(loud: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Only stretches of some length."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], loud.astype(np.int8), [0]])))
    lasting = np.zeros_like(loud)
    for begin, end in edges.reshape(-1, 2):
        lasting[begin:end] = end - begin >= _SHORTEST
    return lasting


def _grown(mask: NDArray[np.bool_], before: int, after: int) -> NDArray[np.bool_]:
    """A mask with so many further steps before and after each stretch."""
    if not mask.any():
        return mask
    counts = np.concatenate([[0], np.cumsum(mask)])
    places = np.arange(len(mask))
    low, high = np.clip(places - after, 0, len(mask)), np.clip(places + before + 1, 0, len(mask))
    return np.asarray(counts[high] > counts[low])
