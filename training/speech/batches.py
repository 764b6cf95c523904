"""The corpus as tensors on the training device, and random crops of it with labels at any speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from infinitetalk.core.errors import MediaError
from training.heads.tracks import tracks
from training.heads.visemes import PHONE_CLASSES
from training.speech.corpus import RATE, Utterance
from training.speech.encoder import LABELS_PER_FRAME, MOUTH, SAMPLES_PER_FRAME

GRID = 40  # samples per entry of the label grid (2.5 ms)
SAMPLES_PER_LABEL = SAMPLES_PER_FRAME // LABELS_PER_FRAME

# How often a second of each engine is heard; engines that are not named count once.
WEIGHTS = {
    "espeak": 0.5, "espeak-foreign": 1.0, "hibari": 0.8, "kokoro": 1.2, "vocoded": 3.0, "ljspeech": 8.0,
    "asterisk": 2.0, "asterisk-es": 0.4, "asterisk-fr": 0.4, "asterisk-it": 0.4, "asterisk-ru": 0.4,
}  # fmt: skip


def label_grid(utterance: Utterance) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """The class at the centre of each stretch of ``GRID`` samples."""
    centres = (np.arange(len(utterance.audio) // GRID) + 0.5) * GRID / RATE
    ends = np.array([segment.end for segment in utterance.segments])
    phones = np.array([segment.phone for segment in utterance.segments], dtype=np.uint8)
    return np.asarray(phones[np.minimum(np.searchsorted(ends, centres, side="right"), len(phones) - 1)])


def mouth_track(utterance: Utterance, frames: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """How an average speaker's mouth moves at this: weights of the shapes `MOUTH` per video frame, [frames, shapes]."""
    made = tracks(utterance.segments, frames, np.random.default_rng(0))
    return np.ascontiguousarray(made[:, MOUTH])


class Bank:
    """All utterances joined on one device: sound, phones and the mouth's movement, whose columns have a spread of 1.

    Raises ``MediaError`` when there is no utterance.
    """

    def __init__(
        self, utterances: Sequence[Utterance], device: torch.device, weights: Mapping[str, float] = WEIGHTS
    ) -> None:
        if not utterances:
            raise MediaError("speech corpus", "has no utterances to train on")
        audio, labels, mouth, starts, shares = [], [], [], [], []
        length = 0
        for utterance in utterances:
            whole = len(utterance.audio) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME
            audio.append(utterance.audio[:whole])
            labels.append(label_grid(utterance)[: whole // GRID])
            mouth.append(mouth_track(utterance, whole // SAMPLES_PER_FRAME))
            starts.append(length)
            shares.append(whole * weights.get(utterance.engine, 1.0))
            length += whole
        self.audio = torch.from_numpy(np.concatenate(audio)).to(device)
        self.labels = torch.from_numpy(np.concatenate(labels)).to(device)
        moves = np.concatenate(mouth)
        self.mouth = torch.from_numpy(moves / np.maximum(moves.std(0), 1e-3)).to(device)
        self._starts = torch.tensor([*starts, length], device=device)
        self._shares = torch.tensor(shares, device=device, dtype=torch.float32)

    @property
    def seconds(self) -> float:
        """Length of everything."""
        return len(self.audio) / RATE

    def starts(self, count: int, samples: int, generator: torch.Generator) -> Tensor:
        """Random first samples of crops of at most ``samples``; a crop may run into the next utterance."""
        chosen = torch.multinomial(self._shares, count, replacement=True, generator=generator)
        first, last = self._starts[chosen], self._starts[chosen + 1]
        place = torch.rand(count, device=first.device, generator=generator)
        return (first + place * (last - first)).long().clamp(max=max(0, len(self.audio) - samples))

    def crop(self, start: Tensor, speed: Tensor, frames: int) -> tuple[Tensor, Tensor, Tensor]:
        """Sound, soft labels and mouths at ``speed`` (1.1: ten per cent faster and higher).

        Args:
            start: [B] first sample.
            speed: [B] samples of the corpus per sample of the crop.
            frames: video frames in the crop.

        Returns:
            Sound [B, 640 frames] in [-1, 1], label shares [B, 2 frames, classes] that sum to 1, and movement of the
            mouth [B, frames, shapes].
        """
        steps = torch.arange(frames * SAMPLES_PER_FRAME, device=start.device)
        sound = self._read(start[:, None] + steps * speed[:, None].double())
        centres = (torch.arange(frames * SAMPLES_PER_FRAME // GRID, device=start.device) + 0.5) * GRID
        places = ((start[:, None] + centres * speed[:, None].double()) / GRID).long()
        classes = self.labels[places.clamp(max=len(self.labels) - 1)].long()
        return sound, soft_labels(classes), self._moves(start, speed, frames)

    def _moves(self, start: Tensor, speed: Tensor, frames: int) -> Tensor:
        """The mouth in the middle of every frame of a crop, between the two nearest frames of the corpus."""
        middles = (torch.arange(frames, device=start.device) + 0.5) * SAMPLES_PER_FRAME
        place = ((start[:, None] + middles * speed[:, None].double()) / SAMPLES_PER_FRAME - 0.5).clamp(min=0)
        base = place.long()
        share = (place - base).float()[..., None]
        last = len(self.mouth) - 1
        before, after = self.mouth[base.clamp(max=last)], self.mouth[(base + 1).clamp(max=last)]
        return torch.lerp(before, after, share)

    def _read(self, position: Tensor) -> Tensor:
        """Sound at fractional positions by cubic interpolation (Catmull-Rom)."""
        base = position.floor()
        t = (position - base).float()
        around = [self._sample(base.long() + offset) for offset in (-1, 0, 1, 2)]
        a, b, c, d = around
        return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))

    def _sample(self, index: Tensor) -> Tensor:
        return self.audio[index.clamp(0, len(self.audio) - 1)].float() / 32768


def soft_labels(classes: Tensor) -> Tensor:
    """Shares of each class per label: classes on the grid [B, n] -> [B, n / 8, classes]."""
    one_hot = F.one_hot(classes, len(PHONE_CLASSES)).float()
    return one_hot.reshape(len(classes), -1, SAMPLES_PER_LABEL // GRID, len(PHONE_CLASSES)).mean(2)
