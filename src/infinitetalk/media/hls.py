"""A preview that plays while the video grows: HLS, one segment of MPEG-TS per window and a playlist that gets longer.

Players ask for the playlist again and again until it says that it is complete. Chromium refuses lists that may still
grow while they hold less than it wants to buffer, about three windows: for browsers a closed copy lies beside it, and a
page that plays the copy and takes longer ones as they come.
"""

import math
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from infinitetalk.core.errors import RequestError
from infinitetalk.core.files import durable
from infinitetalk.core.sizes import FPS
from infinitetalk.media.segments import Coded

if TYPE_CHECKING:
    from av import AudioStream, Packet, VideoStream
    from av.container import OutputContainer

PLAYLIST, CLOSED, PAGE = "index.m3u8", "now.m3u8", "watch.html"
"""The list that grows, a copy that says that nothing follows, and a page for browsers."""

_OURS = re.compile(r"((index|now)\.m3u8|watch\.html|window-\d{5,}\.ts)(\.new)?")
_END = "#EXT-X-ENDLIST"

# MPEG-TS counts time from 0 on, and the first frame is decoded before it is shown.
_EARLIER = 1
"""Seconds, or a whole frame more, by which all time stamps are later than in the video."""


def closed(playlist: str) -> str:
    """A list of what is finished, for players that refuse one that may grow.

    >>> closed("#EXTM3U\\n").splitlines()
    ['#EXTM3U', '#EXT-X-ENDLIST']
    """
    return playlist if _END in playlist else f"{playlist}{_END}\n"


class Heard(NamedTuple):
    """A piece of coded sound."""

    data: bytes
    pts: int
    duration: int
    time_base: Fraction

    @classmethod
    def of(cls, packet: "Packet[AudioStream]") -> "Heard":
        """A copy, since containers change what they are given."""
        return cls(bytes(packet), packet.pts or 0, packet.duration or 0, Fraction(packet.time_base or 1))

    def packet(self, stream: "AudioStream", later: Fraction) -> "Packet[AudioStream]":
        """What a container takes; its time stamps are so many seconds later."""
        from av import Packet

        packet: Packet[AudioStream] = Packet(self.data)  # type: ignore[assignment]
        packet.time_base, packet.stream, packet.duration = self.time_base, stream, self.duration
        packet.pts = packet.dts = self.pts + round(later / self.time_base)
        packet.is_keyframe = True
        return packet


def require_folder(folder: Path) -> None:
    """Refuses a folder for a preview that could not be made or holds anything else.

    Raises:
        RequestError: with what would work.
    """
    if folder.exists() and not folder.is_dir():
        raise RequestError("hls", folder, "is a file; give the path of a folder that is empty or not there yet")
    if not folder.parent.is_dir():
        raise RequestError("hls", folder, f"there is no folder {folder.parent}; create it or choose another")
    if folder.is_dir() and (others := sorted(path.name for path in folder.iterdir() if not _ours(path))):
        raise RequestError("hls", folder, f"holds {others[0]}; give a folder that is empty or not there yet")


def _ours(path: Path) -> bool:
    return _OURS.fullmatch(path.name) is not None


def fresh(names: Iterable[str], known: Collection[str]) -> list[str]:
    """Which files of a growing preview are to be copied now; lists come last and so name nothing that is missing.

    Lists are written anew all the time, and the newest segment once more at the end, with the last of the sound.
    """
    names = sorted(names)
    newest = [name for name in names if name.endswith(".ts")][-1:]
    wanted = [name for name in names if name.endswith(".m3u8") or name not in known or name in newest]
    return sorted(wanted, key=lambda name: name.endswith(".m3u8"))


class HlsPreview:
    """Writes a preview; an older one in the same folder is removed first.

    Args:
        folder: that of `index.m3u8`, `now.m3u8` and `watch.html`; made if it is not there.
        longest: frames of the longest window, as the network makes them: 25 a second.
        fps: frames a second of the video.
        add_video: adds the video stream to an open container.
        add_sound: adds the sound's; None without sound.

    Raises:
        OSError: the disk is full or gone.
    """

    def __init__(
        self,
        folder: Path,
        longest: int,
        fps: Fraction,
        add_video: "Callable[[OutputContainer], VideoStream]",
        add_sound: "Callable[[OutputContainer], AudioStream] | None",
    ) -> None:
        self._folder = folder
        self._fps = fps
        self._shift = math.ceil(_EARLIER * fps)
        self._add_video = add_video
        self._add_sound = add_sound
        self._lines = ["#EXTM3U", "#EXT-X-VERSION:3", f"#EXT-X-TARGETDURATION:{math.ceil(longest / FPS)}"]
        self._lines += ["#EXT-X-PLAYLIST-TYPE:EVENT", "#EXT-X-MEDIA-SEQUENCE:0"]
        self._newest: tuple[Path, Sequence[Coded], int, list[Heard]] | None = None
        self._windows = 0
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            if _ours(path):
                path.unlink()
        shutil.copyfile(Path(__file__).with_name(PAGE), folder / PAGE)

    def add(self, window: Sequence[Coded], first: int, heard: Iterable[Heard]) -> None:
        """Adds a window that begins at the video's frame `first`, and the sound that has come with it."""
        path = self._folder / f"window-{self._windows:05}.ts"
        self._newest = (path, window, first, list(heard))
        self._write(*self._newest)
        self._windows += 1
        self._lines += [f"#EXTINF:{float(len(window) / self._fps):.5f},", path.name]
        self._publish()

    def end(self, heard: Iterable[Heard]) -> None:
        """Says that nothing follows but a last moment of sound."""
        if self._newest is None:
            return
        path, window, first, known = self._newest
        self._write(path, window, first, known + list(heard))
        self._lines.append(_END)
        self._publish()

    def _publish(self) -> None:
        text = "\n".join(self._lines) + "\n"
        for name, content in ((CLOSED, closed(text)), (PLAYLIST, text)):
            with durable(self._folder / name) as fresh:
                fresh.write_text(content, encoding="ascii")

    def _write(self, path: Path, window: Sequence[Coded], first: int, heard: Iterable[Heard]) -> None:
        import av

        with (
            durable(path) as fresh,
            av.open(f"file:{fresh}", "w", format="mpegts", options={"mpegts_copyts": "1"}) as container,
        ):
            video = self._add_video(container)
            sound = None if self._add_sound is None else self._add_sound(container)
            container.start_encoding()
            for number, coded in enumerate(window):
                container.mux(coded.packet(number, first + self._shift, video, 1 / self._fps))
            for piece in heard:
                assert sound is not None
                container.mux(piece.packet(sound, self._shift / self._fps))
