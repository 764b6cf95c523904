"""How processes that work on one video divide it: tokens and heads in the transformer, rows of pixels in the VAE.

A network asks what it was given: `ALONE`, to whom everything belongs, or one of `ops.ranks`. So the code of a network
is one, whoever runs it, and one process sends, cuts and copies nothing.

    tokens of one process, all heads  →  attend  →  tokens of one process, all heads
                     all tokens, heads of one process
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor

from infinitetalk.ops.attention import Kernel, attention, attention_in_place

Look = Callable[[Tensor, Tensor, int], Tensor]
"""Queries and keys [B, L, some heads, d] of all tokens, and the number of the first head → what these heads add to a
map [B, P, L]."""


def even_span(count: int, size: int, rank: int) -> slice:
    """The part of `count` things that falls to one of `size` processes; no two parts differ by more than one."""
    least, more = divmod(count, size)
    start = rank * least + min(rank, more)
    return slice(start, start + least + (rank < more))


class Edges(NamedTuple):
    """The neighbours' rows [B, ..., 1, W, C] beside the own ones; None where the picture ends, or nobody asked."""

    above: Tensor | None
    below: Tensor | None


class Parallel(Protocol):
    """One process among those that share the work of a network."""

    @property
    def rank(self) -> int:
        """Its number, counted from 0."""

    @property
    def size(self) -> int:
        """How many there are."""

    def span(self, count: int) -> slice:
        """Which of `count` tokens or rows are its own."""

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, *, count: int, kernel: Kernel, in_place: bool, look: Look | None
    ) -> tuple[Tensor, Tensor | None]:
        """Attention of its own tokens to all `count` tokens.

        Args:
            q, k, v: of its own tokens, [B, L, heads, d], of one dtype.
            in_place: whether the answers may take the memory of q, a few heads at a time.
            look: also makes a map of all tokens from queries and keys.

        Returns:
            answers [B, L, heads, d], and the map [B, P, count] if there is `look`.
        """

    def gather(self, x: Tensor, dim: int, count: int) -> Tensor:
        """Everybody's parts of `count` tokens or rows (or of as many times more as x has) along an axis, in order."""

    def edges(self, x: Tensor, *, above: int, below: int) -> Edges | None:
        """The rows that a convolution of x [B, ..., H, W, C] sees beside its own; None if it adds zeros itself."""

    def widen(self, x: Tensor, *, above: int, below: int) -> tuple[Tensor, int]:
        """Rows [B, T, H, W, C] with the neighbours' rows at their borders, zeros where the picture ends.

        Returns:
            the wider rows, and how many rows of zeros a convolution must still add on both sides.
        """

    def total(self, x: Tensor) -> Tensor:
        """The sum of what all processes have."""


class Alone:
    """The one process there is."""

    rank, size = 0, 1

    def span(self, count: int) -> slice:
        """All of them."""
        return slice(0, count)

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        count: int,  # noqa: ARG002 - all tokens are here
        kernel: Kernel,
        in_place: bool,
        look: Look | None,
    ) -> tuple[Tensor, Tensor | None]:
        """See `Parallel`."""
        seen = None if look is None else look(q, k, 0)
        compute = attention_in_place if in_place else attention
        return compute(q, k, v, kernel=kernel), seen

    def gather(self, x: Tensor, dim: int, count: int) -> Tensor:  # noqa: ARG002 - nothing is missing
        """What it was given."""
        return x

    def edges(self, x: Tensor, *, above: int, below: int) -> Edges | None:  # noqa: ARG002 - nobody is beside it
        """None."""
        return None

    def widen(self, x: Tensor, *, above: int, below: int) -> tuple[Tensor, int]:
        """What it was given: convolutions add the zeros."""
        return x, max(above, below)

    def total(self, x: Tensor) -> Tensor:
        """What it was given."""
        return x


ALONE = Alone()
