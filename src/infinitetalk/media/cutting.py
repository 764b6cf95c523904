"""Where a video is cut into windows: at the source's cuts, and where the voices pause."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from infinitetalk.core.defaults import Settings
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import SAMPLES_PER_FRAME
from infinitetalk.core.windows import Window, plan_request
from infinitetalk.media.floor import STEP, levels
from infinitetalk.media.inputs import Inputs, Wave

SILENT: Final = -40.0
"""Decibels under a voice's loud moments at which it is as good as silent: quieter moments are no better."""

_AROUND: Final = 3 * SAMPLES_PER_FRAME // STEP
"""Steps that are heard around the beginning of a frame: a frame and a half before and after."""


def plan_windows(request: TalkRequest, settings: Settings, inputs: Inputs) -> tuple[Window, ...]:
    """Cuts a request's video into windows, as its opened inputs ask for.

    Raises:
        RequestError: in reference mode, a voice that the reference implementation would refuse.
    """
    lengths = [len(voice) for voice in inputs.voices]
    loudness = loudness_of(inputs.voices) if request.finds_pauses else ()
    return plan_request(request, settings, lengths, inputs.timeline, loudness)


def loudness_of(voices: Sequence[Wave]) -> list[float]:
    """How loud the loudest of some voices [samples] at 16 kHz is where each frame of the video begins.

    Decibels from `SILENT` up; about 0 where a voice is as loud as in the loudest tenth of its time.
    """
    frames = max(-(-len(voice) // SAMPLES_PER_FRAME) for voice in voices)
    loudest = np.full(frames, SILENT)
    for voice in voices:
        level = levels(voice)
        heard = level[level > -100]
        if not heard.size:  # digital silence
            continue
        level -= np.percentile(heard, 90, overwrite_input=True)
        np.maximum(level, SILENT, out=level)
        smooth = np.convolve(np.pad(level, _AROUND, constant_values=SILENT), np.full(_AROUND, 1 / _AROUND), "same")
        begins = smooth[_AROUND : _AROUND + len(level) : SAMPLES_PER_FRAME // STEP]
        loudest[: len(begins)] = np.maximum(loudest[: len(begins)], begins)
    values: list[float] = loudest.tolist()
    return values
