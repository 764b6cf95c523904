"""Convolutions over videos stored channels last, [B, T, H, W, C]: norms and products over channels read neighbours."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from infinitetalk.ops.parallel import Edges

FEW = range(32, 128)
"""Channels before and behind a convolution in 16 bits that is quicker over stacked frames; with fewer they are padded
anyway."""


class Reading(NamedTuple):
    """Which frames a convolution over time reads with frames [B, T, H, W, C] and how they lie, for those who make them.

    Frames that lie side by side are [B, T, H', W, taps * C]: each answer's. Else all lie one after the other.
    """

    back: int
    """How many frames before the first are seen."""
    past: Tensor | None = None
    """Those frames, [B, back, H', W, C]; None for zeros."""
    lone: bool = False
    """The first frame of all is alone: zeros before it are not read."""
    taps: int = 1
    """How many frames lie side by side."""
    edges: Edges | None = None
    """The neighbours' rows, which make H' = H + 2; None for H' = H."""
    keep: bool = False
    """Whether a copy of the last `back` frames is asked for."""


def lay(x: Tensor, reading: Reading) -> tuple[Tensor, Tensor | None]:
    """Frames [B, T, H, W, C] as a convolution reads them, and the frames that a stream goes on from, if asked for."""
    if reading.edges is not None:
        above, below = (torch.zeros_like(x[:, :, :1]) if rows is None else rows for rows in reading.edges)
        x = torch.cat([above, x, below], dim=2)
    frames = with_past(x, reading.past, reading.back)
    kept = frames[:, -reading.back :].clone() if reading.keep else None
    return x if reading.lone else _stack_taps(frames, reading.taps), kept


def with_past(x: Tensor, past: Tensor | None, back: int) -> Tensor:
    """Puts the last `back` frames, or zeros where there are none, before x."""
    if past is None:
        return F.pad(x, (0, 0) * 3 + (back, 0))
    return torch.cat([past, x], dim=1)


def conv_frames(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: int = 1, padding: int | tuple[int, int] = 0
) -> Tensor:
    """Convolves each frame of x [B, T, H, W, C] alone.

    Args:
        weight: [out, C, rows, columns].
        padding: zeros on all four sides; or above and below, and left and right.

    Returns:
        [B, T, H', W', out].
    """
    frames = x.flatten(0, 1).permute(0, 3, 1, 2)
    convolved = F.conv2d(frames, weight.contiguous(memory_format=torch.channels_last), bias, stride, padding)
    return convolved.permute(0, 2, 3, 1).view(*x.shape[:2], *convolved.shape[2:], -1)


def conv_time(x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: int = 1) -> Tensor:
    """Convolves each pixel of x [B, T, H, W, C] over time, without padding.

    Args:
        weight: [out, C, taps, 1, 1].

    Returns:
        [B, T', H, W, out].
    """
    taps = weight.shape[2]
    return F.linear(_stack_taps(x, taps, stride), weight.flatten(2).transpose(1, 2).flatten(1), bias)


def conv_video(x: Tensor, weight: Tensor, bias: Tensor | None, *, rows: int | None = None) -> Tensor:
    """Convolves x [B, T, H, W, C] over time without padding and over space with "same" padding.

    Args:
        weight: [out, C, taps, k, k], k odd.
        rows: of zeros above and below; None for as many as keep H.

    Returns:
        [B, T - taps + 1, H, W, out].
    """
    return conv_laid(_stack_taps(x, side_by_side(x, weight)), weight, bias, rows=rows)


def side_by_side(x: Tensor, weight: Tensor) -> int:
    """How many frames of x [B, T, H, W, C] lie side by side for the quickest `conv_video`: as many as taps, or one.

    On a GPU they are stacked where there are few channels, for which cuDNN's two-dimensional kernels are the quicker
    ones by a tenth. On a CPU stacking takes as long as the convolution itself.
    """
    stacks = x.device.type != "cpu" and x.dtype.itemsize == 2 and min(weight.shape[:2]) in FEW
    return weight.shape[2] if stacks else 1


def conv_laid(x: Tensor, weight: Tensor, bias: Tensor | None, *, rows: int | None = None) -> Tensor:
    """`conv_video` of frames that lie as it reads them: one after the other, or those of all taps side by side."""
    out, channels, taps = weight.shape[:3]
    if x.shape[-1] != taps * channels:
        return conv_video_direct(x, weight, bias, rows=rows)
    # One copy brings the weights into the order in which cuDNN reads them.
    flat = weight.permute(0, 3, 4, 2, 1).reshape(out, *weight.shape[3:], taps * channels).permute(0, 3, 1, 2)
    return conv_frames(x, flat, bias, padding=_padding(weight, rows))


def conv_video_stacked(x: Tensor, weight: Tensor, bias: Tensor | None, *, rows: int | None = None) -> Tensor:
    """`conv_video` as a two-dimensional convolution over stacked frames."""
    return conv_laid(_stack_taps(x, weight.shape[2]), weight, bias, rows=rows)


def _padding(weight: Tensor, rows: int | None) -> tuple[int, int]:
    return weight.shape[3] // 2 if rows is None else rows, weight.shape[4] // 2


def conv_video_direct(x: Tensor, weight: Tensor, bias: Tensor | None, *, rows: int | None = None) -> Tensor:
    """`conv_video` as a three-dimensional convolution; on a CPU as one of two dimensions for each tap.

    For one short piece of video, torch's three-dimensional convolution takes up to 20 times longer on a CPU: it leaves
    oneDNN for a fallback.
    """
    if x.device.type == "cpu":
        return _conv_taps(x, weight, bias, _padding(weight, rows))
    weight = weight.contiguous(memory_format=torch.channels_last_3d)
    padding = (0, *_padding(weight, rows))
    return F.conv3d(x.permute(0, 4, 1, 2, 3), weight, bias, padding=padding).permute(0, 2, 3, 4, 1)


def _conv_taps(x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
    """`conv_video` as the sum of what each tap makes of its frames, none of which is copied."""
    count = x.shape[1] - weight.shape[2] + 1
    total = conv_frames(x[:, :count], weight[:, :, 0], bias, padding=padding)
    for tap in range(1, weight.shape[2]):
        total += conv_frames(x[:, tap : tap + count], weight[:, :, tap], None, padding=padding)
    return total


def _stack_taps(x: Tensor, taps: int, stride: int = 1) -> Tensor:
    """The `taps` frames behind each answer side by side: [B, T', H, W, taps * C]."""
    if taps == 1:
        return x
    count = (x.shape[1] - taps) // stride + 1
    frames = [x[:, tap : tap + stride * (count - 1) + 1 : stride] for tap in range(taps)]
    return unworded(torch.cat([words(frame) for frame in frames], dim=-1), x.dtype)


def words(x: Tensor) -> Tensor:
    """x [..., C] to be copied about: as words of 64 bits where they fit, since a GPU's copies go by the element.

    `unworded` leads back. What is differentiated stays as it is.
    """
    least = 8 // x.element_size()
    steps = x.shape[-1], x.storage_offset(), *x.stride()[:-1]
    whole = x.stride(-1) == 1 and not any(step % least for step in steps)
    return x if x.requires_grad or not whole else x.view(torch.int64)


def unworded(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The values of words; a view as another type would end differentiation."""
    return x.view(dtype) if x.dtype == torch.int64 else x
