"""The long video: its voice, its figures, and what is left when the limit is reached."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.twenty_minutes import Options, Repeated, Talk, run
from infinitetalk.core.sizes import SAMPLE_RATE

SECONDS = 12.0


def streams() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(-9000, 9000, count).astype(np.int16) for count in (17_000, 5, 23_456)]


def talk() -> Talk:
    picture = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return Talk(picture, Repeated(streams(), round(SECONDS * SAMPLE_RATE)))


def test_parts_of_a_repeated_voice_are_those_of_the_whole() -> None:
    voice = Repeated(streams(), 200_000)
    whole = voice[:]
    assert len(whole) == len(voice) == 200_000
    assert {len(np.unique(whole[begin : begin + 5000])) > 1000 for begin in range(0, 195_000, 5000)} == {True}
    for begin, end in ((0, 5), (16_990, 17_100), (40_000, 190_000), (199_990, 300_000), (5, 5)):
        np.testing.assert_array_equal(voice[begin:end], whole[begin:end])
    np.testing.assert_array_equal(voice.begin(2.0)[:], whole[:32_000])
    with pytest.raises(ValueError, match="no stream with sound"):
        Repeated([np.zeros(0, np.int16)], 5)


def test_figures_and_pictures_of_all_windows(tiny_folder: Path, tmp_path: Path) -> None:
    summary = run(talk(), Options(tmp_path, tiny_folder, "fastest", SECONDS))
    found = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    columns = found["windows_one_by_one"]
    assert summary["complete"]
    assert found["frames"] == sum(columns["frames"]) == SECONDS * 25
    assert found["device"] in found["seconds_for_a_window"]
    assert columns["border"][0] is None
    usual = np.median(columns["motion"])
    assert found["border_over_motion"]["largest"] == pytest.approx(max(columns["border"][1:]) / usual, abs=1e-3)
    steep = sum(border > 1.5 * usual for border in columns["border"][1:])
    assert found["border_over_motion"]["over_1.5"] == steep
    assert found["border_over_motion"]["share_over_1.5"] == pytest.approx(steep / len(columns["border"][1:]), abs=1e-4)
    assert found["inside_over_motion"]["median"] == pytest.approx(1, abs=0.3)
    assert Image.open(tmp_path / "sheet.jpg").width > 96
    assert (tmp_path / "talk.mp4").stat().st_size > 1000


def test_what_is_there_is_kept_at_the_limit(tiny_folder: Path, tmp_path: Path) -> None:
    summary = run(talk(), Options(tmp_path, tiny_folder, "cpu", SECONDS, limit=0.0))
    assert not summary["complete"]
    assert summary["windows"] == 1
    assert not json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))["complete"]
    assert (tmp_path / "sheet.jpg").exists()
