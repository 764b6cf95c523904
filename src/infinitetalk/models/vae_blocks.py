"""Layers of the causal video VAE. Inside, videos are stored channels last: [B, T, H, W, C].

A layer never sees later frames, so a video can be coded piece by piece: pass the same `Memory` with every piece.
Without one, the piece is the whole video. Cutting a video in any way gives what coding it whole gives.

Several processes can share the rows of the pictures: each layer takes the rows that it lacks from the neighbours', so
that they make what one process makes.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infinitetalk.ops.attention import attention
from infinitetalk.ops.conv import (
    Reading,
    conv_frames,
    conv_laid,
    conv_time,
    lay,
    side_by_side,
    unworded,
    with_past,
    words,
)
from infinitetalk.ops.parallel import ALONE, Edges, Parallel
from infinitetalk.ops.pixels import Pixels, channel_norm

Make = Callable[[Tensor, Reading], tuple[Tensor, Tensor | None]]
"""Makes what a convolution reads of what a layer is given: `ops.conv.lay`, or that and what comes before it."""


class Memory:
    """What the layers of one encoder or decoder keep of one video between its pieces.

    Args:
        at_once: video frames that pass together through the layers with the most pixels; None for a whole piece.
    """

    def __init__(self, at_once: int | None = None) -> None:
        self.started = False
        self.at_once = at_once
        self.parallel: Parallel = ALONE
        self._frames: dict[nn.Module, Tensor] = {}
        self._rows = 0

    def recall(self, layer: nn.Module) -> Tensor | None:
        """The last frames that the layer kept, or None before its first."""
        return self._frames.get(layer)

    def share(self, rows: int, parallel: Parallel) -> slice:
        """Takes note of who shares how many rows of latents; gives the own ones."""
        self._rows, self.parallel = rows, parallel
        return parallel.span(rows)

    def all_rows(self, pixels: Tensor) -> Tensor:
        """The pixels [frames, own rows * columns, ...] of everybody's rows, at the latents' size."""
        own = self.parallel.span(self._rows)
        rows = pixels.unflatten(1, (own.stop - own.start, -1))
        return self.parallel.gather(rows, 1, self._rows).flatten(1, 2)

    def keep(self, layer: nn.Module, frames: Tensor) -> None:
        """Keeps frames, which should be no part of a piece: that could not be freed."""
        self._frames[layer] = frames


class Streamed(nn.Module):
    """A layer that looks back: `forward(x, memory)`."""


class Chain(nn.Sequential, Streamed):
    """Layers one after the other; those that look back get the memory."""

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        return chain([*self], x, memory)


def pass_through(layers: Sequence[nn.Module], x: Tensor, memory: Memory | None) -> Tensor:
    """What layers that keep the number of frames make of x, some frames at a time if the memory says so."""
    parts = [x] if memory is None or memory.at_once is None else x.split(memory.at_once, dim=1)
    made = [chain(layers, part, memory) for part in parts]
    return made[0] if len(made) == 1 else torch.cat(made, dim=1)


def chain(layers: Sequence[nn.Module], x: Tensor, memory: Memory | None) -> Tensor:
    """What layers one after the other make of x; those that look back get the memory."""
    for layer in layers:
        x = layer(x, memory) if isinstance(layer, Streamed) else layer(x)
    return x


class CausalConv(nn.Conv3d, Streamed):
    """Convolution over time and space that sees only frames up to the present; before the first come zeros."""

    def __init__(self, channels: int, out: int, kernel: int = 3) -> None:
        super().__init__(channels, out, kernel)
        self.look_back = kernel - 1

    def forward(self, x: Tensor, memory: Memory | None = None, *, make: Make = lay, biased: bool = True) -> Tensor:
        bias = self.bias if biased else None
        if self.look_back == 0:
            return F.linear(x, self.weight.flatten(1), bias)
        past = memory.recall(self) if memory is not None else None
        lone = past is None and x.shape[1] == 1
        # All but the last tap would meet zeros before a lone frame.
        weight = self.weight[:, :, -1:] if lone else self.weight
        edges = None if memory is None else memory.parallel.edges(x, above=1, below=1)
        taps = side_by_side(x, weight)
        frames, kept = make(x, Reading(self.look_back, past, lone, taps, edges, keep=memory is not None))
        if memory is not None and kept is not None:
            memory.keep(self, kept)
        return conv_laid(frames, weight, bias, rows=None if edges is None else 0)


def widened(x: Tensor, memory: Memory | None, *, above: int) -> tuple[Tensor, int]:
    """Rows with those around them, as `Parallel.widen` gives them: one below, and one above or none."""
    return (ALONE if memory is None else memory.parallel).widen(x, above=above, below=1)


class ChannelNorm(nn.Module):
    """Brings every pixel's channels to length sqrt(C), times gamma, which is stored with `ndim` axes."""

    def __init__(self, channels: int, ndim: int = 4) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, *(1,) * (ndim - 1)))

    def forward(self, x: Tensor) -> Tensor:
        return channel_norm(x, self.gamma)


