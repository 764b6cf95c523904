"""Pictures for the VAE's training: random crops of clips that lie as bytes in the device's memory."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training.nano.pictures import PictureBank
from training.nano.restyle import restyled
from training.nano.store import FRAMES, Clips, finished

MOUTH, EYES = 3.0, 2.0
"""Additional weight of pixels that show these."""
MARGIN = 3
"""Pixels around a box that count as part of it."""
ALIGNED = 8
"""Crops begin at the edges of latent cells."""
MOUTH_SHARE, EYE_SHARE = 0.45, 0.25
"""Shares of small crops that are taken around a mouth or eyes."""
RESTYLED = 0.4
"""Share of crops that show faces as no drawing has them, where there are photographs whose details they can receive."""
PHOTOGRAPHED = 0.3
"""Share of crops that show photographs, where there are any."""
FARTHEST = 20
"""Pixels by which a photograph wanders at most."""


@dataclass(frozen=True, slots=True)
class Crop:
    """What a batch of crops looks like."""

    size: int
    frames: int
    batch: int


@dataclass(frozen=True, slots=True)
class PixelBank:
    """Clips on one device."""

    frames: Tensor
    """(n, 82, size, size, 3) uint8"""
    people: Tensor
    """(n,)"""
    mouth: Tensor
    """(n, 3, 4) boxes in pixels"""
    eyes: Tensor

    @property
    def size(self) -> int:
        """Pixels of a picture's edge."""
        return self.frames.shape[2]

    @staticmethod
    def take(clips: Clips, device: torch.device, count: int | None = None) -> "PixelBank":
        """Copies the first `count` finished clips to a device, piece by piece."""
        index = finished(clips)[:count]
        frames = torch.empty((len(index), *clips.frames.shape[1:]), dtype=torch.uint8, device=device)
        for begin in range(0, len(index), 64):
            some = index[begin : begin + 64]
            frames[begin : begin + len(some)] = torch.from_numpy(clips.frames[some]).to(device)
        tables = (torch.from_numpy(table[index]).to(device) for table in (clips.people, clips.mouth, clips.eyes))
        return PixelBank(frames, *tables)

    def crops(
        self, shape: Crop, generator: torch.Generator, *, texture: int | None = None,
        pictures: PictureBank | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Random crops and the weight of each pixel; with `texture` as `worn` makes them, at this scale.

        If there are `pictures`, some are `restyled` with these, and some show parts of them instead.

        Returns:
            video (B, 3, F, size, size) in [-1, 1], channels last in memory, and weights (B, 1, 1, size, size).
        """
        device = self.frames.device
        index = torch.randint(len(self.frames), (shape.batch,), generator=generator, device=device)
        start = torch.randint(FRAMES - shape.frames + 1, (shape.batch,), generator=generator, device=device)
        x, y = self._corners(index, shape, generator)
        span = torch.arange(shape.size, device=device)
        across, down = x[:, None] + span, y[:, None] + span
        time = start[:, None] + torch.arange(shape.frames, device=device)
        pixels = self.frames[
            index[:, None, None, None], time[..., None, None], down[:, None, :, None], across[:, None, None]
        ]
        weight = self.weights(index)
        rows = torch.arange(len(index), device=device)[:, None, None]
        weight = weight[rows, down[:, :, None], across[:, None]]
        video = to_video(pixels)
        video = video if texture is None else worn(video, generator, texture)
        if pictures is not None:
            video = replaced(in_part(video, pictures, generator), pictures, generator)
        return video, weight[:, None, None]

    def weights(self, index: Tensor) -> Tensor:
        """(B, size, size): 1 plus the weights of mouths and eyes."""
        mouth, eyes = (box_mask(boxes[index], self.size).amax(1) for boxes in (self.mouth, self.eyes))
        return 1 + MOUTH * mouth + EYES * eyes

    def _corners(self, index: Tensor, shape: Crop, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Upper left corners of the crops."""
        device, count, free = index.device, len(index), self.size - shape.size
        if free <= 0:
            zero = torch.zeros(count, dtype=torch.long, device=device)
            return zero, zero
        person = (torch.rand(count, generator=generator, device=device) * self.people[index]).long()
        kind = torch.rand(count, 1, generator=generator, device=device)
        boxes = torch.where(kind < MOUTH_SHARE, self.mouth[index, person], self.eyes[index, person])
        middle = (boxes[:, :2] + boxes[:, 2:] - shape.size) / 2
        middle = middle + shape.size / 9 * torch.randn(count, 2, generator=generator, device=device)
        anywhere = free * torch.rand(count, 2, generator=generator, device=device)
        corner = torch.where(kind < MOUTH_SHARE + EYE_SHARE, middle, anywhere).clamp(0, free)
        x, y = ((corner / ALIGNED).round().long() * ALIGNED).unbind(1)
        return x, y


def to_video(pixels: Tensor) -> Tensor:
    """Bytes (B, F, h, w, 3) → (B, 3, F, h, w) in [-1, 1]; the channels stay the innermost in memory."""
    return (pixels.float() / 127.5 - 1).permute(0, 4, 1, 2, 3)


def worn(video: Tensor, generator: torch.Generator, scale: int) -> Tensor:
    """Videos (B, 3, F, h, w), a third of them in other colours and with a texture that drawn people never have.

    So a VAE learns to carry what it is shown, and not what it knows: it will meet photographs. `scale` is the texture's
    in pixels.
    """
    device, count = video.device, len(video)

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator, device=device)

    coarse = normal(3, max(1, video.shape[-2] // scale), max(1, video.shape[-1] // scale))
    added = F.interpolate(coarse, size=video.shape[-2:], mode="bilinear")[:, :, None]
    some = torch.rand(count, 1, 1, 1, 1, generator=generator, device=device) < 1 / 3
    strength = 0.25 * torch.rand(count, 1, 1, 1, 1, generator=generator, device=device)
    changed = video * (1 + 0.2 * normal(1, 1, 1, 1)) + 0.12 * normal(3, 1, 1, 1) + strength * added
    return torch.where(some, changed.clamp(-1, 1), video)


def in_part(video: Tensor, pictures: PictureBank, generator: torch.Generator) -> Tensor:
    """Videos (B, 3, F, h, w), a share `RESTYLED` of them `restyled`; the channels stay the innermost in memory."""
    some = torch.rand(len(video), 1, 1, 1, 1, generator=generator, device=video.device) < RESTYLED
    other = restyled(video, pictures, generator).clamp(-1, 1)
    return torch.where(some, other, video).movedim(1, -1).contiguous().movedim(-1, 1)


def replaced(video: Tensor, pictures: PictureBank, generator: torch.Generator) -> Tensor:
    """Videos (B, 3, F, h, w), most of a share `PHOTOGRAPHED` of them hidden by photographs that wander a little.

    So a VAE also carries details that no drawing has.
    """
    device, (count, _, frames, size, _) = video.device, video.shape
    squares = pictures.crops(count, size, generator)
    ways = FARTHEST * (2 * torch.rand(count, 2, 1, generator=generator, device=device) - 1)
    steps = (ways * torch.linspace(0, 1, frames, device=device)).round().long()
    place = (torch.arange(size, device=device) + steps[..., None]).clamp(0, size - 1)
    across, down = place[:, 0], place[:, 1]
    rows = torch.arange(count, device=device)[:, None, None, None]
    # (B, F, h, w, 3): places are numbers of whole pixels.
    moved = squares.permute(0, 2, 3, 1)[rows, down[..., :, None], across[..., None, :]]
    hidden = (torch.rand(count, generator=generator, device=device) < PHOTOGRAPHED).float()
    share = hidden * (0.5 + 0.5 * torch.rand(count, generator=generator, device=device))
    return torch.lerp(video, moved.permute(0, 4, 1, 2, 3), share.view(-1, 1, 1, 1, 1))


def to_bytes(video: Tensor) -> Tensor:
    """(B, 3, F, h, w) in [-1, 1] → bytes (B, F, h, w, 3)."""
    return ((video.float() + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 4, 1)


def box_mask(boxes: Tensor, size: int, margin: int = MARGIN) -> Tensor:
    """Boxes (..., 4) → (..., size, size) of zeros and ones; empty boxes are zero."""
    place = torch.arange(size, device=boxes.device)
    x0, y0, x1, y1 = (edge[..., None] for edge in boxes.unbind(-1))
    across, down = (place >= x0 - margin) & (place < x1 + margin), (place >= y0 - margin) & (place < y1 + margin)
    there = ((x1 > x0) & (y1 > y0))[..., None]
    return (down[..., :, None] & across[..., None, :] & there).float()


def psnr(made: Tensor, truth: Tensor, mask: Tensor | None = None) -> float:
    """Peak signal-to-noise ratio of bytes (..., h, w, 3), where the mask (..., h, w) is set."""
    error = (made.float() - truth.float()).square().mean(-1)
    mean = error.mean() if mask is None else (error * mask).sum() / mask.expand_as(error).sum().clamp(min=1)
    return float(10 * torch.log10(255**2 / mean.clamp(min=1e-6)))
