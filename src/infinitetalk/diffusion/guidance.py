"""Guidance: which passes of the network a step needs, and how their answers become one velocity.

With f = full, t = without text, n = with neither text nor sound, a = without sound:

    three passes   n + text·(f - t) + audio·(t - n)
    text is 1      a + audio·(f - a)
    audio is 1     t + text·(f - t)
    both are 1     f
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import Tensor


class Branch(Enum):
    """What the network is told in one pass."""

    FULL = "full"
    NO_TEXT = "no text"
    NO_AUDIO = "no audio"
    NEITHER = "neither"

    @property
    def hears(self) -> bool:
        """Whether this pass has the sound."""
        return self in (Branch.FULL, Branch.NO_TEXT)

    @property
    def reads(self) -> bool:
        """Whether this pass has the prompt (the others have the negative prompt)."""
        return self in (Branch.FULL, Branch.NO_AUDIO)


def branches(text_scale: float, audio_scale: float, *, reference: bool = False) -> tuple[Branch, ...]:
    """The passes that a step needs: three, two or one.

    A scale of 1 leaves nothing to compare, so its pass is saved; the reference saves only the text's.
    """
    no_text = math.isclose(text_scale, 1.0)
    no_audio = math.isclose(audio_scale, 1.0) and not reference
    if no_text:
        return (Branch.FULL,) if no_audio else (Branch.FULL, Branch.NO_AUDIO)
    return (Branch.FULL, Branch.NO_TEXT) if no_audio else (Branch.FULL, Branch.NO_TEXT, Branch.NEITHER)


def combine(answers: Mapping[Branch, Tensor], text_scale: float, audio_scale: float) -> Tensor:
    """One velocity from the passes that `branches` named; all tensors of one shape."""
    full = answers[Branch.FULL]
    if Branch.NO_AUDIO in answers:
        return answers[Branch.NO_AUDIO] + audio_scale * (full - answers[Branch.NO_AUDIO])
    if Branch.NO_TEXT not in answers:
        return full
    no_text = answers[Branch.NO_TEXT]
    floor = answers.get(Branch.NEITHER, no_text)
    return floor + text_scale * (full - no_text) + audio_scale * (no_text - floor)


@dataclass(slots=True)
class _Direction:
    """One guidance direction with its memory of the steps before."""

    momentum: float
    threshold: float
    average: Tensor | None = None

    def update(self, difference: Tensor, full: Tensor) -> Tensor:
        """The part of the averaged, norm-limited difference that is orthogonal to the full answer."""
        average = difference if self.average is None else difference + self.momentum * self.average
        self.average = average
        if self.threshold > 0:
            average = average * (self.threshold / average.norm()).clamp(max=1.0)
        # Projected in float64: the parallel part is a small difference of large sums.
        wide, axis = _wide(average), _wide(full)
        axis = axis / axis.norm().clamp(min=1e-12)
        orthogonal: Tensor = wide - (wide * axis).sum() * axis
        return orthogonal.to(difference.dtype)


def _wide(value: Tensor) -> Tensor:
    """In float64, where the device has it."""
    return value if value.device.type == "mps" else value.to(torch.float64)


@dataclass(slots=True)
class AdaptiveGuidance:
    """Adaptive projected guidance (arXiv 2410.02416): strong scales without burnt colours. One per window.

    Args:
        momentum: weight of the steps before in each direction; negative values damp oscillation.
        threshold: largest norm of a direction; 0 for no limit.
    """

    text_scale: float
    audio_scale: float
    momentum: float = -0.75
    threshold: float = 55.0
    _text: _Direction = field(init=False)
    _audio: _Direction = field(init=False)

    def __post_init__(self) -> None:
        self._text = _Direction(self.momentum, self.threshold)
        self._audio = _Direction(self.momentum, self.threshold)

    def __call__(self, answers: Mapping[Branch, Tensor]) -> Tensor:
        """The next step's velocity; call once per step, in order."""
        full = answers[Branch.FULL]
        velocity = full
        if Branch.NO_TEXT in answers:
            step = self._text.update(full - answers[Branch.NO_TEXT], full)
            velocity = velocity + (self.text_scale - 1) * step
        if (difference := _audio_difference(answers)) is not None:
            velocity = velocity + (self.audio_scale - 1) * self._audio.update(difference, full)
        return velocity


def _audio_difference(answers: Mapping[Branch, Tensor]) -> Tensor | None:
    """What the sound changed, from whichever pair of passes tells it."""
    if Branch.NO_AUDIO in answers:
        return answers[Branch.FULL] - answers[Branch.NO_AUDIO]
    if Branch.NEITHER in answers:
        return answers[Branch.NO_TEXT] - answers[Branch.NEITHER]
    return None
