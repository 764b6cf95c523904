"""Which frame of a source belongs to which frame of the video: what happens at the source's end, and where it cuts.

Both are counted in frames of the video, 25 a second, whatever the source's own rate is.
"""

from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

SOURCE_ENDS = ("hold", "loop", "ping-pong", "stop")
"""What can be done when the sound is longer than the source."""

Place = TypeVar("Place", int, Fraction)


@dataclass(frozen=True, slots=True)
class Timeline:
    """The course of a source through a video."""

    frames: int | None = None
    """Frames that the source lasts; None: it has no end, as a picture has none, or nobody asks."""
    end: str = "hold"
    """What follows the source's last frame, one of `SOURCE_ENDS`."""
    cuts: tuple[int, ...] = ()
    """Frames of the source with which a new shot begins, in rising order."""

    @property
    def limit(self) -> int | None:
        """Frames that the video may last at most, if the source decides."""
        return self.frames if self.end == "stop" else None

    def source_frame(self, frame: Place) -> Place:
        """The source's frame for one of the video, both at 25 a second and from 0; also for places between frames."""
        turned = self.end == "ping-pong" and self.frames is not None and frame > self.frames - 1
        if self.frames is None or (frame < self.frames and not turned):
            return frame
        if self.end == "loop":
            return frame % self.frames
        if self.end == "ping-pong" and self.frames > 1:
            there_and_back = 2 * (self.frames - 1)
            place = frame % there_and_back
            return min(place, there_and_back - place)
        return type(frame)(self.frames - 1)

    def cuts_before(self, total: int) -> tuple[int, ...]:
        """Frames of a video of `total` frames with which a new shot begins, each above 0."""
        if not self.cuts and (self.end != "loop" or self.frames is None):
            return ()
        found, shot, source = [], 0, 0
        for frame in range(1, total):
            before, source = source, self.source_frame(frame)
            now = bisect_right(self.cuts, source)
            if now != shot or (self.end == "loop" and source < before):
                found.append(frame)
            shot = now
        return tuple(found)
