"""Rendered talking heads: phonemes to mouth shapes, mouth shapes to pixels, and the truth that comes with them."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from infinitetalk.core.errors import MachineError
from training.heads.blendshapes import BLENDSHAPES, JAW_OPEN, shape_indices
from training.heads.dataset import NOBODY, SILENT, ClipOptions, make_clips, sample_clip
from training.heads.example import babble_tracks
from training.heads.geometry import Movement
from training.heads.identity import Identity, random_identity
from training.heads.motion import Motion, random_motion
from training.heads.raster import rasterise
from training.heads.render import Clip, ClipSpec, HeadRenderer, PersonSpec
from training.heads.scene import Place, random_background, random_light
from training.heads.tracks import openness, tracks
from training.heads.visemes import (
    CLASS_INDEX,
    GESTURES,
    PHONE_CLASSES,
    Alphabet,
    Segment,
    phone_class,
    segments_from_symbols,
)

SIZE = 64


@pytest.fixture(scope="module")
def renderer() -> HeadRenderer:
    torch.set_num_threads(1)
    return HeadRenderer("cpu", size=SIZE)


def person(seed: int = 0) -> Identity:
    return random_identity(np.random.default_rng(seed))


def draw(renderer: HeadRenderer, identity: Identity, **weights: float) -> Clip:
    """One frame of one person with the named ARKit weights."""
    frame = np.zeros((1, len(BLENDSHAPES)), np.float32)
    for name, weight in weights.items():
        frame[:, shape_indices(name)] = weight
    motion = Motion(frame, np.zeros((1, 3), np.float32), np.zeros((1, 2), np.float32))
    rng = np.random.default_rng(1)
    who = PersonSpec(identity=identity, motion=motion, place=Place(x=0.5, y=0.5, zoom=1.55))
    return renderer.render(ClipSpec(people=(who,), light=random_light(rng), background=random_background(rng)))


def changed(one: Clip, other: Clip, threshold: int = 12) -> torch.Tensor:
    """Rows and columns of pixels that differ, ``[n, 2]``."""
    return ((one.frames[0].int() - other.frames[0].int()).abs().amax(-1) > threshold).nonzero()


def spoken(*names: str, each: float = 0.09) -> list[Segment]:
    return [Segment(CLASS_INDEX[name], index * each, (index + 1) * each) for index, name in enumerate(names)]


@pytest.mark.parametrize(
    ("symbol", "alphabet", "name"),
    [
        ("ˈaɪ", "ipa", "AY"),
        ("tʃ", "ipa", "CH"),
        ("y", "ipa", "UE"),
        ("ʀ", "ipa", "R"),
        ("Y", "kokoro", "OY"),
        (",", "kokoro", "SIL"),
        ("y", "arpabet", "Y"),
        ("AH0", "arpabet", "AX"),
        ("SIL", "arpabet", "SIL"),
        ("pau", "arpabet", "SIL"),
    ],
)
def test_phone_class_reads_each_alphabet(symbol: str, alphabet: Alphabet, name: str) -> None:
    assert PHONE_CLASSES[phone_class(symbol, alphabet)] == name


def test_unknown_phone_is_an_error_and_every_class_has_a_shape() -> None:
    with pytest.raises(ValueError, match="'%' is not in the ipa table"):
        phone_class("%")
    assert set(GESTURES) == set(PHONE_CLASSES)
    assert len(PHONE_CLASSES) <= 44


def test_stress_mark_gives_its_time_to_the_next_phone() -> None:
    segments = segments_from_symbols([("ˈ", 0.0, 0.02), ("a", 0.02, 0.1)])
    assert segments == [Segment(CLASS_INDEX["AA"], 0.0, 0.1)]


@pytest.mark.parametrize("consonant", ["P", "B", "M"])
@pytest.mark.parametrize("length", [0.03, 0.05, 0.1])
def test_lips_close_fully_between_open_vowels(consonant: str, length: float) -> None:
    for shift in np.arange(0.0, 0.04, 0.005):
        time = 0.3 + shift
        segments = [Segment(CLASS_INDEX["AA"], 0.0, time), Segment(CLASS_INDEX[consonant], time, time + length)]
        segments.append(Segment(CLASS_INDEX["AA"], time + length, 0.8))
        track = tracks(segments, 20, np.random.default_rng(0), 1.3)
        during = track[int(time * 25) : int((time + length) * 25) + 1]
        assert openness(during).min() < 0.02
        assert during[:, shape_indices("mouthPress")].max() > 0.15
        assert openness(track).max() > 0.5


def test_lip_touches_teeth_without_pressing_the_lips() -> None:
    track = tracks(spoken("AA", "F", "AA", each=0.12), 9, np.random.default_rng(0), 1.0)
    middle = track[4]
    assert middle[shape_indices("mouthRollLower")].item() > 0.3
    assert middle[shape_indices("mouthPress")].max() < 0.05
    assert middle[JAW_OPEN] < 0.5 * track[:, JAW_OPEN].max()


def test_pauses_close_the_mouth_but_gaps_between_words_do_not() -> None:
    pause = [*spoken("AA", "AA"), Segment(0, 0.18, 0.9), Segment(CLASS_INDEX["AA"], 0.9, 1.2)]
    gap = [*spoken("AA", "AA"), Segment(0, 0.18, 0.24), Segment(CLASS_INDEX["AA"], 0.24, 0.6)]
    assert openness(tracks(pause, 30, np.random.default_rng(0)))[10:18].max() < 0.02
    assert openness(tracks(gap, 15, np.random.default_rng(0)))[3:8].min() > 0.3


def test_jaw_opening_changes_the_mouth(renderer: HeadRenderer) -> None:
    closed, opened = draw(renderer, person()), draw(renderer, person(), jawOpen=0.6, mouthUpperUp=0.3)
    x0, y0, x1, y1 = opened.mouth_boxes[0, 0].round().int().tolist()
    difference = (closed.frames[0].int() - opened.frames[0].int()).abs().amax(-1).float()
    assert difference[y0:y1, x0:x1].mean() > 25
    assert difference[: y0 - SIZE // 5].mean() < 3  # brow and eyes stay
    assert float(opened.openness) == pytest.approx(0.6)
    assert (
        opened.mouth_boxes[0, 0, 3] - opened.mouth_boxes[0, 0, 1]
        > closed.mouth_boxes[0, 0, 3] - closed.mouth_boxes[0, 0, 1]
    )


def test_boxes_hold_the_lips_and_the_eyes(renderer: HeadRenderer) -> None:
    who = replace(person(2), beard=0.0, moustache=0.0)
    plain = draw(renderer, who)
    lips = changed(plain, draw(renderer, replace(who, lips=(0.0, 0.9, 0.0))))
    x0, y0, x1, y1 = plain.mouth_boxes[0, 0].tolist()
    assert len(lips) > 20
    assert (lips[:, 1] >= x0 - 2).all() and (lips[:, 1] <= x1 + 1).all()
    assert (lips[:, 0] >= y0 - 2).all() and (lips[:, 0] <= y1 + 1).all()
    irises = changed(plain, draw(renderer, replace(who, iris=(0.0, 0.9, 0.0))))
    for box, side in zip(
        plain.eye_boxes[0, 0].tolist(), (irises[:, 1] >= SIZE // 2, irises[:, 1] < SIZE // 2), strict=True
    ):
        seen = irises[side]
        assert len(seen) >= 2
        assert (seen[:, 1] >= box[0] - 1).all() and (seen[:, 1] <= box[2]).all()
        assert (seen[:, 0] >= box[1] - 1).all() and (seen[:, 0] <= box[3]).all()


def test_blink_closes_the_eyes(renderer: HeadRenderer) -> None:
    for seed in range(4):
        green = replace(person(seed), iris=(0.0, 0.9, 0.0))
        assert len(changed(draw(renderer, green), draw(renderer, person(seed)))) > 4
        assert len(changed(draw(renderer, green, eyeBlink=1.0), draw(renderer, person(seed), eyeBlink=1.0))) <= 1


def test_closed_lids_meet_and_do_not_slide_past_each_other(renderer: HeadRenderer) -> None:
    mesh = renderer.mesh
    people = mesh.at_rest([person(seed) for seed in range(6)])
    weights = torch.zeros(2, 6, len(BLENDSHAPES))
    weights[1][:, shape_indices("eyeBlink")] = 1.0
    movement = Movement(weights, torch.zeros(2, 6, 3), torch.zeros(2, 6, 2))
    posed = mesh.pose(people, movement, [Place(x=0.5, y=0.5, zoom=1.55)] * 6, 512)
    for eye in ("left_eye", "right_eye"):
        opened, closed = mesh.box(posed, eye)
        assert (closed[:, 3] - opened[:, 3]).abs().max() < 0.1 * (opened[:, 3] - opened[:, 1]).min()


def test_a_face_looks_like_a_face(renderer: HeadRenderer) -> None:
    clip = draw(renderer, person(5))
    assert clip.frames.dtype == torch.uint8 and clip.frames.shape == (1, SIZE, SIZE, 3)
    covered = (clip.person_map == 1).float().mean()
    assert 0.35 < covered < 0.9
    x0, y0, x1, y1 = clip.face_boxes[0, 0].tolist()
    assert 0.5 * SIZE < x1 - x0 < SIZE and y1 > 0.75 * SIZE
    assert y0 < clip.eye_boxes[0, 0, :, 1].min() < clip.mouth_boxes[0, 0, 1] < y1
    face = clip.frames[0][clip.person_map[0] == 1].float()
    assert 30 < face.mean() < 220 and face.std() > 10


def test_people_stand_apart_from_left_to_right(renderer: HeadRenderer) -> None:
    speech = babble_tracks(2, 1.0, seed=0)
    for index, shares in enumerate(((0.0, 1.0, 0.0), (0.0, 0.0, 1.0))):
        spec = sample_clip(speech, index, seed=1, options=ClipOptions(frames=1, people=shares)).spec
        clip = renderer.render(spec)
        boxes = clip.face_boxes[0]
        assert len(boxes) == index + 2
        assert (boxes[1:, 0] > boxes[:-1, 2]).all()
        for number, box in enumerate(boxes.tolist()):
            assert (box[0] + box[2]) / 2 / SIZE == pytest.approx((number + 0.5) / len(boxes), abs=0.06)
            assert box[0] > -1 and box[2] < SIZE + 1
            column, row = int((box[0] + box[2]) / 2), int((box[1] + box[3]) / 2)
            assert clip.person_map[0, row, column] == number + 1


def test_clips_repeat_exactly_and_differ_by_index_and_split(renderer: HeadRenderer) -> None:
    speech, options = babble_tracks(2, 1.0, seed=0), ClipOptions(frames=2)
    one, same = (sample_clip(speech, 3, seed=7, options=options) for _ in range(2))
    assert torch.equal(renderer.render(one.spec).frames, renderer.render(same.spec).frames)
    for other in (
        sample_clip(speech, 4, seed=7, options=options),
        sample_clip(speech, 3, seed=8, options=options),
        sample_clip(speech, 3, seed=7, split="heldout", options=options),
    ):
        assert not np.array_equal(one.spec.people[0].identity.targets, other.spec.people[0].identity.targets)


def test_batches_carry_their_truth(renderer: HeadRenderer) -> None:
    speech = babble_tracks(2, 2.0, seed=0)
    options = ClipOptions(frames=3, people=(0.5, 0.5, 0.0), listening=1.0)
    batches = list(make_clips(3, speech, seed=0, options=options, batch=2, renderer=renderer))
    assert [len(batch.frames) for batch in batches] == [2, 1]
    batch = batches[0]
    assert batch.frames.shape == (2, 3, SIZE, SIZE, 3) and batch.reference.shape == (2, SIZE, SIZE, 3)
    assert batch.weights.shape == (2, 3, 4, len(BLENDSHAPES)) and batch.eye_boxes.shape == (2, 3, 4, 2, 4)
    for clip in range(2):
        count = int(batch.people[clip])
        assert (batch.utterance[clip, count:] == NOBODY).all()
        for who, (utterance, start) in enumerate(zip(batch.utterance[clip, :count], batch.start[clip], strict=False)):
            jaw = batch.weights[clip, who, :3, JAW_OPEN]
            truth = (
                torch.zeros(3)
                if utterance == SILENT
                else torch.from_numpy(speech[utterance][start : start + 3, JAW_OPEN])
            )
            assert torch.equal(jaw, truth)
        assert (batch.utterance[clip, :count] >= 0).sum() == 1  # listening = 1: everybody else is silent


def test_motion_leaves_the_jaw_to_the_speech_and_stays_calm() -> None:
    speech = babble_tracks(1, 4.0, seed=3)[0]
    poses = []
    for seed in range(12):
        motion = random_motion(speech, np.random.default_rng(seed))
        np.testing.assert_array_equal(motion.weights[:, JAW_OPEN], speech[:, JAW_OPEN])
        assert motion.weights.min() >= 0 and motion.weights.max() <= 1
        poses.append(motion.pose[:, 0].std())
    assert np.mean(poses) < 0.03


def test_nearest_outer_face_wins_and_ties_go_to_the_first() -> None:
    corners = torch.tensor([[1.0, 1.0], [1.0, 7.0], [7.0, 1.0]])
    screen = corners.repeat(3, 1)[None, None]
    depth = torch.tensor([5.0, 5, 5, 3, 3, 3, 3, 3, 3])[None, None]
    triangles = torch.arange(9).view(3, 3)
    code, distance = rasterise(screen, depth, triangles, torch.zeros(3, dtype=torch.bool), size=8, method="torch")
    assert set(code.flatten().tolist()) == {-1, 1}
    assert code[0, 2, 2] == 1 and code[0, 6, 6] == -1
    assert distance[0, 2, 2] == pytest.approx(3.0, abs=1e-4)
    turned = triangles[:, [0, 2, 1]]
    assert (rasterise(screen, depth, turned, torch.zeros(3, dtype=torch.bool), size=8, method="torch")[0] == -1).all()
    assert (rasterise(screen, depth, turned, torch.ones(3, dtype=torch.bool), size=8, method="torch")[0] >= 0).any()


def test_drawing_on_a_gpu_says_that_it_needs_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    corners, everything = torch.tensor([[0, 1, 2]]), torch.ones(1, dtype=torch.bool)
    with pytest.raises(MachineError, match="needs CuPy: pip install"):
        rasterise(torch.zeros(1, 1, 3, 2), torch.ones(1, 1, 3), corners, everything, size=4, method="cuda")


def test_impossible_clips_are_refused() -> None:
    speech = babble_tracks(1, 1.0, seed=0)
    with pytest.raises(ValueError, match="frames = 81: the longest of 1 speech tracks has only 25"):
        sample_clip(speech, 0, seed=0)
    with pytest.raises(ValueError, match="must sum to 1"):
        ClipOptions(people=(0.5, 0.2, 0.1))
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="people = 0"):
        ClipSpec(people=(), light=random_light(rng), background=random_background(rng))
