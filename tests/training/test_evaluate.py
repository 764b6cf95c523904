"""Measures of talking videos: each is high where it should be and low where it should not."""

from pathlib import Path

import numpy as np
import pytest

from infinitetalk.core.sizes import Pixels
from infinitetalk.evaluate.series import correlation, filled
from infinitetalk.media.landmarks import EYE_CORNERS, LOWER_LIP, POINTS, UPPER_LIP
from training.evaluate import measures, sheets
from training.evaluate.landmarks import openness
from training.evaluate.report import Check, write
from training.evaluate.sheet import moments, phone_at
from training.evaluate.videos import Still
from training.heads.visemes import CLASS_INDEX, Segment


def said(*phones: str, seconds: float = 0.2) -> list[Segment]:
    return [Segment(CLASS_INDEX[name], index * seconds, (index + 1) * seconds) for index, name in enumerate(phones)]


def test_openness_is_relative_to_the_eyes_and_bridges_gaps() -> None:
    points = np.zeros((3, POINTS, 2), np.float32)
    points[:, EYE_CORNERS[1], 0] = 40
    points[:, LOWER_LIP, 1] = [4, 0, 12]
    points[1] = np.nan
    assert openness(points) == pytest.approx([0.1, 0.2, 0.3])
    twice = points * 2
    assert openness(twice) == pytest.approx(openness(points))
    assert UPPER_LIP != LOWER_LIP
    assert filled(np.full(4, np.nan, np.float32)).tolist() == [0, 0, 0, 0]


def test_correlation_and_loudness() -> None:
    rise = np.arange(10, dtype=np.float32)
    assert correlation(rise, 3 * rise + 1) == pytest.approx(1)
    assert correlation(rise, -rise) == pytest.approx(-1)
    assert correlation(rise, np.ones(10, np.float32)) == 0
    voice = np.repeat(np.array([0, 0.5, 0.1], np.float32), 640)
    assert measures.loudness(voice, 4) == pytest.approx([0, 0.5, 0.1, 0])


def test_closures_want_closed_lips_at_their_time() -> None:
    segments = said("AA", "P", "AA", "M", "AA", "AA")
    shown = np.full(30, 0.3, np.float32)
    shown[5:10] = shown[15:20] = 0
    assert measures.closures(shown, segments) == [True, True]
    late = np.full(30, 0.3, np.float32)
    late[22:30] = 0
    assert measures.closures(late, segments) == [False, False]
    assert measures.by_chance(shown, segments) < 0.9
    assert measures.closures(shown, said("AA", "S")) == []


def test_ratios_see_only_what_the_mask_shows() -> None:
    truth = np.full((2, 16, 16, 3), 100, np.uint8)
    made = truth.copy()
    made[:, 2:6, 2:6] += 10
    box = measures.inside(np.array([2, 2, 6, 6], np.float32), (16, 16))
    assert box.sum() == 16
    assert measures.psnr(made, truth, box) == pytest.approx(20 * np.log10(25.5), abs=0.01)
    assert measures.psnr(made, truth, ~box) > 60
    person = np.zeros((40, 40), np.bool_)
    person[0, 0] = True
    assert (~measures.background(person)).sum() == 81


def test_borders_compare_with_the_usual_change() -> None:
    video = np.zeros((21, 4, 4, 3), np.uint8)
    video += np.arange(21, dtype=np.uint8)[:, None, None, None]
    assert measures.borders(video, [0, 9, 15]) == pytest.approx([1, 1])
    video[15:] += 4
    assert measures.borders(video, [0, 9, 15]) == pytest.approx([1, 5])
    assert measures.sharpness(video) == 0


def test_distortion_ignores_pose_and_sees_a_moved_eye() -> None:
    rng = np.random.default_rng(0)
    like = rng.uniform(0, 100, (POINTS, 2)).astype(np.float32)
    turned = like @ np.array([[0.9, 0.2], [-0.1, 1.1]], np.float32) + 5
    broken = like.copy()
    broken[[33, 133, 159, 145]] += 12
    lost = np.full_like(like, np.nan)
    whole, wrong, gone = measures.distortion(np.stack([turned, broken, lost]), like)
    assert whole < 1e-3
    assert wrong > 0.02
    assert gone == 1


def test_moments_show_different_phones_in_order() -> None:
    segments = said("SIL", "P", "AA", "P", "IY", "UW", "F", "S", "AA", "SIL")
    chosen = moments(segments, frames=50, count=6)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == 6
    assert {phone_at(segments, frame) for frame in chosen} >= {"p", "aa", "uw", "f", "iy"}
    assert phone_at(segments, 0) == "pause"


def test_report_and_sheet(tmp_path: Path) -> None:
    checks = [Check("r", 0.9, ">=", 0.8), Check("identity", 0.3, "<=", 0.28), Check("seen", 1.0)]
    assert [check.passed for check in checks] == [True, False, None]
    assert "FAIL" in checks[1].line()
    assert Check("lost", float("nan"), ">=", 0.8).passed is False
    write(tmp_path / "metrics.json", checks, {"clips": 3, "rows": [{"r": 0.123456789}]})
    written = (tmp_path / "metrics.json").read_text()
    assert '"passed": false' in written
    assert '"r": 0.1235' in written
    picture = np.zeros((8, 8, 3), np.uint8)
    sheets.save(tmp_path / "sheet.jpg", [sheets.Row([picture, None], "one", ["a", "b"])], cell=16, margin=20)
    assert (tmp_path / "sheet.jpg").stat().st_size > 0


def test_pictures_and_voices_from_memory_are_the_engines_inputs() -> None:
    still = Still(np.zeros((6, 4, 3), np.uint8), np.zeros(640, np.float32))
    assert still.size == Pixels(6, 4)
    assert still.frame_at(3.0) is still.frame_index(7)
