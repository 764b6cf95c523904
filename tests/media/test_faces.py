"""The shipped face detector and landmarks."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from infinitetalk.core.errors import MachineError
from infinitetalk.media import faces
from infinitetalk.media.faces import find_faces
from infinitetalk.media.inputs import Picture
from infinitetalk.media.landmarks import EYE_CORNERS, LOWER_LIP, FaceMesh, mouth_box
from infinitetalk.media.picture import read_picture

DEMO = Path(faces.__file__).parent.parent / "assets" / "demo"


@pytest.fixture(scope="module")
def pair() -> Picture:
    return read_picture(DEMO / "pair.png")


def test_faces_come_from_left_to_right(pair: Picture) -> None:
    left, right = find_faces(pair)
    assert left.middle[0] < 256 < right.middle[0]
    assert 120 < left.height < 260
    assert left.score > 0.8
    assert left.turn < 0.3
    mirrored = find_faces(np.ascontiguousarray(pair[:, ::-1]))
    assert [face.middle[0] for face in mirrored] == pytest.approx([511 - right.middle[0], 511 - left.middle[0]], abs=8)


def test_many_threads_find_the_same_faces(pair: Picture) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: [face.middle for face in find_faces(pair)], range(24)))
    assert all(faces_found == found[0] for faces_found in found)


def test_small_faces_of_a_wide_picture_are_found(pair: Picture) -> None:
    row = np.full((600, 2400, 3), 120, np.uint8)
    row[60:572, 40:552] = row[60:572, 1848:2360] = pair
    found = [face.middle[0] for face in find_faces(row)]
    assert found == pytest.approx([40 + 135, 40 + 380, 1848 + 135, 1848 + 380], abs=15)


def test_what_is_no_face_is_not_found() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    assert find_faces(noise) == []
    assert find_faces(np.zeros((16, 900, 3), np.uint8)) == []


def test_landmarks_lie_where_the_detector_says(pair: Picture) -> None:
    mesh = FaceMesh()
    for face in find_faces(pair):
        points = mesh.points(pair, face)
        assert points[EYE_CORNERS[0], 0] < points[EYE_CORNERS[1], 0]
        assert np.linalg.norm(points[LOWER_LIP] - face.points[faces.MOUTH]) < face.height / 6
        x0, y0, x1, y1 = mouth_box(points)
        assert x0 < face.points[faces.MOUTH, 0] < x1
        assert y0 < face.points[faces.MOUTH, 1] < y1
    large = mesh.points(pair.repeat(3, 0).repeat(3, 1), find_faces(pair.repeat(3, 0).repeat(3, 1))[0])
    assert np.abs(large / 3 - mesh.points(pair, find_faces(pair)[0])).max() < 5


def test_a_missing_package_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, pair: Picture) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ai_edge_litert.interpreter", None)
    monkeypatch.setattr(faces, "_KEPT", [])
    assert not faces.can_find_faces()
    with pytest.raises(MachineError, match=r"ai-edge-litert is missing; install it, or give a box or a mask"):
        find_faces(pair)
