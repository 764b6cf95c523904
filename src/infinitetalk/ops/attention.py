"""One door to attention: every network calls `attention`, so that a back end is chosen in one place."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

Kernel = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries [B, L, heads, d], keys and values [B, S, heads, d] of one dtype → answers [B, L, heads, d]."""


@contextmanager
def only(backends: Sequence[SDPBackend]) -> Iterator[None]:
    """While it lasts, this thread's attention takes one of these back ends; that of other libraries' networks too."""
    with sdpa_kernel(list(backends)):
        yield


def sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The kernel that torch chooses, among those that `only` leaves it."""
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


def attention(q: Tensor, k: Tensor, v: Tensor, *, kernel: Kernel = sdpa) -> Tensor:
    """Softmax attention without a mask.

    Args:
        q: queries [B, L, heads, d].
        k: keys [B, S, heads, d].
        v: values [B, S, heads, e] with e <= d. Fewer channels than keys have are padded with zeros for the call:
            fused kernels want equal widths, and without one the [L, S] weights would be kept in memory.
        kernel: what computes it.

    Returns:
        [B, L, heads, e], in v's dtype.
    """
    width = v.shape[-1]
    values = F.pad(v, (0, q.shape[-1] - width)) if width < q.shape[-1] else v
    q, k = q.to(v.dtype), k.to(v.dtype)
    return kernel(q, k, values)[..., :width]


HEADS_AT_ONCE = 8
"""Heads that attend together where their answers take the place of their queries."""


def attention_in_place(q: Tensor, k: Tensor, v: Tensor, *, kernel: Kernel = sdpa) -> Tensor:
    """The same for q, k and v [B, L or S, heads, d] of one dtype, a few heads at a time: answers overwrite q.

    Heads know nothing of each other, so the answers are the same, and take no memory of their own.
    """
    for heads in range(0, q.shape[2], HEADS_AT_ONCE):
        some = (slice(None), slice(None), slice(heads, heads + HEADS_AT_ONCE))
        q[some] = attention(q[some], k[some], v[some], kernel=kernel)
    return q
