"""The written file, read back: groups of pictures, colours, sound, and what an interruption leaves."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from infinitetalk.core.errors import MachineError
from infinitetalk.core.sizes import Pixels
from infinitetalk.media.long_sound import cut
from infinitetalk.media.sound import collected, read_sound
from infinitetalk.media.video import VideoSource
from infinitetalk.media.writer import VideoWriter

from .conftest import sine
from .test_sound import assert_sine

SIZE = Pixels(48, 64)


def window(count: int, first: int = 0, size: Pixels = SIZE) -> NDArray[np.uint8]:
    """Soft colours that move, [count, height, width, 3]."""
    y, x = np.mgrid[0 : size.height, 0 : size.width]
    t = first + np.arange(count)[:, None, None]
    waves = [np.sin((x + 3 * t) / 9), np.sin((y + 2 * t) / 11), np.sin((x + y + t) / 13)]
    return (128 + 90 * np.stack(waves, axis=-1)).astype(np.uint8)


def written(path: Path, counts: list[int], **more: object) -> NDArray[np.uint8]:
    """Writes windows of the given lengths and returns all their frames."""
    parts = [window(count, sum(counts[:index])) for index, count in enumerate(counts)]
    with VideoWriter(path, SIZE, **more) as writer:  # type: ignore[arg-type]
        for part in parts:
            writer.write(part)
        assert (writer.frames, writer.windows) == (sum(counts), len(counts))
        assert not path.exists()
    return np.concatenate(parts)


def read_back(path: Path) -> NDArray[np.uint8]:
    with av.open(str(path)) as container:
        count = sum(1 for _ in container.decode(video=0))
    with VideoSource(path) as source:
        return np.stack([source.frame_index(index) for index in range(count)])


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(np.float64) - b) ** 2)))


@pytest.mark.parametrize("counts", [[13, 8, 12], [1, 1, 2, 3, 1], [300], [1]])
def test_every_window_is_one_closed_group(tmp_path: Path, counts: list[int]) -> None:
    frames = written(tmp_path / "video.mp4", counts, sound=sine(16000, 20.0, 0.25))
    with av.open(str(tmp_path / "video.mp4")) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        ticks = Fraction(stream.time_base or 0) * 25
        assert stream.average_rate == 25
        assert stream.codec_context.profile == "High"
        places = [int((packet.pts or 0) * ticks) for packet in packets]
        keys = [place for place, packet in zip(places, packets, strict=True) if packet.is_keyframe]
        starts = [sum(counts[:index]) for index in range(len(counts))]
        assert keys == starts
        # Closed: nothing that is shown before a key frame comes after it in the file.
        assert all(place > key for key in keys for place in places[places.index(key) + 1 :])
        assert sorted(places) == list(range(len(frames)))
        assert stream.start_time == 0
        types = _unit_types(packets)
    assert [kind for kind in types if kind == 5] == [5] * len(counts), "instantaneous refresh at each start"
    assert len(read_back(tmp_path / "video.mp4")) == len(frames)


def _unit_types(packets: "list[av.Packet[av.VideoStream]]") -> list[int]:
    """H.264 picture units: 1 a slice, 5 a slice of an instantaneous decoder refresh; one per packet."""
    types = []
    for packet in packets:
        data, place = bytes(packet), 0
        kinds = []
        while place < len(data):
            length = int.from_bytes(data[place : place + 4], "big")
            kinds.append(data[place + 4] & 31)
            place += 4 + length
        types.append(next(kind for kind in kinds if kind in {1, 5}))
    return types


def test_a_window_decodes_without_the_others(tmp_path: Path) -> None:
    """Seeking to any window gives the very frames that decoding from the beginning gives."""
    written(tmp_path / "video.mp4", [13, 12, 12])
    whole = read_back(tmp_path / "video.mp4")
    with av.open(str(tmp_path / "video.mp4")) as container:
        stream = container.streams.video[0]
        container.seek(1_000_000)  # microseconds: the third window's start
        packets = list(container.demux(stream))
        decoder = av.CodecContext.create("h264", "r")
        decoder.extradata = stream.codec_context.extradata
        frames = [frame.to_ndarray(format="rgb24") for packet in packets for frame in decoder.decode(packet)]
    assert len(frames) == 12
    with av.open(str(tmp_path / "video.mp4")) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][25:]
    np.testing.assert_array_equal(np.stack(frames), np.stack(expected))
    assert len(whole) == 37


@pytest.mark.parametrize(("quality", "least"), [(1, 39.0), (18, 36.0), (40, 20.0)])
def test_frames_come_back(tmp_path: Path, quality: int, least: float) -> None:
    frames = written(tmp_path / "video.mp4", [13, 12], quality=quality)
    back = read_back(tmp_path / "video.mp4")
    assert min(psnr(a, b) for a, b in zip(frames, back, strict=True)) > least


def test_quality_costs_bytes(tmp_path: Path) -> None:
    sizes = []
    for quality in (10, 25, 45):
        written(tmp_path / f"{quality}.mp4", [13], quality=quality)
        sizes.append((tmp_path / f"{quality}.mp4").stat().st_size)
    assert sizes[0] > 1.5 * sizes[1]
    assert sizes[1] > 1.1 * sizes[2]


def test_colours_are_bt709_as_tagged(tmp_path: Path) -> None:
    """Flat colours: the stored samples are those of the standard's formulas, and the stream says so."""
    colours = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (255, 255, 255)]
    frame = np.zeros((1, 48, 64, 3), np.uint8)
    for index, colour in enumerate(colours):
        frame[:, :, 16 * index : 16 * index + 16] = colour
    with VideoWriter(tmp_path / "video.mp4", SIZE, quality=1) as writer:
        writer.write(frame)
    with av.open(str(tmp_path / "video.mp4")) as container:
        decoded = next(container.decode(video=0))
        context = container.streams.video[0].codec_context
        tags = (context.color_primaries, context.color_trc, context.colorspace, context.color_range)
    assert tags == (1, 1, 1, 1)
    stored = decoded.to_ndarray()
    for index, colour in enumerate(colours):
        red, green, blue = (part / 255 for part in colour)
        luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
        assert stored[24, 16 * index + 8] == pytest.approx(16 + 219 * luma, abs=1)
        blue_part = stored[48:60].reshape(24, 32)[12, 8 * index + 4]
        red_part = stored[60:72].reshape(24, 32)[12, 8 * index + 4]
        assert blue_part == pytest.approx(128 + 224 * (blue - luma) / 1.8556, abs=1)
        assert red_part == pytest.approx(128 + 224 * (red - luma) / 1.5748, abs=1)


