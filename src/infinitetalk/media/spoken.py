"""A request's text as sounds: one per speaker, on one timeline."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.errors import MachineError
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.script import read_script
from infinitetalk.media.long_sound import at_rate
from infinitetalk.media.sound import Sound, collected
from infinitetalk.media.speakers import find_speaker

_PAUSE = 0.25
"""Seconds between two turns."""


def spoken(request: TalkRequest) -> tuple[Sound, ...]:
    """What each speaker of a request's text says, silence where others speak; all of one rate and length.

    The last text is kept, since a job asks for it several times.

    Raises:
        RequestError: a voice that does not exist.
        MachineError: what speaks is not installed, cannot be used, or said nothing.
    """
    assert request.text is not None
    return _speak(request.text, request.voice)


@lru_cache(maxsize=1)
def _speak(text: str, voices: tuple[str, ...]) -> tuple[Sound, ...]:
    found = [find_speaker(name) for name in voices]  # all names, before the first word is spoken
    turns = read_script(text)
    said = list[Sound]()
    for turn in turns:
        speaker, voice = found[turn.speaker]
        samples, rate = speaker.speak(turn.words, voice)
        if not samples.any():
            raise MachineError(f"the voice {voices[turn.speaker]} said nothing of {turn.words!r}; try another one")
        said.append(Sound(samples[None], rate, "mono"))
    rate = max(sound.rate for sound in said)
    tracks: list[list[NDArray[np.float32]]] = [[] for _ in voices]
    pause = np.zeros((1, round(_PAUSE * rate)), np.float32)
    for turn, sound in zip(turns, said, strict=True):
        samples = collected(at_rate(sound, rate)).samples
        for speaker_index, track in enumerate(tracks):
            track += [samples if speaker_index == turn.speaker else np.zeros_like(samples), pause]
    return tuple(Sound(np.concatenate(track[:-1], axis=1), rate, "mono") for track in tracks)
