"""Mouth movement from timed phonemes: ARKit weights at 25 frames per second.

Every phone sets a target shape over its time; a Gaussian along time blends neighbours (coarticulation), the heavier
jaw more slowly than the lips. Lip closures are applied after the blending, so that no p, b or m is smeared away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.heads.blendshapes import BLENDSHAPES, JAW_OPEN, shape_indices
from training.heads.visemes import GESTURES, LIP_ON_TEETH, LIPS_CLOSED, PHONE_CLASSES, SILENCE, VISEMES, Segment

FRAME_RATE: Final = 25
STEPS_PER_FRAME: Final = 8
STEP: Final = 1.0 / (FRAME_RATE * STEPS_PER_FRAME)

SHORT_PAUSE: Final = 0.09  # seconds; shorter silences are gaps between words that the lips speak through
CLOSURE_TIME: Final = 0.06  # seconds; lips stay shut at least this long, so that one video frame shows it
CLOSURE_BLUR: Final = 0.018
TEETH_GATE: Final = 0.75  # how far f and v hold the mouth closed

_OPENING: Final = shape_indices(
    "jawOpen", "mouthLowerDown", "mouthUpperUp", "mouthFunnel", "tongueOut", "mouthStretch", "mouthPucker"
)
_PRESSING: Final = shape_indices("mouthPress", "mouthRollLower", "mouthRollUpper")
_SHAPES: Final[dict[str, NDArray[np.float32]]] = {
    name: np.array([weights.get(shape, 0.0) for shape in BLENDSHAPES], np.float32) for name, weights in VISEMES.items()
}
# Shapes that a closure holds back only in part: spread or rounded lips can touch, too.
_PARTLY_OPENING: Final = ((shape_indices("mouthStretch"), 0.6), (shape_indices("mouthPucker"), 0.5))


@dataclass(frozen=True)
class Span:
    """One mouth shape held from ``start`` to ``end`` seconds; ``closure`` is 1 for p b m, less for f v, else 0."""

    viseme: str
    start: float
    end: float
    closure: float


def spans(segments: Sequence[Segment]) -> list[Span]:
    """Mouth shapes of the phones in order; shapeless phones (h) and short gaps are given to their neighbours."""
    shapes: list[Span] = []
    pending: float | None = None
    for position, segment in enumerate(segments):
        name = PHONE_CLASSES[segment.phone]
        gap = name == SILENCE and segment.end - segment.start < SHORT_PAUSE and 0 < position < len(segments) - 1
        if gap or not GESTURES[name]:
            pending = segment.start if pending is None else pending
            continue
        start = segment.start if pending is None or name == SILENCE else pending
        shapes.extend(_spread(name, start, segment.end))
        pending = None
    return shapes


def _spread(name: str, start: float, end: float) -> list[Span]:
    parts = GESTURES[name]
    closure = 1.0 if name in LIPS_CLOSED else TEETH_GATE if name in LIP_ON_TEETH else 0.0
    edges = np.linspace(start, end, len(parts) + 1)
    return [Span(part, float(edges[i]), float(edges[i + 1]), closure) for i, part in enumerate(parts)]


def tracks(
    segments: Sequence[Segment], frames: int, rng: np.random.Generator, amplitude: float = 1.0
) -> NDArray[np.float32]:
    """ARKit weights ``[frames, 52]`` at 25 fps of speech whose time zero is the start of frame 0.

    ``amplitude`` scales the opening of the mouth (1 is calm speech). ``rng`` draws the speaker's manner: how much
    neighbours blend (35 to 48 ms for the lips, a quarter more for the jaw) and how far jaw and lips move.
    """
    steps = frames * STEPS_PER_FRAME
    targets = np.zeros((steps, len(BLENDSHAPES)), np.float32)
    closed = np.zeros((steps, 2), np.float32)  # lips together, lip on teeth
    for span in spans(segments):
        begin, stop = _step_range(span.start, span.end, 0.0, steps)
        targets[begin:stop] = _SHAPES[span.viseme] * (1.0 if span.closure else amplitude)
        if span.closure:
            begin, stop = _step_range(span.start, span.end, CLOSURE_TIME, steps)
            closed[begin:stop, int(span.closure < 1.0)] = 1.0
    blur = rng.uniform(0.035, 0.048)
    smooth = _blur(targets, blur)
    smooth[:, JAW_OPEN] = _blur(targets[:, JAW_OPEN : JAW_OPEN + 1], 1.25 * blur)[:, 0] * rng.uniform(0.92, 1.08)
    smooth[:, _OPENING[1:]] *= rng.uniform(0.88, 1.12)
    # The most closed moment of a frame decides, or short closures would fall between two frames.
    gates = np.clip(_blur(closed, CLOSURE_BLUR) * 1.35, 0.0, 1.0)
    lips, teeth = _per_frame(gates).max(1).T
    return _close(_per_frame(smooth).mean(1), np.maximum(lips, TEETH_GATE * teeth))


def openness(track: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far the jaw is open per frame, the truth that lip-sync is measured against: ``[..., 52] -> [...]``."""
    return track[..., JAW_OPEN]


def _close(weights: NDArray[np.float32], gate: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shut the lips by ``gate`` (0..1) and press them together where the closure is complete."""
    held = np.ones(weights.shape[1], np.float32)
    held[_OPENING] = 0.0
    for columns, share in _PARTLY_OPENING:
        held[columns] = share
    closed = weights * (held + (1.0 - held) * (1.0 - gate[:, None]))
    press = np.clip((gate - TEETH_GATE) / (1.0 - TEETH_GATE), 0.0, 1.0)
    pressing = _SHAPES["PP"][_PRESSING] * press[:, None]
    closed[:, _PRESSING] = np.maximum(closed[:, _PRESSING], pressing)
    return closed.clip(0.0, 1.0).astype(np.float32)


def _step_range(start: float, end: float, at_least: float, steps: int) -> tuple[int, int]:
    widen = max(0.0, at_least - (end - start)) / 2
    begin, stop = round((start - widen) / STEP), round((end + widen) / STEP)
    return min(max(begin, 0), steps), min(max(stop, 0), steps)


def _blur(values: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Gaussian along axis 0 of ``[steps, channels]``, edges repeated; ``sigma`` in seconds."""
    reach = int(np.ceil(4 * sigma / STEP))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * STEP / sigma) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(values, ((reach, reach), (0, 0)), mode="edge")
    used = np.flatnonzero(padded.any(0))
    smooth = np.zeros_like(values)
    for channel in used:
        smooth[:, channel] = np.convolve(padded[:, channel], kernel, "valid")
    return smooth


def _per_frame(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values.reshape(-1, STEPS_PER_FRAME, values.shape[1])
