"""Where a video is cut into windows: at the source's cuts, and where the voices pause."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from infinitetalk.core.defaults import Settings
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import SAMPLES_PER_FRAME
from infinitetalk.core.windows import Window, plan_request
from infinitetalk.media.floor import STEP, levels
from infinitetalk.media.inputs import Inputs, Waveform

QUIET: Final = 20
"""Decibels under a voice's loud moments below which it pauses."""
BEFORE, AFTER = 3, 2
"""Frames of quiet on the two sides of a border: mouths close later than sound ends."""

_STEPS: Final = SAMPLES_PER_FRAME // STEP


def plan_windows(request: TalkRequest, settings: Settings, inputs: Inputs) -> tuple[Window, ...]:
    """Cuts a request's video into windows, as its opened inputs ask for.

    Raises:
        RequestError: in reference mode, a voice that the reference implementation would refuse.
    """
    lengths = [len(voice) for voice in inputs.voices]
    pauses = pauses_of(inputs.voices) if request.finds_pauses and max(lengths) else ()
    return plan_request(request, settings, lengths, inputs.timeline, pauses)


def pauses_of(voices: Sequence[Waveform]) -> tuple[int, ...]:
    """Frames before which, and with which, every one of the voices [samples] at 16 kHz is quiet."""
    frames = max(-(-len(voice) // SAMPLES_PER_FRAME) for voice in voices)
    quiet = np.ones(frames, bool)
    for voice in voices:
        level = levels(voice)
        heard = level[level > -100]
        if not heard.size:  # digital silence pauses everywhere
            continue
        loud = level > np.percentile(heard, 90) - QUIET
        whole = np.pad(loud, (0, -len(loud) % _STEPS)).reshape(-1, _STEPS).any(1)
        quiet[: whole.size] &= ~whole
    counts = np.concatenate([[0], np.cumsum(quiet)])
    borders = np.arange(BEFORE, frames - AFTER + 1)
    calm = counts[borders + AFTER] - counts[borders - BEFORE] == BEFORE + AFTER
    return tuple(int(place) for place in borders[calm])
