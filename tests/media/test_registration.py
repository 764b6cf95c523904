"""Made faces that moved on their own are laid on the source's."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import Pixels
from infinitetalk.media.paste import Paste
from infinitetalk.media.registration import STAYS, Maps, Registration, similarity
from infinitetalk.media.tracking import FaceTracker, mask

from .moving import PORTRAIT, scene

SIZE, HALF = Pixels(240, 320), Pixels(192, 256)
TALK = TalkRequest(image=PORTRAIT, audio=(Path("voice.wav"),), output_size="source", blend="face")


def made(right: float, down: float, edge: int, turned: float = 0.0) -> NDArray[np.uint8]:
    """The portrait elsewhere, in a picture of the model's size."""
    large = Image.fromarray(scene(SIZE, (PORTRAIT, edge, (round(90 + right), round(40 + down)))))
    small = large.rotate(turned, Image.Resampling.BICUBIC, center=(165 + right, 130 + down)).resize((256, 192))
    return np.asarray(small)


def apply(maps: Maps, points: NDArray[np.float64]) -> NDArray[np.float64]:
    moved = maps[0] * (points @ np.array([1, 1j])) + maps[1]
    return np.stack([moved.real, moved.imag], axis=1)


def test_a_similarity_is_found_again() -> None:
    points = np.random.default_rng(0).uniform(0, 100, (11, 2))
    true = np.array([1.1 * np.exp(0.2j), 5 - 7j])
    np.testing.assert_allclose(similarity(points, apply(true, points)), true)


@pytest.mark.parametrize(("right", "down", "edge", "turned"), [(0, 0, 150, 0), (14, -9, 150, 0), (-8, 6, 138, 8)])
def test_a_face_that_moved_is_moved_back(right: int, down: int, edge: int, turned: float) -> None:
    source = scene(SIZE, (PORTRAIT, 150, (90, 40)))
    tracker, paste = FaceTracker(TALK), Paste(SIZE, HALF, SIZE)
    outlines = tracker.begin(source, 0.0)
    picture = made(right, down, edge, turned)
    (moves,) = Registration(tracker, paste, 3)([picture], [outlines])
    patch = mask(outlines, SIZE)
    inner = np.s_[patch.top : patch.top + patch.weights.shape[0], patch.left : patch.left + patch.weights.shape[1]]

    def apart(move: Maps | None) -> float:
        result = paste(picture, source, patch, move)
        changed = np.abs(result.astype(float) - source).mean(axis=2)
        outside = np.ones(SIZE, np.bool_)
        outside[inner] = patch.weights == 0
        assert not changed[outside].any(), "where the mask is nothing, no bit is another"
        return float(changed[inner].mean())

    still = apart(None)
    assert apart(moves[0]) < (0.6 * still if right or down else still + 0.5)


def test_what_is_not_found_stays_and_maps_are_averaged() -> None:
    source = scene(SIZE, (PORTRAIT, 150, (90, 40)))
    tracker, paste = FaceTracker(TALK), Paste(SIZE, HALF, SIZE)
    outlines = tracker.begin(source, 0.0)
    registration = Registration(tracker, paste, 2)
    empty = np.full((192, 256, 3), 127, np.uint8)
    np.testing.assert_array_equal(registration([empty] * 3, [outlines] * 3), np.broadcast_to(STAYS, (3, 1, 2)))
    pictures = [made(right, 0, 150) for right in (0, 10, 0)]
    places = [apply(maps[0], np.array([[165.0, 130.0]]))[0, 0] for maps in registration(pictures, [outlines] * 3)]
    assert 165 - 10 < min(places) < 165, "the middle one's way back is shared by its neighbours"
    assert np.ptp(places) < 4
    alone = registration([*pictures[:2], empty], [outlines] * 3)
    assert np.isfinite(alone).all()


def test_places_in_the_source_and_in_what_is_made_belong_together() -> None:
    for framing in ("crop", "letterbox"):
        paste = Paste(Pixels(120, 200), Pixels(64, 64), Pixels(120, 200), framing)
        inside = (np.array([100.0, 60.0]) - paste.corner) / paste.scale
        np.testing.assert_allclose(inside, [32, 32], atol=0.6, err_msg=framing)
