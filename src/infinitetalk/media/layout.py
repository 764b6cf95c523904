"""A picture of how a request will be understood: what is cut, and who is where."""

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import SPATIAL_STRIDE, Pixels
from infinitetalk.media.fit import Focus, fit_picture, place
from infinitetalk.media.inputs import Picture

if TYPE_CHECKING:
    from PIL.Image import Image

_COLOURS: Final = ((230, 60, 60), (60, 120, 240), (40, 180, 80), (240, 170, 30), (170, 80, 220), (30, 190, 200))
_SHARE: Final = 0.45
"""How much of a person's colour covers the picture."""
_HEIGHT: Final = 512
"""Pixels of the layout; both halves are brought to it."""


def draw(request: TalkRequest, frame: Picture, target: Pixels, grid: Tensor | None, focus: Focus | None) -> Picture:
    """The source with a frame around what is kept, and beside it the video's first picture with people in colours.

    Args:
        frame: the source's first frame.
        target: size of the video.
        grid: who is where, as `media.places` gives it; None for one person, who has all of the picture.
        focus: what framing keeps.

    Returns:
        [512, width, 3].
    """
    from PIL import Image

    left = _source(frame, target, request.framing, focus)
    shown = fit_picture(frame, target, request.framing, focus)[0, :, 0].permute(1, 2, 0)
    right = Image.fromarray(_coloured(((shown + 1) * 127.5).round().byte().numpy(), grid))
    halves = [part.resize((max(1, round(part.width * _HEIGHT / part.height)), _HEIGHT)) for part in (left, right)]
    if grid is not None:
        _number(halves[1], grid, voices=request.voice_count)
    whole = Image.new("RGB", (halves[0].width + 8 + halves[1].width, _HEIGHT), "white")
    whole.paste(halves[0], (0, 0))
    whole.paste(halves[1], (halves[0].width + 8, 0))
    return np.asarray(whole)


def _source(frame: Picture, target: Pixels, framing: str, focus: Focus | None) -> "Image":
    """The source, with what is cut off darkened."""
    from PIL import Image

    size = Pixels(*frame.shape[:2])
    where = place(size, target, framing, focus)
    down, across = size.height / where.size.height, size.width / where.size.width
    top, left = max(0, round(where.top * down)), max(0, round(where.left * across))
    bottom, right = round((where.top + target.height) * down), round((where.left + target.width) * across)
    dark = (frame * 0.35).astype(np.uint8)
    dark[top:bottom, left:right] = frame[top:bottom, left:right]
    return Image.fromarray(dark)


def _coloured(picture: NDArray[np.uint8], grid: Tensor | None) -> NDArray[np.uint8]:
    if grid is None:
        return picture
    mixed = picture.astype(np.float32)
    for person, cells in enumerate(grid[:-1].numpy()):
        mask = cells.repeat(SPATIAL_STRIDE, 0).repeat(SPATIAL_STRIDE, 1)[..., None] * _SHARE
        mixed += mask * (np.array(_COLOURS[person % len(_COLOURS)], np.float32) - mixed)
    coloured: NDArray[np.uint8] = mixed.round().astype(np.uint8)
    return coloured


def _number(image: "Image", grid: Tensor, voices: int) -> None:
    """Writes beside each person which voice it has."""
    from PIL import ImageDraw

    pen = ImageDraw.Draw(image)
    scale = image.height / grid.shape[1]
    for person, cells in enumerate(grid[:-1].numpy()):
        rows, columns = np.nonzero(cells)
        if len(rows):
            word = f"voice {person + 1}" if person < voices else "silent"
            corner = (float(columns.min()) * scale + 4, float(rows.min()) * scale + 4)
            pen.text(corner, word, fill="white", stroke_width=2, stroke_fill="black", font_size=18)
