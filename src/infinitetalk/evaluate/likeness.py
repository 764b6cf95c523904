"""How near a video is to the truth: PSNR and SSIM of each frame."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from infinitetalk.media.inputs import Picture

SAME: Final = 100.0
"""Decibels of frames without a difference."""
_TAPS, _SIGMA = 11, 1.5


def psnr(made: Picture, truth: Picture) -> float:
    """Peak signal-to-noise ratio of two pictures [height, width, 3] in decibels, 100 at most."""
    error = float(np.square(made.astype(np.float32) - truth.astype(np.float32)).mean())
    return min(SAME, float(10 * np.log10(255**2 / max(1e-12, error))))


def ssim(made: Picture, truth: Picture) -> float:
    """Structural similarity (Wang et al. 2004) of two pictures [height, width, 3], -1 to 1.

    The mean over pixels and colours, with Gaussian windows of 11 pixels (sigma 1.5) that lie within the picture.
    """
    x, y = made.astype(np.float64), truth.astype(np.float64)
    mean_x, mean_y = _local(x), _local(y)
    var_x, var_y = _local(x * x) - mean_x**2, _local(y * y) - mean_y**2
    both = _local(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = (2 * mean_x * mean_y + c1) * (2 * both + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return float(values.mean())


def _local(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Local means; windows that reach beyond the picture are left out."""
    edge = _TAPS // 2
    blurred = cv2.GaussianBlur(values, (_TAPS, _TAPS), _SIGMA)
    return np.asarray(blurred[edge:-edge, edge:-edge])
