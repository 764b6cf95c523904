"""Contact sheets with labels: rows of pictures, a name before each row and words above each picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

GAP, INK, PAPER, FAINT = 3, (32, 32, 36), (255, 255, 255), (110, 110, 118)


@dataclass(frozen=True, slots=True)
class Row:
    """Pictures [height, width, 3] side by side; None leaves a place empty."""

    pictures: Sequence[NDArray[np.uint8] | None]
    title: str = ""
    """Stands before the row, in several lines if need be."""
    above: Sequence[str] = ()
    """One label per picture."""


def save(path: Path, rows: Sequence[Row], *, cell: int, quality: int = 85, font: int = 13, margin: int = 0) -> None:
    """Writes rows as one picture, `cell` pixels for each picture and `margin` for the titles."""
    columns = max(len(row.pictures) for row in rows)
    label = font + 5
    heights = [cell + GAP + (label if row.above else 0) for row in rows]
    sheet = Image.new("RGB", (margin + columns * (cell + GAP) + GAP, sum(heights) + GAP), PAPER)
    brush, letters = ImageDraw.Draw(sheet), ImageFont.load_default(font)
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        below = top + (label if row.above else 0)
        if row.title:
            brush.multiline_text((6, below + cell / 2), row.title, INK, letters, anchor="lm", spacing=3)
        for column, picture in enumerate(row.pictures):
            left = margin + GAP + column * (cell + GAP)
            if row.above and row.above[column]:
                brush.text((left + cell / 2, top + label / 2), row.above[column], FAINT, letters, anchor="mm")
            if picture is not None:
                sheet.paste(Image.fromarray(picture).resize((cell, cell), Image.Resampling.LANCZOS), (left, below))
        top += height
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, quality=quality, optimize=True)
