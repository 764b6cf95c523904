"""Videos of demo portraits that move over a background."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from infinitetalk.core.sizes import Pixels
from infinitetalk.weights.locate import ASSETS

PORTRAIT, OTHER = (ASSETS / "demo" / f"portrait_{number}.png" for number in (1, 2))

Corner = tuple[int, int]
"""Of a portrait in the picture: x, y."""


def scene(size: Pixels, *people: tuple[Path, int, Corner]) -> NDArray[np.uint8]:
    """Portraits, each of an edge at a corner, on a grainy slope."""
    y, x = np.mgrid[0 : size.height, 0 : size.width]
    noise = np.random.default_rng(0).integers(-6, 7, (*size, 3))
    picture = np.stack([60 + x / 4, 90 + y / 4, 120 - x / 8], axis=-1) + noise
    canvas = Image.fromarray(picture.astype(np.uint8))
    for path, edge, corner in people:
        canvas.paste(Image.open(path).convert("RGB").resize((edge, edge)), corner)
    return np.array(canvas)


def write_video(path: Path, frames: Sequence[NDArray[np.uint8]], rate: Fraction | int = 25) -> Path:
    """An MP4 of frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "crf": "12"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv444p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")))
        container.mux(stream.encode(None))
    return path
