"""Names of the 52 ARKit facial blendshapes, in the order of every track's last axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final


def _sides(*stems: str) -> tuple[str, ...]:
    return tuple(stem + side for stem in stems for side in ("Left", "Right"))


BLENDSHAPES: Final[tuple[str, ...]] = (
    *_sides("browDown"),
    "browInnerUp",
    *_sides("browOuterUp"),
    "cheekPuff",
    *_sides("cheekSquint", "eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeSquint", "eyeWide"),
    *("jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose"),
    *_sides("mouthDimple", "mouthFrown"),
    *("mouthFunnel", "mouthLeft"),
    *_sides("mouthLowerDown", "mouthPress"),
    *("mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
    *_sides("mouthSmile", "mouthStretch", "mouthUpperUp", "noseSneer"),
    "tongueOut",
)
SHAPE_INDEX: Final[Mapping[str, int]] = {name: index for index, name in enumerate(BLENDSHAPES)}
JAW_OPEN: Final = SHAPE_INDEX["jawOpen"]


def shape_indices(*names: str) -> list[int]:
    """Columns of the named blendshapes; a name without its side stands for both sides."""
    columns: list[int] = []
    for name in names:
        both = [SHAPE_INDEX[name + side] for side in ("Left", "Right") if name + side in SHAPE_INDEX]
        columns.extend(both or [SHAPE_INDEX[name]])
    return columns
