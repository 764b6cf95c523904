"""Each measure against what is known of it."""

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from skimage import metrics

from infinitetalk.core.sizes import Pixels
from infinitetalk.evaluate import color, detail, likeness, lips, motion, plots, speech, steadiness, sync
from infinitetalk.evaluate.clip import fitted
from infinitetalk.evaluate.identity import distances, identity
from infinitetalk.evaluate.plots import Line
from infinitetalk.evaluate.series import Series, filled, mean, smoothed, spearman

RNG = np.random.default_rng(3)
METRICS: Any = metrics


def grain(frames: int = 1, side: int = 48) -> NDArray[np.uint8]:
    return RNG.integers(0, 256, (frames, side, side, 3)).astype(np.uint8)


def test_series_fill_what_is_missing() -> None:
    rows = Series()
    rows.add({"a": 1.0})
    rows.add({"a": None, "b": 2.0})
    assert len(rows) == 2
    assert rows["a"][0] == 1
    assert np.isnan(rows["a"][1])
    assert np.isnan(rows["b"][0])
    assert np.isnan(rows["nothing"]).all()
    assert filled(rows["a"]).tolist() == [1, 1]
    assert mean(rows["nothing"]) is None
    assert smoothed(np.arange(5, dtype=np.float32), 3) == pytest.approx([1 / 3, 1, 2, 3, 11 / 3])


def test_spearman_is_that_of_scipy() -> None:
    for _ in range(5):
        a, b = RNG.integers(0, 6, 12), RNG.normal(size=12)
        assert spearman(a.tolist(), b.tolist()) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-5)


def test_likeness_is_that_of_scikit_image() -> None:
    one, other = grain()[0], grain()[0]
    mixed = (0.7 * one + 0.3 * other).astype(np.uint8)
    assert likeness.psnr(mixed, one) == pytest.approx(METRICS.peak_signal_noise_ratio(one, mixed), abs=1e-4)
    wanted = METRICS.structural_similarity(one, mixed, channel_axis=2, gaussian_weights=True, sigma=1.5,
                                   use_sample_covariance=False, data_range=255)  # fmt: skip
    assert likeness.ssim(mixed, one) == pytest.approx(wanted, abs=1e-4)
    assert likeness.psnr(one, one) == likeness.SAME
    assert likeness.ssim(one, one) == pytest.approx(1)


@pytest.mark.parametrize("lag", [-7, 0, 3])
def test_sync_finds_the_lag(lag: int) -> None:
    sound = smoothed(RNG.normal(size=400).astype(np.float32), 5)
    found = sync.measure(np.roll(sound, lag), sound)
    assert found is not None
    assert found.offset_ms == pytest.approx(40 * lag, abs=5)
    assert found.peak > 0.95
    assert found.control < 0.5
    assert len(found.curve) == len(found.lags_ms) == 2 * sync.REACH + 1


def test_sync_finds_lags_between_frames_and_judges_no_short_or_faceless_video() -> None:
    fine = smoothed(RNG.normal(size=4000).astype(np.float32), 51)
    found = sync.measure(fine[5:3905:10], fine[:3900:10])  # lips half a frame before the sound
    assert found is not None
    assert found.offset_ms == pytest.approx(-20, abs=3)
    assert sync.measure(fine[:30], fine[:30]) is None
    gone = fine[:200].copy()
    gone[:150] = np.nan
    assert sync.measure(gone, fine[:200]) is None


def test_a_voice_in_parts_asks_for_the_same_mouth(monkeypatch: pytest.MonkeyPatch) -> None:
    voice = (0.1 * RNG.normal(size=30 * 640) * np.repeat(RNG.uniform(0, 1, 30), 640)).astype(np.float32)
    whole = speech.openness(voice, 30)
    monkeypatch.setattr(speech, "_BLOCK", 7)
    assert speech.openness(voice, 30) == pytest.approx(whole, abs=1e-4)
    assert speech.levels(voice, 30) == pytest.approx(speech.levels(voice, 40)[:30])


def test_vowels_open_mouths_and_silence_does_not() -> None:
    time = np.arange(16_000) / 16_000
    vowel = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 40)) * (np.sin(2 * np.pi * 2.5 * time) > 0)
    said = speech.openness((0.05 * vowel).astype(np.float32), 25)
    loud = speech.levels((0.05 * vowel).astype(np.float32), 25) > -40
    assert said[loud].mean() > said[~loud].mean() + 0.1


