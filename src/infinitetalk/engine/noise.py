"""Starting noise as a pure function: the same on every device, whichever windows were made before."""

import numpy as np
import torch
from torch import Tensor


def window_noise(seed: int, window: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal float32 values from a counter-based generator keyed with (seed, window)."""
    bits = np.random.Philox(key=[seed, window])
    return torch.from_numpy(np.random.Generator(bits).standard_normal(size=shape, dtype=np.float32))
