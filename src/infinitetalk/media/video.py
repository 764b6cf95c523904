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
    from av.container import InputContainer

_EARLY = 0.021
"""Seconds that a frame may be shown before its time: half a frame at 23.976 a second, the slowest usual rate."""

_LONGEST_LAST = 1.0
"""Seconds that the last frame of a slow video is taken to last, if its file does not say."""

_FINEST = 1001
"""Largest denominator of a rate: that of 29.97."""

_FAR = 20.0
"""Seconds ahead to which frames are not walked one by one, as a job does that goes on after a stop."""

_AHEAD, _CALM = 2.0, 1.0
"""Seconds before a time where a key frame is looked for, and where one must have been found.
What is shown close behind some key frames was made from frames before them."""

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

    Holds two decoded frames, whatever the length. Going back, or far ahead, starts again at a key frame where the file
    tells of them, else from the beginning: so ask in order. To be closed, or used in a `with` block.
    """

    def __init__(self, path: Path) -> None:
        """Opens the file and decodes its first frames.

        Raises:
            MediaError: undecodable, without video, smaller than 16x16 or of more than 100 megapixels.
        """
        self._path = path
        self._file = ExitStack()
        self._searchable = True
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
        far = seconds > self._now.seconds + _FAR and self._searchable
        if (seconds < self._since or far) and not self._jump(seconds):
            self._open()
        while self._next is not None and _due(self._now, self._next) <= seconds:
            self._step(self._next)
        return to_rgb(self._now.frame, self._geometry)

    def frame_index(self, index: int) -> Picture:
        """The frame of a number, counted from 0; past the end the last one."""
        if index < self._now.index or not self._counted:
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
        _, stream = self._reopen()
        if stream.width and stream.height:
            require_size(self._path, "video", Pixels(stream.height, stream.width))
        if not self._start(stream, None):
            raise MediaError(self._path, "the video has no frames; one frame or more would work")
        self._counted, self._since = True, -math.inf
        self._zero = _stamp(self._now.frame, stream)
        self._searchable = self._searchable and self._zero is not None
        return stream

    def _reopen(self) -> "tuple[InputContainer, VideoStream]":
        self._file.close()
        container = self._file.enter_context(open_media(self._path, "video"))
        stream = video_stream(self._path, container)
        stream.thread_type, stream.thread_count = "AUTO", _THREADS
        return container, stream

    def _start(self, stream: "VideoStream", zero: float | None) -> bool:
        """Takes the first two frames from where the stream is; False if there is none."""
        self._shots = _shots(decode(self._path, "video", stream), stream, zero)
        first = next(self._shots, None)
        if first is not None:
            self._now, self._next = first, next(self._shots, None)
        return first is not None

    def _jump(self, seconds: float) -> bool:
        """Starts from a key frame well before a time; False where none is known for sure, or where it is no gain."""
        if self._zero is None or seconds < _AHEAD or not self._searchable:
            return False
        self._searchable = self._search(self._zero, seconds)
        return self._searchable

    def _search(self, zero: float, seconds: float) -> bool:
        container, stream = self._reopen()
        try:
            container.seek(round((zero + seconds - _AHEAD) / float(stream.time_base or 1)), stream=stream)
            found = self._start(stream, zero)
        except (OSError, MediaError):  # FFmpeg cannot search this format, or finds nothing there
            return False
        first = self._now
        sure = found and first.frame.key_frame and _stamp(first.frame, stream) is not None
        self._counted, self._since = False, first.seconds
        return sure and first.seconds <= seconds - _CALM

    def _step(self, following: Shot) -> None:
        self._since = _due(self._now, following)
        self._now, self._next = following, next(self._shots, None)


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


def _shots(frames: "Iterator[VideoFrame]", stream: "VideoStream", zero: float | None = None) -> Iterator[Shot]:
    """Numbers the frames and tells their times from their stamps, or from the rate where a file has none.

    `zero` is the stamp of the video's first frame in seconds, if it is not the first here.
    """
    step = 1 / float(stream.average_rate or stream.guessed_rate or FPS)
    last = -step
    for index, frame in enumerate(frames):
        stamp = _stamp(frame, stream)
        zero = stamp if zero is None else zero
        last = last + step if stamp is None or zero is None else stamp - zero
        yield Shot(index, last, frame)


def _stamp(frame: "VideoFrame", stream: "VideoStream") -> float | None:
    """Seconds that a file says of a frame."""
    return None if frame.pts is None or stream.time_base is None else float(frame.pts * stream.time_base)


def _due(now: Shot, following: Shot) -> float:
    """The time from which the following frame is shown."""
    return following.seconds - min(_EARLY, (following.seconds - now.seconds) / 2)
