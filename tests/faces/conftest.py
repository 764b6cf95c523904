"""A face and a voice to try the faces of the product with."""

import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infinitetalk.weights.locate import bundled

RATE = 16_000


def write_voice(path: Path, seconds: float, pitch: float = 120.0) -> Path:
    """A buzz with a changing envelope, as 16-bit PCM: sound enough for networks with random weights."""
    times = np.arange(round(seconds * RATE)) / RATE
    buzz = sum(np.sin(2 * np.pi * pitch * harmonic * times) / harmonic for harmonic in (1, 2, 3, 5))
    samples = 0.2 * buzz * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * times))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


def write_portrait(path: Path, side: int = 96) -> Path:
    """A disc on a gradient."""
    rows, columns = np.mgrid[0:side, 0:side]
    picture = np.stack([rows * 2, columns * 2, 255 - rows], axis=-1).clip(0, 255)
    picture[(rows - side / 2) ** 2 + (columns - side / 2) ** 2 < (side / 3) ** 2] = (220, 180, 150)
    Image.fromarray(picture.astype(np.uint8)).save(path)
    return path


Voice = Callable[..., Path]


@pytest.fixture
def make_voice(tmp_path: Path) -> Voice:
    """Gives `make_voice(name, seconds, pitch=120)`, which writes a sound."""
    return lambda name, seconds, pitch=120.0: write_voice(tmp_path / name, seconds, pitch)


@pytest.fixture
def shown_model(tiny_folder: Path) -> str:
    """What page and notebook are tried with: the bundled model, or `tiny` in a tree that has none."""
    return "nano" if "nano" in bundled() else str(tiny_folder)


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    return write_portrait(tmp_path / "portrait.png")


@pytest.fixture
def voice(tmp_path: Path) -> Path:
    return write_voice(tmp_path / "voice.wav", 1.2)
