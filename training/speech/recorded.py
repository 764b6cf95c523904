"""People's own voices, recorded with a text: what no synthesiser sounds like.

Two collections are read. `asterisk` is what the Debian packages asterisk-core-sounds-LANGUAGE and
asterisk-core-sounds-LANGUAGE-g722 hold: a telephone exchange's prompts (CC BY-SA 3.0; Russian: CC BY 3.0). `ljspeech`
is a folder laid out like the LJ Speech dataset (public domain): `metadata.csv` and `wavs/`, all of it or a part. When
each phone was said is found by forced alignment: of English by pocketsphinx, of other languages by the phone reader
(`training.speech.match`). Sentences that cannot be aligned are left out.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.errors import MachineError, MediaError
from training.heads.visemes import CLASS_INDEX, SILENCE, Segment
from training.speech.align import Aligner
from training.speech.engines import Sentence, int16, to_16k
from training.speech.espeak import Espeak
from training.speech.labels import RATE, aligned_segments, cut_pauses, with_schwas

ASTERISK = {"en": "en_US_f_Allison", "es": "es_MX_f_Allison", "fr": "fr_CA_f_June", "it": "it_IT_m_Carlo",
            "ru": "ru_RU_f_IvrvoiceRU"}  # fmt: skip
"""Language → folder of its speaker."""
ESPEAK = {"es": "es-419"}
"""Language → espeak-ng's voice of it, where that is not the language itself."""
SHARE = Path("/usr/share")
Fit = Callable[[NDArray[np.float32], str], list[Segment]]
"""Finds the phones of 16 kHz sound that says a text; raises ``ValueError`` when the two do not belong together."""
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PACES = (4.0, 26.0)
"""Phones per second of speech that people manage. Outside of it, sound and text do not belong together."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A sound file and what is said in it."""

    path: Path
    text: str


def asterisk(language: str, share: Path = SHARE) -> Iterator[Recording]:
    """The prompts; those that are no words (``[beep]``) and those without a sound file are left out."""
    name = f"asterisk-core-sounds-{language}"
    text = share / "doc" / name / f"core-sounds-{language}.txt.gz"
    sounds = share / "asterisk" / "sounds" / ASTERISK[language]
    if not text.exists() or not sounds.is_dir():
        raise MachineError(f"{text} or {sounds} is missing; the Debian packages {name} and {name}-g722 have them")
    with gzip.open(text, "rt", encoding="utf-8") as lines:
        for prompt, said in re.findall(r"^([\w/-]+): (.+)$", lines.read(), re.MULTILINE):
            path = sounds / f"{prompt}.g722"
            if path.exists() and "[" not in said:
                yield Recording(path, said)


def ljspeech(folder: Path) -> Iterator[Recording]:
    """Clips of a folder laid out like LJ Speech, whose list may name more of them than there are."""
    lines = (folder / "metadata.csv").read_text(encoding="utf-8").splitlines()
    found = 0
    for line in lines:
        name, _, said = line.partition("|")
        for path in sorted((folder / "wavs").glob(f"{name}.*")):
            if path.suffix in {".wav", ".flac"}:
                found += 1
                yield Recording(path, said.rpartition("|")[2])
                break
    if not found:
        raise MediaError(folder, "has no wavs/*.wav or wavs/*.flac that metadata.csv names")


def spelled(text: str) -> str:
    """The text with single digits and common signs as words."""
    text = re.sub(r"(?<!\d)\d(?!\d)", lambda match: f" {DIGITS[int(match[0])]} ", text)
    return text.replace("&", " and ").replace("-", " ").replace("’", "'")


def english_fit(espeak: Espeak) -> Fit:
    """Alignment by pocketsphinx, for texts that its dictionary covers."""
    aligner = Aligner()

    def fit(audio: NDArray[np.float32], text: str) -> list[Segment]:
        text = spelled(text)
        if re.search(r"\d", text) or not aligner.knows(text):
            raise ValueError(f"the dictionary does not cover {text!r}")
        segments = aligned_segments(aligner(int16(audio), text))
        return cut_pauses(with_schwas(segments, espeak.ipa(text)), int16(audio))

    return fit


def aligned(recordings: Iterator[Recording], fit: Fit) -> Iterator[Sentence]:
    """Recordings with their phones, where sound and text can be aligned."""
    for recording in recordings:
        audio = _read(recording.path)
        try:
            sentence = Sentence(audio, fit(audio, recording.text))
        except ValueError:
            continue
        if _plausible(sentence):
            yield sentence


def _read(path: Path) -> NDArray[np.float32]:
    from infinitetalk.media.sound import read_sound

    sound = read_sound(path)
    return to_16k(np.asarray(sound.samples, dtype=np.float32).mean(axis=0), sound.rate)


def _plausible(sentence: Sentence) -> bool:
    """Whether the phones are as many as the seconds allow."""
    spoken = [segment for segment in sentence.segments if segment.phone != CLASS_INDEX[SILENCE]]
    seconds = sum(segment.end - segment.start for segment in spoken)
    return bool(spoken) and len(sentence.audio) >= RATE // 4 and PACES[0] <= len(spoken) / seconds <= PACES[1]
