"""The files of an evaluation: a video seen at 25 frames a second, its sound, and what lies beside it."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infinitetalk.core.errors import MediaError, RequestError
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import FPS, SAMPLES_PER_FRAME, Pixels
from infinitetalk.media.container import open_media, sound_stream
from infinitetalk.media.fit import place, resize
from infinitetalk.media.hearing import listen
from infinitetalk.media.inputs import FrameSource, Picture, Wave
from infinitetalk.media.paths import sidecar_path
from infinitetalk.media.picture import StillSource, read_picture
from infinitetalk.media.sound import open_sound
from infinitetalk.media.video import VideoSource, length_of

STRETCH = 75
"""Frames of a stretch of a video whose windows are not known."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A video that is looked at from its beginning to its end."""

    path: Path
    size: Pixels
    frames: int
    """Of 25 in a second."""
    starts: tuple[int, ...]
    """With which the windows begin, as the file beside the video tells; empty where none does."""
    request: TalkRequest | None
    """What the video was made from, if the file beside it tells."""

    @staticmethod
    def open(path: Path) -> "Clip":
        """Looks at a video and at the JSON file beside it.

        Raises:
            MediaError: no video, or one that cannot be decoded.
        """
        with VideoSource(path) as source:
            size = source.size
        frames = max(1, round(length_of(path) * FPS))
        content = _beside(path)
        request = _request(content)
        rows = content.get("windows", [])
        numbers = [row.get("first_frame") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        starts = tuple(sorted(number for number in numbers if isinstance(number, int) and 0 <= number < frames))
        return Clip(path, size, frames, starts, request)

    def pictures(self) -> Iterator[Picture]:
        """Its frames [height, width, 3], one after the other."""
        with VideoSource(self.path) as source:
            for index in range(self.frames):
                yield source.frame_at(index / FPS)

    def stretches(self) -> tuple[slice, ...]:
        """The frames of its windows, or of stretches of 3 s where windows are not known."""
        starts = self.starts or tuple(range(0, max(1, self.frames - STRETCH // 3), STRETCH))
        return tuple(slice(begin, end) for begin, end in zip(starts, [*starts[1:], self.frames], strict=True))


def _beside(path: Path) -> Mapping[str, Any]:
    """What the file beside a video says; nothing if there is none, or if it is about something else."""
    try:
        content = json.loads(sidecar_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) and "request" in content else {}


def _request(content: Mapping[str, Any]) -> TalkRequest | None:
    values = content.get("request")
    try:
        return TalkRequest.from_json(values) if isinstance(values, dict) else None
    except RequestError:
        return None  # of another version


def voice_of(path: Path, frames: int) -> Wave | None:
    """What a media file lets hear, as long as so many frames at least; None for a video without sound.

    Raises:
        MediaError: a sound that cannot be used.
    """
    try:
        sound = open_sound(path)
    except MediaError as error:
        if "has no sound" in error.problem:
            return None
        raise
    return listen(sound, -_late(path), least=frames * SAMPLES_PER_FRAME)


def _late(path: Path) -> float:
    """Seconds by which a file's sound begins after its pictures, below 0 before them; 0 for a sound alone."""
    with open_media(path, "sound") as container:
        sound = sound_stream(path, container)
        moving = [stream for stream in container.streams.video if stream.start_time is not None and stream.time_base]
        if not moving or sound.start_time is None or sound.time_base is None:
            return 0.0
        pictures = moving[0]
        assert pictures.start_time is not None
        assert pictures.time_base is not None
        return float(sound.start_time * sound.time_base - pictures.start_time * pictures.time_base)


def open_pictures(path: Path) -> FrameSource:
    """A picture, or a video, as a source of frames; videos are to be closed.

    Raises:
        MediaError: neither.
    """
    try:
        return StillSource(read_picture(path))
    except MediaError as error:
        try:
            return VideoSource(path)
        except MediaError:
            raise error from None


def fitted(picture: Picture, size: Pixels, framing: str = "crop") -> Picture:
    """A picture as a video of another size shows it: made smaller or larger to fill it, and cut around its middle."""
    if picture.shape[:2] == tuple(size):
        return picture
    where = place(Pixels(*picture.shape[:2]), size, "crop" if framing == "letterbox" else framing)
    return resize(picture, where.size)[where.top : where.top + size.height, where.left : where.left + size.width]


def same_shape(truth: FrameSource, clip: Clip, path: Path) -> None:
    """Refuses a truth that shows another part of the world.

    Raises:
        MediaError: its sides have another ratio than the video's.
    """
    own, other = clip.size.width / clip.size.height, truth.size.width / truth.size.height
    if abs(math.log(own / other)) > 0.02:
        raise MediaError(path, f"is {truth.size}, the video {clip.size}: the truth must have the video's aspect ratio")
