"""`Pixels` in Triton: one kernel for what lies between two convolutions, some pixels to a program.

Values are rounded where the plain form rounds them, so the two differ by the order of sums alone.
"""

# A kernel takes its pointers and sizes one by one, and they have no types that Python knows.
# ruff: noqa: PLR0917

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from infinitetalk.ops.conv import Reading
from infinitetalk.ops.parallel import Edges
from infinitetalk.ops.pixels import Pixels, least

NUMBERS = 4096
"""What one program works on together."""


@triton.jit
def _lively(
    v: "Any",
    bias: "Any",
    gamma: "Any",
    columns: "Any",
    width: "Any",
    eps: "Any",
    biased: tl.constexpr,
    kind: tl.constexpr,
) -> "Any":
    here = columns < width
    if biased:
        v = (v + tl.load(bias + columns, mask=here, other=0.0).to(tl.float32)[None, :]).to(kind).to(tl.float32)
    g = tl.load(gamma + columns, mask=here, other=0.0).to(tl.float32)
    y = v * (1.0 / tl.sqrt(tl.sum(v * v, axis=1) / width + eps))[:, None] * g[None, :]
    y = y.to(kind).to(tl.float32)
    return y / (1.0 + tl.exp(-y))


@triton.jit
def _frames_kernel(
    x: "Any",
    above: "Any",
    below: "Any",
    past: "Any",
    bias: "Any",
    gamma: "Any",
    made: "Any",
    kept: "Any",
    own: "Any",
    line: "Any",
    count: "Any",
    frames: "Any",
    room: "Any",
    width: "Any",
    eps: "Any",
    back: tl.constexpr,
    skip: tl.constexpr,
    taps: tl.constexpr,
    edges: tl.constexpr,
    known: tl.constexpr,
    biased: tl.constexpr,
    keep: tl.constexpr,
    pixels: tl.constexpr,
    block: tl.constexpr,
) -> None:
    # A program has some pixels of one frame, the next one the same of the next frame: what lies side by side is written
    # at about the same time. The past's frames come first. Edges: 1, there are two; 2, one above; 4, one below.
    frame, batch = tl.program_id(0) % (back + frames), tl.program_id(1).to(tl.int64)
    places = tl.program_id(0) // (back + frames) * pixels + tl.arange(0, pixels)
    columns = tl.arange(0, block)
    inside = (places < count)[:, None] & (columns < width)[None, :]
    spots = places.to(tl.int64)[:, None] * width + columns[None, :]
    size = tl.cast(count, tl.int64) * width
    y = tl.zeros((pixels, block), tl.float32)
    if frame < back:
        if known:
            y = tl.load(past + (batch * back + frame) * size + spots, mask=inside, other=0.0).to(tl.float32)
    else:
        number = batch * frames + frame - back
        if edges:
            real = (places >= line) & (places < line + own)
            start = x + (number * own - line) * width
            v = tl.load(start + spots, mask=inside & real[:, None], other=0.0).to(tl.float32)
            if edges & 2:
                upper = places < line
                v += tl.load(above + number * line * width + spots, mask=inside & upper[:, None], other=0.0)
                real = real | upper
            if edges & 4:
                lower = places >= line + own
                start = below + (number * line - line - own) * width
                v += tl.load(start + spots, mask=inside & lower[:, None], other=0.0)
                real = real | lower
            y = _lively(v, bias, gamma, columns, width, eps, biased, made.dtype.element_ty)
            y = tl.where(real[:, None], y, 0.0)
        else:
            v = tl.load(x + number * size + spots, mask=inside, other=0.0).to(tl.float32)
            y = _lively(v, bias, gamma, columns, width, eps, biased, made.dtype.element_ty)
    value = y.to(made.dtype.element_ty)
    for tap in tl.static_range(taps):
        target = frame - skip - tap
        if (target >= 0) & (target < room):
            start = made + (batch * room + target) * size * taps + tap * width
            tl.store(start + places.to(tl.int64)[:, None] * (width * taps) + columns[None, :], value, mask=inside)
    if keep:
        tl.store(kept + (batch * back + frame - frames) * size + spots, value, mask=inside & (frame >= frames))


