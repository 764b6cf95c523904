"""Some frames of a video, small, to be looked at beside its figures."""

import base64
import io
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from PIL import Image

from infinitetalk.evaluate.faces import Look

COUNT: Final = 10
_HEIGHT: Final = 150


@dataclass(slots=True)
class Film:
    """Frames that are evenly spread over a video of so many."""

    frames: int
    pictures: dict[int, str] = field(default_factory=dict)
    """Frame number → JPEG as a data URI."""

    def see(self, look: Look) -> None:
        """Keeps the frame if it is one of those."""
        wanted = np.linspace(0, max(0, self.frames - 1), min(COUNT, self.frames)).round().astype(int)
        if look.index not in wanted:
            return
        height, width = look.picture.shape[:2]
        size = (max(1, round(width * _HEIGHT / height)), _HEIGHT)
        buffer = io.BytesIO()
        Image.fromarray(look.picture).resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=82)
        self.pictures[look.index] = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
