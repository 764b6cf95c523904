"""The noise schedule of flow matching."""

import numpy as np
import torch
from numpy.typing import NDArray

STEPS_OF_TRAINING = 1000


def timesteps(steps: int, shift: float) -> list[float]:
    """Noise levels from 1000 (noise alone) down to 0 (none): one more than steps.

    Evenly spaced from 1000 to 1, then shifted: t' = shift·t / (1 + (shift - 1)·t) with t from 0 to 1. A shift above 1
    spends more steps at high noise, where large pictures decide their layout. Rounded to float32 at each operation,
    because the network's sinusoids see the last digits.
    """
    return _shifted(np.linspace(STEPS_OF_TRAINING, 1, steps, dtype=np.float32), shift)


def partial_timesteps(steps: int, shift: float, first: int, level: float) -> list[float]:
    """What is left of `timesteps` if denoising starts at step `first` from video with noise of a level, 0 to 1.

    As many steps as there would have been from `first` on, evenly spaced before the shift from that level to the lowest
    one. All of `timesteps` for `first` 0.
    """
    if not first:
        return timesteps(steps, shift)
    start = STEPS_OF_TRAINING * level / (shift - (shift - 1) * level)
    return _shifted(np.linspace(start, min(1.0, start), steps - first, dtype=np.float32), shift)


def level_timesteps(steps: int, shift: float) -> list[float]:
    """As `timesteps`, but steps of equal length to 0 before the shift: 1000, 750, 500, 250 and 0 for four."""
    return _shifted(np.linspace(STEPS_OF_TRAINING, 0, steps, endpoint=False, dtype=np.float32), shift)


def _shifted(even: NDArray[np.float32], shift: float) -> list[float]:
    """Shifted noise levels, and 0 behind them."""
    t = torch.from_numpy(np.append(even, np.float32(0))) / STEPS_OF_TRAINING
    shifted: list[float] = (shift * t / (1 + (shift - 1) * t) * STEPS_OF_TRAINING).tolist()
    return shifted
