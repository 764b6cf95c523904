"""An engine of random weights."""

from collections.abc import Callable
from pathlib import Path

import pytest

from infinitetalk.engine.engine import Engine
from infinitetalk.engine.model import Model, load_model
from infinitetalk.runtime.device import Device
from infinitetalk.weights.folder import ModelFolder
from tests.engine.inputs import Frames, Memory, pictures, voice


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> Model:
    """The tiny model in memory."""
    return load_model(ModelFolder.open(tiny_folder), Device.choose("cpu"))


@pytest.fixture
def make_engine(tiny: Model) -> Callable[..., Engine]:
    """An engine of the tiny model for voices of so many frames and a source."""

    def make(*voices: int, source: Frames | None = None) -> Engine:
        sounds = tuple(voice(frames, seed) for seed, frames in enumerate(voices))
        return Engine(tiny, media=Memory(source or pictures(), sounds))

    return make
