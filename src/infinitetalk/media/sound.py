"""Sounds: any file that FFmpeg reads, as samples at its own rate."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.errors import MediaError
from infinitetalk.media.container import decode, open_media, sound_stream
from infinitetalk.media.long_sound import AnySound, LongSound, Samples
from infinitetalk.media.paths import require_file

if TYPE_CHECKING:
    from av import AudioFrame

SHORTEST = 0.1
"""Seconds that a sound must last."""


@dataclass(frozen=True, slots=True)
class Sound:
    """A sound in memory."""

    samples: NDArray[np.float32]
    """[channels, n], full scale is 1."""
    rate: int
    layout: str
    """FFmpeg's name of the speakers that the channels belong to, such as 'stereo' or '5.1'."""

    @property
    def channels(self) -> int:
        return int(self.samples.shape[0])

    @property
    def length(self) -> int:
        return int(self.samples.shape[1])

    @property
    def seconds(self) -> float:
        return self.length / self.rate

    def pieces(self) -> Iterator[Samples]:
        """Its samples, second by second."""
        for begin in range(0, self.length, self.rate):
            yield self.samples[:, begin : begin + self.rate]


def collected(sound: AnySound) -> Sound:
    """The same sound in memory."""
    pieces = [np.zeros((sound.channels, 0), np.float32), *sound.pieces()]
    return Sound(np.concatenate(pieces, axis=1), sound.rate, sound.layout)


def read_sound(path: Path) -> Sound:
    """Decodes the sound of any media file, a video's sound track included.

    Raises:
        MediaError: undecodable, without sound, shorter than 0.1 s, or with values that are no finite numbers.
    """
    reader = _Unpacker()
    blocks = list(_decoded(path, reader))
    return Sound(np.concatenate(blocks, axis=1), reader.rate, reader.layout)


def open_sound(path: Path) -> LongSound:
    """The sound of any media file, decoded once to its end now, and anew whenever its pieces are asked for.

    How long it is stays known while the file is the same.

    Raises:
        MediaError: as `read_sound`; while pieces come, if the file is another by then.
    """
    require_file(path, "sound")
    state = path.stat()
    measured = _measured(path, state.st_ino, state.st_size, state.st_mtime_ns)
    return LongSound(lambda: _decoded(path, _Unpacker()), *measured)


@lru_cache(maxsize=64)
def _measured(path: Path, *_state: int) -> tuple[int, str, int, int]:
    """A sound's rate, layout, channels and length."""
    reader = _Unpacker()
    for _ in _decoded(path, reader):
        pass
    return reader.rate, reader.layout, reader.channels, reader.length


def _decoded(path: Path, reader: "_Unpacker") -> Iterator[Samples]:
    """Decodes a file's sound in pieces.

    Raises:
        MediaError: as `read_sound`.
    """
    with open_media(path, "sound") as container:
        for block in reader.unpack(decode(path, "sound", sound_stream(path, container))):
            if not np.isfinite(block).all():
                at = reader.length / reader.rate
                problem = f"values that are not finite numbers, at about {at:.2f} s; save it as 16-bit PCM"
                raise MediaError(path, f"the sound has {problem}")
            reader.channels, reader.length = block.shape[0], reader.length + block.shape[1]
            yield block
    if not reader.length:
        raise MediaError(path, f"the sound has no samples; {SHORTEST} s or more would work")
    if (seconds := reader.length / reader.rate) < SHORTEST:
        raise MediaError(path, f"the sound is {seconds:.3f} s long; {SHORTEST} s or more would work")


class _Unpacker:
    """Turns decoded frames into [channels, n] float32 at the rate and layout of the first one.

    A stream may change its format on the way (chained Ogg, broadcast recordings); later parts are converted. FFmpeg
    interleaves the channels here, since PyAV cannot hand out eight or more separate planes.
    """

    def __init__(self) -> None:
        self.rate = 0
        self.layout = ""
        self.channels = 0
        self.length = 0
        """Samples that have come."""

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
