"""Clips as the transformer sees them: latents of the video and of its reference pictures, and where faces are."""

from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor

CELL = 8
"""Pixels of a latent cell's edge."""
ROUGH_LATENTS = 7
"""Latents of the longest motion (25 frames)."""


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
    """(n, 16, 7, h, w) of the clip's first 25 frames after some wear"""
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

    @property
    def count(self) -> int:
        """Number of clips."""
        return len(self.people)

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
        size = self.video.shape[-2:]
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
        return masks_of(loose, tuple(self.video.shape[-2:]))

    def part(self, index: Tensor) -> "ClipLatents":
        """These clips alone."""
        return replace(self, **{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def save(self, path: Path) -> None:
        """Writes everything to one file."""
        torch.save({field.name: getattr(self, field.name).cpu() for field in fields(self)}, path)

    @staticmethod
    def load(path: Path, device: torch.device) -> "ClipLatents":
        """Reads what `save` wrote."""
        return ClipLatents(**torch.load(path, weights_only=True, map_location=device))


def condition(picture: Tensor) -> Tensor:
    """Reference latents (B, 16, T, h, w) with the mask that says that the first frame is known: (B, 20, T, h, w)."""
    mask = torch.zeros_like(picture[:, :4])
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

    A cell belongs to a box if its first pixel does.
    """
    rows, columns = (torch.arange(length, device=boxes.device) * CELL for length in size)
    x0, y0, x1, y1 = (edge[..., None] for edge in boxes.unbind(-1))
    people = ((rows >= y0) & (rows < y1))[..., :, None] & ((columns >= x0) & (columns < x1))[..., None, :]
    return torch.cat([people, ~people.any(dim=1, keepdim=True)], dim=1).float()
