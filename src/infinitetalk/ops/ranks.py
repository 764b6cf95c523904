"""Processes that share the work of a network, one device each, by the collectives of `torch.distributed`.

Attention is divided as in DeepSpeed-Ulysses (arXiv 2309.14509): each process has all heads of its own tokens, and while
they attend, its own heads of all tokens. What will attend in 8 bits travels in them.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from infinitetalk.ops.attention import Kernel, attention
from infinitetalk.ops.attention_eight import EightAttention, Ready
from infinitetalk.ops.conv import unworded, words
from infinitetalk.ops.parallel import Edges, Look, even_span
from infinitetalk.ops.shared_eight import Part, Tokens, coder

FEW_TOKENS, FEW_HEADS = 16_000, 10
"""Up to which a head leaves some of an H200's processors idle, and heads of a process up to which it pays to use those:
while the first head attends, the others travel, and while the last one does, their answers."""

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
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self._group = group
        self.formed: dict[str, tuple[Ranks | None, ...]] = {}
        """Groups within this one, by what they are for: all form them together, and once."""
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
        groups = travelling_together(own, count)
        if look is None and isinstance(kernel, EightAttention) and kernel.worth(count):
            found = self._in_eight(Tokens(q, k, v, sum(sizes[: self.rank]), count), groups, sizes, kernel)
        else:
            found = self._exactly((q, k, v), groups, sizes, kernel, look)
        going: list[Travelling] = []
        seen = None
        for answer, part in found:
            if part is not None:
                seen = part if seen is None else seen + part
            going.append(self.tokens_for_heads(answer, sizes))
        answers = q.new_empty(*q.shape[:2], self.size, own, q.shape[3])
        target = words(answers)
        for some, travelling in zip(groups, going, strict=True):
            target[:, :, :, some] = words(travelling.arrived()).permute(2, 1, 0, 3, 4)
        return answers.flatten(2, 3), None if seen is None else self.total(seen)

    def _exactly(
        self, parts: tuple[Tensor, ...], groups: Sequence[slice], sizes: list[int], kernel: Kernel, look: Look | None
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Answers of the own heads to all tokens, and what they look at, group by group."""
        coming = [self.heads_for_tokens(parts, some, sizes) for some in groups]
        own = parts[0].shape[2] // self.size
        for some, travelling in zip(groups, coming, strict=True):
            q, k, v = (part.transpose(0, 1) for part in travelling.arrived().unbind(2))
            seen = None if look is None else look(q, k, self.rank * own + some.start)
            yield attention(q, k, v, kernel=kernel), seen

    def _in_eight(
        self, tokens: Tokens, groups: Sequence[slice], sizes: list[int], kernel: EightAttention
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The same for tokens that travel in the 8 bits in which they attend."""
        code = coder(tokens.q.device.type)
        middle = tokens.middle(self.total(code.total(tokens)))
        scales = self.most(code.scales(tokens, middle))
        coming = [
            self._taken(code.packed(tokens, middle, scales, Part(self.size, some)).view(torch.uint8), sizes)
            for some in groups
        ]
        each = scales.amax(dim=-1).unflatten(2, (self.size, -1))[:, :, self.rank]
        for some, travelling in zip(groups, coming, strict=True):
            data = travelling.arrived().view(torch.float8_e4m3fn).unbind(2)
            q, k, v = (Ready(x.transpose(0, 1), one[:, some]) for x, one in zip(data, each, strict=True))
            yield kernel.answer(q, k, v, tokens.q.dtype), None

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
        return self._taken(unworded(sent, parts[0].dtype), sizes)

    def _taken(self, sent: Tensor, sizes: list[int]) -> Travelling:
        """Gives everybody its part of [processes, own tokens, ...]: [all tokens, ...]."""
        taken = sent.new_empty(sum(sizes), *sent.shape[2:])
        work = self._exchange(taken, sent.flatten(0, 1), sizes, [sent.shape[1]] * self.size)
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

    def most(self, x: Tensor) -> Tensor:
        """The largest of what all processes have, place by place; overwrites x, which must be contiguous."""
        dist.all_reduce(x, dist.ReduceOp.MAX, group=self._group)
        return x

    def share(self, x: Tensor, root: int = 0) -> Tensor:
        """Gives everybody the tensor of one process; the others' is overwritten, which must be contiguous."""
        dist.broadcast(x, group=self._group, group_src=root)
        return x


def travelling_together(heads: int, tokens: int) -> list[slice]:
    """The heads of one process in parts that travel one after the other."""
    if tokens > FEW_TOKENS or not 2 < heads <= FEW_HEADS:
        return [slice(0, heads)]
    return [slice(0, 1), slice(1, heads - 1), slice(heads - 1, heads)]


def _worded(parts: Sequence[Tensor]) -> Sequence[Tensor]:
    """Tensors to be copied about, as words if all of them can be."""
    made = [words(part) for part in parts]
    return made if len({part.dtype for part in made}) == 1 else parts
