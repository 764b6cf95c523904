"""The level at which wav2vec2 was trained, for voices that are not in memory."""

import numpy as np

from infinitetalk.engine.protocols import Wave, Waveform
from infinitetalk.media.spool import pieces
from infinitetalk.models.speech import VARIANCE_FLOOR


class Level:
    """A voice at zero mean and unit variance, as `models.speech.normalise` makes it; parts when they are asked for.

    Args:
        wave: read twice, for its mean and its variance.
    """

    def __init__(self, wave: Wave) -> None:
        self._wave = wave
        count = max(1, len(wave))
        mean = sum(float(piece.sum(dtype=np.float64)) for piece in pieces(wave)) / count
        squares = sum(float(np.square(piece.astype(np.float64) - mean).sum()) for piece in pieces(wave))
        self._mean = np.float32(mean)
        self._deviation = np.float32(np.sqrt(squares / count + VARIANCE_FLOOR))

    def __len__(self) -> int:
        return len(self._wave)

    def __getitem__(self, part: slice) -> Waveform:
        return (self._wave[part] - self._mean) / self._deviation
