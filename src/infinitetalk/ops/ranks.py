"""Processes that share the work of a network, one device each, by the collectives of `torch.distributed`.

Attention is divided as in DeepSpeed-Ulysses (arXiv 2309.14509): each process has all heads of its own tokens, and while
they attend, its own heads of all tokens. Heads go in groups, so that those of one group travel while another attends.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from infinitetalk.ops.attention import Kernel, attention
from infinitetalk.ops.conv import unworded, words
from infinitetalk.ops.parallel import Edges, Look, even_span

GROUPS = 2
"""In how many parts the heads of a process travel, unless told otherwise."""

_gather_into = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
"""The name since torch 2.13, and the one before."""


class Travelling(NamedTuple):
    """A tensor that is being received."""

    tensor: Tensor
    sent: Tensor
    """Kept until it has left."""
    work: dist.Work

    def arrived(self) -> Tensor:
        """The tensor, for whatever the device does next."""
        self.work.wait()
        return self.tensor


class Ranks:
    """One process of a group.

    Args:
        group: of `torch.distributed`; None for all processes.
        groups: in how many parts heads travel.
    """

    def __init__(self, group: dist.ProcessGroup | None = None, *, groups: int = GROUPS) -> None:
        self._group = group
        self._groups = groups
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)

    def span(self, count: int) -> slice:
        """See `Parallel`."""
        return even_span(count, self.size, self.rank)

    def sizes(self, count: int) -> list[int]:
        """How many of `count` tokens or rows everybody has."""
        spans = [even_span(count, self.size, rank) for rank in range(self.size)]
        return [span.stop - span.start for span in spans]

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        count: int,
        kernel: Kernel,
        in_place: bool,  # noqa: ARG002 - only a part of the heads is here at a time anyway
        look: Look | None,
    ) -> tuple[Tensor, Tensor | None]:
        """See `Parallel`."""
        own, sizes = q.shape[2] // self.size, self.sizes(count)
        groups = [even_span(own, min(self._groups, own), number) for number in range(min(self._groups, own))]
        coming = [self.heads_for_tokens((q, k, v), some, sizes) for some in groups]
        going: list[Travelling] = []
        seen = None
        for some, travelling in zip(groups, coming, strict=True):
            all_q, all_k, all_v = (part.transpose(0, 1) for part in travelling.arrived().unbind(2))
            if look is not None:
                part = look(all_q, all_k, self.rank * own + some.start)
                seen = part if seen is None else seen + part
            going.append(self.tokens_for_heads(attention(all_q, all_k, all_v, kernel=kernel), sizes))
        answers = q.new_empty(*q.shape[:2], self.size, own, q.shape[3])
        target = words(answers)
        for some, travelling in zip(groups, going, strict=True):
            target[:, :, :, some] = words(travelling.arrived()).permute(2, 1, 0, 3, 4)
        return answers.flatten(2, 3), None if seen is None else self.total(seen)

    def heads_for_tokens(self, parts: tuple[Tensor, ...], some: slice, sizes: list[int]) -> Travelling:
        """Gives everybody some of its heads of the own tokens, and takes the same heads of everybody's tokens.

        Args:
            parts: queries, keys and values, [B, own tokens, heads, d] each.
            some: which of the heads of each process.

        Returns:
            [all tokens, B, parts, some heads, d].
        """
        batch, count = parts[0].shape[:2]
        wide = [part.unflatten(2, (self.size, -1))[:, :, :, some] for part in _worded(parts)]
        sent = wide[0].new_empty(self.size, count, batch, len(parts), *wide[0].shape[3:])
        for number, part in enumerate(wide):
            sent[:, :, :, number] = part.permute(2, 1, 0, 3, 4)
        sent = unworded(sent, parts[0].dtype)
        taken = sent.new_empty(sum(sizes), *sent.shape[2:])
        work = self._exchange(taken, sent.flatten(0, 1), sizes, [count] * self.size)
        return Travelling(taken, sent, work)

    def tokens_for_heads(self, answers: Tensor, sizes: list[int]) -> Travelling:
        """The way back: gives everybody its tokens of the own heads, and takes everybody's heads of the own tokens.

        Args:
            answers: [B, all tokens, some heads, d].

        Returns:
            [processes, own tokens, B, some heads, d].
        """
        sent = answers.transpose(0, 1).contiguous()
        own = sizes[self.rank]
        taken = sent.new_empty(self.size, own, *sent.shape[1:])
        work = self._exchange(taken.flatten(0, 1), sent, [own] * self.size, sizes)
        return Travelling(taken, sent, work)

    def _exchange(self, taken: Tensor, sent: Tensor, takes: list[int], gives: list[int]) -> dist.Work:
        even = len(set(takes)) == len(set(gives)) == 1
        work: dist.Work = dist.all_to_all_single(
            taken,
            sent,
            output_split_sizes=None if even else takes,
            input_split_sizes=None if even else gives,
            group=self._group,
            async_op=True,
        )
        return work

    def gather(self, x: Tensor, dim: int, count: int) -> Tensor:
        """See `Parallel`."""
        sizes = self.sizes(count)
        times = x.shape[dim] // sizes[self.rank]
        longest = max(sizes) * times
        first = x.movedim(dim, 0)
        padded = F.pad(first, (0, 0) * (x.ndim - 1) + (0, longest - x.shape[dim])).contiguous()
        parts = self._gathered(padded)
        if len(set(sizes)) == 1:
            return parts.flatten(0, 1).movedim(0, dim)
        return torch.cat([part[: size * times] for part, size in zip(parts, sizes, strict=True)]).movedim(0, dim)

    def _gathered(self, x: Tensor) -> Tensor:
        """Everybody's x of one shape, [processes, ...]."""
        taken = x.new_empty(self.size, *x.shape)
        _gather_into(taken.flatten(0, 1), x, group=self._group)
        return taken

    def edges(self, x: Tensor, *, above: int, below: int) -> Edges:
        """See `Parallel`."""
        borders = self._gathered(torch.stack(list(self._borders(x, above, below))))
        first, last = self.rank == 0, self.rank == self.size - 1
        return Edges(
            borders[self.rank - 1, -1] if above and not first else None,
            borders[self.rank + 1, 0] if below and not last else None,
        )

    def widen(self, x: Tensor, *, above: int, below: int) -> tuple[Tensor, int]:
        """See `Parallel`."""
        edges = self.edges(x, above=above, below=below)
        zeros = torch.zeros_like(x[:, :, :1])
        parts = [x]
        if above:
            parts.insert(0, zeros if edges.above is None else edges.above)
        if below:
            parts.append(zeros if edges.below is None else edges.below)
        return torch.cat(parts, dim=2), 0

    def _borders(self, x: Tensor, above: int, below: int) -> Iterator[Tensor]:
        """What the neighbours need: its first row, which is below that of the one before, and its last."""
        if max(above, below) > 1:
            raise ValueError("neighbours give one row")
        if below:
            yield x[..., :1, :, :]
        if above:
            yield x[..., -1:, :, :]

    def total(self, x: Tensor) -> Tensor:
        """See `Parallel`."""
        x = x.contiguous()
        dist.all_reduce(x, group=self._group)
        return x

    def share(self, x: Tensor, root: int = 0) -> Tensor:
        """Gives everybody the tensor of one process; the others' is overwritten, which must be contiguous."""
        dist.broadcast(x, group=self._group, group_src=root)
        return x


def _worded(parts: Sequence[Tensor]) -> Sequence[Tensor]:
    """Tensors to be copied about, as words if all of them can be."""
    made = [words(part) for part in parts]
    return made if len({part.dtype for part in made}) == 1 else parts