@triton.jit
def _joined_kernel(
    x: "Any",
    answer: "Any",
    bias: "Any",
    made: "Any",
    count: "Any",
    width: "Any",
    pixels: tl.constexpr,
    block: tl.constexpr,
) -> None:
    rows = tl.program_id(0).to(tl.int64) * pixels + tl.arange(0, pixels)
    columns = tl.arange(0, block)
    here = columns < width
    inside = (rows < count)[:, None] & here[None, :]
    places = rows[:, None] * width + columns[None, :]
    kind = made.dtype.element_ty
    a = tl.load(answer + places, mask=inside, other=0.0).to(tl.float32)
    a = (a + tl.load(bias + columns, mask=here, other=0.0).to(tl.float32)[None, :]).to(kind).to(tl.float32)
    v = tl.load(x + places, mask=inside, other=0.0).to(tl.float32)
    tl.store(made + places, (v + a).to(kind), mask=inside)


class FusedPixels(Pixels):
    """One kernel each. Not differentiable."""

    biases = fused = True

    def lively(self, x: Tensor, gamma: Tensor, bias: Tensor | None = None) -> Tensor:
        """See `Pixels`."""
        return self.frames(x.reshape(1, 1, 1, -1, x.shape[-1]), Reading(0), gamma, bias)[0].view(x.shape)

    def frames(
        self, x: Tensor, reading: Reading, gamma: Tensor, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """See `Pixels`."""
        x = x.contiguous()
        batch, frames, rows, line, width = x.shape
        back, past, lone, taps, edges, keep = reading
        room = frames if lone or taps > 1 else frames + back
        high = rows if edges is None else rows + 2
        made = x.new_empty(batch, room, high, line, taps * width)
        kept = x.new_empty(batch, back, high, line, width) if keep else None
        weights = gamma.to(x.dtype).flatten()
        _, sizes = _sizes(x)
        _frames_kernel[(triton.cdiv(high * line, sizes["pixels"]) * (back + frames), batch)](
            x, *_beside(x, edges), x if past is None else past.contiguous(), weights if bias is None else bias, weights,
            made, made if kept is None else kept, rows * line, line, high * line, frames, room, width, least(width),
            back=back, skip=back if lone else 0, taps=taps, edges=_which(edges), known=past is not None,
            biased=bias is not None, keep=keep, **sizes,
        )  # fmt: skip
        return made, kept

    def joined(self, x: Tensor, answer: Tensor, bias: Tensor | None = None) -> Tensor:
        """See `Pixels`."""
        if bias is None:
            return x + answer
        x, answer = x.contiguous(), answer.contiguous()
        made = torch.empty_like(x)
        count, sizes = _sizes(x)
        _joined_kernel[(triton.cdiv(count, sizes["pixels"]),)](x, answer, bias, made, count, x.shape[-1], **sizes)
        return made


def _beside(x: Tensor, edges: Edges | None) -> tuple[Tensor, Tensor]:
    """The rows above and below, or something in their place that is not read."""
    above, below = (None, None) if edges is None else edges
    return x if above is None else above.contiguous(), x if below is None else below.contiguous()


def _which(edges: Edges | None) -> int:
    """Which edges there are, as the kernel is told."""
    return 0 if edges is None else 1 + 2 * (edges.above is not None) + 4 * (edges.below is not None)


def _sizes(x: Tensor) -> tuple[int, dict[str, int]]:
    """Pixels of x [..., C], and how a program divides them."""
    block = triton.next_power_of_2(x.shape[-1])
    return x.numel() // x.shape[-1], {"pixels": max(1, NUMBERS // block), "block": block}
