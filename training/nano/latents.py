"""Clips as the transformer sees them: latents of the video and of its reference pictures, and where faces are."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor

from training import checkpoint

CELL, TOKEN = 8, 16
"""Pixels of the edges of a latent cell and of a token, which is two by two cells."""
COVER = 0.25
"""Share of a token that a face must cover to mark it, as in the engine."""
ROUGH_LATENTS = 4
"""Latents of the worn beginning: 13 frames, longer than most motions."""


@dataclass(frozen=True, slots=True)
class ClipLatents:
    """Latents (normalised, bfloat16) and tables of n clips, all on one device."""

    video: Tensor
    """(n, 16, 21, h, w)"""
    own: Tensor
    """(n, 16, 21, h, w) of the clip's first frame followed by grey frames"""
    other: Tensor
    """(n, 16, 21, h, w) of the extra reference picture followed by grey frames"""
    rough: Tensor
    """(n, 16, 4, h, w) of the clip's first 13 frames after some wear"""
    worn: Tensor
    """(n,) whether there is a rough beginning; zeros stand in its place otherwise"""
    people: Tensor
    """(n,)"""
    utterance: Tensor
    """(n, 3)"""
    start: Tensor
    """(n, 3)"""
    mouth: Tensor
    """(n, 3, 4) boxes in pixels, zero where nobody is"""
    eyes: Tensor
    face: Tensor
    strength: Tensor
    """(n,) how much people move beside their speech; 1 is usual"""

    @property
    def count(self) -> int:
        """Number of clips."""
        return len(self.people)

    @property
    def _size(self) -> tuple[int, int]:
        return self.video.shape[-2], self.video.shape[-1]

    def of_people(self, people: int) -> Tensor:
        """Indices of the clips that show so many faces.

        Raises:
            ValueError: there is none.
        """
        index = (self.people == people).nonzero().flatten()
        if not len(index):
            raise ValueError(f"no clip shows {people} faces")
        return index

    def weights(self, index: Tensor, face: float, mouth: float, eyes: float) -> Tensor:
        """(B, h, w): 1 plus the weight of whatever a cell shows of a face."""
        size = self._size
        return sum(
            (weight * cells(boxes[index], size).amax(1) for weight, boxes in
             ((face, self.face), (mouth, self.mouth), (eyes, self.eyes))),
            torch.ones(len(index), *size, device=index.device),
        )  # fmt: skip

    def masks(self, index: Tensor, people: int, generator: torch.Generator) -> Tensor:
        """(B, people + 1, h, w) people's masks and the background's, from face boxes drawn more or less generously."""
        boxes = self.face[index, :people]
        size = boxes[..., 2:] - boxes[..., :2]
        spare = torch.rand(len(index), people, 2, generator=generator, device=index.device) * 0.3 - 0.05
        loose = torch.cat([boxes[..., :2] - spare * size, boxes[..., 2:] + spare * size], dim=-1)
        return masks_of(loose, self._size)

    def part(self, index: Tensor) -> "ClipLatents":
        """These clips alone."""
        return replace(self, **{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def shown_always(self) -> "ClipLatents":
        """The same with the reference picture at every latent frame, and no grey ones: nothing is copied for it."""
        own, other = (picture[:, :, :1].expand_as(picture) for picture in (self.own, self.other))
        return replace(self, own=own, other=other)

    def save(self, path: Path) -> None:
        """Writes everything to one file."""
        checkpoint.save({field.name: getattr(self, field.name).cpu() for field in fields(self)}, path)

    @staticmethod
    def load(paths: Sequence[Path], device: torch.device) -> "ClipLatents":
        """Reads what `save` wrote, one file after the other."""
        parts = [torch.load(path, weights_only=True) for path in paths]
        return ClipLatents(**{field.name: torch.cat([part[field.name] for part in parts]).to(device)
                              for field in fields(ClipLatents)})  # fmt: skip


def condition(picture: Tensor, strength: Tensor | None = None) -> Tensor:
    """Reference latents (B, 16, T, h, w) with the mask that says that the first frame is known: (B, 20, T, h, w).

    Where frames are unknown, the mask holds how much more people shall move than usual, from -1 for not at all to 1;
    `strength` (B,) is that number plus one.
    """
    mask = torch.zeros_like(picture[:, :4])
    if strength is not None:
        mask += (strength.to(mask) - 1).view(-1, 1, 1, 1, 1)
    mask[:, :, 0] = 1
    return torch.cat([mask, picture], dim=1)


def cells(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Latent cells that a box touches: (..., 4) pixels → (..., h, w) zeros and ones; empty boxes touch none."""
    rows, columns = (torch.arange(length, device=boxes.device) * CELL for length in size)
    x0, y0, x1, y1 = (edge[..., None] for edge in boxes.unbind(-1))
    across = (columns + CELL > x0) & (columns < x1)
    down = (rows + CELL > y0) & (rows < y1)
    return (down[..., :, None] & across[..., None, :]).float()


def masks_of(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """People's masks as the engine makes them of boxes: (B, P, 4) pixels → (B, P + 1, h, w), the background last.

    The cells of a token belong to a box that covers enough of the token. Boxes count in whole pixels there.
    """
    x0, y0, x1, y1 = boxes.floor().unbind(-1)
    shares = [_covered(low, high, length * CELL) for low, high, length in ((y0, y1, size[0]), (x0, x1, size[1]))]
    people = (shares[0][..., :, None] * shares[1][..., None, :] >= COVER).float()
    people = people.repeat_interleave(TOKEN // CELL, -1).repeat_interleave(TOKEN // CELL, -2)
    return torch.cat([people, 1 - people.amax(dim=1, keepdim=True)], dim=1)


def _covered(low: Tensor, high: Tensor, length: int) -> Tensor:
    """The share of every token's edge between low and high: (..., length / TOKEN)."""
    start = torch.arange(0, length, TOKEN, device=low.device)
    return ((high[..., None] - start).clamp(0, TOKEN) - (low[..., None] - start).clamp(0, TOKEN)).clamp(min=0) / TOKEN
