"""Labelled sentences of every speech engine, as endless or finite iterators of clips."""

from __future__ import annotations

import json
import random
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.errors import MachineError
from training.heads.visemes import Segment, segments_from_symbols
from training.speech.align import Aligner
from training.speech.espeak import Espeak
from training.speech.foreign import WORDS as FOREIGN
from training.speech.foreign import foreign
from training.speech.hibari import Hibari
from training.speech.kokoro import HELD_OUT_VOICE, SAMPLE_RATE, STEP
from training.speech.labels import RATE, aligned_segments, espeak_segments, network_segments, with_schwas
from training.speech.sentences import english

ESPEAK_BASES = (
    *("en-us", "en-us", "en-us", "en", "en-gb-x-rp", "en-gb-scotland", "en-029", "en-us-nyc", "en-gb-x-gbclan"),
    "en-gb-x-gbcwmd",
)
ESPEAK_VARIANTS = (
    *("", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5", "klatt", "klatt2", "klatt3"),
    *("klatt4", "Alex", "Alicia", "Andrea", "Andy", "Annie", "Diogo", "Gene", "Lee", "Mario", "Michael", "adam"),
    *("anika", "antonio", "aunty", "belinda", "benjamin", "boris", "caleb", "david", "ed", "edward", "grandma"),
    *("grandpa", "ian", "iven", "iven3", "john", "linda", "marcelo", "max", "michel", "miguel", "norbert", "pablo"),
    *("paul", "pedro", "quincy", "rob", "robert", "sandro", "shelby", "steph", "travis", "victor", "zac", "croak"),
    "whisper",
)
FLITE_VOICES = ("slt", "rms", "awb", "kal16", "kal")
LIBRIVOX = Path("/usr/share/pocketsphinx/test/data/librivox")


@dataclass(frozen=True)
class Sentence:
    """One sentence: 16 kHz mono in [-1, 1] and its phone segments in seconds."""

    audio: NDArray[np.float32]
    segments: list[Segment]


Voice = tuple[str, Callable[[], Sentence]]  # a name and a function that says the next sentence in it
Script = Callable[[random.Random], str]  # the next text


def to_16k(audio: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Resample mono audio."""
    import soxr

    return np.asarray(soxr.resample(audio, rate, RATE), dtype=np.float32)


def int16(audio: NDArray[np.float32]) -> NDArray[np.int16]:
    """[-1, 1] as 16-bit integers."""
    return np.asarray(np.clip(np.round(audio * 32767), -32768, 32767), dtype=np.int16)


def espeak_voice(engine: Espeak, rng: random.Random, base: str, script: Script) -> Voice:
    """A random variant of an espeak-ng voice with its own rate and pitch."""
    variant = rng.choice(ESPEAK_VARIANTS)
    name = f"{base}+{variant}" if variant else base
    rate, pitch, pitch_range = rng.randint(115, 215), rng.randint(15, 85), rng.randint(25, 75)

    def say() -> Sentence:
        pace = round(rate * rng.uniform(0.92, 1.08))
        spoken = engine.say(script(rng), name, rate=pace, pitch=pitch, pitch_range=pitch_range)
        return Sentence(to_16k(spoken.audio, spoken.rate), espeak_segments(spoken.segments))

    return name, say


def espeak_voices(engine: Espeak, rng: random.Random, script: Script = english) -> Iterator[Voice]:
    """English espeak-ng voices without end."""
    while True:
        yield espeak_voice(engine, rng, rng.choice(ESPEAK_BASES), script)


def foreign_voices(engine: Espeak, rng: random.Random) -> Iterator[Voice]:
    """espeak-ng voices of nine other languages in turn, without end."""
    while True:
        for language in FOREIGN:
            yield espeak_voice(engine, rng, language, partial(foreign, language))


def hibari_voices(engine: Hibari, rng: random.Random, script: Script = english) -> Iterator[Voice]:
    """Speakers made from hibari's voice by other pitch and throat length, without end."""
    while True:
        if rng.random() < 0.25:
            pitch, throat = 1.0, 1.0
        else:
            throat = rng.uniform(0.80, 1.15)
            pitch = throat**2 * rng.uniform(0.75, 1.2) if throat < 1 else throat * rng.uniform(0.85, 1.25)
        yield _hibari_voice(engine, rng, pitch, throat, script)


def _hibari_voice(engine: Hibari, rng: random.Random, pitch: float, throat: float, script: Script) -> Voice:
    noise = np.random.default_rng(rng.randrange(1 << 30))
    pace = rng.uniform(0.8, 1.25)

    def say() -> Sentence:
        speed = pace * rng.uniform(0.94, 1.06)
        take = engine.say(script(rng), speed=speed, pitch=pitch, throat=throat, rng=noise)
        audio = to_16k(take.audio / max(1.0, float(np.abs(take.audio).max())), SAMPLE_RATE)
        return Sentence(audio, network_segments(take.tokens, take.durations.tolist(), STEP, int16(audio)))

    return f"heart p{pitch:.2f} t{throat:.2f}", say


def kokoro_blocks(folder: Path, *, held_out: bool) -> Iterator[tuple[str, list[Sentence]]]:
    """What ``make_kokoro`` has spoken so far: blocks of one voice each, either the training or the held-out voice."""
    for path in sorted(folder.glob("[0-9]*.npz")):
        with np.load(path) as file:
            name = json.loads(str(file["takes"]))[0]["voice"]
        if (name == HELD_OUT_VOICE) == held_out:
            yield name, read_kokoro(path)


def read_kokoro(path: Path) -> list[Sentence]:
    """The labelled sentences of one block."""
    with np.load(path) as file:
        audio = file["audio"].astype(np.float32) / 32768
        takes = json.loads(str(file["takes"]))
    parts = np.split(audio, np.cumsum([take["samples"] for take in takes])[:-1])
    return [_kokoro_sentence(take, part) for take, part in zip(takes, parts, strict=True)]


def _kokoro_sentence(take: dict[str, list[int]], audio: NDArray[np.float32]) -> Sentence:
    audio = to_16k(audio, SAMPLE_RATE)
    return Sentence(audio, network_segments(str(take["tokens"]), take["durations"], STEP, int16(audio)))


def flite_voices(rng: random.Random, script: Script = english) -> Iterator[Voice]:
    """The voices of the flite program in turn, without end (for tests only)."""
    while True:
        for name in FLITE_VOICES:
            yield _flite_voice(name, rng, script)


def _flite_voice(name: str, rng: random.Random, script: Script) -> Voice:
    stretch = rng.uniform(0.9, 1.2)

    def say() -> Sentence:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "spoken.wav"
            command = ["flite", "-voice", name, "--setf", f"duration_stretch={stretch:.2f}", "-psdur"]
            try:
                done = subprocess.run(
                    [*command, "-t", script(rng), "-o", str(path)], capture_output=True, text=True, check=True
                )
            except FileNotFoundError as error:
                raise MachineError("the program flite is not installed; the Debian package flite has it") from error
            audio, rate = read_wav(path)
        ends = [(phone, float(end)) for phone, end in re.findall(r"(\S+):([\d.]+)", done.stdout)]
        starts = [0.0, *(end for _, end in ends)]
        symbols = [(phone, start, end) for (phone, end), start in zip(ends, starts, strict=False)]
        return Sentence(to_16k(audio, rate), segments_from_symbols(symbols, "arpabet"))

    return name, say


def read_wav(path: Path) -> tuple[NDArray[np.float32], int]:
    """Mono samples in [-1, 1] and their rate."""
    import soundfile

    audio, rate = soundfile.read(path, dtype="float32")
    return np.asarray(audio, dtype=np.float32), int(rate)


def librivox_clips(espeak: Espeak) -> Iterator[tuple[str, str, Sentence]]:
    """Name, transcript and labelled sound of the five clips of the Debian package pocketsphinx-testdata."""
    if not LIBRIVOX.is_dir():
        raise MachineError(f"{LIBRIVOX} is missing; the Debian package pocketsphinx-testdata has it")
    aligner = Aligner()
    rows = re.findall(r"<s> (.*?) </s> \((\S+)\)", (LIBRIVOX / "transcription").read_text())
    for text, name in sorted(rows, key=lambda row: row[1]):
        audio, rate = read_wav(LIBRIVOX / f"{name}.wav")
        audio = to_16k(audio, rate)
        segments = with_schwas(aligned_segments(aligner(int16(audio), text)), espeak.ipa(text))
        yield name, text, Sentence(audio, segments)
