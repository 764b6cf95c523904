"""The window plan: every frame shown exactly once, whatever the numbers."""

from itertools import pairwise

import pytest

from infinitetalk.core.errors import RequestError
from infinitetalk.core.windows import Borders, Window, plan


@pytest.mark.parametrize(("window", "motion"), [(81, 9), (81, 25), (81, 1), (13, 5), (9, 8), (5, 1), (13, 3)])
@pytest.mark.parametrize("reference", [False, True])
def test_every_frame_is_shown_exactly_once(window: int, motion: int, reference: bool) -> None:
    for total in range(window + 1 if reference else 1, 401):
        windows = plan([total], window, motion, reference=reference)
        shown = [frame for part in windows for frame in range(part.first_frame, part.first_frame + part.keep)]
        assert shown == list(range(total)), (total, windows)
        for before, after in pairwise(windows):
            assert after.keep_from == motion
            assert after.start == before.end - motion
        for part in windows:
            assert part.length % 4 == 1
            assert 0 < part.keep <= part.length - part.keep_from <= window


@pytest.mark.parametrize("total", range(1, 401))
def test_last_window_is_just_long_enough(total: int) -> None:
    *full, last = plan([total], 81, 9)
    assert all(window.length == 81 for window in full)
    assert last.length == 5 or last.length - 4 < last.keep_from + last.keep <= last.length


def test_known_plan() -> None:
    assert plan([100], 81, 9) == (Window(0, 0, 81, 0, 81), Window(1, 72, 29, 9, 19))


def test_one_window_needs_no_overlap() -> None:
    assert plan([81], 81, 9) == (Window(0, 0, 81, 0, 81),)
    assert plan([1], 81, 9) == (Window(0, 0, 5, 0, 1),)


def test_longest_voice_decides_and_the_limit_cuts() -> None:
    assert sum(window.keep for window in plan([20, 90, 50], 13, 5)) == 90
    assert sum(window.keep for window in plan([20, 90, 50], 13, 5, limit=33)) == 33
    assert sum(window.keep for window in plan([20], 13, 5, limit=33)) == 20


def test_reference_makes_full_windows_and_cuts_at_the_last_voice() -> None:
    assert [window.length for window in plan([100], 81, 9, reference=True)] == [81, 81]
    two = plan([20, 17], 9, 5, reference=True)
    assert sum(window.keep for window in two) == 17
    assert plan([20], 9, 5, limit=7, reference=True) == (Window(0, 0, 9, 0, 7),)
    assert sum(window.keep for window in plan([20], 9, 5, limit=11, reference=True)) == 11


def test_reference_refuses_what_the_reference_refuses() -> None:
    with pytest.raises(RequestError, match=r"audio = 81 frames: .*longer than the 81 frames"):
        plan([81], 81, 9, reference=True)


def test_reference_drops_windows_behind_the_cut() -> None:
    """The reference computes windows that its final cut throws away; what remains is the same without them."""
    assert [window.keep for window in plan([40, 11], 9, 5, reference=True)] == [9, 2]


def test_reference_mirrors_in_the_last_window_only() -> None:
    assert [window.mirror for window in plan([18], 9, 5, reference=True)] == [False, False, False, True]
    assert [window.mirror for window in plan([40, 11], 9, 5, reference=True)] == [False, False]
    assert [window.mirror for window in plan([20], 9, 5, limit=9, reference=True)] == [False]
    assert not any(window.mirror for window in plan([100], 81, 9))


@pytest.mark.parametrize("anchor", [None, 1, 3])
@pytest.mark.parametrize(("window", "motion", "overlap"), [(81, 9, 0), (81, 9, 8), (81, 1, 30), (13, 5, 2), (33, 5, 3)])
def test_every_frame_is_shown_once_and_borders_are_made_twice(
    window: int, motion: int, overlap: int, anchor: int | None
) -> None:
    loudness = [-40.0 if frame % 23 < 5 else 0.0 for frame in range(400)]
    borders = Borders(loudness=loudness, overlap=overlap, anchor=anchor if overlap else None)
    for total in range(1, 401):
        windows = plan([total], window, motion, borders=borders)
        shown = [frame for part in windows for frame in range(part.first_frame, part.first_frame + part.keep)]
        assert shown == list(range(total)), (total, windows)
        assert windows[0].starts_shot
        assert windows[-1].spare == 0
        for before, after in pairwise(windows):
            assert not after.starts_shot
            assert after.fade == before.spare == overlap
            assert after.keep >= overlap, "a fade never reaches into the next border"
            assert after.starts_anew == bool(borders.anchor and after.index % borders.anchor == 0)
            assert before.end == after.first_frame + overlap
        for part in windows:
            assert part.length % 4 == 1
            assert part.length <= window
            assert part.keep_from + part.keep + part.spare <= part.length


def test_a_window_ends_at_the_quietest_moment_of_its_last_fourth() -> None:
    def ends(**quiet: float) -> list[int]:
        loudness = [quiet.get(f"at{frame}", 0.0) for frame in range(200)]
        windows = plan([200], 81, 9, borders=Borders(loudness=loudness))
        return [window.first_frame + window.keep for window in windows]

    assert ends() == [81, 153, 200], "nothing is gained by giving up frames"
    assert ends(at69=-20, at73=-30) == [73, 145, 200]
    assert ends(at61=-20) == [61, 133, 200]
    assert ends(at61=-9) == [81, 153, 200], "twenty frames are given up for ten decibels only"
    assert ends(at57=-40) == [81, 153, 200], "too early"
    assert ends(at70=-40, at71=-40, at72=-40) == [81, 153, 200], "only every fourth frame can be an end"
    assert ends(at69=-40, at133=-40) == [69, 133, 200]
    assert ends(at69=-40, at190=-40) == [69, 141, 200], "the last window ends with the video"


def test_what_follows_the_voices_is_no_place_to_end() -> None:
    windows = plan([200], 81, 9, borders=Borders(loudness=[0.0] * 70))
    assert [window.first_frame for window in windows] == [0, 69, 141]


def test_pauses_do_not_move_cuts() -> None:
    windows = plan([200], 81, 9, borders=Borders(cuts=(100,), loudness=[-40.0] * 200, overlap=4))
    assert [window.first_frame for window in windows if window.starts_shot] == [0, 100]
    assert all(window.end <= 101 or window.start >= 100 for window in windows)