def test_silence_keeps_its_distance_from_speech() -> None:
    level = np.full(40, -80, np.float32)
    level[18:22] = -20
    quiet = speech.silent(level)
    assert quiet[:13].all()
    assert not quiet[13:27].any()
    assert quiet[27:].all()
    assert speech.silent(np.full(40, -90, np.float32)).all()


def test_lips_in_silence() -> None:
    shown = np.tile([0.0, 0.1], 20).astype(np.float32)
    shown[20:] = 0.1
    quiet = np.arange(40) >= 21
    found = lips.in_silence(shown, quiet)
    assert found.moving_silent == 0
    assert found.moving_speaking == pytest.approx(2.5, rel=0.1)
    assert lips.in_silence(shown, np.zeros(40, bool)).moving_silent is None


def test_colours_stray_by_window() -> None:
    own = np.zeros((10, 3), np.float32)
    own[5:] = [3, 4, 0]
    found = color.drift(own, np.zeros(3, np.float32), (slice(0, 5), slice(5, 10)))
    assert [*found.windows, found.largest, found.last] == [0, 5, 5, 5]
    assert color.mean_lab(np.full((8, 8, 3), 255, np.uint8)) == pytest.approx([100, 0, 0], abs=0.05)


def test_blur_is_less_sharp_and_brightness_is_not() -> None:
    picture = grain()[0]
    soft = np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.5), np.uint8)
    assert detail.sharpness(soft) < 0.8 * detail.sharpness(picture)
    assert detail.sharpness((picture // 2).astype(np.uint8)) == pytest.approx(detail.sharpness(picture), rel=0.02)
    assert detail.sharpness(np.full((9, 9, 3), 7, np.uint8)) == 0


def test_seams_repeats_and_flicker() -> None:
    changes = np.array([np.nan, *[1.0] * 19], np.float32)
    flickers = np.full(20, 0.5, np.float32)
    changes[10], changes[5] = 4.0, 0.0
    found = steadiness.steadiness(changes, flickers, (0, 10))
    assert found.seams == (4.0,)
    assert found.seam_flicker == (1.0,)
    assert found.repeated == pytest.approx(1 / 19)
    assert found.change == 1
    assert steadiness.steadiness(changes, flickers, ()).seams == ()
    one, two = (
        steadiness.shades(np.full((32, 32, 3), 100, np.uint8)),
        steadiness.shades(np.full((32, 32, 3), 110, np.uint8)),
    )
    assert steadiness.change(one, two) == pytest.approx(10)
    assert steadiness.flicker(one, two, one) == pytest.approx(20)


def test_a_head_that_moves_is_faster_than_one_that_does_not() -> None:
    still = {name: np.zeros(50, np.float32) for name in motion.AXES} | {"eyes": np.full(50, 20, np.float32)}
    moving = still | {"right": np.arange(50, dtype=np.float32)}
    assert motion.head_motion(still) == 0
    assert motion.head_motion(moving) == pytest.approx(25 / 20, rel=0.06)
    assert motion.head_motion(still | {"eyes": np.full(50, np.nan, np.float32)}) is None


def test_identity_knows_its_windows_and_rivals() -> None:
    own, other = np.zeros(128), np.ones(128) * 0.1
    seen = [(0, own + 0.001), (10, own + 0.002), (20, other)]
    found = identity([own], [other], seen, (slice(0, 11), slice(11, 30)), 0.05)
    assert found is not None
    assert found.first_window == pytest.approx(0.0015 * np.sqrt(128), rel=1e-3)
    assert found.last_window == found.largest == pytest.approx(found.other)
    assert found.nearer_to_other == pytest.approx(1 / 3)
    assert identity([], [], seen, (slice(0, 30),), None) is None
    assert distances([own], seen)[2] == pytest.approx(0.1 * np.sqrt(128))


def test_references_are_cut_as_videos_are() -> None:
    picture = grain(side=60)[0][:, :40]
    assert fitted(picture, Pixels(40, 40)).shape == (40, 40, 3)
    assert (fitted(picture, Pixels(60, 40)) == picture).all()


def test_plots_stay_small_and_keep_gaps() -> None:
    places = np.arange(5000, dtype=np.float32)
    values = np.sin(places / 300)
    values[2000:3000] = np.nan
    drawn = plots.lines([Line("wave & <more>", places, values)], "seconds", marks=[100.0])
    assert len(drawn) < 20_000
    assert drawn.count("M") == 2
    assert "wave &amp; &lt;more&gt;" in drawn
    assert plots.ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert "nothing" in plots.lines([Line("", places, np.full(5000, np.nan, np.float32))], "")
    assert plots.bars([1.0, 2.0], "windows", level=2.0).count("<rect") == 2
