"""Forced alignment of English speech with its text by pocketsphinx: when every phone was said."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from training.speech.espeak import Segment

RATE = 16_000
FRAME = 0.01  # seconds per frame of the aligner


class Aligner:
    """Reuses nothing between clips: the aligner's noise statistics would leak from one to the next."""

    def __init__(self) -> None:
        import pocketsphinx

        self._package = pocketsphinx
        self._words = pocketsphinx.Decoder(lm=None, loglevel="FATAL")

    def knows(self, text: str) -> bool:
        """Whether every word of ``text`` is in the aligner's dictionary."""
        return all(self._words.lookup_word(word) is not None for word in words(text))

    def __call__(self, audio: NDArray[np.int16], text: str) -> list[Segment]:
        """ARPAbet segments of 16 kHz ``audio`` that says ``text``; silences come as ``SIL``.

        Raises ``ValueError`` when the text cannot be fitted to the sound.
        """
        decoder = self._package.Decoder(lm=None, loglevel="FATAL")
        decoder.set_align_text(" ".join(words(text)))
        try:
            self._decode(decoder, audio)
            decoder.set_alignment()
            self._decode(decoder, audio)
        except RuntimeError as error:  # it found no path through the words
            raise ValueError(f"the sound does not fit {text!r}") from error
        alignment = decoder.get_alignment()
        if alignment is None:
            raise ValueError(f"no alignment found for {text!r}")
        return [
            (phone.name, phone.start * FRAME, (phone.start + phone.duration) * FRAME)
            for word in alignment
            for phone in word
        ]

    @staticmethod
    def _decode(decoder: object, audio: NDArray[np.int16]) -> None:
        decoder.start_utt()  # type: ignore[attr-defined]
        decoder.process_raw(audio.tobytes(), full_utt=True)  # type: ignore[attr-defined]
        decoder.end_utt()  # type: ignore[attr-defined]


def words(text: str) -> list[str]:
    """Lower-case words of ``text`` without punctuation."""
    return re.findall(r"[a-z']+", text.lower())
