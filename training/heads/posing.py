"""How faces look in portraits: they smile, often with their teeth, or are at rest, whatever is said afterwards."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.heads.blendshapes import BLENDSHAPES, shape_indices
from training.heads.motion import Motion

Floats = NDArray[np.float32]

MOUTH: Final = [index for index, name in enumerate(BLENDSHAPES) if name.startswith(("jaw", "mouth", "tongue"))]
SMILING: Final = 0.7
"""Share of portraits that smile, more or less; the others are at rest."""
_TEETH: Final = 0.65
_BEGIN: Final = 0.65
_SLOWEST, _QUICKEST = 3, 1
"""Frames in which a mouth leaves the portrait's pose for its speech. With up to ten, lips learned to come late."""
_LASTING, _TEETH_LASTING = (0.7, 1.0), (0.2, 0.8)
"""Shares, from and to, of a smile and of the upper teeth it shows that stay while its person speaks."""
_ROUNDED: Final = 0.5
"""Share of a smile that lips give up to be rounded."""
_CLOSED: Final = 0.2
"""Weight of `mouthPress` from which on lips are closed, over their teeth."""


def smile(rng: np.random.Generator) -> Floats:
    """ARKit weights (52,) of a random smile, with teeth or with lips together, or of a mouth at rest: zeros."""
    weights = np.zeros(len(BLENDSHAPES), np.float32)
    if rng.random() >= SMILING:
        return weights
    size, uneven = rng.uniform(0.3, 1.0), rng.normal() * 0.08
    weights[shape_indices("mouthSmile")] = size * np.clip((1 + uneven, 1 - uneven), 0, 1.2)
    weights[shape_indices("cheekSquint")] = 0.6 * size
    weights[shape_indices("mouthDimple")] = 0.3 * size * rng.random()
    if rng.random() < _TEETH:
        shown = rng.uniform(0.3, 1.0)
        weights[shape_indices("mouthUpperUp")] = 0.95 * shown
        weights[shape_indices("mouthLowerDown")] = shown * rng.uniform(0.3, 0.8)
        weights[shape_indices("mouthStretch")] = 0.4 * shown * rng.random()
        weights[shape_indices("jawOpen")] = 0.3 * shown * rng.random()
    return np.clip(weights, 0.0, 1.0)


def from_portrait(motion: Motion, rng: np.random.Generator) -> Motion:
    """A clip of somebody whose portrait was taken: its last frame, the reference picture, shows the portrait's pose.

    Most such clips begin with it as well, as videos do that are made of a portrait, and pass to their speech within a
    few frames. Much of a smile stays; what lips do to speak is added to it.
    """
    posed, weights = smile(rng), motion.weights.copy()
    frames = len(weights) - 1
    spoken = np.clip(weights[:frames] + _staying(posed, weights[:frames], rng), 0.0, 1.0)
    share = _leaving(frames, rng) * (rng.random() < _BEGIN)
    weights[:frames, MOUTH] = (spoken + share * (posed - spoken))[:, MOUTH]
    cheeks = shape_indices("cheekSquint")
    weights[:frames, cheeks] = np.maximum(spoken, share * posed)[:, cheeks]
    weights[frames, MOUTH] = posed[MOUTH]
    weights[frames, cheeks] = posed[cheeks]
    return Motion(weights.astype(np.float32), motion.pose, motion.sway)


def from_picture(motion: Motion, rng: np.random.Generator) -> Motion:
    """A clip that begins with the mouth of its last frame, the reference picture, which says something else."""
    weights, frames = motion.weights.copy(), len(motion.weights) - 1
    spoken, shown = weights[:frames, MOUTH], weights[frames, MOUTH]
    weights[:frames, MOUTH] = spoken + _leaving(frames, rng) * (shown - spoken)
    return Motion(weights, motion.pose, motion.sway)


def _leaving(frames: int, rng: np.random.Generator) -> Floats:
    """How much of a pose that is left is still there in each frame (F, 1): all of it in the first one."""
    left = np.clip(1 - np.arange(frames, dtype=np.float32) / rng.uniform(_QUICKEST, _SLOWEST), 0.0, 1.0)[:, None]
    share: Floats = (left * left * (3 - 2 * left)).astype(np.float32)
    return share


def _staying(posed: Floats, speech: Floats, rng: np.random.Generator) -> Floats:
    """What a portrait's pose (52,) adds to speech (F, 52): rounded lips smile less, closed ones show no teeth."""
    staying = np.zeros_like(speech)
    rounded = speech[:, shape_indices("mouthPucker", "mouthFunnel")].max(1, keepdims=True)
    smiling = shape_indices("mouthSmile", "cheekSquint", "mouthDimple")
    staying[:, smiling] = rng.uniform(*_LASTING) * posed[smiling] * (1 - _ROUNDED * rounded)
    closed = np.clip(speech[:, shape_indices("mouthPress")].max(1, keepdims=True) / _CLOSED, 0.0, 1.0)
    teeth = shape_indices("mouthUpperUp")
    staying[:, teeth] = rng.uniform(*_TEETH_LASTING) * posed[teeth] * (1 - closed)
    return staying
