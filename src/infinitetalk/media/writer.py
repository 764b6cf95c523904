"""Writes a video while its windows arrive: H.264 in MP4 with the original sound, complete or not there at all."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.errors import MachineError
from infinitetalk.core.files import sync
from infinitetalk.core.sizes import FPS, Pixels
from infinitetalk.media.hls import Heard, HlsPreview
from infinitetalk.media.inputs import Picture
from infinitetalk.media.long_sound import AnySound
from infinitetalk.media.paths import done_path, part_path, signed_path
from infinitetalk.media.pixels import to_yuv
from infinitetalk.media.segments import Coded, read_segment, segment_path, write_segment
from infinitetalk.media.soundtrack import SoundTrack

if TYPE_CHECKING:
    from av import AudioStream, Packet, VideoCodecContext, VideoStream
    from av.container import OutputContainer

# Fixed, since the encoder's output depends on it: the same request gives the same file on every machine.
_THREADS = 4

_GLOBAL_HEADER = 1 << 22

# A window is one closed group of pictures: nothing but its first frame is a key frame.
_ONE_GROUP = "keyint=infinite:scenecut=0:open-gop=0:bframes=3:b-pyramid=normal:chromaloc=0"

# All that processors with AVX-512 have besides it.
_BUT_AVX512 = "asm=MMX2,SSE2Fast,LZCNT,SSSE3,SSE4.2,AVX,FMA3,BMI2,AVX2"


class Preview(NamedTuple):
    """A preview that plays while the video is made."""

    folder: Path
    longest: int
    """Frames of the longest window."""


class VideoWriter:
    """Writes windows of frames as they come; to be used in a `with` block.

    Until the block ends, everything goes to `NAME.part.mp4` beside the output: an MP4 in fragments, playable but for
    the newest window even if the process is killed. When the block ends, also by Ctrl-C or an error, the windows
    written so far become the output, sound cut to their length; without any, what was at the output before stays.

    With a folder for finished windows, each of them is also a file of its own as soon as `write` returns. A later
    writer begins with them: the file is the same as if nothing had come between.
    """

    def __init__(
        self,
        path: Path,
        size: Pixels,
        *,
        quality: int = 18,
        fps: Fraction | int = FPS,
        sound: AnySound | None = None,
        folder: Path | None = None,
        finished: int = 0,
        sign: Callable[[Path, Path], None] | None = None,
        preview: Preview | None = None,
    ) -> None:
        """Nothing is opened before the `with` block.

        Args:
            path: the output, ending in .mp4; replaced if it exists.
            size: of the frames, both sides even.
            fps: frames a second.
            quality: constant rate factor of x264, 1 (finest) to 51.
            sound: the sound track from the video's start on; cut or followed by silence to the video's length. Its
                pieces are asked for as windows are written.
            folder: for finished windows; it is there.
            finished: windows in that folder with which the video begins.
            sign: writes a copy of the first path's video, with a manifest, to the second.
            preview: also written, see `media.hls`.
        """
        self.path = path
        self.size = size
        self.frames = 0
        """Frames of all finished windows."""
        self.windows = 0
        """Finished windows."""
        self.saved = False
        """Whether the output is in place."""
        self._preview = preview
        self._hls: HlsPreview | None = None
        self._heard = list[Heard]()
        self._folder = folder
        self._finished = finished
        self.fps = Fraction(fps)
        self._tick = 1 / self.fps
        self._quality = quality
        self._sound = sound
        self._sign = sign
        self._part = part_path(path)
        self._open = ExitStack()

    def __enter__(self) -> Self:
        try:
            with _told(self.path):
                self._start()
                for number in range(self._finished):
                    assert self._folder is not None
                    self._add(read_segment(segment_path(self._folder, number), self._tick))
        except BaseException:
            self._discard()
            raise
        return self

    def hear(self, samples: NDArray[np.float32]) -> None:
        """Adds samples [channels, n] to the end of the sound, before the frames that they belong to."""
        if self._track is not None:
            self._track.extend(samples)

    def write(self, frames: Iterable[Picture]) -> None:
        """Adds a window: RGB frames [height, width, 3], or all in one array. None are a window too, of no length.

        Raises:
            MachineError: the disk is full or gone.
        """
        with _told(self.path):
            window = self._encode(frames)
            if self._folder is not None:
                write_segment(segment_path(self._folder, self.windows), window, self._add_video, self._tick)
            self._add(window)

    def _add(self, window: Sequence[Coded]) -> None:
        """Adds a window that is encoded."""
        for number, coded in enumerate(window):
            self._add_sound(float((self.frames + number) / self.fps))
            self._container.mux(coded.packet(number, self.frames, self._video, self._tick))
        self._add_sound(float((self.frames + len(window)) / self.fps))
        if self._hls is not None and window:
            self._hls.add(window, self.frames, self._heard)
            self._heard.clear()
        self.frames += len(window)
        self.windows += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.frames:
            self._discard()
            return
        with _told(self.path):
            if self._track is not None:
                self._mux_sound(self._track.finish())
            if self._hls is not None:
                self._hls.end(self._heard)
            self._open.close()
            _rewrite(self._part, self.path, self.frames * self._tick, self._sign)
        self.saved = True
        self._discard()

    def _start(self) -> None:
        import av

        options = {"movflags": "frag_keyframe+delay_moov+default_base_moof", "flush_packets": "1"}
        self._container = self._open.enter_context(av.open(f"file:{self._part}", "w", options=options))
        self._video = self._add_video(self._container)
        self._track: SoundTrack | None = None
        if self._sound is not None:
            self._track = SoundTrack(self._container, self._sound)
            self._open.callback(self._track.close)
        self._container.start_encoding()
        if self._preview is not None:
            add_sound = None if self._track is None else self._track.add_stream
            self._hls = HlsPreview(self._preview.folder, self._preview.longest, self.fps, self._add_video, add_sound)

    def _discard(self) -> None:
        self._open.close()
        self._part.unlink(missing_ok=True)

    def _add_video(self, container: "OutputContainer") -> "VideoStream":
        stream: VideoStream = container.add_stream("libx264", rate=self.fps)
        self._set_up(stream.codec_context)
        return stream

    def _set_up(self, encoder: "VideoCodecContext") -> None:
        encoder.width, encoder.height, encoder.pix_fmt = self.size.width, self.size.height, "yuv420p"
        encoder.time_base, encoder.framerate = self._tick, self.fps
        encoder.color_primaries = encoder.color_trc = encoder.colorspace = encoder.color_range = 1
        encoder.thread_count, encoder.thread_type = _THREADS, "FRAME"
        encoder.flags |= _GLOBAL_HEADER
        encoder.options = {"preset": "medium", "crf": f"{self._quality}", "x264-params": _parameters()}

    def _encode(self, frames: Iterable[Picture]) -> list[Coded]:
        """One window; an encoder of its own, so that no window depends on another."""
        from av import CodecContext, VideoCodecContext

        encoder = CodecContext.create("libx264", "w")
        assert isinstance(encoder, VideoCodecContext)
        self._set_up(encoder)
        packets = []
        frame = None
        for number, picture in enumerate(frames):
            if picture.dtype != np.uint8 or picture.shape != (*self.size, 3):
                raise ValueError(f"a frame of {picture.dtype} {picture.shape}; uint8 {self.size} x 3 is meant")
            frame = to_yuv(picture)
            frame.pts, frame.time_base = number, self._tick
            packets += encoder.encode(frame)
        packets += encoder.encode(None) if frame is not None else []
        return [Coded(bytes(packet), packet.pts or 0, packet.is_keyframe) for packet in packets]

    def _add_sound(self, seconds: float) -> None:
        if self._track is not None:
            self._mux_sound(self._track.advance(seconds))

    def _mux_sound(self, packets: "list[Packet[AudioStream]]") -> None:
        if self._hls is not None:
            self._heard += map(Heard.of, packets)
        self._container.mux(packets)


def _parameters() -> str:
    """Parameters of x264 under which the same frames give the same bits.

    Its AVX-512 code lets memory that nobody wrote into the result where rows of colour samples are no multiple of 64.
    """
    import torch

    return f"{_ONE_GROUP}:{_BUT_AVX512}" if torch.backends.cpu.get_cpu_capability() == "AVX512" else _ONE_GROUP


def _rewrite(part: Path, path: Path, end: Fraction, sign: Callable[[Path, Path], None] | None) -> None:
    """Turns fragments into a plain MP4 with its index in front, no further than the end of the finished windows."""
    done = done_path(path)
    try:
        _copy(part, done, end)
        if sign is not None:
            sign(done, signed_path(path))
            signed_path(path).replace(done)
        sync(done)
        done.replace(path)
    except BaseException:
        for left in (done, signed_path(path)):
            left.unlink(missing_ok=True)
        raise


def _copy(part: Path, done: Path, end: Fraction) -> None:
    import av

    with av.open(f"file:{part}") as old, av.open(f"file:{done}", "w", options={"movflags": "faststart"}) as new:
        streams = {
            stream.index: new.add_stream_from_template(stream) for stream in (*old.streams.video, *old.streams.audio)
        }
        for packet in old.demux():
            if packet.dts is None or packet.pts is None or packet.pts * packet.time_base >= end:
                continue
            packet.stream = streams[packet.stream.index]
            new.mux(packet)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What goes wrong while writing, as one line."""
    from av.codec.codec import UnknownCodecError
    from av.error import FFmpegError

    try:
        yield
    except UnknownCodecError as error:
        raise MachineError(f"this PyAV has no encoder {error}; the one on PyPI has all that is needed") from error
    except (FFmpegError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise MachineError(f"{path}: cannot be written ({reason}); check the disk and its free space") from error
