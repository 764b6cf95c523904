"""Make the corpus: ``python -m training.speech.make_corpus OUT --kokoro BLOCKS``.

``BLOCKS`` is the folder that ``training.speech.make_kokoro`` fills. The other engines speak here (minutes in all).
Writes ``OUT/train-ENGINE.npz`` and ``OUT/test-ENGINE.npz``.
"""

from __future__ import annotations

import argparse
import logging
import random
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.heads.visemes import Segment
from training.speech import corpus, engines
from training.speech.corpus import Encoded, Utterance
from training.speech.engines import Sentence, Voice
from training.speech.espeak import Espeak
from training.speech.fitted import pico_voices, rhvoice_voices
from training.speech.hibari import Hibari
from training.speech.labels import RATE, cover, shift
from training.speech.match import Matcher
from training.speech.recorded import ASTERISK, ESPEAK, Fit, Recording, aligned, asterisk, english_fit, ljspeech
from training.speech.vocode import vocoded_streams

READER = Path("training/checkpoints")
"""Classifiers of phones for the bundled model's speech encoder."""
ENCODER = Path("src/infinitetalk/assets/nano/speech.safetensors")
STREAM_SECONDS = 14.0
KEPT_SILENCE = 0.05  # seconds kept around the speech of a sentence; pauses are then our own
Fitted = Callable[[random.Random, Fit], Iterator[Voice]]
"""What makes voices of an engine whose phones are found by a fit."""
log = logging.getLogger("training.speech.make_corpus")


def trimmed(sentence: Sentence) -> Sentence:
    """The sentence without the silence at its ends."""
    spoken = [segment for segment in sentence.segments if segment.phone]
    if not spoken:
        return Sentence(sentence.audio[:0], [])
    first = max(0, round((spoken[0].start - KEPT_SILENCE) * RATE))
    last = min(len(sentence.audio), round((spoken[-1].end + KEPT_SILENCE) * RATE))
    return Sentence(sentence.audio[first:last], shift(spoken, -first / RATE))


def pause(rng: random.Random) -> float:
    """Seconds of silence between two sentences: mostly short, at times long enough for the mouth to rest."""
    return rng.choice((rng.uniform(0.1, 0.4), rng.uniform(0.3, 0.9), rng.uniform(0.8, 2.0)))


def stream(sentences: Iterator[Sentence], rng: random.Random) -> tuple[NDArray[np.float32], list[Segment]]:
    """Sentences joined with pauses until the stream is long enough (or they end)."""
    audio: list[NDArray[np.float32]] = []
    segments: list[Segment] = []
    length = 0
    for sentence in map(trimmed, sentences):
        gap = round(pause(rng) * RATE)
        segments += shift(sentence.segments, (length + gap) / RATE)
        audio += [np.zeros(gap, np.float32), sentence.audio]
        length += gap + len(sentence.audio)
        if length > STREAM_SECONDS * RATE:
            break
    if not audio:
        return np.zeros(0, np.float32), []
    audio.append(np.zeros(round(pause(rng) * RATE), np.float32))
    return np.concatenate(audio), segments


def utterance(
    audio: NDArray[np.float32], segments: Iterable[Segment], *, engine: str, voice: str, split: str, peak: float
) -> Utterance:
    """The stream at this peak level with segments that cover it."""
    loudest = max(0.02, float(np.abs(audio).max(initial=0.0)))
    samples = engines.int16(audio * np.float32(peak / loudest))
    return Utterance(samples, cover(segments, len(samples) / RATE), engine, voice, split)


def from_voices(
    voices: Iterator[Voice], minutes: float, engine: str, split: str, rng: random.Random
) -> Iterator[Utterance]:
    """Streams of voices until there are enough ``minutes``."""
    seconds = 0.0
    while seconds < 60 * minutes:
        name, say = next(voices)
        audio, segments = stream(iter(say, None), rng)
        yield utterance(audio, segments, engine=engine, voice=name, split=split, peak=rng.uniform(0.3, 0.9))
        seconds += len(audio) / RATE


def from_sentences(
    sentences: Iterable[Sentence], engine: str, voice: str, split: str, rng: random.Random
) -> Iterator[Utterance]:
    """Streams of one voice until its sentences end."""
    rest = iter(sentences)
    while True:
        audio, segments = stream(rest, rng)
        if not segments:
            break
        yield utterance(audio, segments, engine=engine, voice=voice, split=split, peak=rng.uniform(0.3, 0.9))


def from_kokoro(folder: Path, split: str, rng: random.Random) -> Iterator[Utterance]:
    """Streams of everything that Kokoro has spoken for this split."""
    for name, sentences in engines.kokoro_blocks(folder, held_out=split == "test"):
        yield from from_sentences(sentences, "kokoro", name, split, rng)


def from_librivox(espeak: Espeak) -> Iterator[Utterance]:
    """The LibriVox clips as they are."""
    for name, _, sentence in engines.librivox_clips(espeak):
        peak = float(np.abs(sentence.audio).max())
        yield utterance(sentence.audio, sentence.segments, engine="librivox", voice=name[-4:], split="test", peak=peak)


def from_recordings(recordings: Iterator[Recording], fit: Fit, name: str, rng: random.Random) -> Iterator[Utterance]:
    """Streams of a person's recordings, in a random order."""
    spoken = list(aligned(recordings, fit))
    rng.shuffle(spoken)
    yield from from_sentences(spoken, name, name, "train", rng)


