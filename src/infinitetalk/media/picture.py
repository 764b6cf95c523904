"""Pictures: any file that Pillow reads, upright, in sRGB, eight bits a channel; and masks."""

import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.errors import MediaError
from infinitetalk.core.sizes import Pixels
from infinitetalk.media.inputs import Mask, Picture
from infinitetalk.media.paths import require_file

if TYPE_CHECKING:
    from PIL.Image import Image

LEAST_SIDE = 16
"""Pixels that a picture must have in each direction."""

MOST_PIXELS = 100_000_000
"""Pixels that a picture may have; more would need gigabytes to decode."""

_WHITE, _BLACK = (255, 255, 255, 255), (0, 0, 0, 255)

# What Pillow's decoders raise on damaged files.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, OverflowError)


@dataclass(frozen=True, slots=True)
class StillSource:
    """A picture as a source of frames: every frame is the picture."""

    picture: Picture

    @property
    def size(self) -> Pixels:
        return Pixels(self.picture.shape[0], self.picture.shape[1])

    def frame_at(self, seconds: float) -> Picture:  # noqa: ARG002  (the picture does not move)
        return self.picture

    def frame_index(self, index: int) -> Picture:  # noqa: ARG002
        return self.picture


def read_picture(path: Path) -> Picture:
    """The picture [height, width, 3], upright, first frame of an animation, transparent parts over white.

    The limits of size are checked on the file's header, before any pixel is decoded. A colour profile in the file is
    applied, so that wide-gamut photographs and CMYK prints look as in a viewer.

    Raises:
        MediaError: undecodable, smaller than 16x16 or of more than 100 megapixels.
    """
    with _opened(path, "picture") as image:
        return _rgb(_upright(image), _WHITE)


def picture_size(path: Path) -> Pixels:
    """A picture's size as its header says, before it is turned upright; no pixel is decoded.

    Raises:
        MediaError: as `read_picture`.
    """
    with _opened(path, "picture") as image:
        return Pixels(image.height, image.width)


def read_mask(path: Path, size: Pixels) -> Mask:
    """Where a mask is white (or opaque white, if it has transparency): [height, width] of the picture it belongs to.

    A mask of another size is scaled if its shape is the picture's.

    Raises:
        MediaError: undecodable, all black, or of another shape than the picture.
    """
    with _opened(path, "mask") as image:
        mask = as_mask(path, _rgb(_upright(image), _BLACK), size)
    if not mask.any():
        raise empty_mask(path)
    return mask


def empty_mask(path: Path) -> MediaError:
    """What a mask without a person is refused with."""
    return MediaError(path, "the mask is empty; paint white where the person is")


def as_mask(path: Path, picture: Picture, size: Pixels) -> Mask:
    """Where a picture [height, width, 3] is white, at the size of the picture that it masks.

    Raises:
        MediaError: of another shape.
    """
    from PIL import Image

    light = Image.fromarray(picture).convert("L")
    # A side may be off by one pixel's rounding when a mask was scaled.
    if abs(light.width * size.height - light.height * size.width) > max(light.width, light.height, *size):
        own = f"{light.width}x{light.height}"
        raise MediaError(path, f"the mask is {own}, the picture {size}; a mask of the picture's size would work")
    mask: Mask = np.asarray(light.resize((size.width, size.height), Image.Resampling.NEAREST)) >= 128
    return mask


@contextmanager
def _opened(path: Path, kind: str) -> "Iterator[Image]":
    """An image whose header was read and whose size is within the limits."""
    from PIL import Image, UnidentifiedImageError

    require_file(path, kind)
    try:
        with warnings.catch_warnings():
            # Pillow warns below our limit of size, and of damage that it raises for as well.
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                require_size(path, kind, Pixels(image.height, image.width))
                yield image
    except UnidentifiedImageError as error:
        raise MediaError(path, f"is no {kind} of a known format; save it as PNG or JPEG") from error
    except Image.DecompressionBombError as error:
        told = re.search(r"\d{9,}", str(error))  # Pillow's first number is the picture's
        raise _too_large(path, kind, int(told.group()) if told else 2 * MOST_PIXELS) from error
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:100]
        raise MediaError(path, f"cannot be decoded as a {kind} ({reason}); re-save it as PNG or JPEG") from error


def require_size(path: Path, kind: str, size: Pixels) -> None:
    """Refuses pictures and videos too small to show anyone, or too large to decode.

    Raises:
        MediaError: smaller than 16x16 or more than 100 megapixels.
    """
    if min(size) < LEAST_SIDE:
        raise MediaError(path, f"the {kind} is {size}; {LEAST_SIDE}x{LEAST_SIDE} pixels or more would work")
    if size.height * size.width > MOST_PIXELS:
        raise _too_large(path, kind, size.height * size.width)


def _too_large(path: Path, kind: str, pixels: int) -> MediaError:
    amount = f"has {pixels / 1e6:.6g} megapixels"
    return MediaError(path, f"the {kind} {amount}; up to {MOST_PIXELS // 1_000_000} megapixels would work")


def _upright(image: "Image") -> "Image":
    """The picture turned as its EXIF orientation asks."""
    from PIL import ImageOps

    return ImageOps.exif_transpose(image)


def _rgb(image: "Image", background: tuple[int, int, int, int]) -> Picture:
    """Any of Pillow's modes as RGB, transparent parts over the background."""
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        grey = _eight_bits(np.asarray(image), whole=image.mode.startswith("I"))
        return np.repeat(grey[:, :, None], 3, axis=2)
    profile = image.info.get("icc_profile")
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, background)
        opaque.alpha_composite(image.convert("RGBA"))
        image = opaque.convert("RGB")
    return np.array(_in_srgb(image, profile).convert("RGB"), dtype=np.uint8)


def _eight_bits(values: NDArray[np.generic], *, whole: bool) -> Picture:
    """Grey of more than eight bits: full scale is 65535 (whole numbers) or 1 (others), or the brightest if beyond."""
    wide = values.astype(np.float64)
    if not np.isfinite(wide).all():
        raise ValueError("pixels that are not finite numbers")
    white = max(65535.0 if whole else 1.0, float(wide.max()))
    return np.asarray(np.rint(wide.clip(0) / white * 255), dtype=np.uint8)


def _in_srgb(image: "Image", profile: bytes | None) -> "Image":
    """Applies the file's colour profile. One that cannot be read, or is for another mode, is as good as none."""
    from PIL import ImageCms

    srgb = ImageCms.createProfile("sRGB")
    if image.mode == "LAB":
        return ImageCms.profileToProfile(image, ImageCms.createProfile("LAB"), srgb, outputMode="RGB") or image
    plain = image if image.mode in {"RGB", "CMYK", "L"} else image.convert("RGB")
    if not profile:
        return plain
    try:
        return ImageCms.profileToProfile(plain, BytesIO(profile), srgb, outputMode="RGB") or plain
    except ImageCms.PyCMSError:
        return plain
