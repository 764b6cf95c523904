"""What is read from landmarks: shapes, phones, heads and lids; what all videos say together; the photograph."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter1d

from infinitetalk.evaluate import speech
from infinitetalk.evaluate.series import correlation
from infinitetalk.media.inputs import Picture
from infinitetalk.media.landmarks import EYE_CORNERS, LOWER_LIP, POINTS, UPPER_LIP
from infinitetalk.media.loudness import speech_gain
from infinitetalk.weights.locate import ASSETS
from tests.training.test_evaluate import said
from training.evaluate import lively
from training.evaluate.bench import SMALL, WANTED, WINDOW, Bench
from training.evaluate.landmarks import Floats
from training.evaluate.mouth_net import MouthReader
from training.evaluate.nano import MEASURES, together
from training.evaluate.photograph import cut, photographed
from training.evaluate.probes import GROUPS, Probe, balanced, classifier, features, labels, recalls
from training.evaluate.scenes import Order, Scene, Studio
from training.evaluate.swapped import neighbour, own, swapped, trace, unrelated
from training.nano.settings import EDITIONS


def face(frames: int, seed: int = 0) -> Floats:
    """A face that keeps still, (F, 468, 2)."""
    points = np.random.default_rng(seed).uniform(20, 80, (POINTS, 2)).astype(np.float32)
    points[EYE_CORNERS[0]], points[EYE_CORNERS[1]] = (30, 40), (70, 40)
    return np.repeat(points[None], frames, 0)


def opened(track: Floats, by: NDArray[np.floating]) -> Floats:
    """The same face whose lower lip goes down."""
    moved = track.copy()
    moved[:, [14, 17, 87, 317], 1] += np.asarray(by, np.float32)[:, None]
    return moved


def bench(**seen: object) -> Bench:
    """One without a model."""
    nothing: dict[str, object] = dict.fromkeys(("model", "camera", "studio", "out", "mesh", "recogniser"))
    return Bench(**{**nothing, "wanted": WANTED["2"], "singles": 0, **seen})  # type: ignore[arg-type]


def test_features_see_lips_and_not_the_head() -> None:
    by = 4 * np.sin(np.arange(40))
    still = opened(face(40), by)
    angle = np.linspace(-0.1, 0.2, 40)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32)
    turned = np.einsum("fnc,cdf->fnd", still, turn) * 1.3 + np.linspace(0, 20, 40, dtype=np.float32)[:, None, None]
    assert np.abs(features(face(40))).max() < 1e-3
    assert np.abs(features(turned) - features(still)).max() < 0.1 * np.abs(features(still)).max()
    lost = still.copy()
    lost[7] = np.nan
    assert np.isfinite(features(lost)).all()


def test_a_probe_reads_a_shape_of_another_face() -> None:
    one, other = (np.random.default_rng(seed).normal(size=200) for seed in (1, 2))
    probe = Probe.fit(features(opened(face(200), 4 * one)), one[:, None])
    read = probe(features(opened(face(200), 4 * other)))[:, 0]
    assert np.corrcoef(read, other)[0, 1] > 0.95


def test_a_classifier_counts_rare_groups_as_much() -> None:
    groups = np.repeat([0, 1, 3, -1], [150, 10, 30, 10])
    track = opened(face(200), np.choose(groups + 1, [9, 0, -6, 8, 8]))
    probe = classifier(features(track), groups)
    rows = recalls(probe, [(features(track), groups)])
    assert len(rows) == 190
    assert balanced(rows) > 0.9
    assert balanced([(0, True), (0, True), (0, True), (1, False)]) == 0.5
    assert balanced(recalls(probe, [(features(face(200)), groups)])) == pytest.approx(1 / 3)


def test_labels_are_the_groups_of_what_is_said() -> None:
    names = [GROUPS[group][0] if group >= 0 else "" for group in labels(said("SIL", "P", "AA", "HH"), 20)]
    assert names == ["SIL"] * 5 + ["P"] * 5 + ["AA"] * 5 + [""] * 5
    assert len(labels(said("P", "AA"), 4)) == 4


def test_heads_and_lids() -> None:
    track, video = face(50), np.zeros((50, 100, 100, 3), np.uint8)
    still = lively.head(track, video)
    swaying = track + np.sin(np.arange(50, dtype=np.float32) / 3)[:, None, None]
    assert still == pytest.approx(0, abs=1e-6)
    assert lively.head(swaying, video) > 0.1
    blinking = track.copy()
    for up, low in ((159, 145), (386, 374)):
        blinking[:, up] = blinking[:, low] - [0, 6]
        blinking[[10, 11, 30], up, 1] += 5
    assert (lively.blinks(blinking), lively.blinks(track)) == (2, 0)
    assert lively.blinks(np.full_like(track, np.nan)) == 0


def test_together_looks_at_every_video() -> None:
    assert together(bench()) == []
    lags = {f"clip {number}": 10.0 for number in range(19)} | {"late": -120.0}
    portraits = {"anna": np.zeros(128), "ben": np.ones(128)}
    faces = [("anna", np.full(128, 0.1)), ("ben", np.full(128, 0.2))]
    timely, near = together(bench(lags=lags, portraits=portraits, faces=faces))
    assert (timely.value, timely.passed) == (0.95, True)
    assert "late -120 ms" in timely.note
    assert (near.value, near.passed) == (0.5, False)


def test_amounts_name_all_measures() -> None:
    assert set(WANTED) == set(EDITIONS)
    for amounts in (SMALL, *(wanted.amounts for wanted in WANTED.values())):
        assert set(amounts) == set(MEASURES)


def test_sounds_are_swapped_with_the_next_that_differs() -> None:
    one, two = np.array([0, 1, 2], np.float32), np.array([1, 0, 1], np.float32)
    assert [neighbour([one, two, 2 * two], index) for index in range(3)] == [1, 0, 0]
    with pytest.raises(ValueError, match="no other of 2 clips"):
        neighbour([one, one], 0)


def test_what_a_video_has_in_common_with_tracks_it_cannot_know() -> None:
    tracks = list(np.random.default_rng(0).normal(size=(5, 400)).astype(np.float32))
    same = [*tracks[:2], 3 * tracks[0], tracks[1] + 1]
    assert np.isnan(unrelated(tracks[0], same, (0, 1))), "none is left but those that say the same"
    assert unrelated(tracks[0], tracks, (0, 1)) == pytest.approx(0)
    leaks = unrelated(tracks[0] + sum(tracks[2:]), tracks, (0, 1))
    assert 0.4 < leaks < 0.6, "a quarter of such a video's spread is each of these tracks'"


def test_a_trace_of_the_old_sound_is_told_from_chance() -> None:
    """Tracks as smooth as mouths are, of 81 frames: a video's own errors look like any track now and then."""
    random = np.random.default_rng(0)
    old, new, errors = (gaussian_filter1d(random.normal(size=(80, 81)), 2, axis=1) for _ in range(3))

    def more(share: float) -> list[float]:
        made = new + 0.4 * errors + share * old
        common = map(correlation, new, old)
        return [both - shared for both, shared in zip(map(correlation, made, old), common, strict=True)]

    assert [check.passed for check in trace(more(0), "-")] == [True, True]
    assert [check.passed for check in trace(more(0.05), "-")] == [False, True]
    assert [check.passed for check in trace(more(0)[:8], "-")] == [True, False], "too few to tell"
    assert not trace(more(0)[:1], "-")[1].passed


