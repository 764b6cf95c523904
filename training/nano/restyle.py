"""Drawn clips with other faces and other skin, for networks that will meet photographs."""

import torch
import torch.nn.functional as F
from torch import Tensor

from training.nano.pictures import PictureBank

BENDS, BENT = 7, 2.0
"""Knots of the field that moves features, along each edge, and the usual pixels by which it does."""
GRAIN = 0.35
"""Share of a photograph's details that clips receive at most."""


def restyled(video: Tensor, pictures: PictureBank, generator: torch.Generator) -> Tensor:
    """Videos (B, 3, F, h, w) in about [-1, 1] with other faces and other skin: what is drawn is not all that there is.

    A smooth field moves features a little, details are made stronger or weaker, and a photograph's details lie upon
    everything. All frames of a clip, and its reference pictures, change alike: what a person looks like is to be seen
    in the picture that is given, and nowhere else.
    """
    device, count = video.device, len(video)

    def evenly(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, 1, 1, generator=generator, device=device)

    video = bent(video, generator)
    for size, low, high in ((3, -0.3, 0.8), (11, -0.2, 0.5)):
        video = video + evenly(low, high) * (video - blurred(video, size))
    texture = pictures.crops(count, video.shape[-1], generator)[:, :, None]
    return video + evenly(0.0, GRAIN) * (texture - blurred(texture, 9))


def blurred(video: Tensor, size: int) -> Tensor:
    """Means (B, 3, F, h, w) of squares of so many pixels, an odd number."""
    frames, side = video.transpose(1, 2), size // 2
    means = F.avg_pool2d(F.pad(frames.flatten(0, 1), (side,) * 4, mode="replicate"), size, 1)
    return means.view(frames.shape).transpose(1, 2)


def bent(video: Tensor, generator: torch.Generator, share: Tensor | float = 1.0) -> Tensor:
    """Videos (B, 3, F, h, w), moved by a share (B, 1, 1, 1) of a smooth field, which all frames of one have."""
    count, channels, frames, height, width = video.shape
    field = torch.randn(count, 2, BENDS, BENDS, generator=generator, device=video.device)
    field = F.interpolate(field, size=(height, width), mode="bicubic") * (2 * BENT / width) * share
    straight = F.affine_grid(torch.eye(2, 3, device=video.device).expand(count, 2, 3),
                             [count, channels, height, width], align_corners=False)  # fmt: skip
    flat = video.reshape(count, channels * frames, height, width)
    moved = F.grid_sample(flat, straight + field.movedim(1, -1), padding_mode="reflection", align_corners=False)
    return moved.view(video.shape)
