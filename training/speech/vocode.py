"""Speech as synthesisers that speak from statistics would have said it.

Such engines (flite's better voices among them) keep a few coefficients of the spectral envelope, blur them over time,
and drive them with plain pulses. What a sentence says and when stays as it was.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from training.speech.corpus import RATE, Utterance

Doubles = NDArray[np.float64]

ENGINE = "vocoded"
COEFFICIENTS = (18, 30)
BLURS = (1, 3, 3, 5, 7)
"""Frames of 5 ms over which coefficients are averaged."""
FFT = 1024


def vocoded(audio: NDArray[np.int16], rng: random.Random) -> NDArray[np.int16]:
    """16 kHz mono sound analysed and built anew, as long as before, with another pitch and melody."""
    import pyworld

    sound = audio.astype(np.float64) / 32768
    pitch, times = pyworld.dio(sound, RATE)
    pitch = pyworld.stonemask(sound, pitch, times, RATE)
    envelope = pyworld.cheaptrick(sound, pitch, times, RATE, fft_size=FFT)
    codes = pyworld.code_spectral_envelope(envelope, RATE, rng.randint(*COEFFICIENTS))
    envelope = pyworld.decode_spectral_envelope(statistical(codes, rng), RATE, FFT)
    made = pyworld.synthesize(melody(pitch, rng), envelope, breath(pitch, rng), RATE)
    made = np.pad(made, (0, max(0, len(sound) - len(made))))[: len(sound)]
    peak = np.abs(sound).max(initial=0.0) / max(1e-6, np.abs(made).max(initial=0.0))
    return np.asarray(np.clip(np.round(made * peak * 32767), -32768, 32767), dtype=np.int16)


def statistical(codes: Doubles, rng: random.Random) -> Doubles:
    """Coefficients [frames, n] averaged over time, and nearer to their mean or farther from it."""
    width = rng.choice(BLURS)
    padded = np.pad(codes, ((width // 2, width // 2), (0, 0)), mode="edge")
    sums = np.cumsum(np.pad(padded, ((1, 0), (0, 0))), axis=0)
    smooth = (sums[width:] - sums[:-width]) / width
    # The first coefficient is the level, which stays.
    smooth[:, 1:] = smooth[:, 1:].mean(0) + rng.uniform(0.8, 1.1) * (smooth[:, 1:] - smooth[:, 1:].mean(0))
    return np.ascontiguousarray(smooth)


def melody(pitch: Doubles, rng: random.Random) -> Doubles:
    """Pitch per frame, 0 where there is none, moved as a whole and with its movements scaled."""
    voiced = pitch > 0
    if not voiced.any():
        return pitch
    mean = np.log(pitch[voiced]).mean()
    moved = np.zeros_like(pitch)
    moved[voiced] = np.exp(mean + rng.uniform(-0.35, 0.35) + rng.uniform(0.4, 1.2) * (np.log(pitch[voiced]) - mean))
    return np.where(voiced, moved.clip(60, 500), 0.0)


def breath(pitch: Doubles, rng: random.Random) -> Doubles:
    """How much of each frequency [frames, bins] is noise: all where there is no pitch, else little or none."""
    rise = rng.uniform(0, 0.5) * np.linspace(0, 1, FFT // 2 + 1) ** 2 + 1e-3
    return np.where(pitch[:, None] > 0, rise, 1.0)


def vocoded_streams(streams: Sequence[Utterance], minutes: float, rng: random.Random) -> Iterator[Utterance]:
    """Streams drawn evenly from all engines, vocoded, until there are enough minutes."""
    by_engine: dict[str, list[Utterance]] = {}
    for item in streams:
        if item.engine != ENGINE:
            by_engine.setdefault(item.engine, []).append(item)
    seconds = 0.0
    while by_engine and seconds < 60 * minutes:
        item = rng.choice(by_engine[rng.choice(sorted(by_engine))])
        yield Utterance(vocoded(item.audio, rng), item.segments, ENGINE, f"{item.engine} {item.voice}", "train")
        seconds += item.seconds