class Lively(Streamed):
    """A layer that knows what computes between its convolutions."""

    pixels = Pixels()


class ResidualBlock(Lively):
    """Two normalised causal convolutions beside a shortcut."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.residual = Chain(
            ChannelNorm(channels),
            nn.SiLU(),
            CausalConv(channels, out),
            ChannelNorm(out),
            nn.SiLU(),
            nn.Identity(),
            CausalConv(out, out),
        )
        self.shortcut = CausalConv(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        norm1, _, conv1, norm2, _, _, conv2 = self.residual
        assert isinstance(norm1, ChannelNorm) and isinstance(norm2, ChannelNorm)
        assert isinstance(conv1, CausalConv) and isinstance(conv2, CausalConv)
        biased = not self.pixels.biases
        frames = self.pixels.frames
        made = conv1(x, memory, make=partial(frames, gamma=norm1.gamma), biased=biased)
        first = None if biased else conv1.bias
        made = conv2(made, memory, make=partial(frames, gamma=norm2.gamma, bias=first), biased=biased)
        return self.pixels.joined(self.shortcut(x), made, None if biased else conv2.bias)


class Ending(Chain, Lively):
    """Norm, activation and the last convolution."""

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        norm, _, convolve = self
        assert isinstance(norm, ChannelNorm)
        made: Tensor = convolve(x, memory, make=partial(self.pixels.frames, gamma=norm.gamma))
        return made


class AttentionBlock(Streamed):
    """Self-attention with one head among the pixels of each frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels, ndim=3)
        self.to_qkv = nn.Conv2d(channels, channels * 3, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        pixels = self.norm(x).flatten(2, 3).flatten(0, 1).unsqueeze(2)
        q, known = F.linear(pixels, self.to_qkv.weight.flatten(1), self.to_qkv.bias).tensor_split([x.shape[-1]], dim=-1)
        if memory is not None:
            known = memory.all_rows(known)
        answer = attention(q, *known.chunk(2, dim=-1)).reshape(x.shape)
        return x + F.linear(answer, self.proj.weight.flatten(1), self.proj.bias)


class FrameConv(nn.Conv2d):
    """Convolution of every frame alone, which keeps its size or halves it; then zeros come below and on the right."""

    def __init__(self, channels: int, out: int, *, halve: bool) -> None:
        super().__init__(channels, out, 3, stride=2 if halve else 1, padding=0 if halve else 1)
        self.halve = halve

    def forward(self, x: Tensor, memory: Memory | None = None, *, wide: bool = False) -> Tensor:
        """Convolves rows that lack their neighbours', or have them already."""
        x, rows = (x, 0) if wide else widened(x, memory, above=0 if self.halve else 1)
        if self.halve:
            x = F.pad(x, (0, 0, 0, 1, 0, rows))
        return conv_frames(x, self.weight, self.bias, stride=self.stride[0], padding=0 if self.halve else (rows, 1))


class DoublePixels(nn.Module):
    """Makes four equal pixels of each of x [B, ..., H, W, C], in one copy.

    Between the neighbours' rows [B, ..., 1, W, C] they are [B, ..., 2 H + 2, 2 W, C].
    """

    def forward(self, x: Tensor, edges: Edges | None = None) -> Tensor:
        kind, x = x.dtype, words(x)
        *outer, rows, columns, channels = x.shape
        wide = x[..., :, None, :, None, :].expand(*outer, rows, 2, columns, 2, channels)
        if edges is None:
            return unworded(wide.reshape(*outer, 2 * rows, 2 * columns, channels), kind)
        made = x.new_empty(*outer, 2 * rows + 2, 2 * columns, channels)
        made[..., 1:-1, :, :].unflatten(-3, (rows, 2)).unflatten(-2, (columns, 2)).copy_(wide)
        for place, row in zip((made[..., :1, :, :], made[..., -1:, :, :]), edges, strict=True):
            if row is None:
                place.zero_()
            else:
                place.unflatten(-2, (columns, 2)).copy_(row.contiguous().view(x.dtype).unsqueeze(-2))
        return unworded(made, kind)


class TimeConv(nn.Conv3d):
    """Weights of a convolution over three frames."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__(channels, out, (3, 1, 1), (stride, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return conv_time(x, self.weight, self.bias, stride=self.stride[0])

    @torch.no_grad()
    def pick_frames(self) -> None:
        """Sets weights under which halving keeps every second frame and doubling repeats each."""
        channels = self.in_channels
        tap = 1 if self.stride[0] == 2 else 2
        nn.init.zeros_(self.weight)
        for start in range(0, self.out_channels, channels):
            nn.init.eye_(self.weight[start : start + channels, :, tap, 0, 0])
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class Upsample(Streamed):
    """Twice the height and width, half the channels; with `time` twice the frames too, but for the video's first.

    The first frame stays one, and later frames look back no further than to the second: before it come zeros.
    """

    def __init__(self, channels: int, *, time: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(DoublePixels(), FrameConv(channels, channels // 2, halve=False))
        self.time_conv = TimeConv(channels, channels * 2) if time else None

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        if self.time_conv is not None:
            if memory is not None and memory.started:
                x = self._double(self.time_conv, x, memory)
            elif x.shape[1] > 1:
                later = self._double(self.time_conv, x[:, 1:], memory)
                x = torch.cat([x[:, :1], later.flatten(1, 2)], dim=1)
        double, convolve = self.resample
        edges = None if memory is None else memory.parallel.edges(x, above=1, below=1)
        larger: Tensor = convolve(double(x, edges).flatten(1, -4), memory, wide=edges is not None)
        return larger

    def _double(self, time_conv: TimeConv, x: Tensor, memory: Memory | None) -> Tensor:
        """Makes two frames of each: [B, T, 2, H, W, C], which lie as the convolution gives them."""
        frames = with_past(x, memory.recall(self) if memory is not None else None, 2)
        if memory is not None:
            memory.keep(self, frames[:, -2:].clone())
        pairs: Tensor = time_conv(frames).unflatten(-1, (2, -1))
        return pairs.permute(0, 1, 4, 2, 3, 5)


class Downsample(Streamed):
    """Half the height and width; with `time` half the frames too, but for the video's first, which passes alone."""

    def __init__(self, channels: int, *, time: bool) -> None:
        super().__init__()
        # The name of its weights counts layers; the padding that was the first one is in the convolution.
        self.resample = nn.Sequential(nn.Identity(), FrameConv(channels, channels, halve=True))
        self.time_conv = TimeConv(channels, channels, stride=2) if time else None

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        x = self.resample[1](x, memory)
        return x if self.time_conv is None else self._halve(self.time_conv, x, memory)

    def _halve(self, time_conv: TimeConv, x: Tensor, memory: Memory | None) -> Tensor:
        past = memory.recall(self) if memory is not None else None
        if memory is not None:
            memory.keep(self, x[:, -1:].clone())
        if past is None and x.shape[1] == 1:
            return x
        halved: Tensor = time_conv(with_past(x, past, 1) if past is not None else x)
        return halved if past is not None else torch.cat([x[:, :1], halved], dim=1)
