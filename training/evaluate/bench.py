"""What every measure of nano works with: the model, its judges, and what was seen so far."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from infinitetalk.evaluate import sync
from training.evaluate.identity import Recogniser
from training.evaluate.landmarks import FaceMesh, Floats, openness
from training.evaluate.scenes import Studio
from training.evaluate.videos import Camera, Video

WINDOW, ADDED = 81, 72
"""Frames of a first window, and what each later one adds."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an edition must reach where editions differ, and how much of each kind is looked at by default."""

    jaw: float
    """correlation of the jaw's openness with the truth"""
    swapped: float
    """the same with another clip's sound"""
    amounts: Mapping[str, int]


WANTED: Final[Mapping[str, Wanted]] = {
    "1": Wanted(0.8, 0.75, {"cost": 0, "single": 20, "real": 5, "mouths": 0, "chain": 5, "own": 0, "swapped": 20,
                            "moving": 0, "photo": 0, "double": 16}),
    # A clip takes about half a minute here, and a window of the chain 15 seconds: 20 minutes in all on two cores.
    "2": Wanted(0.92, 0.9, {"cost": 2, "single": 6, "real": 5, "mouths": 5, "chain": 20, "own": 0, "swapped": 3,
                            "moving": 2, "photo": 2, "double": 0}),
}  # fmt: skip
SMALL: Final[Mapping[str, int]] = {"cost": 1, "single": 3, "real": 2, "mouths": 2, "chain": 2, "own": 0, "swapped": 2,
                                   "moving": 1, "photo": 1, "double": 0}  # fmt: skip
"""A first look: about five minutes for the second edition."""


@dataclass(frozen=True, slots=True)
class Bench:
    """The model, its judges, where results go, and what other measures left."""

    model: Path
    camera: Camera
    studio: Studio
    out: Path
    mesh: FaceMesh
    recogniser: Recogniser
    wanted: Wanted
    singles: int
    """Clips of one window, whose mouths are read, and whose true renders probes learn from."""
    portrait: Path | None = None
    """A photograph."""
    details: dict[str, object] = field(default_factory=dict)
    lags: dict[str, float] = field(default_factory=dict)
    """How many milliseconds the lips come after the sound, by the video's name."""
    portraits: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """Numbers of the people who were given, by name."""
    faces: list[tuple[str, NDArray[np.float64]]] = field(default_factory=list)
    """Those of the faces that were made, with the name of whose they should be."""
    _tracks: dict[str, Floats] = field(default_factory=dict)

    def track(self, name: str, video: Video) -> Floats:
        """Points (F, 468, 2) of a video of this name, which is looked at once."""
        if name not in self._tracks:
            self._tracks[name] = self.mesh.track(video)
        return self._tracks[name]

    def known(self, name: str) -> Floats:
        """The points of a video that was looked at before."""
        return self._tracks[name]

    def openness(self, name: str, video: Video) -> Floats:
        """How far the lips are open in each frame, as the landmarks say."""
        return openness(self.track(name, video))

    def sync(self, name: str, shown: Floats, truth: Floats) -> None:
        """Notes the lag between what is shown and what should be."""
        if (found := sync.measure(shown, truth)) is not None:
            self.lags[name] = found.offset_ms

    def identity(self, person: str, picture: NDArray[np.uint8], frames: Video) -> float:
        """Mean distance of the frames' faces to the picture's; not a number if no face was found."""
        own = self.portraits.get(person)
        if own is None and (own := self.recogniser.describe(picture)) is not None:
            self.portraits[person] = own
        found = [numbers for frame in frames if (numbers := self.recogniser.describe(frame)) is not None]
        self.faces.extend((person, numbers) for numbers in found)
        return float(np.mean([np.linalg.norm(own - face) for face in found])) if own is not None and found else np.nan

    def say(self, text: str) -> None:
        """Tells how far the work is."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
