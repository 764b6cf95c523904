"""The course of a source: its end, its cuts, and windows that never cross them."""

import pytest

from infinitetalk.core.errors import RequestError
from infinitetalk.core.timeline import Timeline
from infinitetalk.core.windows import Borders, plan
from tests.engine.inputs import talk


@pytest.mark.parametrize(
    ("end", "frames"),
    [
        ("hold", [0, 1, 2, 2, 2, 2, 2, 2, 2]),
        ("loop", [0, 1, 2, 0, 1, 2, 0, 1, 2]),
        ("ping-pong", [0, 1, 2, 1, 0, 1, 2, 1, 0]),
    ],
)
def test_what_follows_the_last_frame(end: str, frames: list[int]) -> None:
    assert [Timeline(3, end).source_frame(frame) for frame in range(9)] == frames
    assert [Timeline(1, end).source_frame(frame) for frame in range(3)] == [0, 0, 0]


def test_without_a_length_time_just_runs() -> None:
    assert Timeline().source_frame(10**6) == 10**6
    assert Timeline().cuts_before(100) == ()
    assert (Timeline(7, "stop").limit, Timeline(7, "hold").limit) == (7, None)


def test_cuts_come_again_and_the_way_back_crosses_them_too() -> None:
    assert Timeline(10, "hold", (4,)).cuts_before(30) == (4,)
    assert Timeline(10, "loop", (4,)).cuts_before(30) == (4, 10, 14, 20, 24)
    assert Timeline(10, "ping-pong", (4,)).cuts_before(20) == (4, 15), "frame 4 is at 14, frame 3 at 15"
    assert Timeline(1, "loop").cuts_before(9) == ()


@pytest.mark.parametrize("cuts", [(), (1,), (7, 9), (40,), (21, 60, 61, 100), (119,)])
@pytest.mark.parametrize(("window", "motion"), [(21, 5), (81, 9), (5, 1)])
def test_windows_never_cross_a_cut(cuts: tuple[int, ...], window: int, motion: int) -> None:
    windows = plan([120], window, motion, borders=Borders(cuts=cuts))
    shots = [0, *cuts, 120]
    assert [frame for part in windows for frame in range(part.first_frame, part.first_frame + part.keep)] == [
        *range(120)
    ], "one timeline, without gaps"
    for part in windows:
        begin = max(shot for shot in shots if shot <= part.first_frame)
        end = min(shot for shot in shots if shot > part.first_frame)
        assert begin <= part.start
        assert part.first_frame + part.keep <= end
        assert part.starts_anew == (part.first_frame == begin)
        assert (part.length - 1) % 4 == 0
        assert part.end <= max(end + 3, begin + 5), "no more than the network needs"


@pytest.mark.parametrize("settings", [{"video": False}, {"video": True, "reference": True}])
def test_a_source_that_has_no_end_of_its_own_is_refused_one(settings: dict[str, bool]) -> None:
    with pytest.raises(RequestError, match="source_end"):
        talk(source_end="loop", **settings)
    with pytest.raises(RequestError, match="hold, loop, ping-pong, stop"):
        talk(video=True, source_end="bounce")
