"""The voices of a request on one timeline: at once, one after the other, or each a channel of its file."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from infinitetalk.core.errors import MediaError
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import SAMPLE_RATE
from infinitetalk.media.floor import silence_below
from infinitetalk.media.inputs import Waveform
from infinitetalk.media.separation import network_hears
from infinitetalk.media.sound import SHORTEST, Sound, for_speech, mix, read_sound
from infinitetalk.media.spoken import spoken


@dataclass(frozen=True, slots=True)
class Voice:
    """A person's sound and when it begins."""

    sound: Sound
    begin: float
    """Seconds of silence before it."""

    @property
    def end(self) -> float:
        """When it is over, in seconds."""
        return self.begin + self.sound.seconds


def arranged(request: TalkRequest) -> Iterator[Voice]:
    """The voices of a request, in its order.

    Raises:
        MediaError: a sound that cannot be used, or that has no channel for its person.
    """
    if request.text is not None:
        yield from (Voice(sound, 0.0) for sound in spoken(request))
        return
    begin = 0.0
    for index, path in enumerate(request.audio):
        sound = read_sound(path)
        if request.voices == "channels":
            if index >= sound.channels:
                channels = "1 channel" if sound.channels == 1 else f"{sound.channels} channels"
                raise MediaError(path, f"has {channels}, and voice {index + 1} would be channel {index + 1}")
            sound = Sound(sound.samples[index : index + 1], sound.rate, "mono")
        yield Voice(sound, begin)
        if request.voices == "sequence":
            begin += sound.seconds


def open_voices(request: TalkRequest) -> tuple[tuple[Waveform, ...], float]:
    """What the speech encoder hears of each voice from the request's start on, and the second at which all are over.

    A voice that is over before the start is a moment of silence.

    Raises:
        MediaError: as `arranged`.
    """
    heard, end = [], 0.0
    for voice in arranged(request):
        wave = for_speech(network_hears(request, voice.sound), max(0.0, request.start - voice.begin))
        if request.noise_floor is not None:
            wave = silence_below(wave, request.noise_floor)
        before = round(max(0.0, voice.begin - request.start) * SAMPLE_RATE)
        after = max(0, round(SHORTEST * SAMPLE_RATE) - before - len(wave))
        heard.append(np.pad(wave, (before, after)))
        end = max(end, voice.end)
    return tuple(heard), end


def together(request: TalkRequest) -> Sound:
    """All that is said, as one sound at its own rate.

    Raises:
        MediaError: as `arranged`.
    """
    if request.voices == "channels":
        list(arranged(request))  # refuses what lacks a channel
        return mix([read_sound(path) for path in dict.fromkeys(request.audio)])
    return mix([_late(voice) for voice in arranged(request)])


def _late(voice: Voice) -> Sound:
    """A voice with its silence before."""
    before = round(voice.begin * voice.sound.rate)
    if not before:
        return voice.sound
    return Sound(np.pad(voice.sound.samples, ((0, 0), (before, 0))), voice.sound.rate, voice.sound.layout)
