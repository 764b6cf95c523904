"""Read a mouth from landmarks: linear probes, fitted on true renders, of phones that look alike."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from infinitetalk.evaluate.series import filled
from infinitetalk.media.landmarks import EYE_CORNERS
from training.evaluate.landmarks import Floats
from training.evaluate.measures import RIGID
from training.heads.blendshapes import SHAPE_INDEX
from training.heads.tracks import FRAME_RATE
from training.heads.visemes import PHONE_CLASSES, SILENCE, Segment

SHAPES: Final = ("jawOpen", "mouthFunnel", "mouthPucker", "mouthStretchLeft", "mouthLowerDownLeft", "mouthUpperUpLeft")
"""The jaw, and the five shapes beside it that phones differ most in."""
COLUMNS: Final = [SHAPE_INDEX[name] for name in SHAPES]
GROUPS: Final = ((SILENCE,), ("P", "B", "M"), ("F", "V"), ("AA", "AE", "AH", "AW", "AY"), ("UW", "OW", "W", "AO", "UH"),
                 ("IY", "EY", "EH", "IH", "Y"), ("SH", "CH", "JH", "ZH", "R", "ER"),
                 ("S", "Z", "T", "D", "N", "L", "TH", "DH", "K", "G", "NG"))  # fmt: skip
"""Phones that look alike; the others say nothing about the mouth."""
_CONTEXT: Final = (-2, 0, 2)
"""Frames that are seen at once, counted from each."""
_RIDGE: Final = 30.0

# Lips, outside and inside, and the chin.
_MOUTH: Final = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409, 78, 95, 88,
                 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415, 152, 148, 377, 175, 199,
                 200)  # fmt: skip


def features(track: Floats) -> Floats:
    """How the mouth of a video's points (F, 468, 2) differs from its own mean, without the head's motion: (F, n)."""
    gone = ~np.isfinite(track).all((1, 2))
    points = np.stack([filled(column) for column in track.reshape(len(track), -1).T], -1).reshape(track.shape)
    like = np.median(points[~gone] if (~gone).any() else points, axis=0)
    across = like[EYE_CORNERS[1]] - like[EYE_CORNERS[0]]
    scale = float(np.linalg.norm(across))
    # Level eyes a unit apart, so that all faces open their mouths in the same direction.
    level = np.array([[across[0], -across[1]], [across[1], across[0]]], np.float32) / scale**2
    target = like[list(RIGID)] @ level
    mouths = []
    for frame in points:
        # An affine map takes out position, turning and most of what perspective does.
        still = np.concatenate([frame[list(RIGID)], np.ones((len(RIGID), 1), np.float32)], 1)
        back, *_ = np.linalg.lstsq(still, target, rcond=None)
        moving = frame[list(_MOUTH)]
        mouths.append((np.concatenate([moving, np.ones((len(_MOUTH), 1), np.float32)], 1) @ back).ravel())
    flat = np.asarray(mouths, np.float32)
    flat -= flat.mean(0)
    places = np.arange(len(flat))
    around = [flat[np.clip(places + step, 0, len(flat) - 1)] for step in _CONTEXT]
    return np.concatenate(around, 1)


@dataclass(frozen=True, slots=True)
class Probe:
    """A ridge regression."""

    weights: NDArray[np.float64]
    mean: NDArray[np.float64]
    bias: NDArray[np.float64]

    @staticmethod
    def fit(inputs: Floats, wanted: NDArray[np.floating], share: NDArray[np.floating] | None = None) -> "Probe":
        """Fits (n, k) inputs to (n, m) numbers; `share` (n,) is how much each counts."""
        weight = np.ones(len(inputs)) if share is None else share * len(share) / share.sum()
        mean, bias = (np.average(np.asarray(values, np.float64), 0, weight) for values in (inputs, wanted))
        centred = (inputs - mean) / (spread := inputs.std(0) + 1e-6)
        gram = centred.T @ (centred * weight[:, None]) + _RIDGE * np.eye(centred.shape[1])
        found = np.linalg.solve(gram, centred.T @ ((wanted - bias) * weight[:, None]))
        return Probe(found / spread[:, None], mean, bias)

    def __call__(self, inputs: Floats) -> NDArray[np.float64]:
        """(n, k) → (n, m)."""
        answer: NDArray[np.float64] = (inputs - self.mean) @ self.weights + self.bias
        return answer


def labels(segments: Sequence[Segment], frames: int) -> NDArray[np.int64]:
    """The group of what is said in the middle of each frame; -1 for a phone of none."""
    group = {name: number for number, names in enumerate(GROUPS) for name in names}
    found = np.zeros(frames, np.int64)
    for item in segments:
        first, last = (math.ceil(time * FRAME_RATE - 0.5) for time in (item.start, item.end))
        found[max(0, first) : max(0, last)] = group.get(PHONE_CLASSES[item.phone], -1)
    return found


def classifier(inputs: Floats, groups: NDArray[np.int64]) -> Probe:
    """Tells the groups apart; each counts as much, however often it is said."""
    known = groups >= 0
    hot = np.eye(len(GROUPS))[groups[known]]
    counts = np.maximum(hot.sum(0), 1)
    return Probe.fit(inputs[known], hot, (hot / counts).sum(1))


def recalls(probe: Probe, clips: Sequence[tuple[Floats, NDArray[np.int64]]]) -> list[tuple[int, bool]]:
    """Each frame's group, and whether the probe finds it."""
    rows = []
    for inputs, groups in clips:
        found = probe(inputs).argmax(1)
        rows += [(int(group), bool(group == said)) for group, said in zip(groups, found, strict=True) if group >= 0]
    return rows


def balanced(rows: Sequence[tuple[int, bool]]) -> float:
    """The mean over the groups of the share of frames that are found."""
    groups = sorted({group for group, _ in rows})
    return float(np.mean([np.mean([hit for own, hit in rows if own == group]) for group in groups]))
