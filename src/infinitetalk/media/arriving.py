"""Sound that arrives in pieces: checked, and brought to the rate that the speech encoder hears."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from infinitetalk.core.errors import RequestError
from infinitetalk.core.sizes import FPS, SAMPLE_RATE
from infinitetalk.media.inputs import Waveform
from infinitetalk.media.long_sound import AnySound, mono
from infinitetalk.media.sound import Sound, open_sound
from infinitetalk.media.soundtrack import check_track_rate


def at_speech_rate(pieces: Iterable[Waveform], rate: int) -> Iterator[Waveform]:
    """Mono pieces of any size at a rate → the same sound in other pieces at 16 kHz, however it was cut.

    Raises:
        RequestError: a piece that is not made of finite floats, or has channels.
    """
    checked = (_checked(piece, number) for number, piece in enumerate(pieces))
    if rate == SAMPLE_RATE:
        yield from checked
        return
    import soxr

    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
    # In equal blocks, so that the resampler's steps do not depend on the pieces.
    for block in blocks(checked, rate // FPS):
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)


def blocks(pieces: Iterable[Waveform], size: int) -> Iterator[Waveform]:
    """The same samples in blocks of one size, each as soon as it is full; the last one may be shorter."""
    block, filled = np.empty(size, np.float32), 0
    for piece in pieces:
        rest = piece
        while len(rest):
            part = rest[: size - filled]
            block[filled : filled + len(part)] = part
            filled, rest = filled + len(part), rest[len(part) :]
            if filled == size:
                yield block.copy()
                filled = 0
    if filled:
        yield block[:filled].copy()


def _checked(piece: Waveform, number: int) -> Waveform:
    samples = np.asarray(piece)
    told = f"piece {number} of {samples.dtype} {list(samples.shape)}"
    if samples.dtype.kind != "f":
        raise RequestError("sound", told, "must be floats of full scale 1; divide 16-bit samples by 32768")
    if samples.ndim != 1:
        raise RequestError("sound", told, "must be mono samples [n]; average the channels first")
    if not np.isfinite(samples).all():
        raise RequestError("sound", told, "has values that are not finite numbers; leave them out or make them 0")
    return samples.astype(np.float32, copy=False)


STDIN = Path("-")
"""In the place of a sound file: samples come through standard input."""

_SAMPLE = np.dtype("<i2")


class Arrival(NamedTuple):
    """Sound that is on its way."""

    rate: int
    track: AnySound
    """The sound track as far as it is known: all of a file, nothing of a stream."""
    pieces: Iterator[Waveform]
    """Mono, as long as a video frame each."""
    streamed: bool
    """Whether the pieces are to be added to the track as they come."""


def arrival(path: Path, rate: int, stream: IO[bytes]) -> Arrival:
    """A sound file as if it came in real time, or signed 16-bit mono samples at a rate from a stream, for `-`.

    Raises:
        MediaError: a file that cannot be used.
        RequestError: a rate that a sound track cannot have.
    """
    if path == STDIN:
        check_track_rate(rate)
        nothing = Sound(np.zeros((1, 0), np.float32), rate, "mono")
        return Arrival(rate, nothing, _from_stream(stream, rate // FPS), streamed=True)
    sound = open_sound(path)
    heard = (piece[0] for piece in mono(sound).pieces())
    return Arrival(sound.rate, sound, blocks(heard, sound.rate // FPS), streamed=False)


def _from_stream(stream: IO[bytes], size: int) -> Iterator[Waveform]:
    """Pieces of `size` samples; the last may be shorter. Half a sample at the end is none."""
    while data := stream.read(size * _SAMPLE.itemsize):
        whole = data[: len(data) // _SAMPLE.itemsize * _SAMPLE.itemsize]
        yield np.frombuffer(whole, _SAMPLE).astype(np.float32) / np.float32(32768)
