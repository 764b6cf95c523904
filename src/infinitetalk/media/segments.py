"""Finished windows on disk: one small MP4 without sound per window, from which a video is put together again."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from infinitetalk.core.errors import MediaError
from infinitetalk.core.files import durable
from infinitetalk.core.sizes import FPS

if TYPE_CHECKING:
    from av import Packet, VideoStream

TICK = Fraction(1, FPS)
"""Of a video whose rate nobody changed."""

REORDER = 2
"""Frames by which x264's B-frames come later than they are decoded."""

_NOTHING = ".none"
"""Ending of a window without frames."""

_START = b"\0\0\0\1"


class Coded(NamedTuple):
    """A coded frame of a window; windows list them in the order in which they are decoded."""

    data: bytes
    """H.264 units, each behind a start code."""
    place: int
    """When it is shown, in frames from the window's beginning."""
    key: bool

    def packet(self, number: int, first: int, stream: "VideoStream", tick: Fraction = TICK) -> "Packet[VideoStream]":
        """What a container takes.

        Args:
            number: the frame's place in its window's list.
            first: frames of the video before the window.
            stream: where the packet goes.
            tick: seconds that a frame lasts.
        """
        from av import Packet

        packet = cast("Packet[VideoStream]", Packet(self.data))
        # Counted here: x264's own stamps would clash where one window's encoder hands over to the next.
        packet.pts, packet.dts = first + self.place, first + number - REORDER
        packet.duration, packet.time_base, packet.stream = 1, tick, stream
        packet.is_keyframe = self.key
        return packet


def segment_path(folder: Path, window: int) -> Path:
    """Where a window lies."""
    return folder / f"window-{window:05}.mp4"


def write_segment(
    path: Path, window: Sequence[Coded], add_stream: Callable[..., "VideoStream"], tick: Fraction = TICK
) -> None:
    """Writes a window; when this returns, the file is whole and on the disk.

    A window of no frames is an empty file of another ending, since no player would open it.

    Args:
        add_stream: adds the video stream to an open container.

    Raises:
        OSError, FFmpegError: the disk is full or gone.
    """
    import av

    if not window:
        with durable(path.with_suffix(_NOTHING)) as fresh:
            fresh.touch()
        return
    with durable(path) as fresh, av.open(f"file:{fresh}", "w", format="mp4") as container:
        stream = add_stream(container)
        container.start_encoding()
        for number, coded in enumerate(window):
            container.mux(coded.packet(number, 0, stream, tick))


def read_segment(path: Path, tick: Fraction = TICK) -> list[Coded]:
    """The window that `write_segment` wrote, to the byte.

    Raises:
        MediaError: a file that is missing or damaged.
    """
    import av
    from av.error import FFmpegError

    window = list[Coded]()
    if path.with_suffix(_NOTHING).exists():
        return window
    try:
        with av.open(f"file:{path}") as container:
            stream = container.streams.video[0]
            for packet in container.demux(stream):
                if packet.size and packet.pts is not None:
                    place = round(packet.pts * (stream.time_base or tick) / tick)
                    window.append(Coded(_with_start_codes(bytes(packet)), place, packet.is_keyframe))
    except (FFmpegError, OSError, IndexError) as error:
        raise _damaged(path) from error
    if not window or not window[0].key:
        raise _damaged(path)
    earliest = min(coded.place for coded in window)
    return [coded._replace(place=coded.place - earliest) for coded in window]


def _damaged(path: Path) -> MediaError:
    return MediaError(path, "a finished window of this job is missing or damaged; start anew with --restart")


def _with_start_codes(data: bytes) -> bytes:
    """H.264 units behind their lengths, as MP4 has them → behind start codes, as encoders give them."""
    units, place = list[bytes](), 0
    while place < len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        units.append(data[place + 4 : place + 4 + length])
        place += 4 + length
    return b"".join(_START + unit for unit in units)
