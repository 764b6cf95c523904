"""Pixels to latents and back, in pieces of time so that memory stays small whatever the picture's size."""

from collections.abc import Callable

import torch
from torch import Tensor

from infinitetalk.core.sizes import SPATIAL_STRIDE, TEMPORAL_STRIDE
from infinitetalk.models.vae import VideoVAE

_PIXELS_AT_A_TIME = 4 * 128 * 128
"""Pixels of a frame times latent frames that the VAE works on at once: more takes memory and is not faster."""


_STILL_PIXELS = 256 * 256
"""Pixels of the largest picture whose first frames may pass through the VAE all at once."""


def latent_count(frames: int) -> int:
    """Whole latent frames in so many video frames, the first of which stands alone."""
    return 1 + (frames - 1) // TEMPORAL_STRIDE


OVERLAP = 8
"""Latent cells (64 pixels) that neighbouring tiles share; there one fades into the other."""


def encode(vae: VideoVAE, video: Tensor, tile: int | None = None, at_once: int | None = None) -> Tensor:
    """Video [1, 3, F, H, W] in [-1, 1] → latents [1, 16, T, h, w] float32; frames behind the last 4n+1 are not seen.

    With `tile`, in square pieces of so many pixels: nearly the same (each frame's attention ends at the piece).
    `at_once` as `VideoVAE.encode_stream` takes it. Where several processes share the VAE, all of them get the whole.
    """
    whole = (latent_count(video.shape[2]) - 1) * TEMPORAL_STRIDE + 1

    def code(part: Tensor) -> Tensor:
        rows = part.shape[3] // SPATIAL_STRIDE
        sharing = vae.sharing(rows)
        step = _step(part.shape[3] * part.shape[4], vae, at_once, sharing.size)
        return sharing.gather(torch.cat(list(vae.encode_stream([part], step, at_once)), dim=2), 3, rows)

    return _in_tiles(code, video[:, :, :whole], tile, SPATIAL_STRIDE, 1)


def encode_still(
    vae: VideoVAE, picture: Tensor, frames: int, tile: int | None = None, at_once: int | None = None
) -> Tensor:
    """What `encode` makes of a picture [1, 3, 1, H, W] that grey frames follow, `frames` in all; small ones sooner."""
    alone = vae.sharing(picture.shape[3] // SPATIAL_STRIDE).size == 1
    if alone and tile is None and at_once is None and picture.shape[3] * picture.shape[4] <= _STILL_PIXELS:
        return vae.encode_still(picture, (latent_count(frames) - 1) * TEMPORAL_STRIDE + 1)
    video = picture.new_zeros(*picture.shape[:2], frames, *picture.shape[3:])
    video[:, :, :1] = picture
    return encode(vae, video, tile, at_once)


def decode(vae: VideoVAE, latent: Tensor, tile: int | None = None, at_once: int | None = None) -> Tensor:
    """Latents [1, 16, T, h, w] → video [1, 3, 4 (T - 1) + 1, H, W] float32, clamped to [-1, 1]; else as `encode`."""

    def code(part: Tensor) -> Tensor:
        rows = part.shape[3]
        sharing = vae.sharing(rows)
        step = _step(rows * part.shape[4] * SPATIAL_STRIDE**2, vae, at_once, sharing.size)
        made = [video.clamp(-1, 1) for video in vae.decode_stream([part], step, at_once)]
        return sharing.gather(torch.cat(made, dim=2), 3, rows)

    return _in_tiles(code, latent, tile, 1, SPATIAL_STRIDE)


def _in_tiles(code: Callable[[Tensor], Tensor], x: Tensor, tile: int | None, before: int, behind: int) -> Tensor:
    """Codes x [1, C, F, H, W] in square tiles that fade into each other.

    Args:
        tile: pixels on a side; None for all at once.
        before, behind: sides of a latent cell in x and in what `code` makes of it.
    """
    rows, columns = (side // before for side in x.shape[3:])
    cells = max(rows, columns) if tile is None else max(2 * OVERLAP, tile // SPATIAL_STRIDE)
    if cells >= max(rows, columns):
        return code(x)
    whole = total = torch.empty(0)
    for row in spans(rows, cells):
        for column in spans(columns, cells):
            part = x[..., row.start * before : row.stop * before, column.start * before : column.stop * before]
            made = code(part)
            if not whole.numel():
                whole = made.new_zeros(*made.shape[:3], rows * behind, columns * behind)
                total = made.new_zeros(rows * behind, columns * behind)
            weight = _fade(row, rows, behind, made)[:, None] * _fade(column, columns, behind, made)
            place = (
                ...,
                slice(row.start * behind, row.stop * behind),
                slice(column.start * behind, column.stop * behind),
            )
            whole[place] += made * weight
            total[place] += weight
    return whole / total


def spans(length: int, cells: int) -> list[range]:
    """Pieces of `cells` that cover `length` evenly; neighbours share at least `OVERLAP`."""
    if length <= cells:
        return [range(length)]
    count = 1 - (cells - length) // (cells - OVERLAP)
    return [
        range(start, start + cells) for start in (index * (length - cells) // (count - 1) for index in range(count))
    ]


def _fade(span: range, length: int, scale: int, like: Tensor) -> Tensor:
    """Weight of each row or column of a tile: 1, but less and less towards sides at which another tile goes on."""
    count, width = len(span) * scale, OVERLAP * scale
    places = torch.arange(count, device=like.device, dtype=like.dtype) + 0.5
    weight = torch.ones_like(places)
    if span.start > 0:
        weight = weight.minimum(places / width)
    if span.stop < length:
        weight = weight.minimum((count - places) / width)
    return weight


def _step(pixels: int, vae: VideoVAE, at_once: int | None, sharers: int) -> int:
    """Latent frames at a time for frames of so many pixels, whose rows so many processes share.

    In 16 bits two take no more memory than one in 32, and save a few per cent of the time. Several processes hold less
    of each: then as many more take no more memory, and neighbours give each other their rows less often.
    """
    half = vae.conv1.weight.dtype.itemsize == 2
    return max(2 * sharers if half and at_once is None else 1, _PIXELS_AT_A_TIME * sharers // pixels)
