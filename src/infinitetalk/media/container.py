"""Media files opened through FFmpeg's libraries: one place for safety, errors and damaged packets."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from infinitetalk.core.errors import MediaError
from infinitetalk.media.paths import require_file

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream, Packet, VideoCodecContext, VideoFrame, VideoStream
    from av.container import InputContainer

log = logging.getLogger(__name__)

# The file itself is read through Python; playlists and other files that point elsewhere may open nothing.
_SEALED = {"protocol_whitelist": "none"}

# Text that FFmpeg would draw as on an old terminal: any text or binary file with the right ending is taken for it.
_TEXT_ART = frozenset({"tty", "bin", "xbin", "adf", "idf"})


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
        # Old tags are in any alphabet; nobody reads them here.
        with path.open("rb") as file, av.open(file, "r", options=_SEALED, metadata_errors="replace") as container:
            if container.format.name in _TEXT_ART:
                raise MediaError(path, f"is no {kind} of a known format; re-save it or use another")
            yield container
    except (FFmpegError, OSError) as error:
        raise _undecodable(path, kind, error) from error


def _undecodable(path: Path, kind: str, error: Exception) -> MediaError:
    return MediaError(path, f"cannot be decoded as a {kind} ({_reason(error)}); re-save it or use another")


def _reason(error: Exception) -> str:
    words = error.strerror if isinstance(error, OSError) else None
    return (words or str(error)).split("] ")[-1].split(":")[0]


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
    """The frames of an open stream, in order.

    As players do, this leaves out damaged packets and ends where a file can be read no further; both are warned of.

    Raises:
        MediaError: not a single frame can be decoded.
    """
    from av.error import FFmpegError

    decoder = _transparent_decoder(stream) or stream
    good, lost, errors = 0, 0, list[Exception]()
    for packet in _packets(path, stream, errors):
        try:
            frames = decoder.decode(packet)
        except (FFmpegError, OSError) as error:
            lost += 1
            errors.append(error)
            continue
        good += len(frames)
        yield from frames
    if errors and not good:
        raise _undecodable(path, kind, errors[0])
    if lost:
        log.warning("%s: %d damaged packets were left out", path, lost)


def _packets(path: Path, stream: "AudioStream | VideoStream", errors: list[Exception]) -> "Iterator[Packet[Any]]":
    from av.container import InputContainer
    from av.error import FFmpegError

    assert isinstance(stream.container, InputContainer)
    try:
        yield from stream.container.demux(stream)
    except (FFmpegError, OSError) as error:
        log.warning("%s: cannot be read to its end (%s); what comes before is used", path, _reason(error))
        errors.append(error)


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
