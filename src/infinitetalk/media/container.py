"""Media files opened through FFmpeg's libraries: one place for safety, errors and damaged packets."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, overload

from infinitetalk.core.errors import MediaError
from infinitetalk.media.paths import require_file

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream, VideoCodecContext, VideoFrame, VideoStream
    from av.container import InputContainer

log = logging.getLogger(__name__)

# The file itself is read through Python; playlists and other files that point elsewhere may open nothing.
_SEALED = {"protocol_whitelist": "none"}


@contextmanager
def open_media(path: Path, kind: str) -> "Iterator[InputContainer]":
    """Opens any container that FFmpeg reads, whatever its name says. `kind` is 'sound' or 'video', for errors.

    Raises:
        MediaError: no such file, or nothing that FFmpeg knows; also for what FFmpeg refuses inside the `with` block.
    """
    import av
    from av.error import FFmpegError

    require_file(path, kind)
    try:
        with path.open("rb") as file, av.open(file, "r", options=_SEALED) as container:
            yield container
    except FFmpegError as error:
        raise _undecodable(path, kind, error) from error


def _undecodable(path: Path, kind: str, error: Exception) -> MediaError:
    words = error.strerror if isinstance(error, OSError) else None
    reason = (words or str(error)).removeprefix("[Errno ").split("] ")[-1].split(":")[0]
    return MediaError(path, f"cannot be decoded as a {kind} ({reason}); re-save it or use another")


def sound_stream(path: Path, container: "InputContainer") -> "AudioStream":
    """The sound track that a player would choose.

    Raises:
        MediaError: no sound in the file, or in a codec that FFmpeg does not know.
    """
    from av import AudioStream, CodecContext

    stream = container.streams.best("audio")
    if not isinstance(stream, AudioStream):
        raise MediaError(path, "has no sound in it; give a file with a sound track, such as WAV or MP3")
    if not isinstance(stream.codec_context, CodecContext):
        raise MediaError(path, "its sound is in a codec that cannot be decoded; re-save it as WAV or MP3")
    return stream


def video_stream(path: Path, container: "InputContainer") -> "VideoStream":
    """The video track that a player would choose. A song's cover picture is none.

    Raises:
        MediaError: no video in the file, or in a codec that FFmpeg does not know.
    """
    from av import CodecContext
    from av.stream import Disposition

    moving = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not moving:
        raise MediaError(path, "has no video in it; give a file with a video track, such as MP4")
    best = container.streams.best("video")
    chosen = next((stream for stream in moving if stream is best), moving[0])
    if not isinstance(chosen.codec_context, CodecContext):
        raise MediaError(path, "its video is in a codec that cannot be decoded; re-save it as H.264")
    return chosen


@overload
def decode(path: Path, kind: str, stream: "AudioStream") -> "Iterator[AudioFrame]": ...
@overload
def decode(path: Path, kind: str, stream: "VideoStream") -> "Iterator[VideoFrame]": ...
def decode(path: Path, kind: str, stream: "AudioStream | VideoStream") -> "Iterator[AudioFrame | VideoFrame]":
    """The frames of an open stream, in order. Damaged packets are left out, as players do, and warned of.

    Raises:
        MediaError: not a single frame can be decoded.
    """
    from av.container import InputContainer
    from av.error import FFmpegError

    assert isinstance(stream.container, InputContainer)
    packets = stream.container.demux(stream)
    good, damage = 0, list[Exception]()
    decoder = _transparent_decoder(stream) or stream
    while True:
        try:
            packet = next(packets)
            frames = decoder.decode(packet if packet.size else None)
        except StopIteration:
            break
        except FFmpegError as error:
            damage.append(error)
            continue
        good += len(frames)
        yield from frames
    if damage and not good:
        raise _undecodable(path, kind, damage[0])
    if damage:
        log.warning("%s: %d damaged packets were left out", path, len(damage))


_TRANSPARENT = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Codecs whose usual decoder drops the transparency → the decoder that keeps it."""


def _transparent_decoder(stream: "AudioStream | VideoStream") -> "VideoCodecContext | None":
    from av import CodecContext, VideoCodecContext

    name = _TRANSPARENT.get(stream.codec_context.name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        return None
    decoder = CodecContext.create(name, "r")
    assert isinstance(decoder, VideoCodecContext)
    return decoder
