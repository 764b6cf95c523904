"""Videos as sources: what follows their end, and cuts."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from infinitetalk.core.request import TalkRequest
from infinitetalk.core.timeline import Timeline
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.model import Model
from infinitetalk.engine.protocols import Inputs, Picture
from infinitetalk.engine.results import WindowResult
from tests.engine.inputs import Frames, Memory, pictures, talk, voice


@dataclass(frozen=True)
class Dub(Memory):
    """A source with its own course through the video."""

    timeline: Timeline = Timeline()

    def open(self, request: TalkRequest) -> Inputs:
        return replace(super().open(request), timeline=self.timeline)


@dataclass(frozen=True)
class Watched(Frames):
    """Notes which frames were asked for."""

    asked: list[int] = field(default_factory=list)

    def frame_index(self, index: int) -> Picture:
        self.asked.append(index)
        return super().frame_index(index)


def dub(tiny: Model, timeline: Timeline, frames: int = 60, source: Frames | None = None) -> Iterator[WindowResult]:
    media = Dub(source or pictures(timeline.frames or 30), (voice(frames),), timeline)
    yield from Engine(tiny, media=media).stream(talk(video=True, window_frames=13, motion_frames=5))


@pytest.mark.parametrize(
    ("end", "asked"),
    [("hold", [0, 8, 9, 9]), ("loop", [0, 10 - 10, 20 - 20, 30 - 30]), ("ping-pong", [0, 8, 2, 6])],
)
def test_windows_start_where_the_source_goes_on(tiny: Model, end: str, asked: list[int]) -> None:
    source = Watched(pictures(10).frames)
    list(dub(tiny, Timeline(10, end), frames=37, source=source))
    assert list(dict.fromkeys(source.asked)) == list(dict.fromkeys(asked))


def test_a_stopping_source_ends_the_video(tiny: Model) -> None:
    assert sum(window.frames.shape[1] for window in dub(tiny, Timeline(17, "stop"))) == 17
    assert sum(window.frames.shape[1] for window in dub(tiny, Timeline(17, "hold"))) == 60


def test_a_shot_knows_nothing_of_the_shot_before(tiny: Model) -> None:
    """What comes before a cut changes nothing behind it, and sound is heard at its own time."""
    first = pictures(60, seed=1)
    other = Frames(np.concatenate([pictures(20, seed=2).frames, first.frames[20:]]))
    timeline = Timeline(None, "hold", (20,))
    one, two = (list(dub(tiny, timeline, source=source)) for source in (first, other))
    starts = [window.first_frame for window in one]
    assert 20 in starts
    assert all(window.first_frame + window.frames.shape[1] <= 20 for window in one if window.first_frame < 20)
    assert not torch.equal(one[0].frames, two[0].frames)
    for left, right in zip(one, two, strict=True):
        assert left.first_frame < 20 or torch.equal(left.frames, right.frames)
    assert sum(window.frames.shape[1] for window in one) == 60
    uncut = list(dub(tiny, Timeline(), source=first))
    assert torch.equal(uncut[0].frames, one[0].frames), "until the cut all is as without"