def test_the_same_frames_give_the_same_file(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        written(tmp_path / name, [21, 20], sound=sine(44100, 2.0, 0.25, 0.25, layout="stereo"))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


WRITE = """
import sys
from pathlib import Path
import numpy as np
from infinitetalk.core.sizes import Pixels
from infinitetalk.media.writer import VideoWriter
shades = np.random.default_rng(0).integers(0, 256, (9, 56, 104, 3), np.uint8)
with VideoWriter(Path(sys.argv[1]), Pixels(448, 832)) as writer:
    writer.write(shades.repeat(8, 1).repeat(8, 2))
"""


def test_what_memory_held_before_does_not_show(tmp_path: Path) -> None:
    """At a size of the large model whose rows of colour samples do not fill a processor's widest registers."""
    for content in ("1", "200"):  # of new memory, where the C library is glibc
        command = [sys.executable, "-c", WRITE, str(tmp_path / f"{content}.mp4")]
        subprocess.run(command, env={**os.environ, "MALLOC_PERTURB_": content}, check=True)
    assert (tmp_path / "1.mp4").read_bytes() == (tmp_path / "200.mp4").read_bytes()


def test_windows_do_not_depend_on_each_other(tmp_path: Path) -> None:
    """A second window is encoded to the same bytes whatever came before: resumed jobs end in the same file."""
    written(tmp_path / "two.mp4", [13, 12])
    with VideoWriter(tmp_path / "other.mp4", SIZE) as writer:
        writer.write(255 - window(13))
        writer.write(window(12, 13))
    data = []
    for name in ("two.mp4", "other.mp4"):
        with av.open(str(tmp_path / name)) as container:
            data.append([bytes(packet) for packet in container.demux(video=0) if packet.size][13:])
    assert data[0] == data[1]


def test_the_index_comes_first(tmp_path: Path) -> None:
    """Players on the web can begin before the file is there."""
    written(tmp_path / "video.mp4", [13], sound=sine(16000, 1.0, 0.25))
    data = (tmp_path / "video.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert b"moof" not in data


@pytest.mark.parametrize(
    ("rate", "layout", "levels"),
    [
        (8000, "mono", (0.25,)),
        (16000, "mono", (0.25,)),
        (44100, "stereo", (0.25, 0.125)),
        (96000, "stereo", (0.25, 0.125)),
        (48000, "5.1", (0.25, 0.125, 0.1, 0.0, 0.1, 0.1)),
        (48000, "7.1", (0.25, 0.125, 0.1, 0.0, 0.1, 0.1, 0.1, 0.1)),
    ],
)
@pytest.mark.parametrize("seconds", [0.5, 3.0])
def test_the_sound_keeps_rate_and_channels_and_fits(
    tmp_path: Path, rate: int, layout: str, levels: tuple[float, ...], seconds: float
) -> None:
    written(tmp_path / "video.mp4", [13, 12, 12], sound=sine(rate, seconds, *levels, layout=layout))
    sound = read_sound(tmp_path / "video.mp4")
    assert (sound.rate, sound.layout) == (rate, layout)
    assert 0 <= sound.seconds - 37 / 25 <= 1024 / rate
    heard = collected(cut(sound, 0.1, min(seconds, 37 / 25) - 0.2))
    assert_sine(heard, 0, 0.25)
    if len(levels) > 1:
        assert_sine(heard, 1, 0.125)
    if seconds < 1:
        assert np.abs(collected(cut(sound, seconds + 0.2)).samples).max() < 0.01, "silence after the sound's end"
    with av.open(str(tmp_path / "video.mp4")) as container:
        audio = container.streams.audio[0]
        assert audio.codec_context.name == "aac"
        length = Fraction(audio.duration or 0) * (audio.time_base or 0)
        assert float(length) == pytest.approx(37 / 25, abs=1024 / rate)


def test_the_sound_is_in_step_with_the_frames(tmp_path: Path) -> None:
    """A click at 0.8 s is heard at 0.8 s, not an encoder's delay later."""
    sound = sine(48000, 1.5, 0.0)
    sound.samples[0, 38400:38700] = 0.9
    written(tmp_path / "video.mp4", [13, 12, 12], sound=sound)
    heard = np.abs(read_sound(tmp_path / "video.mp4").samples[0])
    assert int(np.argmax(heard > 0.4)) == pytest.approx(38400, abs=100)


@pytest.mark.parametrize(
    ("rate", "layout", "channels", "expected"),
    [
        (192000, "stereo", 2, (96000, "stereo")),
        (7000, "mono", 1, (8000, "mono")),
        (37800, "mono", 1, (44100, "mono")),
        (48000, "5.1(side)", 6, (48000, "5.1")),
        (48000, "2 channels", 2, (48000, "stereo")),
        (48000, "10 channels", 10, (48000, "mono")),
    ],
)
def test_what_aac_cannot_hold_becomes_the_nearest(
    tmp_path: Path, rate: int, layout: str, channels: int, expected: tuple[int, str]
) -> None:
    written(tmp_path / "video.mp4", [13], sound=sine(rate, 1.0, *(0.25,) * channels, layout=layout))
    sound = read_sound(tmp_path / "video.mp4")
    assert (sound.rate, sound.layout) == expected
    assert_sine(collected(cut(sound, 0.1, 0.4)), 0, 0.25)


def test_sounds_beyond_full_scale_are_clipped_not_refused(tmp_path: Path) -> None:
    written(tmp_path / "video.mp4", [13], sound=sine(16000, 1.0, 1e30))
    assert np.isfinite(read_sound(tmp_path / "video.mp4").samples).all()


def test_without_sound(tmp_path: Path) -> None:
    written(tmp_path / "video.mp4", [5])
    with av.open(str(tmp_path / "video.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_finished_windows_survive_a_stop(tmp_path: Path, stop: type[BaseException]) -> None:
    path = tmp_path / "video.mp4"
    with pytest.raises(stop), VideoWriter(path, SIZE, sound=sine(16000, 9.0, 0.25)) as writer:
        writer.write(window(13))
        writer.write(window(12, 13))
        raise stop
    assert len(read_back(path)) == 25
    assert read_sound(path).seconds == pytest.approx(1.0, abs=1024 / 16000)
    assert [entry.name for entry in tmp_path.iterdir()] == ["video.mp4"]


def test_a_window_cut_short_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "video.mp4"

    def stop_late(_: VideoWriter, seconds: float) -> None:
        if seconds > 0.7:
            raise KeyboardInterrupt

    writer = VideoWriter(path, SIZE)
    with pytest.raises(KeyboardInterrupt), writer:
        writer.write(window(13))
        monkeypatch.setattr(VideoWriter, "_add_sound", stop_late)
        writer.write(window(12, 13))
    assert writer.frames == 13
    assert len(read_back(path)) == 13


def test_nothing_is_left_without_a_finished_window(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(b"an older video")
    with pytest.raises(KeyboardInterrupt), VideoWriter(path, SIZE):
        raise KeyboardInterrupt
    assert path.read_bytes() == b"an older video"
    assert [entry.name for entry in tmp_path.iterdir()] == ["video.mp4"]


def test_a_killed_process_leaves_a_playable_part(tmp_path: Path) -> None:
    program = f"""
import time, sys
sys.path.insert(0, {str(Path(__file__).parent.parent.parent)!r})
from tests.media.test_writer import *
with VideoWriter(Path({str(tmp_path / "video.mp4")!r}), SIZE, sound=sine(16000, 9.0, 0.25)) as writer:
    for index in range(3):
        writer.write(window(12, 12 * index))
    print("written", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.kill()
    assert not (tmp_path / "video.mp4").exists()
    assert len(read_back(tmp_path / "video.part.mp4")) >= 24


def test_writing_into_nothing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot be written"), VideoWriter(tmp_path / "none" / "video.mp4", SIZE):
        pass


def test_odd_names(tmp_path: Path) -> None:
    path = tmp_path / "a:b %03d ä.mp4"
    written(path, [5])
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_frames_of_another_size_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="64x48"), VideoWriter(tmp_path / "video.mp4", SIZE) as writer:
        writer.write(np.zeros((5, 64, 48, 3), np.uint8))
    assert not list(tmp_path.iterdir())
