"""Videos as sources of frames: any rate, constant or not, turned upright, as RGB pictures of one size."""

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from infinitetalk.core.errors import MediaError
from infinitetalk.core.sizes import FPS, Pixels
from infinitetalk.media.container import decode, open_media, video_stream
from infinitetalk.media.inputs import Picture
from infinitetalk.media.picture import require_size
from infinitetalk.media.pixels import Geometry, to_rgb

if TYPE_CHECKING:
    from av import VideoFrame, VideoStream

_EARLY = 0.021
"""Seconds that a frame may be shown before its time: half a frame at 23.976 a second, the slowest usual rate."""

_LONGEST_LAST = 1.0
"""Seconds that the last frame of a slow video is taken to last, if its file does not say."""

_FINEST = 1001
"""Largest denominator of a rate: that of 29.97."""

_THREADS = 4
"""Enough for any size, and a bound on the frames that a decoder keeps in memory on large machines."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A decoded frame, still as FFmpeg has it, with its place in the video."""

    index: int
    seconds: float
    """Since the first frame."""
    frame: "VideoFrame"


class VideoSource:
    """Reads a video's frames by time or by number with one decoder that runs forwards.

    Holds two decoded frames, whatever the length. Going back starts again from the beginning, so ask in order. To be
    closed, or used in a `with` block.
    """

    def __init__(self, path: Path) -> None:
        """Opens the file and decodes its first frames.

        Raises:
            MediaError: undecodable, without video, smaller than 16x16 or of more than 100 megapixels.
        """
        self._path = path
        self._file = ExitStack()
        try:
            stream = self._open()
            self._geometry = Geometry.of(self._now.frame, stream.sample_aspect_ratio)
            rate = stream.average_rate or stream.guessed_rate
            self.rate = None if not rate else Fraction(rate).limit_denominator(_FINEST)
            """Frames a second, on average; None if the file does not say."""
            require_size(path, "video", self._geometry.size)
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> Pixels:
        """Height and width as seen: turned upright, with square pixels."""
        return self._geometry.size

    def frame_at(self, seconds: float) -> Picture:
        """The frame nearest to a time in the video, but none more than 21 ms early; past the end the last one."""
        if self._now.index and seconds < _due(self._before, self._now):
            self._open()
        while self._next is not None and _due(self._now, self._next) <= seconds:
            self._step(self._next)
        return to_rgb(self._now.frame, self._geometry)

    def frame_index(self, index: int) -> Picture:
        """The frame of a number, counted from 0; past the end the last one."""
        if index < self._now.index:
            self._open()
        while self._next is not None and self._now.index < index:
            self._step(self._next)
        return to_rgb(self._now.frame, self._geometry)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> "VideoStream":
        """Starts from the beginning."""
        self._file.close()
        container = self._file.enter_context(open_media(self._path, "video"))
        stream = video_stream(self._path, container)
        if stream.width and stream.height:
            require_size(self._path, "video", Pixels(stream.height, stream.width))
        stream.thread_type, stream.thread_count = "AUTO", _THREADS
        self._shots = _shots(decode(self._path, "video", stream), stream)
        first = next(self._shots, None)
        if first is None:
            raise MediaError(self._path, "the video has no frames; one frame or more would work")
        self._before = self._now = first
        self._next = next(self._shots, None)
        return stream

    def _step(self, following: Shot) -> None:
        self._before, self._now = self._now, following
        self._next = next(self._shots, None)


def length_of(path: Path) -> float:
    """Seconds from a video's first frame to the end of its last, from its packets: none is decoded.

    Raises:
        MediaError: without video, or unreadable.
    """
    with open_media(path, "video") as container:
        stream = video_stream(path, container)
        step = 1 / float(stream.average_rate or stream.guessed_rate or FPS)
        first, last, end, count = math.inf, -math.inf, -math.inf, 0
        for packet in container.demux(stream):
            stamp = packet.pts if packet.pts is not None else packet.dts
            count += bool(packet.size)
            if not packet.size or stamp is None:
                continue
            shown = float(stamp * packet.time_base)
            first, last = min(first, shown), max(last, shown)
            end = max(end, shown + float((packet.duration or 0) * packet.time_base))
        return max(end, last + min(step, _LONGEST_LAST)) - first if math.isfinite(first) else count * step


def shown_frames(path: Path) -> "Iterator[tuple[float, VideoFrame]]":
    """Every frame as FFmpeg has it, with the seconds from which on `VideoSource.frame_at` shows it.

    Raises:
        MediaError: without video, or undecodable.
    """
    with open_media(path, "video") as container:
        stream = video_stream(path, container)
        stream.thread_type, stream.thread_count = "AUTO", _THREADS
        before: Shot | None = None
        for shot in _shots(decode(path, "video", stream), stream):
            yield 0.0 if before is None else _due(before, shot), shot.frame
            before = shot


def _shots(frames: "Iterator[VideoFrame]", stream: "VideoStream") -> Iterator[Shot]:
    """Numbers the frames and tells their times from their stamps, or from the rate where a file has none."""
    step = 1 / float(stream.average_rate or stream.guessed_rate or FPS)
    zero, last = None, -step
    for index, frame in enumerate(frames):
        stamp = None if frame.pts is None or stream.time_base is None else float(frame.pts * stream.time_base)
        zero = stamp if zero is None else zero
        last = last + step if stamp is None or zero is None else stamp - zero
        yield Shot(index, last, frame)


def _due(now: Shot, following: Shot) -> float:
    """The time from which the following frame is shown."""
    return following.seconds - min(_EARLY, (following.seconds - now.seconds) / 2)
