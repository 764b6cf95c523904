"""Rendered clips on disk and in memory: pictures, boxes, and which speech drives whom.

A folder of `.npy` files that are mapped, not read: `frames.npy` (clips, 82, size, size, 3) uint8, where frame 81 is the
extra reference picture (the same people in another pose), and small tables beside it.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FRAMES = 81
SIZE = 128
PEOPLE = 3
REFERENCE = FRAMES
"""Index of the extra reference picture in a clip."""


@dataclass(frozen=True, slots=True)
class Clips:
    """Arrays over n clips of up to three people. Boxes are x0, y0, x1, y1 in pixels, zero where nobody is."""

    frames: NDArray[np.uint8]
    """(n, 82, size, size, 3)"""
    people: NDArray[np.int64]
    """(n,) how many faces: 1 to 3, placed left to right"""
    mouth: NDArray[np.float32]
    """(n, 3, 4) around the lips over the whole clip"""
    eyes: NDArray[np.float32]
    """(n, 3, 4) around both eyes over the whole clip"""
    face: NDArray[np.float32]
    """(n, 3, 4) around the head over the whole clip"""
    utterance: NDArray[np.int64]
    """(n, 3) index of the speech stream, -1 where nobody is"""
    start: NDArray[np.int64]
    """(n, 3) first video frame (25 per second) within the stream"""
    jaw: NDArray[np.float32]
    """(n, 3, 82) how far the jaw is open, the truth"""
    strength: NDArray[np.float32]
    """(n,) how much people move beside their speech; 1 is usual"""

    @property
    def count(self) -> int:
        """Number of clips."""
        return len(self.people)

    @property
    def size(self) -> int:
        """Pixels of a picture's edge."""
        return int(self.frames.shape[2])


def create(folder: Path, count: int, size: int | None = None) -> Clips:
    """An empty, writable store of pictures of `size` pixels, `SIZE` by default.

    Only as many bytes are used as are written.
    """
    size = size or SIZE
    folder.mkdir(parents=True, exist_ok=True)
    shapes: dict[str, tuple[tuple[int, ...], type]] = {
        "frames": ((count, FRAMES + 1, size, size, 3), np.uint8),
        "people": ((count,), np.int64),
        "mouth": ((count, PEOPLE, 4), np.float32),
        "eyes": ((count, PEOPLE, 4), np.float32),
        "face": ((count, PEOPLE, 4), np.float32),
        "utterance": ((count, PEOPLE), np.int64),
        "start": ((count, PEOPLE), np.int64),
        "jaw": ((count, PEOPLE, FRAMES + 1), np.float32),
        "strength": ((count,), np.float32),
    }
    return Clips(
        **{
            name: np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)
            for name, (shape, dtype) in shapes.items()
        }
    )


def extend(folder: Path) -> Clips:
    """A store that another process created, writable."""
    return Clips(**{field.name: np.load(folder / f"{field.name}.npy", mmap_mode="r+") for field in fields(Clips)})


def load(folder: Path, count: int | None = None) -> Clips:
    """The first `count` clips of a store (all of them by default), frames mapped from disk."""
    arrays = {field.name: np.load(folder / f"{field.name}.npy", mmap_mode="r") for field in fields(Clips)}
    return Clips(**{name: array[:count] if name == "frames" else np.array(array[:count])
                    for name, array in arrays.items()})  # fmt: skip


def finished(clips: Clips) -> NDArray[np.int64]:
    """Indices of the clips that were rendered: their number of people is written last."""
    return np.flatnonzero(clips.people)
