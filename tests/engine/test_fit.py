"""Fitting pictures: Pillow's own filter is the oracle, and the geometry must be the reference's."""

import numpy as np
import PIL
import pytest
import torch
from PIL import Image

from infinitetalk.core.sizes import Pixels
from infinitetalk.media.fit import Focus, fit_masks, fit_picture, place, resize

# From version 13 on, Pillow rounds otherwise. The reference's pictures were made before.
MOST = 0 if int(PIL.__version__.partition(".")[0]) < 13 else 1


def _noise(height: int, width: int, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("old", "new"),
    [((70, 80), (64, 74)), ((16, 16), (640, 640)), ((301, 517), (33, 64)), ((97, 61), (97, 200)), ((5, 400), (64, 64))],
)
def test_resize_equals_pillow_to_the_bit(old: tuple[int, int], new: tuple[int, int]) -> None:
    assert _difference(_noise(*old), Pixels(*new)) <= MOST


def _difference(picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], size: Pixels) -> int:
    """The largest difference to Pillow's own resizing, in steps of 8 bits."""
    expected = np.asarray(Image.fromarray(picture).resize((size.width, size.height), Image.Resampling.BILINEAR))
    return int(np.abs(resize(picture, size).astype(int) - expected).max())


@pytest.mark.parametrize("seed", range(30))
def test_resize_equals_pillow_for_random_sizes(seed: int) -> None:
    sides = np.random.default_rng(seed).integers(1, 150, 4)
    picture = _noise(int(sides[0]), int(sides[1]), seed)
    assert _difference(picture, Pixels(int(sides[2]), int(sides[3]))) <= MOST


def test_crop_covers_and_centres() -> None:
    assert place(Pixels(70, 80), Pixels(64, 64), "crop") == ((64, 74), 0, 5)
    assert place(Pixels(1280, 720), Pixels(64, 64), "crop") == ((114, 64), 25, 0)
    assert place(Pixels(720, 1280), Pixels(64, 96), "crop") == ((64, 114), 0, 9)


def test_letterbox_shows_everything_between_black_bars() -> None:
    white = np.full((50, 100, 3), 255, dtype=np.uint8)
    fitted = fit_picture(white, Pixels(64, 64), "letterbox")[0, :, 0]
    assert fitted.shape == (3, 64, 64)
    assert torch.all(fitted[:, 16:48] == 1)
    assert torch.all(fitted[:, :16] == -1)
    assert torch.all(fitted[:, 48:] == -1)


@pytest.mark.parametrize("framing", ["crop", "letterbox"])
def test_masks_lie_where_their_pixels_lie(framing: str) -> None:
    """A white square on black and its mask, fitted separately, cover the same place."""
    picture = np.zeros((120, 200, 3), dtype=np.uint8)
    picture[30:90, 60:140] = 255
    mask = torch.from_numpy(picture[None, :, :, 0] > 0)
    fitted = fit_picture(picture, Pixels(64, 64), framing)[0, 0, 0] > 0
    found = fit_masks(mask, Pixels(64, 64), framing)[0] > 0
    assert (fitted != found).sum() <= 0.02 * found.sum() + 64
    assert found.sum() > 100


def test_values_span_minus_one_to_one() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 256, axis=0).repeat(3, axis=2)
    fitted = fit_picture(ramp, Pixels(256, 256))
    assert fitted.min() == -1
    assert fitted.max() == 1
    assert fitted.shape == (1, 3, 1, 256, 256)


@pytest.mark.parametrize(
    ("focus", "top", "left"),
    [
        (Focus(0.4, 0.4, 0.6, 0.6), 0, 32),  # in the middle anyway
        (Focus(0.0, 0.0, 0.1, 1.0), 0, 0),
        (Focus(0.8, 0.0, 1.0, 1.0), 0, 64),
        (Focus(0.05, 0.0, 0.5, 1.0), 0, 6),  # moved no farther than it must be
        (Focus(0.0, 0.0, 0.8, 1.0), 0, 19),  # wider than the cut: both sides lose the same
    ],
)
def test_a_cut_keeps_the_focus(focus: Focus, top: int, left: int) -> None:
    where = place(Pixels(64, 128), Pixels(64, 64), "face", focus)
    assert (where.top, where.left) == (top, left)
    assert place(Pixels(64, 128), Pixels(64, 64), "letterbox", focus) == place(
        Pixels(64, 128), Pixels(64, 64), "letterbox"
    )


def test_pictures_and_masks_are_cut_alike_around_a_focus() -> None:
    picture, mask = np.zeros((64, 192, 3), np.uint8), torch.zeros(1, 64, 192)
    picture[:, 150:190], mask[:, :, 150:190] = 255, 1
    focus = Focus(150 / 192, 0, 190 / 192, 1)
    fitted = fit_picture(picture, Pixels(64, 64), "face", focus)[0, 0, 0] > 0
    assert torch.equal(fitted, fit_masks(mask, Pixels(64, 64), "face", focus)[0] > 0)
    assert fitted.sum() == 40 * 64
