"""The noise schedule of flow matching."""

import numpy as np
import torch

STEPS_OF_TRAINING = 1000


def timesteps(steps: int, shift: float) -> list[float]:
    """Noise levels from 1000 (noise alone) down to 0 (none): one more than steps.

    Evenly spaced from 1000 to 1, then shifted: t' = shift·t / (1 + (shift - 1)·t) with t from 0 to 1. A shift above 1
    spends more steps at high noise, where large pictures decide their layout. Rounded to float32 at each operation,
    because the network's sinusoids see the last digits.
    """
    even = np.linspace(STEPS_OF_TRAINING, 1, steps, dtype=np.float32)
    t = torch.from_numpy(np.append(even, np.float32(0))) / STEPS_OF_TRAINING
    shifted: list[float] = (shift * t / (1 + (shift - 1) * t) * STEPS_OF_TRAINING).tolist()
    return shifted
