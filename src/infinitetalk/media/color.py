"""Pulls the colours of frames back to a reference picture, so that long videos do not drift.

In CIE Lab, each channel of each frame gets the reference's mean and standard deviation (Reinhard et al., "Color
transfer between images", 2001).
"""

from functools import lru_cache
from typing import Final

import torch
from torch import Tensor

# sRGB primaries to CIE XYZ and the white point D65 at 2 degrees, to the digits that scikit-image has.
_XYZ_FROM_RGB = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.95047, 1.0, 1.08883)

_FLAT = 1e-3
"""A channel whose standard deviation is below this holds rounding noise, which must not be stretched."""

STEADY: Final = 2.5
"""Distance in CIE Lab (Delta E of 1976) that mean colours of a source may move within a window; about what is seen."""

_FRAMES_AT_A_TIME = 8
"""Bounds the memory of the conversions."""


def match_colors(video: Tensor, reference: Tensor, strength: float = 1.0, *, fused: bool = False) -> Tensor:
    """Frames with the reference's colours.

    Args:
        video: [3, F, H, W], RGB in [-1, 1].
        reference: [3, 1, h, w], RGB in [-1, 1].
        strength: 0 leaves the frames as they are, 1 gives the matched ones, in between blends in RGB.
        fused: by Triton's kernels.

    Returns:
        A new tensor [3, F, H, W] in [-1, 1], clamped; the video itself at strength 0.
    """
    if strength == 0:
        return video
    if fused:
        return match_fused(video, reference, strength)
    mean, spread = _statistics(rgb_to_lab(_unit(reference)))
    parts = [_match(_unit(part), mean, spread, strength) for part in torch.split(video, _FRAMES_AT_A_TIME, dim=1)]
    return torch.cat(parts, dim=1).mul_(2).sub_(1).to(video.dtype)


def match_fused(video: Tensor, reference: Tensor, strength: float) -> Tensor:
    """The same in Triton's kernels, in a tenth of the time."""
    from infinitetalk.ops.color_triton import measured, moved

    there, back = _matrices(video.device)
    mean, spread = measured(reference, there)
    own_mean, own_spread = measured(video, there)
    gain = _gain(spread, own_spread)
    return moved(video, gain, mean - own_mean * gain, (there, back), strength)


def light_stays(video: Tensor) -> bool:
    """Whether all frames of a source have about the colours of the first one, so that made ones can be pulled to it.

    Where its light changes, or somebody fills the picture, its own mean colours leave those of the first frame.

    Args:
        video: [3, F, H, W], RGB in [-1, 1].
    """
    first, *others = (_statistics(rgb_to_lab(_unit(part))) for part in torch.split(video, 1, dim=1))
    apart = [torch.linalg.vector_norm(mean - first[0]) for mean, _ in others]
    return not apart or float(torch.stack(apart).max()) <= STEADY


def _unit(video: Tensor) -> Tensor:
    """[-1, 1] → [0, 1] in float32, clamped."""
    return ((video.float() + 1) / 2).clamp(0, 1)


def _statistics(lab: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of each frame, [3, F, 1, 1] each."""
    spread, mean = torch.std_mean(lab, dim=(-2, -1), correction=0, keepdim=True)
    return mean, spread


def _gain(spread: Tensor, own: Tensor) -> Tensor:
    """What a channel's own spread is multiplied by; a channel that is one colour takes the reference's mean."""
    return torch.where(own < _FLAT, 0.0, spread / own.clamp(min=_FLAT))


def _match(rgb: Tensor, mean: Tensor, spread: Tensor, strength: float) -> Tensor:
    """Frames [3, F, H, W] in [0, 1] with the given statistics in Lab."""
    lab = rgb_to_lab(rgb)
    own_mean, own_spread = _statistics(lab)
    gain = _gain(spread, own_spread)
    matched = lab_to_rgb((lab - own_mean) * gain + mean)
    return (1 - strength) * rgb + strength * matched


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """sRGB [3, ...] in [0, 1] → CIE Lab [3, ...] under D65: L in 0..100, a and b about -110..110."""
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = _mix(_held(_XYZ_FROM_RGB, rgb.device, rgb.dtype), linear) / _column(rgb, _WHITE)
    x, y, z = torch.where(xyz > 0.008856, xyz.clamp(min=0.008856) ** (1 / 3), 7.787 * xyz + 16 / 116)
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)))


def lab_to_rgb(lab: Tensor) -> Tensor:
    """CIE Lab [3, ...] → sRGB [3, ...], clamped to [0, 1] where the colour is outside."""
    y = (lab[0] + 16) / 116
    roots = torch.stack((lab[1] / 500 + y, y, (y - lab[2] / 200).clamp(min=0)))
    xyz = torch.where(roots > 0.2068966, roots**3, (roots - 16 / 116) / 7.787) * _column(lab, _WHITE)
    linear = _mix(_held(_XYZ_FROM_RGB, lab.device, lab.dtype, inverse=True), xyz)
    gamma = 1.055 * linear.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, gamma, 12.92 * linear).clamp(0, 1)


def _mix(matrix: Tensor, channels: Tensor) -> Tensor:
    """Applies a 3x3 matrix to the leading axis."""
    return torch.einsum("ij,j...->i...", matrix, channels)


def _column(like: Tensor, values: tuple[float, ...]) -> Tensor:
    """Values as a tensor that broadcasts along the leading axis."""
    return _held(values, like.device, like.dtype).view(-1, *([1] * (like.ndim - 1)))


@lru_cache(maxsize=4)
def _matrices(device: torch.device) -> tuple[Tensor, Tensor]:
    """From light to XYZ over the white point, and back."""
    with torch.inference_mode(mode=False):
        there = torch.tensor(_XYZ_FROM_RGB, dtype=torch.float64) / torch.tensor(_WHITE, dtype=torch.float64)[:, None]
        return there.to(device, torch.float32), there.inverse().contiguous().to(device, torch.float32)


_Constants = tuple[float, ...] | tuple[tuple[float, ...], ...]


@lru_cache(maxsize=16)
def _held(values: _Constants, device: torch.device, dtype: torch.dtype, *, inverse: bool = False) -> Tensor:
    """Constants, or the inverse of a matrix, on a device; copied there once: the host would wait for each copy."""
    with torch.inference_mode(mode=False):
        exact = torch.tensor(values, dtype=torch.float64)
        return (exact.inverse() if inverse else exact).to(device, dtype)
