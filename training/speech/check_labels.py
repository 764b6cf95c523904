"""Compare every engine's labels with forced alignment: ``python -m training.speech.check_labels --kokoro BLOCKS``.

Prints, for each engine and group of phones, how much later than pocketsphinx the labels start and end (median and
interquartile range in milliseconds). Engines with exact times (flite) show the aligner's own bias.
"""

from __future__ import annotations

import argparse
import difflib
import json
import random
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from training.heads.visemes import PHONE_CLASSES, Segment, segments_from_symbols
from training.speech import engines, sentences
from training.speech.align import Aligner
from training.speech.engines import Sentence
from training.speech.espeak import Espeak
from training.speech.hibari import Hibari
from training.speech.labels import cover

GROUPS = {
    "vowel": "AA AE AH AO AW AX AY EH ER EY IH IY OW OY UE UH UW",
    "p t k": "P T K",
    "b d g": "B D G",
    "m n ng": "M N NG",
    "fricative": "F V S Z SH ZH TH DH CH JH HH X",
    "liquid": "L R W Y",
}
GROUP = {name: group for group, names in GROUPS.items() for name in names.split()}


class Script:
    """Says sentences that the aligner's dictionary covers and remembers the last one."""

    def __init__(self, aligner: Aligner) -> None:
        self._aligner = aligner
        self.text = ""

    def __call__(self, rng: random.Random) -> str:
        """The next sentence without figures."""
        while True:
            self.text = sentences.english(rng)
            if not any(letter.isdigit() for letter in self.text) and self._aligner.knows(self.text):
                return self.text


def spoken(voices: Iterator[engines.Voice], script: Script) -> Iterator[tuple[str, Sentence]]:
    """Texts and sentences, each in the next voice."""
    for _, say in voices:
        sentence = say()
        yield script.text, sentence


def kokoro_spoken(folder: Path, aligner: Aligner) -> Iterator[tuple[str, Sentence]]:
    """What Kokoro has said that the aligner knows."""
    for path in sorted(folder.glob("[0-9]*.npz")):
        with np.load(path) as file:
            takes = json.loads(str(file["takes"]))
        for take, sentence in zip(takes, engines.read_kokoro(path), strict=True):
            if not any(letter.isdigit() for letter in take["text"]) and aligner.knows(take["text"]):
                yield take["text"], sentence


def _keys(segments: Iterable[Segment]) -> list[str]:
    """One letter per phone; all vowels alike, since engines disagree about them."""
    names = [PHONE_CLASSES[segment.phone] for segment in segments]
    return ["vowel" if GROUP.get(name) == "vowel" else name for name in names]


def differences(labels: list[Segment], truth: list[Segment]) -> Iterator[tuple[str, float, float]]:
    """Group, start and end difference of the phones that both have in the same order (runs of three or more)."""
    labels, truth = [s for s in labels if s.phone], [s for s in truth if s.phone]
    matcher = difflib.SequenceMatcher(None, _keys(labels), _keys(truth), autojunk=False)
    for first, second, count in matcher.get_matching_blocks():
        if count < 3:
            continue
        for ours, theirs in zip(labels[first : first + count], truth[second : second + count], strict=True):
            yield GROUP[PHONE_CLASSES[ours.phone]], ours.start - theirs.start, ours.end - theirs.end


def report(name: str, clips: Iterable[tuple[str, Sentence]], aligner: Aligner) -> str:
    """A table of one engine."""
    found: dict[str, list[tuple[float, float]]] = {group: [] for group in GROUPS}
    failed = 0
    for text, sentence in clips:
        audio = engines.int16(sentence.audio)
        try:
            truth = segments_from_symbols(aligner(audio, text), "arpabet")
        except (RuntimeError, ValueError):  # the aligner gives up on some synthetic voices
            failed += 1
            continue
        for group, start, end in differences(cover(sentence.segments, len(audio) / 16_000), truth):
            found[group].append((start, end))
    lines = [f"{name} ({failed} sentences without alignment)"]
    for group, rows in found.items():
        if rows:
            low, middle, high = 1000 * np.percentile(np.array(rows), [25, 50, 75], axis=0)
            lines.append(
                f"  {group:10s} n={len(rows):4d}  start {middle[0]:+5.0f} ({high[0] - low[0]:3.0f})"
                f"  end {middle[1]:+5.0f} ({high[1] - low[1]:3.0f})"
            )
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Compare labels with forced alignment.")
    parser.add_argument("--kokoro", type=Path, required=True, help="folder that training.speech.make_kokoro filled")
    parser.add_argument("--count", type=int, default=40, help="sentences per engine (default: %(default)s)")
    arguments = parser.parse_args()
    aligner = Aligner()
    script = Script(aligner)
    espeak = Espeak()
    rng = random.Random(3)
    voices = {
        "flite": engines.flite_voices(rng, script),
        "espeak": engines.espeak_voices(espeak, rng, script),
        "hibari": engines.hibari_voices(Hibari(arguments.kokoro), rng, script),
    }
    for name, each in voices.items():
        sys.stdout.write(report(name, islice(spoken(each, script), arguments.count), aligner) + "\n")
    clips = islice(kokoro_spoken(arguments.kokoro, aligner), arguments.count)
    sys.stdout.write(report("kokoro", clips, aligner) + "\n")


if __name__ == "__main__":
    main()
