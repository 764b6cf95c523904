"""The voices of a request on one timeline: at once, one after the other, or each a channel of its file."""

from collections.abc import Iterator
from dataclasses import dataclass

from infinitetalk.core.errors import MediaError
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import SAMPLE_RATE
from infinitetalk.media.hearing import listen
from infinitetalk.media.inputs import Wave
from infinitetalk.media.long_sound import AnySound, channel, late, mix
from infinitetalk.media.separation import network_hears
from infinitetalk.media.sound import SHORTEST, open_sound
from infinitetalk.media.spoken import spoken


@dataclass(frozen=True, slots=True)
class Voice:
    """A person's sound and when it begins."""

    sound: AnySound
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
        sound: AnySound = open_sound(path)
        if request.voices == "channels":
            if index >= sound.channels:
                channels = "1 channel" if sound.channels == 1 else f"{sound.channels} channels"
                raise MediaError(path, f"has {channels}, and voice {index + 1} would be channel {index + 1}")
            sound = channel(sound, index)
        yield Voice(sound, begin)
        if request.voices == "sequence":
            begin += sound.seconds


def open_voices(request: TalkRequest) -> tuple[tuple[Wave, ...], float]:
    """What the speech encoder hears of each voice from the request's start on, and the second at which all are over.

    A voice that is over before the start is a moment of silence. Short voices are in memory, longer ones on disk.

    Raises:
        MediaError: as `arranged`.
        MachineError: the disk for temporary files is full.
    """
    heard, end = [], 0.0
    for voice in arranged(request):
        start, least = request.start - voice.begin, round(SHORTEST * SAMPLE_RATE)
        heard.append(listen(network_hears(request, voice.sound), start, floor=request.noise_floor, least=least))
        end = max(end, voice.end)
    return tuple(heard), end


def together(request: TalkRequest) -> AnySound:
    """All that is said, as one sound at its own rate, in pieces.

    Raises:
        MediaError: as `arranged`.
    """
    if request.voices == "channels":
        list(arranged(request))  # refuses what lacks a channel
        return mix([open_sound(path) for path in dict.fromkeys(request.audio)])
    return mix([late(voice.sound, round(voice.begin * voice.sound.rate)) for voice in arranged(request)])
