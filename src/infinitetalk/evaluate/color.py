"""Colours: how far they stray from a reference, window by window."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from infinitetalk.evaluate.series import Floats
from infinitetalk.media.color import rgb_to_lab
from infinitetalk.media.inputs import Picture

_SIDE: Final = 96
"""Pixels of a side that are looked at, at least."""


def mean_lab(picture: Picture) -> Floats:
    """The mean colour (3,) of a picture [height, width, 3] in CIE Lab; of large ones every n-th pixel counts."""
    step = max(1, min(picture.shape[:2]) // _SIDE)
    rgb = torch.from_numpy(np.ascontiguousarray(picture[::step, ::step])).permute(2, 0, 1).float() / 255
    return np.asarray(rgb_to_lab(rgb).mean((1, 2)).numpy(), np.float32)


@dataclass(frozen=True, slots=True)
class ColorDrift:
    """Distances of mean colours in CIE Lab (Delta E of 1976)."""

    windows: tuple[float, ...]
    """Of each window's mean colour from the reference's."""
    largest: float
    last: float


def drift(own: Floats, reference: Floats, stretches: Sequence[slice]) -> ColorDrift:
    """The drift of each window.

    Args:
        own: mean colours of the frames, (F, 3).
        reference: of what they should be, (F, 3) or (3,).
        stretches: the windows' frames.
    """
    away: NDArray[np.float32] = own - reference
    windows = tuple(float(np.linalg.norm(away[part].mean(0))) for part in stretches)
    return ColorDrift(windows, max(windows), windows[-1])
