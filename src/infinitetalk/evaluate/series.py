"""Numbers of a video's frames, and what is often asked of them."""

from array import array
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class Series:
    """Numbers of each frame by their names; 4 bytes for each."""

    def __init__(self) -> None:
        self._rows: dict[str, array[float]] = {}
        self._frames = 0

    def add(self, values: Mapping[str, float | None]) -> None:
        """Notes a frame. What it lacks, and None, is not a number."""
        for name in values:
            if name not in self._rows:
                self._rows[name] = array("f", [float("nan")] * self._frames)
        for name, row in self._rows.items():
            value = values.get(name)
            row.append(float("nan") if value is None else value)
        self._frames += 1

    def __len__(self) -> int:
        """Frames."""
        return self._frames

    def __getitem__(self, name: str) -> Floats:
        """The values (F,) of a name; not a number where there are none."""
        if name not in self._rows:
            return np.full(self._frames, np.nan, np.float32)
        return np.array(self._rows[name], np.float32)


def correlation(a: Floats, b: Floats) -> float:
    """Pearson's r over the shorter one's length; 0 if one of them does not change."""
    count = min(len(a), len(b))
    if not count:
        return 0.0
    a, b = a[:count] - a[:count].mean(), b[:count] - b[:count].mean()
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size > 0 else 0.0


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rank correlation; equal values share their mean rank."""
    return correlation(_ranks(np.asarray(a, np.float64)), _ranks(np.asarray(b, np.float64)))


def _ranks(values: NDArray[np.float64]) -> Floats:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[inverse], np.float32)


def filled(values: Floats) -> Floats:
    """Values (F,) with gaps (not a number) bridged by straight lines; all zero if there is nothing but gaps."""
    there = np.isfinite(values)
    if not there.any():
        return np.zeros_like(values)
    place = np.arange(len(values))
    return np.interp(place, place[there], values[there]).astype(np.float32)


def smoothed(values: Floats, frames: int) -> Floats:
    """The moving mean (F,) over an odd number of frames; the first and last values stand for those beyond."""
    padded = np.pad(values, frames // 2, mode="edge") if len(values) else values
    return np.convolve(padded, np.full(frames, 1 / frames), "valid").astype(np.float32) if len(values) else values


def mean(values: Floats) -> float | None:
    """The mean of what is there; None if nothing is."""
    there = values[np.isfinite(values)]
    return float(there.mean()) if there.size else None


def median(values: Floats) -> float | None:
    """The median of what is there; None if nothing is."""
    there = values[np.isfinite(values)]
    return float(np.median(there)) if there.size else None
