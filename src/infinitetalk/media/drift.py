"""How far a window has drifted: its colours from the reference's, and its first frame from the one before."""

from dataclasses import dataclass

import torch
from torch import Tensor

from infinitetalk.media.color import rgb_to_lab

_LOOKED_AT = 8
"""Frames whose colours are measured, evenly spread."""


@dataclass(frozen=True, slots=True)
class Drift:
    """Figures of one window."""

    color_made: float
    """Distance in CIE Lab (Delta E of 1976) between the mean colours of the window, as the network made it, and of the
    reference picture."""
    color_shown: float
    """The same after colours were matched."""
    color_strength: float
    """How strongly they were: 0 where the light of a source video changes within the window."""
    border: float | None
    """Mean difference, of 255 shades, between the first new frame and the last one of the window before; None where a
    window starts anew."""
    motion: float | None
    """Median of the same between neighbouring new frames; None for a single frame."""


def measure_drift(
    made: Tensor,
    shown: Tensor,
    reference: Tensor,
    strength: float,
    *,
    new: slice,
    before: Tensor | None,
) -> Drift:
    """The figures of a window.

    Args:
        made: frames before their colours were matched, [3, F, H, W] in [-1, 1].
        shown: the same frames as they are shown.
        reference: whose colours they should have, [3, 1, H, W] in [-1, 1].
        strength: how strongly they were matched.
        new: the window's new frames.
        before: the last frame of the window before, [3, H, W] in [-1, 1].
    """
    steps = [(shown[:, place + 1] - shown[:, place]).abs().mean() for place in range(new.start, new.stop - 1)]
    return Drift(
        color_made=_apart(made[:, new], reference),
        color_shown=_apart(shown[:, new], reference),
        color_strength=strength,
        border=None if before is None else _shades(float((shown[:, new.start] - before).abs().mean())),
        motion=_shades(float(torch.stack(steps).median())) if steps else None,
    )


def _shades(difference: float) -> float:
    return round(difference * 127.5, 3)


def _apart(video: Tensor, reference: Tensor) -> float:
    count = video.shape[1]
    places = torch.linspace(0, count - 1, min(count, _LOOKED_AT), device=video.device).round().long()
    means = [rgb_to_lab(((part.float() + 1) / 2).clamp(0, 1)).mean((1, 2, 3)) for part in (video[:, places], reference)]
    return round(float((means[0] - means[1]).norm()), 3)
