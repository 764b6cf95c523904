"""A job's inputs as values: what files become before the engine sees them. Needs NumPy alone."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.sizes import Pixels
from infinitetalk.core.timeline import Timeline

Picture = NDArray[np.uint8]
"""RGB picture [height, width, 3]."""

Waveform = NDArray[np.float32]
"""Mono sound [samples], 16,000 samples a second."""


class Wave(Protocol):
    """A voice as parts of a `Waveform`, so that it need not be in memory; a `Waveform` is one."""

    def __len__(self) -> int:
        """Samples."""
        ...

    def __getitem__(self, part: slice, /) -> Waveform:
        """Some samples in a row, [n]; those outside of the voice are left out."""
        ...


Mask = NDArray[np.bool_]
"""Picture [height, width] that is true where a person is."""


class MaskSource(Protocol):
    """Where a person is, at any time. A picture is a source whose every mask is the same array."""

    def mask_at(self, seconds: float) -> Mask:
        """The mask [height, width] of the source picture at a time; past the end the last one."""
        ...


class FrameSource(Protocol):
    """The picture or video to bring to life. A picture is a source whose every frame is the same array."""

    @property
    def size(self) -> Pixels:
        """Height and width as seen (rotation applied)."""
        ...

    def frame_at(self, seconds: float) -> Picture:
        """The frame shown at a time; past the end the last one."""
        ...

    def frame_index(self, index: int) -> Picture:
        """The frame of a number; past the end the last one."""
        ...


@dataclass(frozen=True, slots=True)
class Inputs:
    """A request's files, opened."""

    source: FrameSource
    voices: tuple[Wave, ...]
    """One per person, from the request's `start` to the end of its file, at the loudness that the encoder expects. Who
    stays silent has zeros."""
    masks: tuple[MaskSource, ...] = ()
    """One per person, in the order of the request; empty if the request has none."""
    timeline: Timeline = Timeline()
    """How the source runs through the video."""
    rate: Fraction | None = None
    """Frames a second of the source, if it has a rate and tells it."""
    reopen: Callable[[], AbstractContextManager[FrameSource]] | None = None
    """Opens the source once more, to be read at another place; None if `source` may be read anywhere."""
    files: AbstractContextManager[object] = field(default_factory=nullcontext)
    """Left when the job is over: closes what the source reads from."""
