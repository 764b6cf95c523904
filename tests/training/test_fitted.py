"""Voices whose phones have to be found: what cannot be aligned is not used, and what is missing is named."""

import random
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from infinitetalk.core.errors import MachineError
from training.heads.visemes import CLASS_INDEX, Segment
from training.speech import fitted
from training.speech.fitted import pico_voices, rhvoice_voices

PHONE = Segment(CLASS_INDEX["AA"], 0.0, 0.5)


class Pico:
    """Says the number of letters as samples."""

    def __init__(self, language: str) -> None:
        self.language, self.rate, self.pitch = language, 100, 100

    def speak(self, text: str) -> bytes:
        return np.full(len(text), self.rate, np.int16).tobytes()


def fit(audio: NDArray[np.float32], text: str) -> list[Segment]:
    if "bad" in text and len(audio):
        raise ValueError(text)
    return [PHONE]


def test_sentences_that_cannot_be_aligned_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    planted = ModuleType("ttspico")
    planted.__dict__["TtsEngine"] = Pico
    monkeypatch.setitem(sys.modules, "ttspico", planted)
    texts = iter(["bad one", "good", "bad two", "better"])
    name, say = next(pico_voices(random.Random(1), fit, lambda _: next(texts)))
    first, second = say(), say()
    assert (len(first.audio), len(second.audio)) == (len("good"), len("better"))
    rate = int(name.split(" r")[1].split()[0])
    assert first.segments == [PHONE] and np.allclose(first.audio, rate / 32768)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ttspico", None)
    with pytest.raises(MachineError, match="pip install ttspico"):
        next(pico_voices(random.Random(1), fit))


def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str) -> None:
    path = tmp_path / "RHVoice-test"
    path.write_text(f"#!/bin/sh\n{lines}\n", encoding="utf-8")
    path.chmod(0o755)
    monkeypatch.setattr(fitted, "RHVOICE", str(path))


def test_rhvoice_is_told_how_to_speak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "said.wav", np.zeros(2400, np.float32), 24_000)
    program(tmp_path, monkeypatch, f'cat > "{tmp_path}/text"; echo "$@" > "{tmp_path}/told"; '
            f'for last; do :; done; cp "{tmp_path}/said.wav" "$last"')  # fmt: skip
    name, say = next(rhvoice_voices(random.Random(2), fit, lambda _: "good day"))
    assert len(say().audio) == 1600
    assert (tmp_path / "text").read_text(encoding="utf-8") == "good day"
    voice, rate, pitch = name.split()
    assert f"--profile {voice} --rate {rate[1:]} --pitch {pitch[1:]} --output" in (tmp_path / "told").read_text()


def test_rhvoice_without_voices_or_program_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, "exit 0")
    _, say = next(rhvoice_voices(random.Random(2), fit, lambda _: "good day"))
    with pytest.raises(MachineError, match="RHVOICE_DATA_PATH"):
        say()
    monkeypatch.setattr(fitted, "RHVOICE", str(tmp_path / "nothing"))
    with pytest.raises(MachineError, match="is not installed"):
        say()
