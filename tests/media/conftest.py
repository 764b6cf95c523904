"""Small inputs and helpers for the tests of media files."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from infinitetalk.core.defaults import STANDARD_BUCKETS, ModelDefaults, ModelFacts
from infinitetalk.media.sound import Sound

FIXTURES = Path(__file__).parent / "fixtures"
"""Files that ffmpeg and ImageMagick made (see make_fixtures.sh)."""

QUARTERS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}
"""Colours of the top left, top right and bottom left quarter of every picture and video in `FIXTURES`."""


def quarters(picture: NDArray[np.uint8]) -> dict[str, NDArray[np.int64]]:
    """The median colours of a picture's quarters, by place."""
    half, middle = picture.shape[0] // 2, picture.shape[1] // 2
    parts = {
        "top left": picture[:half, :middle],
        "top right": picture[:half, middle:],
        "bottom left": picture[half:, :middle],
        "bottom right": picture[half:, middle:],
    }
    return {name: np.median(part.reshape(-1, 3), axis=0).astype(np.int64) for name, part in parts.items()}


def assert_upright(picture: NDArray[np.uint8], grey: int, tolerance: int) -> None:
    """The four quarters are where they belong, in their colours."""
    seen = quarters(picture)
    wanted = [*QUARTERS.values(), (grey,) * 3]
    for (place, colour), meant in zip(seen.items(), wanted, strict=True):
        assert np.abs(colour - meant).max() <= tolerance, f"{place}: {colour}, meant {meant}"


def sine(rate: int, seconds: float, *channels: float, layout: str = "mono") -> Sound:
    """440 Hz at the given amplitude in each channel."""
    wave = np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate)
    return Sound(np.stack([level * wave for level in channels]).astype(np.float32), rate, layout)


@pytest.fixture
def facts() -> ModelFacts:
    """A model without a text part that can voice two people."""
    return ModelFacts(name="test", defaults=ModelDefaults(), buckets=STANDARD_BUCKETS, has_text=False, max_people=2)


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    path = tmp_path / "portrait.png"
    Image.new("RGB", (64, 48), (200, 150, 120)).save(path)
    return path


@pytest.fixture
def voice() -> Path:
    return FIXTURES / "s16.wav"
