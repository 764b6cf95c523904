"""What the engine needs from outside, as small protocols: any object of these shapes will do.

The usual sources are the model folder's own encoders (`engine.model`) and files (`media.files`). Precomputed features,
other encoders or pictures from memory enter through the same doors, as arguments of `Engine`.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from infinitetalk.core.request import TalkRequest
from infinitetalk.media.inputs import FrameSource, Inputs, Picture, Wave, Waveform

__all__ = [
    "AheadText", "AheadVision", "FrameSource", "Inputs", "LongFeatures", "LongSpeechSource", "MediaSource",
    "NoiseSource", "Picture", "SpeechSource", "TextSource", "VisionSource", "Wave", "Waveform",
]  # fmt: skip


class TextSource(Protocol):
    """Turns words into the DiT's text tokens."""

    def encode(self, prompts: Sequence[str]) -> list[Tensor]:
        """One tensor [tokens, text_dim] per prompt, at its true length."""
        ...


@runtime_checkable
class AheadText(TextSource, Protocol):
    """A text encoder elsewhere, which can be asked before its answer is needed."""

    def begin(self, prompts: Sequence[str]) -> None:
        """Lets them be read while others work; `encode` then waits for it."""
        ...


class VisionSource(Protocol):
    """Turns the reference picture into the DiT's picture tokens."""

    def encode(self, picture: Tensor) -> Tensor:
        """Picture [1, 3, 1, height, width] in [-1, 1] → [1, clip_tokens, clip_dim]."""
        ...


@runtime_checkable
class AheadVision(VisionSource, Protocol):
    """A picture encoder elsewhere, which can be asked before its answer is needed."""

    def begin(self, picture: Tensor) -> None:
        """Lets it be seen while others work; `encode` then waits for it."""
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


class LongFeatures(Protocol):
    """Features of a sound, of which parts are asked for."""

    def part(self, frames: range) -> Tensor:
        """Some frames' features, [frames, layers, channels] on the CPU."""
        ...


@runtime_checkable
class LongSpeechSource(SpeechSource, Protocol):
    """A source that can hear a long voice as a whole without holding it in memory."""

    @property
    def hears_long(self) -> bool:
        """Whether this encoder can."""
        ...

    def normalise_long(self, samples: Wave) -> Wave:
        """The same as `normalise` for a voice that is not in memory: parts are changed when they are asked for."""
        ...

    def encode_long(self, samples: Wave, frames: int) -> LongFeatures:
        """Normalised samples, and silence behind them, over `frames` video frames."""
        ...


class NoiseSource(Protocol):
    """Gives every window its starting noise."""

    def __call__(self, seed: int, window: int, shape: tuple[int, ...]) -> Tensor:
        """Standard normal float32 values on the CPU that depend on the arguments alone.

        A live talk also asks for the noise of the chunk behind its last.
        """
        ...


class MediaSource(Protocol):
    """Opens what a request names."""

    def open(self, request: TalkRequest) -> Inputs:
        """Reads sounds and masks, opens the picture or video.

        Raises:
            MediaError: a file that cannot be used.
        """
        ...
