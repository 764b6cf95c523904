"""A voice as the speech encoder wants to hear it: mono, 16 kHz, at one loudness, from a second on."""

from typing import Final

import numpy as np

from infinitetalk.core.sizes import SAMPLE_RATE
from infinitetalk.media.floor import Floor
from infinitetalk.media.inputs import Wave, Waveform
from infinitetalk.media.long_sound import AnySound, at_rate, mono
from infinitetalk.media.loudness import speech_gain
from infinitetalk.media.spool import Silence, Spool, Tail

SHORT: Final = 60 * SAMPLE_RATE
"""Samples of a voice that is handed on in memory."""


def for_speech(sound: AnySound, start: float = 0.0) -> Waveform:
    """What the speech encoder hears of a sound, in memory; see `listen`."""
    return listen(sound, start)[:]


def silence(samples: int) -> Wave:
    """A voice that says nothing for so many samples."""
    return np.zeros(samples, np.float32) if samples <= SHORT else Silence(samples)


def listen(sound: AnySound, start: float = 0.0, *, floor: float | None = None, least: int = 0) -> Wave:
    """What the speech encoder hears of a sound: mono, 16 kHz, at -23 LUFS, from `start` seconds on.

    The loudness is that of the whole sound, so that a preview or a later start sounds the same. Silence stays silence.

    Args:
        sound: read to its end.
        start: seconds that are left out, or below 0 of silence before it.
        floor: decibels under the voice's loudness below which it becomes silence.
        least: samples that it lasts at least; silence behind it fills them.

    Raises:
        MediaError: what the sound's pieces raise.
        MachineError: the disk for temporary files is full.
    """
    spool, before = Spool(), round(max(0.0, -start) * SAMPLE_RATE)
    spool.append_silence(before)
    for piece in at_rate(mono(sound), SAMPLE_RATE).pieces():
        spool.append(piece[0])
    gain = speech_gain(Tail(spool, before))
    spool.change(before, lambda _, samples: samples * gain)
    left_out = min(len(spool), round(max(0.0, start) * SAMPLE_RATE))
    if floor is not None:
        begin = before + left_out
        spool.change(begin, Floor(Tail(spool, begin), floor).silence)
    spool.append_silence(max(0, least - (len(spool) - left_out)))
    heard = Tail(spool, left_out)
    return heard[:] if len(heard) <= SHORT else heard
