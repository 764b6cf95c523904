"""Framing by faces: heads and shoulders stay in the picture, and what happens without a detector."""

import numpy as np
import pytest
import torch

from infinitetalk.core.sizes import Pixels
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.model import Model
from infinitetalk.engine.progress import StageClock
from infinitetalk.engine.results import rgb
from infinitetalk.media import faces, framing
from infinitetalk.media.faces import find_faces
from infinitetalk.media.fit import fit_picture
from infinitetalk.media.framing import frame_faces
from infinitetalk.media.inputs import Picture
from infinitetalk.media.picture import read_picture
from infinitetalk.weights.locate import ASSETS
from tests.engine.inputs import Frames, Memory, talk, voice


@pytest.fixture(scope="module")
def aside() -> Picture:
    """A wide picture with one person at its right edge."""
    wide = np.full((512, 1536, 3), 90, np.uint8)
    wide[:, 1024:] = read_picture(ASSETS / "demo" / "portrait_1.png")
    return wide


class Notes(StageClock):
    """Keeps the lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def test_the_head_stays_in_the_picture(aside: Picture) -> None:
    target = Pixels(256, 256)
    found = frame_faces(talk(framing="face"), Frames(aside[None]))
    assert found.focus is not None
    assert not found.note
    cut = rgb(fit_picture(aside, target, "face", found.focus)[0])[0]
    (face,) = find_faces(cut)
    assert min(face.box[:2]) > 20
    assert max(face.box[2:]) < 245
    assert find_faces(rgb(fit_picture(aside, target)[0])[0]) == []
    assert frame_faces(talk(), Frames(aside[None])).focus is None


def test_the_engine_frames_faces(tiny: Model, aside: Picture) -> None:
    made = {}
    for name in ("crop", "face"):
        engine = Engine(tiny, media=Memory(Frames(aside[None]), (voice(5),)))
        made[name] = next(engine.stream(talk(framing=name, size="64x64"))).condition
    assert not torch.equal(made["crop"], made["face"])


@pytest.mark.parametrize("able", [True, False])
def test_without_faces_or_detector_the_middle_is_kept_and_that_is_said(
    able: bool, tiny: Model, aside: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Frames((np.zeros_like(aside) if able else aside)[None])
    monkeypatch.setattr(framing, "can_find_faces", lambda: able)
    notes = Notes()
    engine = Engine(tiny, media=Memory(source, (voice(5),)))
    framed = next(engine.stream(talk(framing="face", size="64x64"), notes)).condition
    assert torch.equal(framed, next(engine.stream(talk(size="64x64"))).condition)
    (line,) = notes.lines
    assert ("no face found" if able else "ai-edge-litert") in line
    assert faces.can_find_faces()
