"""Where people are: boxes in pixels or fractions, masks, and the refusal of places that vanish."""

from pathlib import Path

import numpy as np
import pytest
import torch

from infinitetalk.core.errors import RequestError
from infinitetalk.core.request import Box
from infinitetalk.core.sizes import Pixels
from infinitetalk.media.places import pixels_of, places
from tests.engine.inputs import talk

SQUARE = Pixels(64, 64)


def test_one_person_needs_no_place() -> None:
    assert places(talk(), SQUARE, (), SQUARE) is None


def test_boxes_are_x_then_y_in_pixels_or_fractions() -> None:
    assert pixels_of(Box(10, 20, 30, 40), Pixels(100, 200)) == (10, 20, 30, 40)
    assert pixels_of(Box(0.25, 0.5, 1, 1), Pixels(100, 200)) == (50, 50, 200, 100)


@pytest.mark.parametrize("boxes", [(Box(0, 0, 32, 64), Box(48, 32, 64, 64)), (Box(0, 0, 0.5, 1), Box(0.75, 0.5, 1, 1))])
def test_grid_of_people_and_background(boxes: tuple[Box, Box]) -> None:
    grid = places(talk(2, boxes=boxes), SQUARE, (), SQUARE)
    assert grid is not None
    first, second, nobody = grid
    assert torch.equal(first[:, :4], torch.ones(8, 4))
    assert first[:, 4:].sum() == 0
    assert torch.equal(second[4:, 6:], torch.ones(4, 2))
    assert second.sum() == 8
    assert torch.equal(nobody, 1 - first - second)


def test_masks_are_used_as_they_are_and_may_overlap() -> None:
    left = np.zeros((64, 64), dtype=np.bool_)
    left[:, :48] = True
    grid = places(talk(2, boxes=(), masks=(Path("l"), Path("r"))), SQUARE, (left, left[:, ::-1]), SQUARE)
    assert grid is not None
    assert grid[0].sum() == grid[1].sum() == 48
    assert grid[2].sum() == 0


def test_cropping_moves_places_with_the_picture() -> None:
    """A wide picture loses its sides: a box at its middle third fills the square."""
    boxes = (Box(64, 0, 96, 64), Box(96, 0, 128, 64))
    grid = places(talk(2, boxes=boxes), Pixels(64, 192), (), SQUARE)
    assert grid is not None
    assert torch.equal(grid[0], torch.cat([torch.ones(8, 4), torch.zeros(8, 4)], dim=1))
    assert torch.equal(grid[1], 1 - grid[0])


def test_letterbox_keeps_what_cropping_cuts() -> None:
    boxes = (Box(0, 0, 32, 64), Box(160, 0, 192, 64))
    with pytest.raises(RequestError, match="nothing of it is left in the video"):
        places(talk(2, boxes=boxes), Pixels(64, 192), (), SQUARE)
    grid = places(talk(2, boxes=boxes, framing="letterbox"), Pixels(64, 192), (), SQUARE)
    assert grid is not None
    assert grid[0].any()
    assert grid[1].any()


@pytest.mark.parametrize("boxes", [(Box(0, 0, 32, 64), Box(40, 40, 41, 41)), (Box(3, 3, 3.5, 60), Box(32, 0, 64, 64))])
def test_places_too_small_are_refused_by_name(boxes: tuple[Box, Box]) -> None:
    with pytest.raises(RequestError, match=r"boxes = \(.*: nothing of it is left"):
        places(talk(2, boxes=boxes), SQUARE, (), SQUARE)


def test_a_face_between_two_samples_is_seen() -> None:
    """Nearest-neighbour sampling at every sixteenth pixel would miss it."""
    grid = places(talk(2, boxes=(Box(0, 0, 32, 64), Box(49, 33, 60, 47))), SQUARE, (), SQUARE)
    assert grid is not None
    assert grid[1].sum() == 4


def test_reference_mode_halves_the_picture_for_two() -> None:
    grid = places(talk(2, reference=True), Pixels(128, 256), (), Pixels(128, 256))
    assert grid is not None
    assert grid[0, :, 16:].sum() == 0
    assert grid[1, :, :16].sum() == 0
    assert grid[0, 1:15, 1:15].all()
    assert grid[2, 0].all()
    with pytest.raises(RequestError, match="3 voices need a box or a mask each"):
        places(talk(3, reference=True), SQUARE, (), SQUARE)
