"""The moving source of a window: its frames in the video's order, read forwards once."""

from collections.abc import Callable

import torch
from torch import Tensor

from infinitetalk.core.sizes import FPS
from infinitetalk.core.timeline import Timeline
from infinitetalk.core.windows import Window
from infinitetalk.engine.protocols import FrameSource, Picture


class Footage:
    """Frames of a source, as the video's course asks for them.

    A source is read forwards, and a window begins with frames that the one before ended with: those are remembered. A
    stretch that runs backwards (ping-pong) is read forwards and turned around.

    Args:
        fit: picture → network input [1, 3, 1, H, W].
        overlap: frames that a window shares with the one before, at most.
    """

    def __init__(
        self, source: FrameSource, timeline: Timeline, fit: Callable[[Picture], Tensor], *, overlap: int
    ) -> None:
        self._source, self._timeline, self._fit, self._overlap = source, timeline, fit, overlap
        self._recent: dict[int, Picture] = {}

    def picture(self, frame: int) -> Picture:
        """The source's frame for one of the video."""
        return self._read(self._timeline.source_frame(frame))

    def clip(self, window: Window) -> Tensor:
        """All frames of a window, [1, 3, length, H, W]; behind its last one in the video, that one is held."""
        last = window.first_frame + window.keep + window.spare - 1
        course = [self._timeline.source_frame(min(frame, last)) for frame in range(window.start, window.end)]
        shared = set(course[-self._overlap :])
        fitted: dict[int, Tensor] = {}
        recent: dict[int, Picture] = {}
        for number in sorted(set(course)):
            picture = self._read(number)
            fitted[number] = self._fit(picture)
            if number in shared:
                recent[number] = picture
        self._recent = recent
        return torch.cat([fitted[number] for number in course], dim=2)

    def _read(self, number: int) -> Picture:
        known = self._recent.get(number)
        return self._source.frame_at(number / FPS) if known is None else known
