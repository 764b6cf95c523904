"""What lies between the matrix products of a transformer block: norms, modulation, gates, sums, rotary positions.

`Regions` is the plain form, which runs everywhere and is differentiable. `ops.regions_triton` has the same in one
kernel each: every value is read once and written once. A network is given one or the other.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from infinitetalk.ops.attention import Kernel, attention
from infinitetalk.ops.eight import Eight, Operand, Rows
from infinitetalk.ops.rope import Rotation, rotate


class Norm(NamedTuple):
    """How tokens are brought to mean 0 and variance 1, and where they go from there."""

    gain: Tensor
    """[dim], or [B, 1, dim]: then what it is more than 1."""
    offset: Tensor
    eps: float
    modulated: bool
    """Whether gain and offset are a modulation and not weights."""


class Known(NamedTuple):
    """Keys and values of what all tokens are told, [B, S, heads, d] each."""

    keys: Tensor
    values: Tensor
    last: int = 1
    """How many times the last one counts."""

    def whole(self) -> tuple[Tensor, Tensor]:
        """Keys and values with the last one as often as it counts."""
        return (self.keys, self.values) if self.last == 1 else (self._repeated(self.keys), self._repeated(self.values))

    def _repeated(self, part: Tensor) -> Tensor:
        return torch.cat([part, part[:, -1:].expand(-1, self.last - 1, *part.shape[2:])], dim=1)


class Regions:
    """The plain form; with `eight`, what goes into a product comes in 8 bits."""

    def __init__(self, eight: Eight | None = None) -> None:
        self.eight = eight

    def operand(self, x: Tensor) -> Operand:
        """What a product takes of x [..., dim]."""
        return self._given(x, x.dtype)

    def summed(self, first: Tensor, second: Tensor) -> Operand:
        """What a product takes of the sum of two."""
        return self._given(first + second, first.dtype)

    def told(self, q: Tensor, known: Sequence[Known], kernel: Kernel) -> Operand:
        """What a product takes of the sum of the answers that queries [B, L, heads, d] get from one or two sources."""
        answers = [attention(q, *one.whole(), kernel=kernel).flatten(-2) for one in known]
        return self.summed(*answers) if len(answers) > 1 else self.operand(answers[0])

    def gelu(self, x: Tensor) -> Operand:
        """What a product takes behind GELU, approximated by tanh."""
        if self.eight is None:
            return F.gelu(x, approximate="tanh")
        return self._given(F.gelu(x.float(), approximate="tanh"), x.dtype)

    def normed(self, x: Tensor, norm: Norm, dtype: torch.dtype) -> Operand:
        """Layer norm of x [B, L, dim] in float32, rounded once to `dtype`."""
        wide = x.float()
        if norm.modulated:
            calm = F.layer_norm(wide, wide.shape[-1:], eps=norm.eps) * (1 + norm.gain) + norm.offset
        else:
            calm = F.layer_norm(wide, wide.shape[-1:], norm.gain.float(), norm.offset.float(), norm.eps)
        return self._given(calm, dtype)

    def joined(self, x: Tensor, answer: Tensor, gate: Tensor | None = None) -> Tensor:
        """x + answer, or x + answer * gate, in x's dtype; gate [B, 1, dim] float32."""
        return x + answer if gate is None else (x + answer * gate).to(x.dtype)

    def joined_normed(
        self, x: Tensor, answer: Tensor, gate: Tensor | None, norm: Norm, dtype: torch.dtype
    ) -> tuple[Tensor, Operand]:
        """`joined`, and the norm of that."""
        x = self.joined(x, answer, gate)
        return x, self.normed(x, norm, dtype)

    def root(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Root-mean-square norm over the last axis: normalised in float32, scaled in x's dtype."""
        return rms_norm(x, weight, eps)

    def turned(self, x: Tensor, weight: Tensor, eps: float, rotation: Rotation) -> Tensor:
        """`root` of x [B, L, dim], each head turned by the rotation [L, 1, d / 2]: [B, L, heads, d] in x's dtype."""
        dtype, heads = x.dtype, x.shape[-1] // (2 * rotation.cos.shape[-1])
        calm = self.root(x, weight, eps).unflatten(-1, (heads, -1))
        del x  # so large that it counts
        return rotate(calm, rotation).to(dtype)

    def _given(self, x: Tensor, dtype: torch.dtype) -> Operand:
        return x.to(dtype) if self.eight is None else self.eight.quantise(x, dtype)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm over the last axis: normalised in float32, scaled in x's dtype."""
    wide = x.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(dim=-1, keepdim=True) + eps)
    return wide.to(x.dtype) * weight


def whole(x: Operand) -> Tensor:
    """The values of what a product takes."""
    return x.wide() if isinstance(x, Rows) else x
