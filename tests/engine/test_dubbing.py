"""Videos as sources: what follows their end, and cuts."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import Pixels
from infinitetalk.core.timeline import Timeline
from infinitetalk.diffusion.schedule import partial_timesteps, timesteps
from infinitetalk.engine.codec import encode
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.model import Model
from infinitetalk.engine.protocols import Inputs, Picture
from infinitetalk.engine.results import WindowResult
from infinitetalk.media.fit import fit_picture
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


def dub(
    tiny: Model, timeline: Timeline, frames: int = 60, source: Frames | None = None, **more: Any
) -> Iterator[WindowResult]:
    media = Dub(source or pictures(timeline.frames or 30), (voice(frames),), timeline)
    yield from Engine(tiny, media=media).stream(talk(video=True, window_frames=13, motion_frames=5, **more))


@pytest.mark.parametrize(
    ("end", "asked"),
    [("hold", [0, 8, 9, 9]), ("loop", [0, 10 - 10, 20 - 20, 30 - 30]), ("ping-pong", [0, 8, 2, 6])],
)
def test_windows_start_where_the_source_goes_on(tiny: Model, end: str, asked: list[int]) -> None:
    source = Watched(pictures(10).frames)
    list(dub(tiny, Timeline(10, end), frames=37, source=source, color_strength=0.0))
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


def test_strength_one_is_as_without(tiny: Model) -> None:
    """Nothing is read but key frames where nobody asks for the light, and all steps are made."""
    source = Watched(pictures(60).frames)
    settings: dict[str, Any] = {"steps": 4, "color_strength": 0.0}
    plain = list(dub(tiny, Timeline(), source=source, **settings))
    assert len(set(source.asked)) == len(plain)
    for one, other in zip(plain, dub(tiny, Timeline(), source=source, strength=1.0, **settings), strict=True):
        assert torch.equal(one.frames, other.frames)


def test_less_strength_keeps_more_of_the_source(tiny: Model) -> None:
    source = pictures(60)
    made = [
        next(dub(tiny, Timeline(), source=source, steps=8, size="64x64", strength=strength)).latent
        for strength in (0.13, 0.5, 1.0)
    ]
    clip = torch.cat([fit_picture(source.frame_index(frame), Pixels(64, 64)) for frame in range(13)], dim=2)
    with tiny.coding() as vae, torch.inference_mode():
        clean = encode(vae, clip)[0]
    near = [float((latent - clean)[:, 1:].abs().mean()) for latent in made]
    assert near[0] < near[1] < near[2]


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("end", ["hold", "ping-pong", "loop"])
def test_every_frame_is_read_once_and_in_order(tiny: Model, end: str, strength: float) -> None:
    """Frames that windows share are not asked for again: a source that runs forwards would start from its beginning."""
    source = Watched(pictures(30).frames)
    timeline = Timeline(30 if end != "hold" else None, end, (17,))
    list(dub(tiny, timeline, frames=29, source=source, steps=2, strength=strength))
    assert source.asked == sorted(source.asked)
    assert set(source.asked) <= set(range(29))
    assert strength == 1 or set(source.asked) == set(range(29))


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_colours_are_matched_in_windows_whose_light_stays(tiny: Model, strength: float) -> None:
    """A lamp goes on at frame 24 of 45; windows are 0-12, 8-20, 16-28, 24-36 and 32-44."""
    room = pictures(1, seed=3).frames.repeat(45, axis=0) // 2
    room[24:] += 40
    settings: dict[str, Any] = {"steps": 2, "strength": strength, "seam_frames": 0}
    windows = list(dub(tiny, Timeline(), frames=45, source=Frames(room), **settings))
    assert [window.first_frame for window in windows] == [0, 13, 21, 29, 37]
    assert [window.drift.color_strength for window in windows] == [1, 1, 0, 1, 1]
    for window in windows:
        nearer = window.drift.color_shown < window.drift.color_made / 2
        same = window.drift.color_shown == window.drift.color_made
        assert (nearer, same) == (window.drift.color_strength == 1, window.drift.color_strength == 0), window.drift
    asked = list(dub(tiny, Timeline(), frames=45, source=Frames(room), color_strength=0.7, **settings))
    assert {window.drift.color_strength for window in asked} == {0.7}


def test_a_part_of_the_schedule_starts_at_the_level_of_the_strength() -> None:
    times = partial_timesteps(10, 3.0, 7, 0.3)
    assert times[0] == pytest.approx(300)
    assert len(times) == 4
    assert all(now > then for now, then in pairwise(times))
    assert partial_timesteps(10, 3.0, 0, 1.0) == timesteps(10, 3.0)
    assert partial_timesteps(4, 7.0, 3, 0.01) == [pytest.approx(10), 0]
