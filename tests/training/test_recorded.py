"""Recordings of people with their texts: what is read, what is left out, and when every phone was said."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import soundfile

from infinitetalk.core.errors import MachineError, MediaError
from training.heads.visemes import CLASS_INDEX, PHONE_CLASSES, Segment
from training.speech.match import LABEL, best_path
from training.speech.recorded import Recording, aligned, asterisk, ljspeech, spelled

SIL, AA, P, S = (CLASS_INDEX[name] for name in ("SIL", "AA", "P", "S"))


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def sound(path: Path, seconds: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.sin(np.arange(round(seconds * 16_000)) * 0.1), 16_000)
    return path


def test_asterisk_lists_prompts_that_are_words_and_have_a_sound(tmp_path: Path) -> None:
    text = touch(tmp_path / "doc/asterisk-core-sounds-fr/core-sounds-fr.txt.gz")
    with gzip.open(text, "wt", encoding="utf-8") as file:
        file.write("; Sounds\n\nbeep: [un bip]\nactivated: Activé.\ndigits/1: un\nlost: Perdu.\n")
    folder = tmp_path / "asterisk/sounds/fr_CA_f_June"
    touch(folder / "beep.g722")
    activated, one = touch(folder / "activated.g722"), touch(folder / "digits/1.g722")
    assert list(asterisk("fr", tmp_path)) == [Recording(activated, "Activé."), Recording(one, "un")]


def test_asterisk_names_the_packages_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="asterisk-core-sounds-en-g722"):
        list(asterisk("en", tmp_path))


def test_ljspeech_reads_the_normalised_text_of_clips_that_are_there(tmp_path: Path) -> None:
    wav = sound(tmp_path / "wavs" / "LJ001-0001.wav", 0.1)
    lines = ["LJ001-0001|Chapter 1.|Chapter one.", "LJ001-0002|Not here.|Not here."]
    (tmp_path / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    assert list(ljspeech(tmp_path)) == [Recording(wav, "Chapter one.")]


def test_ljspeech_refuses_a_folder_without_clips(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("LJ001-0001|a|a", encoding="utf-8")
    with pytest.raises(MediaError, match="that metadata"):
        list(ljspeech(tmp_path))


def test_digits_and_signs_are_spelled() -> None:
    assert spelled("press 1 & call-back in 10").split() == ["press", "one", "and", "call", "back", "in", "10"]


def test_what_cannot_be_aligned_is_left_out(tmp_path: Path) -> None:
    good, misfit, wordy = (
        Recording(sound(tmp_path / f"{name}.wav", 1.0), name) for name in ("good", "misfit", "wordy")
    )

    def fit(audio: np.ndarray[tuple[int], np.dtype[np.float32]], text: str) -> list[Segment]:
        assert len(audio) == 16_000
        if text == "misfit":
            raise ValueError("the sound does not say that")
        count = 5 if text == "good" else 80
        return [Segment(AA, 0.5 * index / count, 0.5 * (index + 1) / count) for index in range(count)]

    made = list(aligned(iter([good, misfit, wordy]), fit))
    assert [len(sentence.segments) for sentence in made] == [5], "80 phones in half a second are no speech"


def spoken(phones: list[int], sure: float = 0.9) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Log probabilities of a reader that hears these classes, a label each."""
    likely = np.full((len(phones), len(PHONE_CLASSES)), (1 - sure) / (len(PHONE_CLASSES) - 1), np.float32)
    likely[np.arange(len(phones)), phones] = sure
    return np.log(likely)


def test_the_best_path_finds_phones_and_pauses() -> None:
    heard = [SIL, SIL, P, AA, AA, AA, SIL, SIL, SIL, S, S, SIL]
    segments, mean = best_path(spoken(heard), [P, AA, S])
    times = [(segment.phone, round(segment.start / LABEL), round(segment.end / LABEL)) for segment in segments]
    assert times == [(P, 2, 3), (AA, 3, 6), (S, 9, 11)]
    assert mean > -0.7, "two pauses that the text does not have, and all phones as expected"


def test_the_best_path_gives_every_phone_its_time_though_it_is_not_heard() -> None:
    segments, mean = best_path(spoken([AA, AA, S, S]), [AA, P, S])
    assert [segment.phone for segment in segments] == [AA, P, S]
    assert segments[0].end <= segments[1].start < segments[1].end <= segments[2].start
    assert mean < -0.9


def test_too_many_phones_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        best_path(spoken([AA, S]), [AA, P, S])
