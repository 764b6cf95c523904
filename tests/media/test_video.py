"""Videos of every rate, orientation, size and format, read by time and by number."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from infinitetalk.core.sizes import Pixels
from infinitetalk.media import video
from infinitetalk.media.sound import read_sound
from infinitetalk.media.video import VideoSource

from .conftest import FIXTURES, assert_upright, quarters

# file: frames, grey levels of tolerance
VIDEOS = {
    "25.mp4": (6, 3),
    "2997.avi": (6, 4),
    "60.mkv": (6, 3),
    "variable.mkv": (6, 3),
    "turned90.mp4": (6, 3),
    "turned180.mp4": (6, 3),
    "turned270.mp4": (6, 3),
    "anamorphic.mp4": (6, 3),
    "odd.webm": (6, 5),
    "hevc10.mp4": (6, 3),
    "bt709.mp4": (6, 3),
    "full.mp4": (6, 3),
    "one.mp4": (1, 3),
    "bare.264": (6, 3),
    "motion.mov": (6, 4),
    "theora.ogv": (6, 5),
    "wmv.wmv": (6, 5),
    "av1.mp4": (3, 6),
    "talking.mp4": (6, 3),
    "moving.gif": (6, 8),
}


def grey(source: VideoSource, seconds: float) -> int:
    """The number of the frame shown at a time, by its grey."""
    return round((int(quarters(source.frame_at(seconds))["bottom right"][0]) - 40) / 20)


@pytest.mark.parametrize("name", VIDEOS)
def test_every_format_reads(name: str) -> None:
    frames, tolerance = VIDEOS[name]
    turns = {"turned90.mp4": 3, "turned180.mp4": 2, "turned270.mp4": 1}.get(name, 0)
    with VideoSource(FIXTURES / name) as source:
        for index in range(frames + 2):
            picture = source.frame_index(index)
            assert picture.shape == (*source.size, 3)
            assert picture.dtype == np.uint8
            assert_upright(np.rot90(picture, turns), 40 + 20 * min(index, frames - 1), tolerance)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("25.mp4", Pixels(48, 64)),
        ("turned90.mp4", Pixels(64, 48)),
        ("turned180.mp4", Pixels(48, 64)),
        ("odd.webm", Pixels(27, 35)),
        ("anamorphic.mp4", Pixels(48, 64)),
    ],
)
def test_size_as_seen(name: str, size: Pixels) -> None:
    with VideoSource(FIXTURES / name) as source:
        assert source.size == size


def test_a_photograph_is_a_video_of_one_frame() -> None:
    """Its frame brings EXIF data, which not every PyAV can name."""
    with VideoSource(FIXTURES / "turned.jpg") as source:
        picture = source.frame_index(3)
    assert_upright(picture if picture.shape == (48, 64, 3) else np.rot90(picture, 3), 100, 5)


def test_tags_in_another_alphabet(tmp_path: Path) -> None:
    data = (FIXTURES / "talking.mp4").read_bytes().replace(b"SoundHandler", b"Sound\xe4\xff\x80dler")
    (tmp_path / "latin.mp4").write_bytes(data)
    assert b"\xe4\xff" in data
    assert read_sound(tmp_path / "latin.mp4").rate == 44100
    with VideoSource(tmp_path / "latin.mp4") as source:
        assert_upright(source.frame_index(0), 40, 3)


def test_mirrored_videos(tmp_path: Path) -> None:
    """A display matrix that swaps left and right, in the track's header."""
    data = (FIXTURES / "25.mp4").read_bytes()
    plain = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    mirror = struct.pack(">9i", -65536, 0, 0, 0, 65536, 0, 64 << 16, 0, 1 << 30)
    place = data.index(plain, data.index(b"tkhd"))
    (tmp_path / "mirror.mp4").write_bytes(data[:place] + mirror + data[place + 36 :])
    with VideoSource(tmp_path / "mirror.mp4") as source:
        assert_upright(source.frame_index(0)[:, ::-1], 40, 3)


@pytest.mark.parametrize("name", ["clear.mov", "clear.webm"])
def test_transparent_parts_are_white(name: str) -> None:
    with VideoSource(FIXTURES / name) as source:
        assert_upright(source.frame_index(2), 255, 3)


def test_the_matrix_of_untagged_video_follows_its_height() -> None:
    """ProRes without a tag below 720 lines is read as BT.601; greys do not depend on it."""
    with VideoSource(FIXTURES / "prores.mov") as source:
        assert np.abs(quarters(source.frame_index(1))["bottom right"] - 60).max() <= 3


@pytest.mark.parametrize(
    ("name", "times"),
    [
        # Constant rates: the nearest frame.
        ("25.mp4", {0.0: 0, 0.04: 1, 0.079: 2, 0.12: 3, 0.2: 5, 7.0: 5}),
        ("60.mkv", {0.0: 0, 0.04: 2, 0.08: 5, 1.0: 5}),
        ("2997.avi", {0.0: 0, 0.04: 1, 0.08: 2, 0.12: 4, 0.16: 5}),
        # 12 frames a second, shown twice each at 25: none more than 20 ms early.
        ("24.ts", {0.0: 0, 0.06: 0, 0.07: 1, 0.17: 2}),
        # 0, 40, 80, 440, 480 and 920 ms.
        ("variable.mkv", {0.0: 0, 0.04: 1, 0.2: 2, 0.41: 2, 0.43: 3, 0.48: 4, 0.89: 4, 0.92: 5, 2.0: 5}),
    ],
)
def test_frames_by_time(name: str, times: dict[float, int]) -> None:
    with VideoSource(FIXTURES / name) as source:
        assert {time: grey(source, time) for time in times} == times
        assert {time: grey(source, time) for time in reversed(times)} == times, "going back"


