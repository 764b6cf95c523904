"""Rendered heads for `benchmarks.validate_metrics`: who speak, seen from farther away; and who turn into others."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.heads.dataset import ClipOptions, SampledClip, sample_clip
from training.heads.identity import Identity, random_identity
from training.heads.motion import Motion
from training.heads.render import ClipSpec, HeadRenderer

SHARES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
"""How far: 0 is the person, 1 is somebody else."""
FIRST: Final = 7000
"""Number of the first of these people among the held-out ones."""
_LENGTH, _EVERY = 41, 8
_FARTHER: Final = 0.8
_SIDE: Final = 144


def between(one: Identity, other: Identity, share: float) -> Identity:
    """Shape, colours and other numbers in between; what cannot be mixed, such as the hair's cut, stays the first's."""
    mixed: dict[str, Any] = {}
    for field in fields(one):
        values = getattr(one, field.name), getattr(other, field.name)
        if isinstance(values[0], np.ndarray):
            mixed[field.name] = ((1 - share) * values[0] + share * values[1]).astype(np.float32)
        elif isinstance(values[0], float):
            mixed[field.name] = (1 - share) * values[0] + share * values[1]
        elif isinstance(values[0], tuple):
            mixed[field.name] = tuple((1 - share) * a + share * b for a, b in zip(*values, strict=True))
    return replace(one, **mixed)


def morph(mouths: Sequence[NDArray[np.float32]], index: int, share: float) -> NDArray[np.uint8]:
    """A few frames [n, height, width, 3] of a clip whose person has become somebody else so far."""
    spec = _alone(mouths, index, _LENGTH).spec
    (person,) = spec.people
    stranger = random_identity(np.random.default_rng([FIRST, index]))
    motion = Motion(*(part[::_EVERY] for part in (person.motion.weights, person.motion.pose, person.motion.sway)))
    changed = replace(person, identity=between(person.identity, stranger, share), motion=motion)
    return np.asarray(HeadRenderer("cpu").render(replace(spec, people=(changed,))).frames.numpy(), np.uint8)


def _alone(mouths: Sequence[NDArray[np.float32]], index: int, frames: int) -> SampledClip:
    options = ClipOptions(frames=frames, people=(1.0, 0.0, 0.0))
    return sample_clip(mouths, FIRST + index, seed=0, split="heldout", options=options)


def speaker(mouths: Sequence[NDArray[np.float32]], index: int, frames: int) -> tuple[NDArray[np.uint8], int, int]:
    """Frames of a person who speaks, with room for shoulders; which track it is, and from which of its frames on."""
    sampled = _alone(mouths, index, frames)
    (person,) = sampled.spec.people
    place = replace(person.place, zoom=person.place.zoom * _FARTHER)
    spec: ClipSpec = replace(sampled.spec, people=(replace(person, place=place),))
    clip = HeadRenderer("cpu", size=_SIDE).render(spec)
    return np.asarray(clip.frames.numpy()[:frames], np.uint8), sampled.utterance[0], sampled.start[0]