@pytest.mark.parametrize("deaf", [False, True])
def test_lips_follow_the_sound_that_they_are_given(deaf: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenes whose voice is the track itself; lips that follow it, or always the person's own track."""
    truths = gaussian_filter1d(np.random.default_rng(0).normal(size=(4, WINDOW)), 2, axis=1).astype(np.float32)
    scenes = [SimpleNamespace(picture=index, voice=truth, truth=truth) for index, truth in enumerate(truths)]
    monkeypatch.setattr(MouthReader, "load", lambda: lambda _, video: video[:, None])
    studio = SimpleNamespace(scenes=lambda *_: iter(scenes))
    camera = SimpleNamespace(shoot=lambda _, person, voice, __: truths[person] if deaf else voice)
    shut = face(WINDOW)
    shut[:, LOWER_LIP] = shut[:, UPPER_LIP]
    mesh = SimpleNamespace(track=lambda video: opened(shut, 9 * (video - video.min())))
    made = bench(camera=camera, studio=studio, mesh=mesh)
    assert [check.passed for check in own(made, 4)] == [True, True]
    follows, shown, old, by_landmarks, *_ = swapped(bench(camera=camera, studio=studio, mesh=mesh), 4)
    assert (follows.passed, shown.passed) == ((not deaf,) * 2)
    assert old.value == pytest.approx(1.0 if deaf else old.bound)
    assert by_landmarks.value > 0.99 if deaf else by_landmarks.value == pytest.approx(old.bound, abs=0.01)
    assert max(abs(lag) for lag in made.lags.values()) < 2


def test_a_photograph_is_cut_around_its_face() -> None:
    portrait = np.array(Image.open(ASSETS / "demo" / "portrait_1.png").convert("RGB").resize((120, 120)))
    scene = np.full((300, 400, 3), 90, np.uint8)
    scene[100:220, 220:340] = portrait
    found = cut(scene)
    assert found.shape[0] == found.shape[1] < 300
    with pytest.raises(ValueError, match="no face"):
        cut(np.full((300, 400, 3), 90, np.uint8))


def test_a_photographed_person_says_every_clip(tmp_path: Path) -> None:
    spoken, _rate = soundfile.read(ASSETS / "demo" / "voice_1.flac", dtype="int16")
    voices = [SimpleNamespace(audio=spoken[: round(seconds * 16000)]) for seconds in (2.3, 4.1)]
    portrait = tmp_path / "portrait.png"
    Image.open(ASSETS / "demo" / "portrait_1.png").convert("RGB").save(portrait)
    asked: list[tuple[str, int, float | None]] = []
    heard: list[Floats] = []

    def shoot(name: str, picture: Picture, voice: Floats, length: int, motion: float | None) -> NDArray[np.uint8]:
        asked.append((name, length, motion))
        heard.append(voice * np.float32(speech_gain(voice)))
        return np.repeat(picture[None], length, 0)

    def track(video: NDArray[np.uint8]) -> Floats:
        shut = face(len(video))
        shut[:, LOWER_LIP] = shut[:, UPPER_LIP]
        return opened(shut, 9 * speech.openness(heard[-1], len(video)))

    judge = SimpleNamespace(describe=lambda frame: np.array([frame.mean() / 255]))
    rows = photographed(bench(camera=SimpleNamespace(shoot=shoot), studio=SimpleNamespace(real=voices), out=tmp_path,
                              mesh=SimpleNamespace(track=track), recogniser=judge, portrait=portrait), 1)  # fmt: skip
    assert asked == [("photo-0-81", 57, None), ("photo-1-81", 81, None),
                     ("photo-0-81-still", 57, 0.0), ("photo-1-81-still", 81, 0.0)]  # fmt: skip
    assert [(row.value <= 1e-6, row.passed) for row in rows[::2]] == [(True, True), (True, None)]
    assert [row.passed for row in rows[1::2]] == [True, None]
    assert all(row.value > 0.95 for row in rows[1::2])
    assert (tmp_path / "photo.jpg").is_file()


def test_kept_scenes_that_are_not_what_is_asked_for_are_drawn_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def draw(_: Studio, order: Order) -> Scene:
        drawn.append((order.frames, order.truth))
        dark = np.zeros((order.frames if order.truth else 0, 8, 8, 3), np.uint8)
        silence, portrait = np.zeros(order.frames, np.float32), np.zeros((8, 8, 3), np.uint8)
        return Scene(portrait, portrait[..., 0] > 0, silence, silence, dark, np.zeros(4, np.float32))

    monkeypatch.setattr(Studio, "_draw", draw)
    studio = Studio(tmp_path, [], [], [])
    asked = [(5, False), (5, True), (5, True), (5, False), (9, True), (5, False)]
    for frames, truth in asked:
        scene = next(studio.scenes("single", 3, 1, frames, truth=truth))
        assert (scene.length, len(scene.frames) if truth else frames) == (frames, frames)
    assert drawn == [(5, False), (5, True), (9, True), (5, False)], (
        "what is kept is taken where it is what is asked for"
    )
