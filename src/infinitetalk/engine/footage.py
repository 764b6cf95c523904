"""The moving source of a window: its frames in the video's order, read forwards once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import torch
from torch import Tensor

from infinitetalk.core.sizes import FPS
from infinitetalk.core.timeline import Timeline
from infinitetalk.core.windows import Window
from infinitetalk.engine.protocols import FrameSource, Picture

GLANCES: Final = 4
"""Each so many frames one is looked at, where light is watched: a flash of a fifth of a second is seen."""


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
        course = self._course(window)
        fitted = {number: self._fit(picture) for number, picture in self._pass(course, course)}
        return torch.cat([fitted[number] for number in course], dim=2)

    def glance(self, window: Window) -> Tensor:
        """Some frames of a window, evenly spread, [1, 3, n, H, W]."""
        course = self._course(window)
        return torch.cat([self._fit(picture) for _, picture in self._pass(course, course[::GLANCES])], dim=2)

    def _course(self, window: Window) -> list[int]:
        last = window.first_frame + window.keep + window.spare - 1
        return [self._timeline.source_frame(min(frame, last)) for frame in range(window.start, window.end)]

    def _pass(self, course: Sequence[int], wanted: Iterable[int]) -> Iterator[tuple[int, Picture]]:
        """The wanted frames of a window's course, forwards and each once; those of the next window are remembered."""
        shared, seen = set(course[-self._overlap :]), set(wanted)
        recent: dict[int, Picture] = {}
        for number in sorted(seen | shared):
            picture = self._read(number)
            if number in shared:
                recent[number] = picture
            if number in seen:
                yield number, picture
        self._recent = recent

    def _read(self, number: int) -> Picture:
        known = self._recent.get(number)
        return self._source.frame_at(number / FPS) if known is None else known
