"""The way back from the model's picture into the source: the right place, and untouched pixels around it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from infinitetalk.core.sizes import Pixels
from infinitetalk.media.fit import Focus, fit_picture
from infinitetalk.media.paste import Paste, Patch

CASES = [
    (Pixels(120, 160), Pixels(64, 64), "crop", None),
    (Pixels(121, 163), Pixels(64, 96), "crop", None),
    (Pixels(160, 90), Pixels(64, 64), "face", Focus(0.2, 0.0, 0.8, 0.3)),
    (Pixels(120, 161), Pixels(64, 64), "letterbox", None),
    (Pixels(50, 41), Pixels(96, 80), "crop", None),
    (Pixels(64, 64), Pixels(64, 64), "crop", None),
]


def soft(size: Pixels) -> NDArray[np.uint8]:
    """A picture of slow waves, which sizes change little."""
    y, x = np.mgrid[0 : size.height, 0 : size.width] / max(size)
    waves = [np.sin(9 * x + 4 * y), np.sin(7 * y - 3 * x), np.cos(8 * x * y)]
    return (128 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def seen(source: NDArray[np.uint8], size: Pixels, framing: str, focus: Focus | None) -> NDArray[np.uint8]:
    """What the model would see of a source."""
    fitted = fit_picture(source, size, framing, focus)[0, :, 0].permute(1, 2, 0)
    return ((fitted + 1) * 127.5).round().byte().numpy()


def even(size: Pixels) -> Pixels:
    return Pixels(size.height // 2 * 2, size.width // 2 * 2)


@pytest.mark.parametrize(("source", "made", "framing", "focus"), CASES)
def test_what_was_cut_out_comes_back_to_its_place(
    source: Pixels, made: Pixels, framing: str, focus: Focus | None
) -> None:
    picture, output = soft(source), even(source)
    paste = Paste(source, made, output, framing, focus)
    back = paste(seen(picture, made, framing, focus), np.zeros_like(picture))
    assert back.shape == (*output, 3)
    true = picture[: output.height, : output.width]
    full = np.zeros(output, bool)
    top, left, bottom, right = paste.region
    full[top:bottom, left:right] = paste.shown == 1
    assert full.mean() > 0.3

    def wrong(down: int, across: int) -> float:
        moved = np.roll(back.astype(float), (down, across), (0, 1))
        inner = full & np.roll(full, (down, across), (0, 1))
        return float(np.abs(moved - true)[inner].mean())

    assert wrong(0, 0) < 1.5
    assert all(wrong(0, 0) < wrong(*step) for step in ((0, 1), (0, -1), (1, 0), (-1, 0)))


@pytest.mark.parametrize(("source", "made", "framing", "focus"), CASES)
def test_all_around_it_stays(source: Pixels, made: Pixels, framing: str, focus: Focus | None) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (*source, 3), dtype=np.uint8)
    paste = Paste(source, made, even(source), framing, focus)
    pasted = paste(255 - soft(made), picture)
    inside = np.zeros(even(source), bool)
    top, left, bottom, right = paste.region
    inside[top:bottom, left:right] = True
    kept = picture[: inside.shape[0], : inside.shape[1]]
    np.testing.assert_array_equal(pasted[~inside], kept[~inside])
    assert (pasted[inside] != kept[inside]).any(axis=-1).mean() > 0.9
    assert inside.all() == (framing == "letterbox" or made.height * source.width == made.width * source.height or
                            source == Pixels(50, 41))  # fmt: skip


def test_letterbox_bars_are_left_out() -> None:
    source = Pixels(60, 120)
    made = np.zeros((64, 64, 3), np.uint8)
    made[16:48] = 200  # the source between two bars
    pasted = Paste(source, Pixels(64, 64), source, "letterbox")(made, np.full((60, 120, 3), 7, np.uint8))
    assert (pasted == 200).all()


def test_a_patch_changes_nothing_outside_of_it() -> None:
    rng = np.random.default_rng(1)
    source, size = rng.integers(0, 256, (90, 150, 3), dtype=np.uint8), Pixels(90, 150)
    paste = Paste(size, Pixels(64, 64), size)
    weights = np.zeros((40, 60), np.float32)
    weights[10:30, 10:50] = np.linspace(0, 1, 40, dtype=np.float32)
    pasted = paste(np.zeros((64, 64, 3), np.uint8), source, Patch(20, 40, weights))
    alpha = np.zeros((90, 150), np.float32)
    alpha[20:60, 40:100] = weights
    np.testing.assert_array_equal(pasted[alpha == 0], source[alpha == 0])
    assert (pasted[alpha == 1] == 0).all()
    beyond = paste(np.zeros((64, 64, 3), np.uint8), source, Patch(0, 0, np.ones((90, 20), np.float32)))
    np.testing.assert_array_equal(beyond, source)  # nothing was made there
