"""Talking faces in a source: found, followed, kept where they were; and the mask around them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from infinitetalk.core.errors import RequestError
from infinitetalk.core.request import Box, TalkRequest
from infinitetalk.core.sizes import Pixels
from infinitetalk.media.faces import find_faces
from infinitetalk.media.inputs import Mask
from infinitetalk.media.paste import Patch
from infinitetalk.media.tracking import FaceTracker, Outlines, mask

from .moving import OTHER, PORTRAIT, scene

SIZE, EDGE = Pixels(160, 280), 110
VOICE = Path("voice.wav")


def talk(voices: int = 1, **more: object) -> TalkRequest:
    values = {"image": PORTRAIT, "audio": (VOICE,) * voices, "output_size": "source", "blend": "face", **more}
    return TalkRequest(**values)  # type: ignore[arg-type]


def one(x: int, y: int = 20) -> NDArray[np.uint8]:
    return scene(SIZE, (PORTRAIT, EDGE, (x, y)))


def face_at(picture: NDArray[np.uint8]) -> tuple[float, float]:
    (face,) = find_faces(picture)
    return face.middle


def placed(patch: Patch) -> NDArray[np.float32]:
    """Weights of a part of the picture as those of all of it."""
    whole = np.zeros(SIZE, np.float32)
    high, wide = patch.weights.shape
    whole[patch.top : patch.top + high, patch.left : patch.left + wide] = patch.weights
    return whole


def weighed(outlines: Outlines) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """The mask as a whole picture, and its middle."""
    whole = placed(mask(outlines, SIZE))
    rows, columns = np.mgrid[0 : SIZE.height, 0 : SIZE.width] + 0.5
    return whole, (float((whole * columns).sum() / whole.sum()), float((whole * rows).sum() / whole.sum()))


def test_the_mask_is_one_on_the_face_and_falls_softly_to_nothing() -> None:
    picture = one(80)
    whole, middle = weighed(FaceTracker(talk()).begin(picture, 0.0))
    (face,) = find_faces(picture)
    assert np.hypot(middle[0] - face.middle[0], middle[1] - face.middle[1]) < 0.25 * face.height
    for x, y in face.points[:4]:  # eyes, nose, mouth
        assert whole[int(y), int(x)] == 1
    assert 0.02 < (whole > 0).mean() < 0.25
    assert np.abs(np.diff(whole, axis=0)).max() < 0.35
    assert np.abs(np.diff(whole, axis=1)).max() < 0.35
    assert ((whole > 0) & (whole < 1)).sum() > 0.3 * (whole == 1).sum()


def test_the_mouth_s_mask_leaves_eyes_and_nose_to_the_source() -> None:
    picture = one(80)
    outlines = FaceTracker(talk()).begin(picture, 0.0)
    whole, face = (placed(mask(outlines, SIZE, blend)) for blend in ("mouth", "face"))
    (found,) = find_faces(picture)
    *above, mouth = [(int(x), int(y)) for x, y in found.points[:4]]
    assert len(above) == 3 and whole[mouth[1], mouth[0]] == 1
    assert [whole[y, x] for x, y in above] == [0, 0, 0], "eyes and the nose's tip stay"
    assert 0.15 < whole.sum() / face.sum() < 0.5
    assert np.abs(np.diff(whole, axis=0)).max() < 0.35
    assert np.abs(np.diff(whole, axis=1)).max() < 0.35
    below = np.flatnonzero(face[:, mouth[0]]).max() - np.flatnonzero(whole[:, mouth[0]]).max()
    assert abs(below) < 0.08 * found.height, "the chin may fall as far as in the face's mask"


def test_the_mask_moves_as_the_face_does() -> None:
    tracker, places = FaceTracker(talk()), range(0, 160, 8)
    outlines = tracker.begin(one(0), 0.0)
    start, middles = weighed(outlines)[1], []
    for x in places:
        outlines = tracker.follow(one(x), outlines, everywhere=False)
        middles.append(weighed(outlines)[1])
    moved = np.array(middles) - start
    np.testing.assert_allclose(moved[:, 0], list(places), atol=2.5)
    np.testing.assert_allclose(moved[:, 1], 0, atol=2.5)


def test_a_face_that_is_gone_fades_where_it_was_and_is_found_again() -> None:
    """What is made must not be seen where there is no face any more."""
    tracker, empty = FaceTracker(talk(), rate=10), scene(SIZE)
    outlines = tracker.begin(one(60), 0.0)
    strengths, gone = list[float](), outlines
    for _ in range(10):
        gone = tracker.follow(empty, gone, everywhere=True)
        strengths.append(strongest(gone))
    np.testing.assert_allclose(strengths, [1 - step / 8 for step in range(1, 9)] + [0, 0], atol=1e-6)
    np.testing.assert_array_equal(gone[:, :-1], outlines[:, :-1])
    near = tracker.follow(one(120), gone, everywhere=True)
    assert weighed(near)[1][0] == pytest.approx(weighed(outlines)[1][0] + 60, abs=3)
    assert strongest(near) == pytest.approx(0.5)
    assert strongest(tracker.follow(one(120), near, everywhere=True)) == 1
    shot = tracker.begin(empty, 1.0, last=near)
    np.testing.assert_array_equal(shot[:, :-1], near[:, :-1])
    assert strongest(shot) == 0


def strongest(outlines: Outlines) -> float:
    """The most that the mask weighs."""
    return float(mask(outlines, SIZE).weights.max())


def test_without_a_face_the_first_frame_is_refused() -> None:
    with pytest.raises(RequestError, match="no face was found in the source's first frame; begin with"):
        FaceTracker(talk()).begin(scene(SIZE), 0.0)
    boxes = (Box(0, 0, 0.5, 1), Box(0.5, 0, 1, 1))
    with pytest.raises(RequestError, match="1 face was found in the source's first frame, none of them for voice 2"):
        FaceTracker(talk(2, boxes=boxes)).begin(one(0), 0.0)


@dataclass(frozen=True)
class Half:
    """A mask of the right half."""

    def mask_at(self, seconds: float) -> Mask:  # noqa: ARG002
        right: Mask = np.mgrid[0 : SIZE.height, 0 : SIZE.width][1] >= SIZE.width / 2
        return right


def test_whose_face_it_is() -> None:
    pair = scene(SIZE, (PORTRAIT, EDGE, (10, 20)), (OTHER, 90, (170, 40)))
    left, right = (face.middle[0] for face in find_faces(pair))
    boxes = (Box(0.5, 0, 1, 1), Box(0, 0, 0.5, 1))
    sides = {
        "the largest": (talk(), (), [left]),
        "a box": (talk(boxes=boxes), (), [right]),
        "a mask": (talk(masks=(VOICE, VOICE)), (Half(),), [right]),
        "from left to right": (talk(2), (), [left, right]),
        "in the order of boxes": (talk(2, boxes=boxes), (), [right, left]),
    }
    for name, (request, masks, wanted) in sides.items():
        outlines = FaceTracker(request, masks).begin(pair, 0.0)
        found = [weighed(outlines[index : index + 1])[1][0] for index in range(len(outlines))]
        np.testing.assert_allclose(found, wanted, atol=5, err_msg=name)
    both = FaceTracker(talk(2)).begin(pair, 0.0)
    whole = weighed(both)[0]
    assert whole[:, 120:165].max() < 1 <= min(whole[:, :120].max(), whole[:, 165:].max())


def test_two_faces_are_not_mixed_up() -> None:
    tracker = FaceTracker(talk(2))
    pairs = [scene(SIZE, (PORTRAIT, 100, (10 + step, 20)), (OTHER, 90, (170 - step, 40))) for step in range(0, 40, 8)]
    outlines = tracker.begin(pairs[0], 0.0)
    for pair in pairs[1:]:
        outlines = tracker.follow(pair, outlines, everywhere=True)
    true = [face.middle[0] for face in find_faces(pairs[-1])]
    found = [weighed(outlines[index : index + 1])[1][0] for index in range(2)]
    np.testing.assert_allclose(found, true, atol=6)
