"""Video at every usual rate, mapped to 25 frames a second by time: half a minute each, and five minutes."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import PictureType

from infinitetalk.core.sizes import FPS
from infinitetalk.media.video import VideoSource, length_of

SHORT, LONG = 30, 300
"""Seconds. After the short one 30 frames a second are a whole frame ahead of 29.97."""
TICKS = 90_000
BITS = 16

RATES = {
    "23.976": Fraction(24000, 1001),
    "24": Fraction(24),
    "29.97": Fraction(30000, 1001),
    "30": Fraction(30),
    "50": Fraction(50),
    "60": Fraction(60),
}


def _stamps(name: str, seconds: int) -> list[int]:
    """When each frame is shown, in ticks."""
    end = seconds * TICKS
    if name == "variable":
        gaps = np.random.default_rng(5).integers(TICKS // 60, TICKS // 24 + 1, seconds * 60)
        stamps = np.concatenate([[0], np.cumsum(gaps)])
        return [int(stamp) for stamp in stamps[stamps < end]]
    rate = RATES[name]
    return [round(index * TICKS / rate) for index in range(int(seconds * rate))]


def _write(path: Path, stamps: list[int]) -> None:
    """A video whose frames show their numbers in black and white squares."""
    places = np.arange(BITS)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast", "crf": "20"})
        stream.width = stream.height = 32
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, TICKS)
        stream.codec_context.time_base = Fraction(1, TICKS)
        for index, stamp in enumerate(stamps):
            bits = (index >> places & 1).astype(np.uint8).reshape(4, 4) * 255
            frame = av.VideoFrame.from_ndarray(bits.repeat(8, 0).repeat(8, 1), "gray").reformat(format="yuv420p")
            frame.pts, frame.time_base, frame.pict_type = stamp, Fraction(1, TICKS), PictureType.NONE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _number(picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> int:
    return int(((picture[4::8, 4::8, 0] > 127).ravel() << np.arange(BITS)).sum())


@pytest.mark.parametrize("seconds", [SHORT, pytest.param(LONG, marks=pytest.mark.full)])
@pytest.mark.parametrize("name", [*RATES, "variable"])
def test_every_frame_is_within_half_a_source_frame(tmp_path: Path, name: str, seconds: int) -> None:
    path, stamps = tmp_path / "source.mp4", _stamps(name, seconds)
    _write(path, stamps)
    times = np.array(stamps) / TICKS
    wanted = np.arange(seconds * FPS) / FPS
    wanted = wanted[wanted < times[-1]]
    with VideoSource(path) as source:
        shown = np.array([_number(source.frame_at(moment)) for moment in wanted])
    after = np.searchsorted(times, wanted, side="right")
    half = (times[after] - times[after - 1]) / 2
    assert len(wanted) >= seconds * FPS - 2
    assert (np.abs(times[shown] - wanted) <= half + 1e-6).all()
    assert (np.diff(shown) >= 0).all()
    assert length_of(path) == pytest.approx(seconds, abs=1 / 24)
