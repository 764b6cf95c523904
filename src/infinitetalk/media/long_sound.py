"""Sounds of any length: their pieces are made when they are asked for, so that memory does not grow with them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
"""[channels, n], full scale is 1."""

_PIECE: Final = 1 << 14
"""Samples that are mixed, or silent, at a time."""


class AnySound(Protocol):
    """A sound, in memory or not."""

    @property
    def rate(self) -> int:
        """Samples of a channel in a second."""
        ...

    @property
    def layout(self) -> str:
        """FFmpeg's name of the speakers that the channels belong to, such as 'stereo' or '5.1'."""
        ...

    @property
    def channels(self) -> int:
        """How many there are."""
        ...

    @property
    def length(self) -> int:
        """Samples of a channel."""
        ...

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        ...

    def pieces(self) -> Iterator[Samples]:
        """All of it from its beginning, in pieces of any size; each call begins anew."""
        ...


@dataclass(frozen=True, slots=True)
class LongSound:
    """A sound that is not in memory."""

    make: Callable[[], Iterator[Samples]]
    """Begins to make its pieces."""
    rate: int
    layout: str
    channels: int
    length: int

    @property
    def seconds(self) -> float:
        """See `AnySound`."""
        return self.length / self.rate

    def pieces(self) -> Iterator[Samples]:
        """See `AnySound`."""
        return self.make()


def _changed(sound: AnySound, change: Callable[[Iterator[Samples]], Iterator[Samples]]) -> LongSound:
    """A sound whose pieces go through a change."""
    return LongSound(lambda: change(sound.pieces()), sound.rate, sound.layout, sound.channels, sound.length)


def cut(sound: AnySound, start: float, seconds: float | None = None) -> LongSound:
    """The part from `start` on, `seconds` at most."""
    first = round(start * sound.rate)
    last = sound.length if seconds is None else min(sound.length, first + round(seconds * sound.rate))
    return replace(_changed(sound, partial(_between, first=first, last=last)), length=max(0, last - first))


def _between(pieces: Iterator[Samples], first: int, last: int) -> Iterator[Samples]:
    begin = 0
    for piece in pieces:
        if begin >= last:
            return
        part = piece[:, max(0, first - begin) : last - begin]
        begin += piece.shape[1]
        if part.size:
            yield part


def late(sound: AnySound, samples: int) -> AnySound:
    """A sound with so much silence before it."""
    if not samples:
        return sound

    def change(pieces: Iterator[Samples]) -> Iterator[Samples]:
        for begin in range(0, samples, _PIECE):
            yield np.zeros((sound.channels, min(_PIECE, samples - begin)), np.float32)
        yield from pieces

    return replace(_changed(sound, change), length=samples + sound.length)


def channel(sound: AnySound, index: int) -> LongSound:
    """One of a sound's channels."""
    alone = _changed(sound, lambda pieces: (piece[index : index + 1] for piece in pieces))
    return replace(alone, layout="mono", channels=1)


def mono(sound: AnySound) -> LongSound:
    """The mean of a sound's channels."""
    means = _changed(sound, lambda pieces: (piece.mean(axis=0, keepdims=True, dtype=np.float32) for piece in pieces))
    return replace(means, layout="mono", channels=1)


def renamed(sound: AnySound, layout: str) -> AnySound:
    """A sound whose speakers have another name."""
    return sound if layout == sound.layout else replace(_changed(sound, iter), layout=layout)


def at_rate(sound: AnySound, rate: int) -> AnySound:
    """A sound at another rate; the same samples however it comes in pieces."""
    if sound.rate == rate:
        return sound
    change = partial(_resampled, old=sound.rate, new=rate, channels=sound.channels)
    # libsoxr's own count.
    return replace(_changed(sound, change), rate=rate, length=int(sound.length * rate / sound.rate + 0.5))


def _resampled(pieces: Iterator[Samples], old: int, new: int, channels: int) -> Iterator[Samples]:
    import soxr

    stream = soxr.ResampleStream(old, new, channels, dtype="float32")
    for piece in pieces:
        yield stream.resample_chunk(np.ascontiguousarray(piece.T)).T
    yield stream.resample_chunk(np.empty((0, channels), np.float32), last=True).T


def mix(sounds: Sequence[AnySound]) -> AnySound:
    """Several voices as one sound: the highest rate, the layout with most channels, as long as the longest.

    Mono goes to both front channels of a wider layout; a narrower layout goes to the channels it shares.
    """
    if len(sounds) == 1:
        return sounds[0]
    widest = max(sounds, key=lambda sound: sound.channels)
    rate = max(sound.rate for sound in sounds)
    parts = [at_rate(sound, rate) for sound in sounds]
    add = partial(_sums, parts, widest.channels)
    return LongSound(add, rate, widest.layout, widest.channels, max(part.length for part in parts))


def _sums(sounds: Sequence[AnySound], channels: int) -> Iterator[Samples]:
    for parts in zip_longest(*(_even(sound.pieces()) for sound in sounds)):
        there = [_fit_channels(part, channels) for part in parts if part is not None]
        total = np.zeros((channels, max(part.shape[1] for part in there)), np.float32)
        for part in there:
            total[: part.shape[0], : part.shape[1]] += part
        yield total


def _fit_channels(samples: Samples, channels: int) -> Samples:
    return np.repeat(samples, 2, axis=0) if samples.shape[0] == 1 and channels > 1 else samples


def _even(pieces: Iterable[Samples]) -> Iterator[Samples]:
    """The same samples in pieces of one size; the last one may be shorter."""
    waiting, count = list[Samples](), 0
    for piece in pieces:
        waiting, count = [*waiting, piece], count + piece.shape[1]
        if count < _PIECE:
            continue
        known = np.concatenate(waiting, axis=1)
        whole = count // _PIECE * _PIECE
        for begin in range(0, whole, _PIECE):
            yield known[:, begin : begin + _PIECE]
        waiting, count = [known[:, whole:]], count - whole
    if count:
        yield np.concatenate(waiting, axis=1)
