"""A noise floor: what is far quieter than the voice becomes silence, so that breath and hum move no lips."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.sizes import SAMPLE_RATE
from infinitetalk.media.inputs import Waveform
from infinitetalk.media.sound import LOUDNESS

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


def levels(wave: Waveform) -> NDArray[np.float64]:
    """The level in decibels of full scale every 10 ms of a sound at 16 kHz, over 30 ms each."""
    steps = -(-len(wave) // STEP)
    if not steps:
        return np.zeros(0)
    power = np.square(np.pad(wave, (0, steps * STEP - len(wave))).astype(np.float64)).reshape(steps, STEP).mean(1)
    smooth = np.convolve(power, np.full(_SPAN, 1 / _SPAN), mode="same")[:steps]
    return np.asarray(10 * np.log10(np.maximum(smooth, 1e-12)))


def silence_below(wave: Waveform, floor: float) -> Waveform:
    """A voice [samples] at -23 LUFS and 16 kHz without what lies more than `floor` decibels under that.

    What is louder stays as it is, to the last bit, with a moment around it.
    """
    if not len(wave):
        return wave
    loud = _lasting(levels(wave) > LOUDNESS - floor)
    kept = _grown(loud, *_AROUND)
    gain = np.convolve(_grown(kept, _FADE, _FADE), np.full(2 * _FADE + 1, 1 / (2 * _FADE + 1)), mode="same")
    gain = np.where(kept, 1.0, gain[: len(kept)])
    smooth = np.interp(np.arange(len(wave)), np.arange(len(gain)) * STEP + STEP / 2, gain)
    whole = np.repeat(kept, STEP)[: len(wave)]
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