def parts(arguments: argparse.Namespace) -> dict[str, Callable[[random.Random], Iterator[Utterance]]]:
    """File name -> what makes its streams. Engines of the test split are in no training file, nor are their voices."""
    espeak, kokoro = engines.espeak_voices, arguments.kokoro
    speaker = lru_cache(Espeak)  # one per process
    return _people(arguments, speaker) | {
        "test-flite": lambda rng: from_voices(engines.flite_voices(rng), arguments.flite, "flite", "test", rng),
        "test-kokoro": lambda rng: from_kokoro(kokoro, "test", rng),
        "test-librivox": lambda _: from_librivox(speaker()),
        "train-espeak": lambda rng: from_voices(espeak(speaker(), rng), arguments.espeak, "espeak", "train", rng),
        "train-foreign": lambda rng: from_voices(
            engines.foreign_voices(speaker(), rng), arguments.foreign, "espeak-foreign", "train", rng
        ),
        "train-hibari": lambda rng: from_voices(
            engines.hibari_voices(Hibari(kokoro), rng), arguments.hibari, "hibari", "train", rng
        ),
        "train-kokoro": lambda rng: from_kokoro(kokoro, "train", rng),
        **_fitted(arguments, speaker),
        # The last: made from all that is there by then.
        "train-vocoded": lambda rng: vocoded_streams(corpus.load(arguments.out, ["train"]), arguments.vocoded, rng),
    }


def _fitted(
    arguments: argparse.Namespace, speaker: Callable[[], Espeak]
) -> dict[str, Callable[[random.Random], Iterator[Utterance]]]:
    """The parts that engines spoke whose phones have to be found, as far as they are asked for."""
    chosen = (("pico", arguments.pico, pico_voices), ("rhvoice", arguments.rhvoice, rhvoice_voices))

    def spoken(name: str, minutes: float, voices: Fitted, rng: random.Random) -> Iterator[Utterance]:
        return from_voices(voices(rng, english_fit(speaker())), minutes, name, "train", rng)

    return {f"train-{name}": partial(spoken, name, minutes, voices) for name, minutes, voices in chosen if minutes}


def _people(
    arguments: argparse.Namespace, speaker: Callable[[], Espeak]
) -> dict[str, Callable[[random.Random], Iterator[Utterance]]]:
    """The parts that people spoke."""

    def fit(language: str) -> Fit:
        if language == "en":
            return english_fit(speaker())
        network = ENCODER if arguments.reader == READER else None
        return Matcher(arguments.reader, speaker(), ESPEAK.get(language, language), network)

    def prompts(language: str, rng: random.Random) -> Iterator[Utterance]:
        name = "asterisk" if language == "en" else f"asterisk-{language}"
        return from_recordings(asterisk(language), fit(language), name, rng)

    made: dict[str, Callable[[random.Random], Iterator[Utterance]]] = {
        f"train-asterisk-{language}": partial(prompts, language) for language in ASTERISK
    }
    if arguments.ljspeech:
        made["train-ljspeech"] = lambda rng: from_recordings(
            ljspeech(arguments.ljspeech), english_fit(speaker()), "ljspeech", rng
        )
    return made


def encode_all(utterances: Iterable[Utterance], rng: random.Random) -> Iterator[Encoded]:
    """Ogg Opus: about 35 kbit/s for tests, 13 to 19 for training, so that the network hears several bit rates."""
    for item in utterances:
        yield corpus.encode(item, 0.86 if item.split == "test" else rng.uniform(0.935, 0.97))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Make the speech corpus from recordings and synthesisers.")
    parser.add_argument("out", type=Path, help="folder for the files of the corpus")
    parser.add_argument("--kokoro", type=Path, required=True, help="folder that training.speech.make_kokoro filled")
    parser.add_argument("--espeak", type=float, default=60.0, help="minutes of English espeak-ng (%(default)s)")
    parser.add_argument("--foreign", type=float, default=10.0, help="minutes of other languages (%(default)s)")
    parser.add_argument("--hibari", type=float, default=50.0, help="minutes of hibari (%(default)s)")
    parser.add_argument("--pico", type=float, default=0.0, help="minutes of pico, the package ttspico (none)")
    parser.add_argument("--rhvoice", type=float, default=0.0, help="minutes of RHVoice, a program (none)")
    parser.add_argument("--vocoded", type=float, default=60.0, help="minutes of it all, vocoded (%(default)s)")
    parser.add_argument("--flite", type=float, default=6.0, help="minutes of flite, for tests (%(default)s)")
    parser.add_argument(
        "--reader", type=Path, default=READER, help="trained phone reader, which aligns recordings (%(default)s)"
    )
    parser.add_argument("--ljspeech", type=Path, help="folder with LJ Speech or a part of it")
    parser.add_argument("--only", nargs="+", default=[""], help="files to make, by the start of their names (all)")
    parser.add_argument("--seed", type=int, default=1, help="choice of sentences and voices (%(default)s)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, make in parts(arguments).items():
        if name.startswith(tuple(arguments.only)):
            rng = random.Random(f"{arguments.seed} {name}")
            streams = list(encode_all(make(rng), rng))
            if not streams:
                log.warning("%s: not written, as nothing is there to make it of", name)
                continue
            corpus.save(arguments.out / f"{name}.npz", streams)
            log.info("%s: %.1f MB", name, (arguments.out / f"{name}.npz").stat().st_size / 1e6)
    there = [split for split in corpus.SPLITS if any(arguments.out.glob(f"{split}-*.npz"))]
    for name, (minutes, voices) in corpus.summary(corpus.load(arguments.out, there)).items():
        log.info("%-24s %6.1f min, %d voices", name, minutes, voices)


if __name__ == "__main__":
    main()
