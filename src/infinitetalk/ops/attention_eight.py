"""Attention in 8-bit floats: queries, keys and values with one scale for each head, made ready for FlashAttention-3.

Two things bring numbers together before they are rounded, and change nothing in exact arithmetic. All keys are moved by
their mean over the tokens, which moves all of a query's products alike, and softmax does not see that. And queries and
keys are turned by the same Hadamard matrix, which spreads single large channels over all of them.

Scales come from some of the tokens. 8-bit floats are as exact for small numbers as for large ones, so a scale leaves
room above what was seen, and only what is larger than that room is cut off. `ops.attention_triton` has the same in two
kernels, and `ops.shared_eight` the same for processes that share the tokens.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from infinitetalk.ops.attention import Kernel, sdpa
from infinitetalk.ops.pack import LARGEST_FP8, LEAST

LEAST_KEYS = 1024
"""With fewer keys attention takes no time, and is computed exactly."""
SEEN = 1024
"""Tokens, evenly spread, that means and scales are taken from; from fewer all."""
ROOM = 4.0
"""How much longer a token may be than the longest that was seen, before it is cut off."""
FAR, FINE = 512.0, 2048.0
"""Up to where keys are summed for their mean, and in how many steps to one. Sums of whole numbers are the same in every
order, however tokens are divided among programs and processes; and any vector near the mean does what the mean does."""
QUERIES_AT_ONCE = 256


class Ready(NamedTuple):
    """Queries, keys or values in 8 bits."""

    data: Tensor
    """[B, L, heads, d] float8_e4m3fn."""
    scale: Tensor
    """[B, heads] float32."""


Library = Callable[[Ready, Ready, Ready], Tensor]
"""Attention of 8-bit floats."""
Prepare = Callable[[Tensor, Tensor, Tensor], tuple[Ready, Ready, Ready]]
"""Queries, keys and values [B, L, heads, d] in 8 bits."""


class EightAttention:
    """A `Kernel` in 8-bit floats, with the exact one that it stands for.

    Args:
        library: computes with 8-bit floats.
        exact: computes where there are few keys, and wherever a network asks for exactness.
        least: the fewest keys that are worth it.
        prepare: brings queries, keys and values to 8 bits; None for the plain form.
    """

    def __init__(
        self, library: Library, exact: Kernel = sdpa, least: int = LEAST_KEYS, prepare: Prepare | None = None
    ) -> None:
        self.exact = exact
        self._library, self._least, self._prepare = library, least, prepare or ready

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See `ops.attention.Kernel`."""
        if not self.worth(k.shape[1]):
            return self.exact(q, k, v)
        return self.answer(*self._prepare(q, k, v), v.dtype)

    def worth(self, keys: int) -> bool:
        """Whether so many keys are attended to in 8 bits."""
        return keys >= self._least

    def answer(self, q: Ready, k: Ready, v: Ready, dtype: torch.dtype) -> Tensor:
        """Answers [B, L, heads, d] to what is in 8 bits already."""
        return self._library(q, k, v).to(dtype)


def exact_of(kernel: Kernel) -> Kernel:
    """The exact kernel behind one in 8 bits; others are exact themselves."""
    return kernel.exact if isinstance(kernel, EightAttention) else kernel


def ready(q: Tensor, k: Tensor, v: Tensor) -> tuple[Ready, Ready, Ready]:
    """Queries, keys and values [B, L, heads, d] in 8 bits; d is a power of two."""
    turn = hadamard(q.shape[-1], q.device, q.dtype)
    some = seen(k)
    middle = (total(some) * mean_share(some.shape[1]))[:, None]
    return _turned(q, turn), _turned((k - middle).to(k.dtype), turn), scaled(v, seen(v).abs().amax(dim=(1, 3)))


def seen(x: Tensor) -> Tensor:
    """The tokens of x [B, L, heads, d] that means and scales are taken from."""
    return x[:, :: seen_step(x.shape[1])][:, :SEEN]


def total(k: Tensor) -> Tensor:
    """The sum of keys [B, L, heads, d] in steps of 1 / `FINE`: [B, heads, d] int32."""
    return (k.float().clamp(-FAR, FAR) * FINE).to(torch.int32).sum(dim=1, dtype=torch.int32)


def mean_share(count: int) -> float:
    """What makes the mean of so many keys of their `total`."""
    return 1 / (FINE * count)


def seen_step(length: int) -> int:
    """From one of the tokens that are seen to the next."""
    return max(1, length // SEEN)


def _turned(x: Tensor, turn: Tensor) -> Ready:
    """A turn lets no channel exceed the token's length, which is therefore what the scale is for."""
    made = (x @ turn).float() / x.shape[-1] ** 0.5
    return scaled(made, lengths(seen(x)).amax(dim=1))


def lengths(x: Tensor) -> Tensor:
    """Of tokens [B, L, heads, d]: [B, L, heads] float32."""
    return x.float().square().sum(dim=-1).sqrt()


def scaled(x: Tensor, largest: Tensor) -> Ready:
    """x [B, L, heads, d] with scales for `ROOM` times the largest number [B, heads] that was seen."""
    scale = (largest.float() * (ROOM / LARGEST_FP8)).clamp_min(LEAST)
    steps = x * (1 / scale)[:, None, :, None]
    return Ready(steps.clamp_(-LARGEST_FP8, LARGEST_FP8).to(torch.float8_e4m3fn), scale)


@lru_cache(maxsize=4)
def hadamard(width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Sylvester's matrix of ones and minus ones [width, width]; over the root of its width, it only turns.

    Raises:
        ValueError: a width that is no power of two.
    """
    if width & (width - 1):
        raise ValueError(f"{width} is no power of two")
    matrix = torch.ones(1, 1)
    while len(matrix) < width:
        matrix = torch.cat([torch.cat([matrix, matrix], dim=1), torch.cat([matrix, -matrix], dim=1)])
    return matrix.to(device, dtype)


def emulated(q: Ready, k: Ready, v: Ready) -> Tensor:
    """What a library computes with 8-bit floats, in float32: weights are rounded to 8 bits too, sums are not."""
    keys, values = (x.data.float() * x.scale[:, None, :, None] for x in (k, v))
    made = []
    for some in q.data.split(QUERIES_AT_ONCE, dim=1):
        queries = some.float() * (q.scale[:, None, :, None] / some.shape[-1] ** 0.5)
        products = torch.einsum("blhd,bshd->bhls", queries, keys)
        weights = (products - products.amax(dim=-1, keepdim=True)).exp_()
        total = weights.sum(dim=-1).transpose(1, 2).unsqueeze(-1)
        rounded = weights.to(torch.float8_e4m3fn).float()
        made.append(torch.einsum("bhls,bshd->blhd", rounded, values) / total)
    return torch.cat(made, dim=1)
