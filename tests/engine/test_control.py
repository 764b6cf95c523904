"""Strength by person and time, and prompts for stretches, through the engine."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from infinitetalk.core.errors import RequestError
from infinitetalk.core.sizes import FPS
from infinitetalk.core.windows import Window
from infinitetalk.engine.engine import Engine
from infinitetalk.engine.model import Model
from infinitetalk.engine.voices import PaddedVoices, TemperedVoices
from tests.engine.inputs import Memory, pictures, talk, voice

WINDOW = Window(0, 0, 13, 0, 13)


def heard(tiny: Model, *strengths: str) -> torch.Tensor:
    """What a window hears of two voices."""
    assert tiny.speech is not None
    voices = PaddedVoices(tiny.speech, (voice(13, 0), voice(13, 1)), frames=20, width=5, reach=15)
    chosen = talk(2, audio_strength=list(strengths)).audio_strength
    return TemperedVoices(voices, tiny.speech, chosen).hear(WINDOW)


def test_strength_moves_between_silence_and_the_voice(tiny: Model) -> None:
    plain, none, half = heard(tiny), heard(tiny, "0"), heard(tiny, "0.5")
    assert torch.equal(none, none[:1, :1, :1].expand_as(none)), "silence is the same at any time, for anybody"
    torch.testing.assert_close(half, (plain + none) / 2)


def test_strength_by_person_and_time(tiny: Model) -> None:
    plain, none = heard(tiny), heard(tiny, "0")
    second = heard(tiny, f"2:0@{4 / FPS}-{9 / FPS}")
    assert torch.equal(second[0], plain[0])
    # Each frame hears two frames before and behind it as well.
    assert torch.equal(second[1, 6], none[1, 6])
    assert torch.equal(second[1, [0, 1, 11, 12]], plain[1, [0, 1, 11, 12]])
    assert torch.equal(second[1, 3, :3], plain[1, 3, :3])
    assert torch.equal(second[1, 3, 3:], none[1, 3, 3:])


def test_strength_changes_the_video(tiny: Model) -> None:
    engine = Engine(tiny, media=Memory(pictures(), (voice(13, 0),)))
    other = Engine(tiny, media=Memory(pictures(), (voice(13, 1),)))
    weak, same = (one.generate(talk(audio_strength=0)).frames for one in (engine, other))
    assert torch.equal(weak, same), "what is not heard makes no difference"
    assert not torch.equal(weak, engine.generate(talk()).frames)
    assert torch.equal(engine.generate(talk(audio_strength=1)).frames, engine.generate(talk()).frames)


class Reader:
    """Keeps what it was asked to read, and gives tokens that tell texts apart."""

    def __init__(self, tiny: Model) -> None:
        assert tiny.text is not None
        self._text = tiny.text
        self.read: list[list[str]] = []

    def encode(self, prompts: Any) -> list[torch.Tensor]:
        self.read.append(list(prompts))
        return self._text.encode(prompts)


def test_prompts_of_a_stretch_reach_its_windows(
    tiny: Model, make_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader(tiny)
    engine = Engine(tiny, media=Memory(pictures(), (voice(30),)), text=reader)
    told: list[torch.Tensor | None] = []
    conditions = engine._conditions

    def watched(*arguments: Any) -> Any:
        made = conditions(*arguments)
        told.append(made[0].prompt)
        return made

    monkeypatch.setattr(engine, "_conditions", watched)
    # Windows show frames 0-12, 13-20, 21-28 and 29: their middles are at 0.26, 0.68, 1.0 and 1.18 s.
    prompts = ["0.5-0.9:A cat sings.", "1.1-:A dog sleeps."]
    frames = engine.generate(talk(prompt="Somebody talks.", prompts=prompts)).frames
    (read,) = reader.read
    assert [*read[:1], *read[2:]] == ["Somebody talks.", "A cat sings.", "A dog sleeps."]
    talks, cat, again, dog = told
    assert talks is again
    assert talks is not None
    assert cat is not None
    assert dog is not None
    assert not any(torch.equal(one, other) for one, other in ((talks, cat), (cat, dog), (dog, talks)))
    plain = make_engine(30).generate(talk(prompt="Somebody talks.")).frames
    assert torch.equal(frames[:, :13], plain[:, :13])
    assert not torch.equal(frames[:, 13:21], plain[:, 13:21])


def test_prompts_need_a_model_that_reads() -> None:
    from infinitetalk.core.defaults import resolve
    from infinitetalk.core.sizes import Pixels
    from infinitetalk.weights.folder import ModelFolder

    facts = ModelFolder.open("nano").facts
    with pytest.raises(RequestError, match=r"prompts = 0-1:x: the model nano has no text part"):
        resolve(talk(model="nano", prompts=["0-1:x"]), facts, Pixels(128, 128))
