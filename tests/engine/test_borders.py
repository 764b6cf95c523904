"""Borders of windows in the engine: where they lie, and how one window goes over into the next."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from infinitetalk.engine.codec import decode
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.model import Model
from infinitetalk.engine.results import Resume
from tests.engine.inputs import Memory, pictures, talk, voice

Make = Callable[..., Engine]


def test_a_window_takes_over_little_by_little(make_engine: Make) -> None:
    hard, soft = (list(make_engine(30).stream(talk(seam_frames=frames))) for frames in (0, 4))
    assert torch.equal(hard[0].frames, soft[0].frames)
    assert torch.equal(hard[1].frames[:, 4:], soft[1].frames[:, 4:])
    step_hard, step_soft = ((made[1].frames[:, 0] - made[0].frames[:, -1]).abs().mean() for made in (hard, soft))
    assert step_soft < step_hard


def test_windows_that_overlap_fade_into_each_other(make_engine: Make) -> None:
    first, second, *_ = make_engine(40).stream(talk(overlap_frames=2, seam_frames=0, color_strength=0.0))
    assert (first.frames.shape[1], second.first_frame) == (11, 11)
    assert first.past.spare is not None
    made = decoded(make_engine(40), second.latent)[:, 5:]
    share = torch.tensor([1 / 3, 2 / 3])[:, None, None]
    expected = first.past.spare[0] * (1 - share) + made[:, :2] * share
    torch.testing.assert_close(second.frames[:, :2], expected)
    torch.testing.assert_close(second.frames[:, 2:], made[:, 2:-2])
    torch.testing.assert_close(first.frames[:, -5:], first.past.tail[0], msg="the frames handed on are those shown")


def test_a_window_may_start_from_the_picture_again(make_engine: Make) -> None:
    settings: dict[str, Any] = {"overlap_frames": 2, "reanchor": 2, "motion_frames": 5}
    windows = list(make_engine(40).stream(talk(**settings)))
    anchored = [torch.equal(window.latent[:, :1], window.condition[4:, :1]) for window in windows]
    assert anchored == [number % 2 == 0 for number in range(len(windows))]
    assert sum(window.frames.shape[1] for window in windows) == 40
    assert [window.before is None for window in windows] == [True, *[False] * (len(windows) - 1)]


def test_an_interrupted_video_goes_on_from_its_overlap(make_engine: Make) -> None:
    request = talk(overlap_frames=2, reanchor=3)
    whole = list(make_engine(40).stream(request))
    rest = list(make_engine(40).stream(request, resume=Resume(2, whole[1].past)))
    assert len(rest) == len(whole) - 2
    for made, again in zip(whole[2:], rest, strict=True):
        assert torch.equal(made.frames, again.frames)


def test_windows_end_where_voices_pause(tiny: Model) -> None:
    sound = voice(40)
    sound[11 * 640 : 15 * 640] = 0.0
    engine = Engine(tiny, media=Memory(pictures(), (sound,)))
    starts = [
        [window.first_frame for window in engine.stream(talk(window_frames=17, window_end=end))]
        for end in ("pause", "full")
    ]
    assert starts == [[0, 13, 25, 37], [0, 17, 29]]


def decoded(engine: Engine, latent: Tensor) -> Tensor:
    """A window's frames as the VAE makes them."""
    with torch.inference_mode():
        return decode(engine.model.vae, latent[None])[0]


def test_the_reference_mode_leaves_borders_as_they_are(make_engine: Make) -> None:
    made = [list(make_engine(30).stream(talk(reference=True, seam_frames=frames))) for frames in (None, 0, 4)]
    assert torch.equal(made[0][1].frames, made[1][1].frames)
    assert not torch.equal(made[0][1].frames, made[2][1].frames)
