"""Forced alignment in any language by the phone reader itself: when every phone that espeak-ng expects was said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from infinitetalk.models.speech import normalise
from training.heads.visemes import CLASS_INDEX, SILENCE, Segment
from training.speech.encoder import LABELS_PER_FRAME, SAMPLES_PER_FRAME, SMALL, PhoneReader, take_over
from training.speech.espeak import Espeak
from training.speech.labels import RATE, espeak_segments

LABEL = SAMPLES_PER_FRAME / LABELS_PER_FRAME / RATE
"""Seconds of one label."""
PAUSE_COST = 3.0
"""Log probability that a pause costs where the text has none."""
LEAST = -3.0
"""Mean log probability per label below which sound and text do not belong together."""
_SILENCE = CLASS_INDEX[SILENCE]


class Matcher:
    """Fits texts of one language to sounds.

    Args:
        reader: folder with the trained reader (`speech.safetensors` and `speech_heads.safetensors`).
        voice: espeak-ng's voice of the language, such as ``fr``.
        network: the encoder's file, where it does not lie in that folder.
    """

    def __init__(self, reader: Path, espeak: Espeak, voice: str, network: Path | None = None) -> None:
        self._reader = PhoneReader(SMALL)
        take_over(self._reader, reader, network)
        self._reader.eval()
        self._espeak, self._voice = espeak, voice

    @torch.inference_mode()
    def __call__(self, audio: NDArray[np.float32], text: str) -> list[Segment]:
        """Phone segments of 16 kHz ``audio`` in [-1, 1] that says ``text``.

        Raises ``ValueError`` when the text cannot be fitted to the sound.
        """
        said = [item.phone for item in espeak_segments(self._espeak.say(text, self._voice).segments)]
        phones = [phone for phone in said if phone != _SILENCE]
        frames = len(audio) // SAMPLES_PER_FRAME
        if not phones or frames * LABELS_PER_FRAME < len(phones):
            raise ValueError(f"{len(phones)} phones do not fit into {len(audio) / RATE:.2f} s")
        sound = torch.from_numpy(audio[: frames * SAMPLES_PER_FRAME])
        likely = F.log_softmax(self._reader(normalise(sound)[None])[-1, 0].float(), -1).numpy()
        path, mean = best_path(likely, phones)
        if mean < LEAST:
            raise ValueError(f"mean log probability {mean:.2f}: the sound does not say {text!r}")
        return path


def best_path(likely: NDArray[np.float32], phones: list[int]) -> tuple[list[Segment], float]:
    """The most probable times of phones that follow each other, with a pause wherever there is one.

    Args:
        likely: log probabilities [labels, classes].
        phones: classes in order, no silences.

    Returns:
        The phones' segments without the pauses, and the mean log probability per label.
    """
    states = np.full(2 * len(phones) + 1, _SILENCE)
    states[1::2] = phones
    emitted = likely[:, states]
    score = np.full(len(states), -np.inf)
    score[:2] = emitted[0, :2]
    came = np.zeros((len(likely), len(states)), np.int8)
    entry = np.where(np.arange(len(states)) % 2 == 0, -PAUSE_COST, 0.0)
    for label in range(1, len(likely)):
        step = np.concatenate([[-np.inf], score[:-1]]) + entry
        leap = np.where(np.arange(len(states)) % 2 == 1, np.concatenate([[-np.inf] * 2, score[:-2]]), -np.inf)
        ways = np.stack([score, step, leap])
        came[label] = ways.argmax(0)
        score = ways.max(0) + emitted[label]
    state = len(states) - 1 if score[-1] >= score[-2] else len(states) - 2
    mean = float(score[state]) / len(likely)
    if not np.isfinite(mean):
        raise ValueError(f"{len(phones)} phones do not fit into {len(likely)} labels")
    return _segments(_traced(came, state), phones), mean


def _traced(came: NDArray[np.int8], state: int) -> list[int]:
    """The state of every label."""
    path = [state]
    for row in came[:0:-1]:
        state -= int(row[state])
        path.append(state)
    return path[::-1]


def _segments(path: list[int], phones: list[int]) -> list[Segment]:
    places = np.array(path)
    segments = []
    for index, phone in enumerate(phones):
        where = np.flatnonzero(places == 2 * index + 1)
        segments.append(Segment(phone, float(where[0]) * LABEL, float(where[-1] + 1) * LABEL))
    return segments
