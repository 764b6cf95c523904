"""Attention in 8-bit floats among processes that share the tokens: each brings its own to 8 bits before they travel.

Half as much travels, and no token is made ready twice. Means and scales are those of all tokens, so the numbers are
those that one process makes.
"""

from functools import cache
from importlib.util import find_spec
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from infinitetalk.ops.attention_eight import ROOM, SEEN, hadamard, lengths, mean_share, seen_step, total
from infinitetalk.ops.pack import LARGEST_FP8, LEAST


class Tokens(NamedTuple):
    """Queries, keys and values [B, L, heads, d] of the own tokens, whose place among all is known."""

    q: Tensor
    k: Tensor
    v: Tensor
    start: int
    """The first one's number."""
    among: int
    """How many there are of all."""

    @property
    def all_seen(self) -> int:
        """How many of all tokens means and scales are taken from; see `attention_eight.seen`."""
        return min(SEEN, -(-self.among // seen_step(self.among)))

    def middle(self, of_all: Tensor) -> Tensor:
        """The mean of all keys that are seen, of everybody's `total`."""
        return of_all * mean_share(self.all_seen)

    def seen(self) -> tuple[Tensor, Tensor, Tensor]:
        """The own ones among those; there may be none."""
        step = seen_step(self.among)
        before = -(-self.start // step)
        q, k, v = (x[:, before * step - self.start :: step][:, : max(0, self.all_seen - before)] for x in self[:3])
        return q, k, v


class Part(NamedTuple):
    """Some of the heads of each process."""

    processes: int
    heads: slice


class Coder(Protocol):
    """Brings the own tokens to 8 bits."""

    def total(self, tokens: Tokens) -> Tensor:
        """`attention_eight.total` of the own keys that are seen, [B, heads, d]."""

    def scales(self, tokens: Tokens, middle: Tensor) -> Tensor:
        """Scales that the own tokens ask for, of which the largest holds.

        Args:
            middle: the mean of all keys that are seen, [B, heads, d] float32.

        Returns:
            [3, B, heads, several] float32.
        """

    def packed(self, tokens: Tokens, middle: Tensor, scales: Tensor, part: Part) -> Tensor:
        """What is sent to each process, [processes, L, B, 3, heads of the part, d] float8_e4m3fn."""


class PlainCoder:
    """The form that runs everywhere; `ops.attention_triton` has the same in one kernel each."""

    def total(self, tokens: Tokens) -> Tensor:
        """See `Coder`."""
        return total(tokens.seen()[1])

    def scales(self, tokens: Tokens, middle: Tensor) -> Tensor:
        """See `Coder`."""
        q, k, v = tokens.seen()
        found = torch.zeros(3, q.shape[0], q.shape[2], device=q.device)
        if q.shape[1]:
            found[0] = lengths(q).amax(dim=1)
            found[1] = lengths((k - middle[:, None]).to(k.dtype)).amax(dim=1)
            found[2] = v.abs().amax(dim=(1, 3))
        return (found * (ROOM / LARGEST_FP8)).clamp_min_(LEAST).unsqueeze(-1)

    def packed(self, tokens: Tokens, middle: Tensor, scales: Tensor, part: Part) -> Tensor:
        """See `Coder`."""
        q, k, v, *_ = tokens
        turn, steps = hadamard(q.shape[-1], q.device, q.dtype), 1 / scales.amax(dim=-1)[:, :, None, :, None]
        shrink = q.shape[-1] ** 0.5
        wide = torch.stack([
            (q @ turn).float() / shrink * steps[0],
            ((k - middle[:, None]).to(k.dtype) @ turn).float() / shrink * steps[1],
            v.float() * steps[2],
        ])  # fmt: skip
        made: Tensor = wide.clamp_(-LARGEST_FP8, LARGEST_FP8).to(torch.float8_e4m3fn)
        made = made.unflatten(3, (part.processes, -1))
        return made[..., part.heads, :].permute(3, 2, 1, 0, 4, 5).contiguous()


@cache
def coder(device: str) -> Coder:
    """The form for a kind of device: in fused kernels on a GPU where Triton is installed."""
    if device != "cuda" or find_spec("triton") is None:
        return PlainCoder()
    from infinitetalk.ops.attention_triton import FusedCoder

    return FusedCoder()
