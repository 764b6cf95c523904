"""Picture and video sizes as values that know their arithmetic, and the reference's size tables."""

from collections.abc import Mapping
from typing import NamedTuple

from infinitetalk.core.errors import RequestError

FPS = 25
"""Frames per second of everything the networks make."""

SAMPLE_RATE = 16_000
"""Samples per second of the sound that the speech encoder hears."""

SAMPLES_PER_FRAME = SAMPLE_RATE // FPS

TEMPORAL_STRIDE = 4
"""Video frames behind one latent frame; the first latent frame stands for one frame alone."""

MASK_CHANNELS = TEMPORAL_STRIDE
"""One for each video frame behind a latent frame: 1 where the DiT's condition shows a true frame."""

SPATIAL_STRIDE = 8
"""Pixels behind one latent cell, in each direction."""

PIXEL_MULTIPLE = 16
"""Heights and widths must be multiples of this: the VAE's stride times the DiT's patch."""

LARGEST_SIDE = 4096
"""Pixels of the longest side that a video may have: twice the largest that the networks were trained on."""


class Pixels(NamedTuple):
    """Height and width of a picture in pixels."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


class Latents(NamedTuple):
    """Frames, height and width of a latent video."""

    frames: int
    height: int
    width: int

    @classmethod
    def of(cls, frames: int, size: Pixels) -> "Latents":
        """The latent size of a video; refuses what the VAE cannot encode without rounding."""
        if frames < 1 or (frames - 1) % TEMPORAL_STRIDE:
            raise RequestError("frames", frames, f"must be 4n+1: {nearest_window(frames)} would work")
        if size.height % PIXEL_MULTIPLE or size.width % PIXEL_MULTIPLE:
            raise RequestError("size", size, f"width and height must be multiples of {PIXEL_MULTIPLE}")
        return cls((frames - 1) // TEMPORAL_STRIDE + 1, size.height // SPATIAL_STRIDE, size.width // SPATIAL_STRIDE)


def nearest_window(frames: int) -> int:
    """The nearest number of frames of the form 4n+1, at least 5."""
    return max(5, round((frames - 1) / TEMPORAL_STRIDE) * TEMPORAL_STRIDE + 1)


Buckets = Mapping[float, Pixels]
"""Size table: aspect ratio (height / width) → size."""


def _table(rows: str) -> Buckets:
    """Parses 'ratio:HEIGHTxWIDTH' rows."""
    table = {}
    for row in rows.split():
        ratio, size = row.split(":")
        height, width = size.split("x")
        table[float(ratio)] = Pixels(int(height), int(width))
    return table


# Ratios and sizes are the reference implementation's tables: the networks were trained on these.
BUCKETS_480 = _table(
    "0.26:320x1216 0.38:384x1024 0.50:448x896 0.67:512x768 0.82:576x704 1.00:640x640 1.22:704x576 1.50:768x512 "
    "1.86:832x448 2.00:896x448 2.50:960x384 2.83:1088x384 3.60:1152x320 3.80:1216x320 4.00:1280x320"
)
BUCKETS_720 = _table(
    "0.22:448x2048 0.29:512x1792 0.36:576x1600 0.45:640x1408 0.55:704x1280 0.63:768x1216 0.76:832x1088 0.88:896x1024 "
    "1.00:960x960 1.14:1024x896 1.31:1088x832 1.50:1152x768 1.58:1216x768 1.82:1280x704 1.91:1344x704 2.20:1408x640 "
    "2.30:1472x640 2.67:1536x576 2.89:1664x576 3.62:1856x512 3.75:1920x512"
)


def choose_bucket(source: Pixels, buckets: Buckets) -> Pixels:
    """The size whose aspect ratio is nearest to the source's; the first wins a tie."""
    ratio = source.height / source.width
    return buckets[min(buckets, key=lambda known: abs(known - ratio))]


def parse_size(text: str) -> Pixels:
    """Reads 'WIDTHxHEIGHT'.

    Raises:
        RequestError: not two multiples of 16 from 16 to 4096.
    """
    width, cross, height = text.lower().partition("x")
    if not cross or not all(side.isdecimal() and len(side) < 9 for side in (width, height)):
        raise RequestError("size", text, "must be a size name such as 480 or 720, or WIDTHxHEIGHT such as 640x640")
    size = Pixels(int(height), int(width))
    if min(size) < PIXEL_MULTIPLE or size.height % PIXEL_MULTIPLE or size.width % PIXEL_MULTIPLE:
        fits = Pixels(*(_nearest_side(side) for side in size))
        raise RequestError("size", text, f"width and height must be multiples of {PIXEL_MULTIPLE}: {fits} would work")
    if max(size) > LARGEST_SIDE:
        raise RequestError("size", text, f"width and height must be at most {LARGEST_SIDE}")
    return size


def _nearest_side(pixels: int) -> int:
    return min(max(round(pixels / PIXEL_MULTIPLE) * PIXEL_MULTIPLE, PIXEL_MULTIPLE), LARGEST_SIDE)
