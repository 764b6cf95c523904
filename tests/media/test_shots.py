"""Cuts of a video, found where the reader shows them."""

import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from infinitetalk.core.errors import MachineError
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import FPS
from infinitetalk.media.files import FileMedia
from infinitetalk.media.shots import find_cuts
from infinitetalk.media.video import VideoSource

from .conftest import FIXTURES

CUTS, FRAMES = (37, 80), 120


def _write(path: Path, rate: Fraction, variable: bool) -> None:
    """Three scenes that pan and flicker a little; green grows from scene to scene."""
    rng = np.random.default_rng(3)
    scenes = [rng.integers(0, 90, (12, 20, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1) for _ in range(3)]
    for number, scene in enumerate(scenes):
        scene[..., 1] += np.uint8(80 * number)
    ticks = np.cumsum(rng.integers(900, 2100, FRAMES)) if variable else np.arange(FRAMES) * (90_000 / float(rate))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 90_000)
        for index in range(FRAMES):
            scene = np.roll(scenes[sum(index >= cut for cut in CUTS)], 2 * index, axis=1)
            frame = av.VideoFrame.from_ndarray(scene + np.uint8(index % 3), "rgb24")
            frame.pts, frame.time_base = int(ticks[index]), Fraction(1, 90_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("name", ["24", "29.97", "60", "variable"])
def test_cuts_are_where_the_reader_shows_them(tmp_path: Path, name: str) -> None:
    path = tmp_path / "shots.mp4"
    rate = {"29.97": Fraction(30000, 1001), "variable": Fraction(60)}.get(name) or Fraction(name)
    _write(path, rate, name == "variable")
    cuts = find_cuts(path, until=1e6)
    with VideoSource(path) as source:
        scenes = [round((source.frame_at(frame / FPS)[..., 1].mean() - 45) / 80) for frame in range(cuts[-1] + 3)]
    assert cuts == tuple(frame for frame in range(1, len(scenes)) if scenes[frame] != scenes[frame - 1])
    assert len(cuts) == 2
    assert find_cuts(path, until=cuts[1] / FPS - 0.1) == cuts[:1], "no further than asked"


def test_a_job_knows_the_cuts_of_its_source(tmp_path: Path) -> None:
    path = tmp_path / "shots.mp4"
    _write(path, Fraction(25), variable=False)
    request = TalkRequest(video=path, audio=(FIXTURES / "s16.wav",), source_end="loop", duration=30)
    changes: list[tuple[dict[str, Any], tuple[int, ...]]] = [
        ({}, CUTS),
        ({"cuts": "ignore"}, ()),
        ({"reference": True, "source_end": "hold"}, ()),
    ]
    for change, cuts in changes:
        inputs = FileMedia().open(replace(request, **change))
        with inputs.files:
            seconds = len(inputs.voices[0]) / 16_000
            assert inputs.timeline.cuts == tuple(cut for cut in cuts if cut / FPS <= seconds - 0.2)
            assert inputs.timeline.frames == (None if "reference" in change else FRAMES)


def test_without_the_detector_there_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    with pytest.raises(MachineError, match=r"scenedetect-headless.*--cuts ignore"):
        find_cuts(FIXTURES / "25.mp4", 1.0)
