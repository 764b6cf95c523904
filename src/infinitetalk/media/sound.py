"""Sounds: any file that FFmpeg reads, as samples at its own rate, and as the speech encoder wants to hear it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.errors import MediaError
from infinitetalk.core.sizes import SAMPLE_RATE
from infinitetalk.media.container import decode, open_media, sound_stream
from infinitetalk.media.inputs import Waveform

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream

SHORTEST = 0.1
"""Seconds that a sound must last."""

LOUDNESS = -23.0
"""Loudness in LUFS that the speech encoder was trained at (EBU R 128)."""

GATE = -70.0
"""Loudness in LUFS below which ITU-R BS.1770 counts a sound as silence."""

_BLOCK = 0.4
"""Seconds of the shortest sound that BS.1770 can measure."""


@dataclass(frozen=True, slots=True)
class Sound:
    """Samples as the file has them."""

    samples: NDArray[np.float32]
    """[channels, n], full scale is 1."""
    rate: int
    layout: str
    """FFmpeg's name of the speakers that the channels belong to, such as 'stereo' or '5.1'."""

    @property
    def channels(self) -> int:
        return int(self.samples.shape[0])

    @property
    def seconds(self) -> float:
        return float(self.samples.shape[1] / self.rate)

    def cut(self, start: float, seconds: float | None = None) -> "Sound":
        """The part from `start` on, `seconds` at most."""
        first = round(start * self.rate)
        last = None if seconds is None else first + round(seconds * self.rate)
        return Sound(self.samples[:, first:last], self.rate, self.layout)


def read_sound(path: Path) -> Sound:
    """Decodes the sound of any media file, a video's sound track included.

    Raises:
        MediaError: undecodable, without sound, shorter than 0.1 s, or with values that are no finite numbers.
    """
    with open_media(path, "sound") as container:
        sound = _collect(path, sound_stream(path, container))
    if sound.seconds < SHORTEST:
        raise MediaError(path, f"the sound is {sound.seconds:.3f} s long; {SHORTEST} s or more would work")
    return sound


def _collect(path: Path, stream: "AudioStream") -> Sound:
    blocks = list[NDArray[np.float32]]()
    reader = _Unpacker()
    for block in reader.unpack(decode(path, "sound", stream)):
        if not np.isfinite(block).all():
            at = sum(known.shape[1] for known in blocks) / reader.rate
            problem = f"the sound has values that are not finite numbers, at about {at:.2f} s; save it as 16-bit PCM"
            raise MediaError(path, problem)
        blocks.append(block)
    if not sum(block.shape[1] for block in blocks):
        raise MediaError(path, f"the sound has no samples; {SHORTEST} s or more would work")
    return Sound(np.concatenate(blocks, axis=1), reader.rate, reader.layout)


class _Unpacker:
    """Turns decoded frames into [channels, n] float32 at the rate and layout of the first one.

    A stream may change its format on the way (chained Ogg, broadcast recordings); later parts are converted. FFmpeg
    interleaves the channels here, since PyAV cannot hand out eight or more separate planes.
    """

    def __init__(self) -> None:
        self.rate = 0
        self.layout = ""

    def unpack(self, frames: "Iterator[AudioFrame]") -> Iterator[NDArray[np.float32]]:
        from av import AudioResampler

        known: tuple[str, str, int] | None = None
        resampler = None
        for frame in frames:
            key = (frame.format.name, frame.layout.name, frame.sample_rate)
            if resampler is None or key != known:
                yield from _blocks(resampler.resample(None) if resampler else [])
                self.rate, self.layout = self.rate or frame.sample_rate, self.layout or frame.layout.name
                resampler, known = AudioResampler(format="flt", layout=self.layout, rate=self.rate), key
            frame.pts = None
            yield from _blocks(resampler.resample(frame))
        yield from _blocks(resampler.resample(None) if resampler else [])


def _blocks(frames: "Sequence[AudioFrame]") -> Iterator[NDArray[np.float32]]:
    for frame in frames:
        yield np.ascontiguousarray(frame.to_ndarray().reshape(-1, frame.layout.nb_channels).T, dtype=np.float32)


def for_speech(sound: Sound, start: float = 0.0) -> Waveform:
    """What the speech encoder hears of a sound: mono, 16 kHz, at -23 LUFS, from `start` seconds on.

    The loudness is that of the whole sound, so that a preview or a later start sounds the same. Silence stays silence.
    """
    mono = sound.samples.mean(axis=0, dtype=np.float32)
    heard = Sound(_resample(mono, sound.rate)[None], SAMPLE_RATE, "mono")
    return np.ascontiguousarray(heard.cut(start).samples[0] * speech_gain(heard.samples[0]))


def speech_gain(samples: Waveform) -> np.float32:
    """What brings a mono sound at 16 kHz to -23 LUFS; 1 for silence."""
    level = loudness(samples)
    return np.float32(1.0 if level is None else 10 ** ((LOUDNESS - level) / 20))


def _resample(mono: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    if rate == SAMPLE_RATE:
        return mono
    import soxr

    return np.asarray(soxr.resample(mono, rate, SAMPLE_RATE), dtype=np.float32)


def loudness(samples: Waveform) -> float | None:
    """Integrated loudness in LUFS of a mono sound at 16 kHz; None for silence.

    A sound too short to be measured is measured repeated, which has the same loudness.
    """
    if not samples.any():
        return None
    import pyloudnorm

    least = int(np.ceil(_BLOCK * SAMPLE_RATE))
    enough = np.resize(samples, least) if len(samples) < least else samples
    level = float(pyloudnorm.Meter(SAMPLE_RATE, block_size=_BLOCK).integrated_loudness(enough.astype(np.float64)))
    return level if level > GATE else None


def mix(sounds: Sequence[Sound]) -> Sound:
    """Several voices as one sound: the highest rate, the layout with most channels, as long as the longest.

    Mono goes to both front channels of a wider layout; a narrower layout goes to the channels it shares.
    """
    if len(sounds) == 1:
        return sounds[0]
    widest = max(sounds, key=lambda sound: sound.channels)
    rate = max(sound.rate for sound in sounds)
    parts = [_fit_channels(at_rate(sound, rate), widest.channels) for sound in sounds]
    total = np.zeros((widest.channels, max(part.shape[1] for part in parts)), np.float32)
    for part in parts:
        total[: part.shape[0], : part.shape[1]] += part
    return Sound(total, rate, widest.layout)


def at_rate(sound: Sound, rate: int) -> NDArray[np.float32]:
    """The samples [channels, n] at another rate."""
    if sound.rate == rate:
        return sound.samples
    import soxr

    return np.asarray(soxr.resample(sound.samples.T, sound.rate, rate), dtype=np.float32).T


def _fit_channels(samples: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    return np.repeat(samples, 2, axis=0) if samples.shape[0] == 1 and channels > 1 else samples
