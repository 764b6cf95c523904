"""Contact sheets: rows of pictures in one file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def save_rows(path: Path, rows: Sequence[Tensor], quality: int = 88) -> None:
    """Writes rows of pictures, each (n, height, width, 3) bytes and equally long, as one picture."""
    picture = torch.cat([torch.cat(list(row), dim=1) for row in rows], dim=0)
    Image.fromarray(np.ascontiguousarray(picture.cpu().numpy())).save(path, quality=quality)
