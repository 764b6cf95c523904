"""Recordings of people with their texts: what is read, and what is left out."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import soundfile

from infinitetalk.core.errors import MachineError, MediaError
from training.speech.recorded import Recording, asterisk, ljspeech, spelled


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_asterisk_lists_prompts_that_are_words_and_have_a_sound(tmp_path: Path) -> None:
    text = tmp_path / "core-sounds-en.txt.gz"
    with gzip.open(text, "wt", encoding="utf-8") as file:
        file.write("; Sounds\n\nbeep: [a beep]\nactivated: Activated.\ndigits/1: one\nlost: Not recorded.\n")
    touch(tmp_path / "beep.g722")
    activated, one = touch(tmp_path / "activated.g722"), touch(tmp_path / "digits/1.g722")
    assert list(asterisk(text, tmp_path)) == [Recording(activated, "Activated."), Recording(one, "one")]


def test_asterisk_names_the_packages_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="asterisk-core-sounds-en-g722"):
        list(asterisk(tmp_path / "none.txt.gz", tmp_path))


def test_ljspeech_reads_the_normalised_text_of_clips_that_are_there(tmp_path: Path) -> None:
    wav = tmp_path / "wavs" / "LJ001-0001.wav"
    wav.parent.mkdir()
    soundfile.write(wav, np.zeros(1600), 16_000)
    lines = ["LJ001-0001|Chapter 1.|Chapter one.", "LJ001-0002|Not here.|Not here."]
    (tmp_path / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    assert list(ljspeech(tmp_path)) == [Recording(wav, "Chapter one.")]


def test_ljspeech_refuses_a_folder_without_clips(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("LJ001-0001|a|a", encoding="utf-8")
    with pytest.raises(MediaError, match="that metadata"):
        list(ljspeech(tmp_path))


def test_digits_and_signs_are_spelled() -> None:
    assert spelled("press 1 & call-back in 10").split() == ["press", "one", "and", "call", "back", "in", "10"]
