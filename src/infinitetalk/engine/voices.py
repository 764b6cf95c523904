"""What the network hears: features of every voice, cut to windows.

Every frame of the video hears the features of the frames around it. Long voices are encoded piece by piece with what
`models.long_speech` does to hear them whole, so that memory does not grow with the length of the sound.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from infinitetalk.core.control import Strength, strength_at
from infinitetalk.core.sizes import FPS, SAMPLES_PER_FRAME
from infinitetalk.core.windows import Window, reference_frames_of
from infinitetalk.engine.protocols import LongFeatures, LongSpeechSource, SpeechSource, Wave

PIECE = 1500
"""Frames (one minute) that a voice may have to be encoded in one go; longer ones go in pieces that advance by this."""

CONTEXT = 250
"""Frames of sound that a piece hears beyond each of its ends."""

_SILENT = 51
"""Frames of silence, of which the middle one tells how silence is heard."""

_REFERENCE_EXTRA = 3
"""Frames that the reference mirrors beyond the last window's end."""


class Voices(Protocol):
    """The voices of a job."""

    def pieces(self, windows: Sequence[Window]) -> int:
        """How many times the speech encoder will run for these windows."""
        ...

    def load(self, window: Window) -> int:
        """Runs the speech encoder as often as a window needs, and says how often that was."""
        ...

    def hear(self, window: Window) -> Tensor:
        """Features around each frame of a window, [people, frames, width, layers, channels] on the CPU."""
        ...


def surround(features: Tensor, frames: range, width: int) -> Tensor:
    """Features [L, layers, channels] → [frames, width, layers, channels]: each frame amid its neighbours.

    Frames before the first and behind the last are those themselves.
    """
    centres = torch.arange(frames.start, frames.stop)[:, None]
    around = torch.arange(width) - width // 2
    return features[(centres + around).clamp(0, len(features) - 1)]


class PaddedVoices:
    """Voices followed by silence, as long as the video asks.

    Args:
        waves: one per person.
        frames: features that the last window may ask for.
        width: features around each frame.
        reach: frames that one window may last.
    """

    def __init__(self, source: SpeechSource, waves: Sequence[Wave], *, frames: int, width: int, reach: int) -> None:
        self._source = source
        self._waves = [_normalised(source, wave) for wave in waves]
        self._frames = frames
        self._width = width
        self._reach = reach
        self._stretch = range(0)
        self._features: list[Tensor] = []
        self._long = list[LongFeatures]()
        # Short voices are encoded in one go; sources that cannot hear long ones whole hear them in pieces.
        self._whole: LongSpeechSource | None = None
        if frames > PIECE and isinstance(source, LongSpeechSource) and source.hears_long:
            self._whole = source

    def _around(self, window: Window) -> range:
        """The piece of sound for a window, in frames: a matter of where it starts, not of what was made before."""
        if self._frames <= PIECE:
            return range(self._frames)
        begin = window.start // PIECE * PIECE
        return range(max(0, begin - CONTEXT), min(self._frames, begin + PIECE + self._reach + CONTEXT))

    def pieces(self, windows: Sequence[Window]) -> int:
        """See `Voices`."""
        if self._whole is not None:
            return len(self._waves)
        return len({self._around(window) for window in windows}) * len(self._waves)

    def load(self, window: Window) -> int:
        """See `Voices`."""
        if self._whole is not None:
            if self._long:
                return 0
            self._long = [self._whole.encode_long(wave, self._frames) for wave in self._waves]
            return len(self._long)
        stretch = self._around(window)
        if stretch == self._stretch:
            return 0
        self._stretch = stretch
        self._features = [self._encode(person, stretch) for person in range(len(self._waves))]
        return len(self._features)

    def _encode(self, person: int, stretch: range) -> Tensor:
        part = self._waves[person][stretch.start * SAMPLES_PER_FRAME : stretch.stop * SAMPLES_PER_FRAME]
        silence = len(stretch) * SAMPLES_PER_FRAME - len(part)
        return self._source.encode(np.pad(part, (0, silence)), len(stretch), person).cpu()

    def hear(self, window: Window) -> Tensor:
        """See `Voices`."""
        self.load(window)
        if self._long:
            margin = self._width // 2
            near = range(max(0, window.start - margin), min(self._frames, window.end + margin))
            heard, first = [features.part(near) for features in self._long], near.start
        else:
            heard, first = self._features, self._stretch.start
        frames = range(window.start - first, window.end - first)
        return torch.stack([surround(features, frames, self._width) for features in heard])


def _normalised(source: SpeechSource, wave: Wave) -> Wave:
    """A voice as the encoder wants to hear it; in memory if it is there already, or the source cannot do without."""
    if not isinstance(wave, np.ndarray) and isinstance(source, LongSpeechSource):
        return source.normalise_long(wave)
    return source.normalise(wave[:])


class TemperedVoices:
    """Voices between silence and themselves, by person and time: a strength of 0 is heard as silence.

    Args:
        voices: as they are.
        strengths: what holds when and for whom.
    """

    def __init__(self, voices: Voices, source: SpeechSource, strengths: Sequence[Strength]) -> None:
        self._voices = voices
        self._source = source
        self._strengths = strengths
        self._silence: Tensor | None = None

    def pieces(self, windows: Sequence[Window]) -> int:
        """See `Voices`."""
        return self._voices.pieces(windows)

    def load(self, window: Window) -> int:
        """See `Voices`."""
        return self._voices.load(window)

    def hear(self, window: Window) -> Tensor:
        """See `Voices`."""
        heard = self._voices.hear(window)
        if self._silence is None:
            still = np.zeros(_SILENT * SAMPLES_PER_FRAME, np.float32)
            self._silence = self._source.encode(still, _SILENT, 0).cpu()[_SILENT // 2]
        people, frames, width = heard.shape[:3]
        around = range(-(width // 2), width - width // 2)
        shares = [[[strength_at(self._strengths, person, max(0, window.start + frame + step) / FPS) for step in around]
                   for frame in range(frames)] for person in range(people)]  # fmt: skip
        share = torch.tensor(shares, dtype=heard.dtype)[..., None, None]
        return torch.where(share == 1, heard, self._silence + share * (heard - self._silence))


class MirroredVoices:
    """Voices as the reference treats them: encoded whole, and mirrored where the last window needs more."""

    def __init__(self, source: SpeechSource, waves: Sequence[Wave], *, width: int) -> None:
        self._source = source
        self._waves = waves
        self._width = width
        self._features: list[Tensor] = []

    def pieces(self, windows: Sequence[Window]) -> int:
        """See `Voices`."""
        return len(self._waves) if windows else 0

    def load(self, window: Window) -> int:  # noqa: ARG002 - all windows need all of it
        """See `Voices`."""
        if self._features:
            return 0
        for person, wave in enumerate(self._waves):
            heard = self._source.encode(self._source.normalise(wave[:]), reference_frames_of(len(wave)), person)
            self._features.append(heard.cpu())
        return len(self._features)

    def hear(self, window: Window) -> Tensor:
        """See `Voices`."""
        self.load(window)
        frames = range(window.start, window.end)
        return torch.stack([surround(mirror(features, window), frames, self._width) for features in self._features])


def mirror(features: Tensor, window: Window) -> Tensor:
    """Features [L, …] that go on backwards to the end of the last window and three frames further."""
    missing = window.end - len(features) + _REFERENCE_EXTRA
    if not window.mirror or window.end < len(features):
        return features
    return torch.cat([features, features[-missing:].flip(0)])
