"""What the engine needs from outside, as small protocols: any object of these shapes will do.

The usual sources are the model folder's own encoders (`engine.model`) and files (`media.files`). Precomputed features,
other encoders or pictures from memory enter through the same doors, as arguments of `Engine`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import Pixels

Picture = NDArray[np.uint8]
"""RGB picture [height, width, 3]."""

Waveform = NDArray[np.float32]
"""Mono sound [samples], 16,000 samples a second."""


class TextSource(Protocol):
    """Turns words into the DiT's text tokens."""

    def encode(self, prompts: Sequence[str]) -> list[Tensor]:
        """One tensor [tokens, text_dim] per prompt, at its true length."""
        ...


class VisionSource(Protocol):
    """Turns the reference picture into the DiT's picture tokens."""

    def encode(self, picture: Tensor) -> Tensor:
        """Picture [1, 3, 1, height, width] in [-1, 1] → [1, clip_tokens, clip_dim]."""
        ...


class SpeechSource(Protocol):
    """Turns a voice into features, one per video frame."""

    def normalise(self, samples: Waveform) -> Waveform:
        """The whole voice as the encoder wants to hear it (zero mean and unit variance, say), same length."""
        ...

    def encode(self, samples: Waveform, frames: int, person: int) -> Tensor:
        """Normalised samples, stretched over `frames` video frames → [frames, layers, channels].

        `person` counts voices from 0; encoders of sound have no use for it, precomputed features do.
        """
        ...


class NoiseSource(Protocol):
    """Gives every window its starting noise."""

    def __call__(self, seed: int, window: int, shape: tuple[int, ...]) -> Tensor:
        """Standard normal float32 values on the CPU that depend on the arguments alone."""
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
    voices: tuple[Waveform, ...]
    """One per person, from the request's `start` to the end of its file, at the loudness that the encoder expects."""
    masks: tuple[NDArray[np.bool_], ...] = ()
    """One per person, [height, width] of the source, true where the person is; empty if the request has none."""


class MediaSource(Protocol):
    """Opens what a request names."""

    def open(self, request: TalkRequest) -> Inputs:
        """Reads sounds and masks, opens the picture or video.

        Raises:
            MediaError: a file that cannot be used.
        """
        ...
