"""Voices of engines that do not tell when they say each phone: pico and RHVoice, both in English.

pico is the Python package ttspico, which brings its voices (Apache-2.0). RHVoice is a program, ``RHVoice-test``, whose
environment names its data; of its voices those two are used that may be shared and whose speakers flite does not know.
When each phone was said is found by alignment with the text; sentences that cannot be aligned are not used.
"""

from __future__ import annotations

import random
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.errors import MachineError
from training.speech.engines import Script, Sentence, Voice, read_wav, to_16k
from training.speech.recorded import Fit
from training.speech.sentences import english

PICO_LANGUAGES = ("en-US", "en-US", "en-US", "en-GB")
RHVOICE_VOICES = ("bdl", "clb")
RHVOICE = "RHVoice-test"
Say = Callable[[str], NDArray[np.float32]]


def _fitted(say: Say, fit: Fit, rng: random.Random, script: Script) -> Sentence:
    """The next sentence that can be aligned."""
    while True:
        text = script(rng)
        audio = say(text)
        try:
            return Sentence(audio, fit(audio, text))
        except ValueError:
            continue


def _voice(name: str, say: Say, fit: Fit, rng: random.Random, script: Script) -> Voice:
    return name, lambda: _fitted(say, fit, rng, script)


def pico_voices(rng: random.Random, fit: Fit, script: Script = english) -> Iterator[Voice]:
    """pico's English voices at many speeds and pitches, without end."""
    try:
        import ttspico
    except ModuleNotFoundError as error:
        raise MachineError("the Python package ttspico is not installed; pip install ttspico brings it") from error
    engines = {language: ttspico.TtsEngine(language) for language in set(PICO_LANGUAGES)}
    while True:
        language, rate, pitch = rng.choice(PICO_LANGUAGES), rng.randint(75, 125), rng.randint(60, 150)

        def say(text: str, language: str = language, rate: int = rate, pitch: int = pitch) -> NDArray[np.float32]:
            engine = engines[language]
            engine.rate, engine.pitch = rate, pitch
            return np.frombuffer(engine.speak(text), np.int16).astype(np.float32) / np.float32(32768)

        yield _voice(f"{language} r{rate} p{pitch}", say, fit, rng, script)


def rhvoice_voices(rng: random.Random, fit: Fit, script: Script = english) -> Iterator[Voice]:
    """RHVoice's voices at many speeds and pitches, without end."""
    while True:
        name, rate, pitch = rng.choice(RHVOICE_VOICES), rng.randint(80, 125), rng.randint(75, 130)

        def say(text: str, name: str = name, rate: int = rate, pitch: int = pitch) -> NDArray[np.float32]:
            return _rhvoice(text, "--profile", name, "--rate", str(rate), "--pitch", str(pitch))

        yield _voice(f"{name} r{rate} p{pitch}", say, fit, rng, script)


def _rhvoice(text: str, *options: str) -> NDArray[np.float32]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spoken.wav"
        try:
            subprocess.run([RHVOICE, *options, "--output", str(path)], input=text, capture_output=True, text=True,
                           check=True)  # fmt: skip
        except FileNotFoundError as error:
            raise MachineError(f"the program {RHVOICE} of RHVoice is not installed") from error
        if not path.exists():
            raise MachineError(f"{RHVOICE} said nothing; does RHVOICE_DATA_PATH name a folder with voices?")
        audio, rate = read_wav(path)
    return to_16k(audio, rate)
