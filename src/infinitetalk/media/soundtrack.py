"""The sound of a written video: AAC at the sound's own rate and channels, as far as the frames have come."""

import logging
from typing import TYPE_CHECKING

import numpy as np

from infinitetalk.core.errors import RequestError
from infinitetalk.media.long_sound import AnySound, Samples, at_rate, mono, renamed

if TYPE_CHECKING:
    from av import AudioStream, Packet
    from av.container import OutputContainer

log = logging.getLogger(__name__)

# Rates that AAC has; others go to the next one up, or to the highest.
_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)

# Speakers that AAC can name, or FFmpeg's encoder can describe in the stream.
_LAYOUTS = frozenset((
    "mono", "stereo", "2.1", "3.0", "3.0(back)", "3.1", "4.0", "4.1", "quad", "5.0", "5.1", "6.0", "6.0(front)",
    "hexagonal", "6.1", "6.1(back)", "6.1(front)", "7.0", "7.0(front)", "7.1", "7.1(wide)", "7.1(wide-side)",
    "octagonal", "hexadecagonal",
))  # fmt: skip

# The same number of speakers under the name that AAC has for it.
_SYNONYMS = {
    "1 channels": "mono", "2 channels": "stereo", "downmix": "stereo", "3 channels": "3.0", "4 channels": "quad",
    "quad(side)": "quad", "5 channels": "5.0", "5.0(side)": "5.0", "6 channels": "5.1", "5.1(side)": "5.1",
    "7 channels": "6.1", "8 channels": "7.1", "16 channels": "hexadecagonal",
}  # fmt: skip

_BITS_PER_SAMPLE = 4
_MOST_BITS = 128_000
"""Bits a second for one channel: transparent for speech and music alike."""


def for_aac(sound: AnySound) -> AnySound:
    """The sound as AAC can hold it: rate and speakers kept wherever it can, else the next rate up, else mono.

    A change is warned of.
    """
    rate = next((known for known in _RATES if known >= sound.rate), _RATES[-1])
    layout = _SYNONYMS.get(sound.layout, sound.layout)
    if rate != sound.rate:
        log.warning("the sound has %d Hz; the video gets %d, the nearest that AAC has", sound.rate, rate)
    if layout not in _LAYOUTS:
        log.warning("the sound has the speakers '%s'; the video gets mono, as AAC has no such layout", sound.layout)
        return mono(at_rate(sound, rate))
    return renamed(at_rate(sound, rate), layout)


def check_track_rate(rate: int) -> None:
    """Refuses a rate that AAC does not have, for sound that cannot be converted as a whole.

    Raises:
        RequestError: with the rates that work.
    """
    if rate not in _RATES:
        raise RequestError("rate", rate, f"must be one of {', '.join(map(str, _RATES))}")


class SoundTrack:
    """Encodes a sound piece by piece; silence follows where the video is longer."""

    def __init__(self, container: "OutputContainer", sound: AnySound) -> None:
        """Opens the sound.

        Raises:
            MediaError: a sound that cannot be used; also later, when its pieces are asked for.
        """
        self._sound = for_aac(sound)
        self._coming = self._sound.pieces()
        self._done = 0
        nothing = np.zeros((self._sound.channels, 0), np.float32)
        # What is read and waits. The first piece now, so that the file is open before the first window is made.
        self._waiting: Samples = next(self._coming, nothing)
        self._stream = self.add_stream(container)

    def add_stream(self, container: "OutputContainer") -> "AudioStream":
        """Adds a stream for this sound's packets to a container."""
        stream: AudioStream = container.add_stream("aac", rate=self._sound.rate, layout=self._sound.layout)
        stream.bit_rate = min(_MOST_BITS, _BITS_PER_SAMPLE * self._sound.rate) * self._sound.channels
        return stream

    def extend(self, samples: Samples) -> None:
        """Adds sound [channels, n] that came while the video was made; what is encoded is forgotten."""
        self._waiting = np.concatenate([self._waiting, *self._coming, samples], axis=1)

    def advance(self, seconds: float) -> "list[Packet[AudioStream]]":
        """The packets up to a time in the video, but for what waits for a full AAC frame."""
        from av import AudioFrame

        samples = self._next(round(seconds * self._sound.rate) - self._done)
        if not samples.size:
            return []
        # Interleaved, since PyAV cannot take eight or more separate planes.
        packed = np.ascontiguousarray(samples.T).reshape(1, -1)
        frame = AudioFrame.from_ndarray(packed, format="flt", layout=self._sound.layout)
        frame.sample_rate, frame.pts = self._sound.rate, self._done
        self._done += samples.shape[1]
        return self._stream.encode(frame)

    def finish(self) -> "list[Packet[AudioStream]]":
        """The last packets."""
        return self._stream.encode(None)

    def close(self) -> None:
        """Lets go of what the sound comes from."""
        self._coming = iter(())

    def _next(self, count: int) -> Samples:
        """So many samples more, with silence behind the sound's end."""
        parts, there = [self._waiting], self._waiting.shape[1]
        while there < count and (piece := next(self._coming, None)) is not None:
            parts.append(piece)
            there += piece.shape[1]
        known = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        self._waiting = known[:, max(0, count) :]
        return np.pad(known[:, : max(0, count)].clip(-1, 1), ((0, 0), (0, max(0, count - there))))