def test_going_back_and_forth_gives_the_same_frames() -> None:
    with VideoSource(FIXTURES / "25.mp4") as source:
        first = [source.frame_at(index / 25).copy() for index in range(6)]
        for index in (5, 0, 3, 1, 4, 2, 0):
            np.testing.assert_array_equal(source.frame_at(index / 25), first[index])
            np.testing.assert_array_equal(source.frame_index(index), first[index])


def _flat_video(path: Path, codec: str, frames: int) -> None:
    """Frames whose grey is their number modulo 256."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0" if codec == "ffv1" else "yuv420p"
        for index in range(frames):
            flat = np.full((48, 64, 3), index % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(flat, "rgb24")))
        container.mux(stream.encode(None))


def test_long_videos_are_walked_through(tmp_path: Path) -> None:
    _flat_video(tmp_path / "long.mkv", "ffv1", 600)
    with VideoSource(tmp_path / "long.mkv") as source:
        for index in (0, 100, 599):
            assert source.frame_at(index / 25)[0, 0, 0] == index % 256
        assert source.frame_at(1e6)[0, 0, 0] == 599 % 256


def _moving_video(path: Path, codec: str, options: dict[str, str], seconds: int = 30) -> None:
    """A pattern that moves by a pixel and gets brighter, so that a frame from broken references is seen."""
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 200, (48, 400, 3)).astype(np.uint8)
    wide = wide.repeat(4, 0)[:48].repeat(4, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for index in range(25 * seconds):
            picture = wide[:, index : index + 64] + np.uint8(index % 50)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("closed.mp4", "libx264", {"g": "50"}),
        ("open.mp4", "libx264", {"g": "50", "x264-params": "open-gop=1:bframes=6"}),
        pytest.param("refresh.mkv", "libx264", {"g": "50", "x264-params": "intra-refresh=1"}, marks=pytest.mark.full),
        pytest.param("pieces.ts", "libx264", {"g": "50", "x264-params": "open-gop=1"}, marks=pytest.mark.full),
        ("hevc.mp4", "libx265", {"x265-params": "keyint=50:open-gop=1:log-level=none"}),
        ("old.ts", "mpeg2video", {"g": "15", "bf": "2"}),
        pytest.param("old.avi", "mpeg4", {"g": "50", "bf": "2"}, marks=pytest.mark.full),
        ("vp9.webm", "libvpx-vp9", {"g": "50", "deadline": "realtime", "cpu-used": "8"}),
        ("pictures.mov", "mjpeg", {}),
        ("one_key.mp4", "libx264", {"g": "5000", "sc_threshold": "0"}),
        ("bare.264", "libx264", {"g": "50"}),
    ],
)
def test_jumping_gives_what_walking_does(tmp_path: Path, name: str, codec: str, options: dict[str, str]) -> None:
    path = tmp_path / name
    _moving_video(path, codec, options)
    times = [28.0, 12.4, 12.44, 12.0, 29.92, 3.0, 2.96, 1.0, 27.0, 26.96, 0.0]
    with VideoSource(path) as source:
        walked = {time: source.frame_at(time).copy() for time in np.arange(0, 30, 0.04).round(2).tolist()}
    with VideoSource(path) as source:
        for time in times:
            assert (source.frame_at(time) == walked[time]).all(), time
        assert (source.frame_index(300) == walked[12.0]).all(), "numbers are still those of the whole video"


def test_going_back_in_a_long_video_does_not_read_it_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _moving_video(tmp_path / "long.mp4", "libx264", {"g": "50"})
    read: list[video.Shot] = []
    shots = video._shots

    def counted(*given: Any) -> Iterator[video.Shot]:
        for shot in shots(*given):
            read.append(shot)
            yield shot

    monkeypatch.setattr(video, "_shots", counted)
    with VideoSource(tmp_path / "long.mp4") as source:
        source.frame_at(29.0)
        assert len(read) < 200, "far ahead it jumps"
        read.clear()
        source.frame_at(27.0)
        assert len(read) < 200, "and back too"


def test_a_video_cut_off_in_the_middle(tmp_path: Path) -> None:
    _flat_video(tmp_path / "whole.ts", "mpeg2video", 100)
    data = (tmp_path / "whole.ts").read_bytes()
    (tmp_path / "cut.ts").write_bytes(data[: len(data) // 2])
    with VideoSource(tmp_path / "cut.ts") as source:
        assert source.frame_index(20)[0, 0, 0] == pytest.approx(20, abs=3)
        assert 30 < source.frame_index(99)[0, 0, 0] < 70


def test_closing_twice_is_harmless() -> None:
    source = VideoSource(FIXTURES / "one.mp4")
    source.close()
    source.close()
